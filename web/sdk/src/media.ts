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

export async function downloadMedia(http: HTTP, mediaID: string): Promise<Blob> {
  const response = await fetchMedia(http, mediaID, 'GET');
  return response.blob().catch((cause: unknown) => {
    throw notDownloaded(cause);
  });
}

export async function headMedia(http: HTTP, mediaID: string): Promise<Headers> {
  return (await fetchMedia(http, mediaID, 'HEAD')).headers;
}

async function fetchMedia(http: HTTP, mediaID: string, method: 'GET' | 'HEAD'): Promise<Response> {
  const { signedURL } = await getMedia(http, mediaID);
  const response = await fetch(signedURL, { ...FETCH_OPTIONS, method }).catch((cause: unknown) => {
    throw notDownloaded(cause);
  });
  if (!response.ok) throw await problemOf(response);
  return response;
}

function notDownloaded(cause: unknown): ParlorError {
  return new ParlorError('network_error', 'The file could not be downloaded.', { cause });
}
