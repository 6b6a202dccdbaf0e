/** The address of the server: the folder of the page, because a proxy may serve it below a path. */
export const serverURL = new URL('.', location.href).href;
