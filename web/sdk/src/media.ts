import { FETCH_OPTIONS, type HTTP } from './http.ts';
import { ParlorError, problemOf } from './problem.ts';
import type { MediaReply } from './schemas.gen.ts';

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

/** Requests the bytes of a file, or only their headers. Reading the body may take any time. */
export async function fetchMedia(http: HTTP, mediaID: string, method: 'GET' | 'HEAD'): Promise<Response> {
  const { signedURL } = await getMedia(http, mediaID);
  let response: Response;
  try {
    response = await fetch(signedURL, { ...FETCH_OPTIONS, method });
  } catch (cause) {
    throw new ParlorError('network_error', 'The file could not be downloaded.', { cause });
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}
