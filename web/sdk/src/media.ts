import type { HTTP } from './http.ts';
import type { MediaReply } from './types.ts';

/** The path of resumable uploads. */
export const UPLOADS = '/v1/media/uploads';

/**
 * Returns a file and a signed URL, which is valid for an hour at most and as long as this session
 * may read the file. After `expiresAt`, call it again.
 */
export async function getMedia(http: HTTP, mediaID: string): Promise<MediaReply> {
  const reply = await http.call('get', '/v1/media/{mediaID}', { path: { mediaID } });
  // A server that does not know its public address returns a path.
  const { signedURL } = reply;
  return { ...reply, signedURL: signedURL.startsWith('/') ? http.baseURL + signedURL : signedURL };
}

/** Deletes a file that was not sent in a message, whether or not its upload is complete. */
export const endUpload = (http: HTTP, mediaID: string): Promise<undefined> =>
  http.call('delete', `${UPLOADS}/{mediaID}`, { path: { mediaID }, header: { 'Tus-Resumable': '1.0.0' } });
