import { HTTP } from './http.ts';
import { ParlorError } from './problem.ts';

/**
 * Gets a user token from a server that runs with --dev. Returns undefined if the server runs
 * without it: tokens then come from the application's backend.
 */
export async function createDevelopmentToken(
  baseURL: string,
  userID: string,
  userName: string,
): Promise<string | undefined> {
  try {
    const { token } = await new HTTP(baseURL).call('post', '/dev/token', { body: { userID, userName } }, { retry: true });
    return token;
  } catch (error) {
    if (error instanceof ParlorError && error.status === 404) return undefined;
    throw error;
  }
}
