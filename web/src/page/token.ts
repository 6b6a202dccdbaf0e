import { HTTP } from '../client/http.ts';
import { ParlorError } from '../client/index.ts';
import { serverURL } from './server-url.ts';

/**
 * Gets a token from a server in development mode. Undefined where the server is
 * not: there tokens come from the application's backend.
 */
export async function developmentToken(userID: string, userName: string): Promise<string | undefined> {
  try {
    const { token } = await new HTTP(serverURL).call('post', '/dev/token', { body: { userID, userName } });
    return token;
  } catch (error) {
    if (error instanceof ParlorError && error.status === 404) return undefined;
    throw error;
  }
}
