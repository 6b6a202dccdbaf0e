import { type DetailedError, Upload } from 'tus-js-client';
import type { HTTP } from './http.ts';
import { ParlorError, problemOf } from './problem.ts';
import type { MediaReply } from './types.ts';

export interface UploadOptions {
  /** What the file is called; a `File`'s own name unless given. */
  fileName?: string;
  /** Told how many bytes of how many were sent, again and again. */
  onProgress?: (sent: number, total: number) => void;
  /** Told the ID of the upload once it has one; it is the file's mediaID. */
  onBegun?: (uploadID: string) => void;
  /** Goes on with an upload of the same file that broke off. */
  uploadID?: string;
  /** Gives up, and has the server forget what it got. */
  signal?: AbortSignal;
}

/**
 * Pauses before another try, in milliseconds; they begin anew with every byte
 * that gets through. Together they are longer than a server takes to restart.
 */
const AGAIN_AFTER = [0, 1_000, 2_000, 3_000, 5_000, 5_000, 5_000, 5_000, 5_000];
/** How much a request brings. A server or a proxy that buffers loses no more than this. */
const CHUNK = 8 * 1024 * 1024;

const UPLOADS = '/v1/media/uploads';

/** @throws {ParlorError}, or the signal's reason. */
export async function uploadMedia(http: HTTP, file: Blob, options: UploadOptions): Promise<MediaReply> {
  const uploadID = await upload(http, file, options);
  return getMedia(http, uploadID);
}

function upload(http: HTTP, file: Blob, { onProgress, onBegun, signal, ...options }: UploadOptions): Promise<string> {
  const endpoint = http.baseURL + UPLOADS;
  const fileName = options.fileName ?? (file instanceof File ? file.name : undefined);
  return new Promise((resolve, reject) => {
    const idOf = ({ url }: Upload) => url!.slice(url!.lastIndexOf('/') + 1);
    const run: Upload = new Upload(file as File, {
      endpoint,
      ...(options.uploadID !== undefined && { uploadUrl: `${endpoint}/${options.uploadID}` }),
      headers: http.authorization,
      ...(fileName !== undefined && { metadata: { filename: fileName } }),
      chunkSize: CHUNK,
      retryDelays: AGAIN_AFTER,
      // Also while the browser takes itself for offline: it may be wrong, and the pauses are short.
      onShouldRetry: ({ originalResponse }) => {
        const status = originalResponse?.getStatus() ?? 0;
        return status === 0 || status === 409 || (status >= 500 && status !== 507); // 507: somebody has to make room
      },
      storeFingerprintForResuming: false,
      onProgress: onProgress ?? null,
      onUploadUrlAvailable: () => onBegun?.(idOf(run)),
      onSuccess: () => {
        signal?.removeEventListener('abort', abort);
        resolve(idOf(run));
      },
      onError: (error) => {
        signal?.removeEventListener('abort', abort);
        errorOf(error).then(reject);
      },
    });
    const abort = () => {
      // What cannot be deleted now, the server deletes after a day.
      run.abort(run.url !== null).catch(() => {});
      reject(signal!.reason);
    };
    if (signal?.aborted) return reject(signal.reason);
    signal?.addEventListener('abort', abort, { once: true });
    run.start();
  });
}

async function errorOf(error: Error | DetailedError): Promise<ParlorError> {
  const answer = 'originalResponse' in error ? error.originalResponse : null;
  if (answer === null || answer.getStatus() === 0) {
    return new ParlorError('network_error', 'The server could not be reached.', { cause: error });
  }
  const headers = { 'Content-Type': answer.getHeader('Content-Type') ?? '', 'Retry-After': answer.getHeader('Retry-After') ?? '0' };
  return problemOf(new Response(answer.getBody(), { status: answer.getStatus(), headers }));
}

/**
 * Asks for a file, and a URL that opens it for an hour at most, as long as this
 * session may read it. After `expiresAt`, ask again.
 */
export async function getMedia(http: HTTP, mediaID: string): Promise<MediaReply> {
  const reply = await http.call('get', '/v1/media/{mediaID}', { path: { mediaID } });
  // A server that does not know its public address says the path.
  const { signedURL } = reply;
  return { ...reply, signedURL: signedURL.startsWith('/') ? http.baseURL + signedURL : signedURL };
}

/** Deletes a file that was not sent, uploaded or not. */
export const endUpload = (http: HTTP, mediaID: string): Promise<undefined> =>
  http.call('delete', '/v1/media/uploads/{mediaID}', { path: { mediaID }, header: { 'Tus-Resumable': '1.0.0' } });
