/** Returns a token, which the application's backend signs. */
export type TokenSource = () => string | Promise<string>;
