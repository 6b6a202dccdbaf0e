import { type DetailedError, Upload } from 'tus-js-client';
import type { HTTP } from './http.ts';
import { ParlorError, problemOf } from './problem.ts';
import type { MediaReply } from './types.ts';

export interface UploadOptions {
  /** The name of the file. The default is the name of the `File`. */
  fileName?: string;
  /** Called repeatedly with the number of bytes that were sent. */
  onProgress?: (sent: number, total: number) => void;
  /** Called when the upload has its ID, which is the file's mediaID. */
  onBegun?: (uploadID: string) => void;
  /** The ID of an interrupted upload of the same file, to continue it. */
  uploadID?: string;
  /** Cancels the upload and deletes the uploaded bytes on the server. */
  signal?: AbortSignal;
}

/**
 * Delays between retries, in milliseconds; they start over whenever bytes were accepted. Their
 * sum is more than the time that a server takes to restart.
 */
const RETRY_DELAYS = [0, 1_000, 2_000, 3_000, 5_000, 5_000, 5_000, 5_000, 5_000];
/** The size of a request, in bytes. A proxy that buffers requests can lose no more than this. */
const CHUNK_SIZE = 8 * 1024 * 1024;

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
      chunkSize: CHUNK_SIZE,
      retryDelays: RETRY_DELAYS,
      // This does not check navigator.onLine, which may be wrong; the delays are short.
      onShouldRetry: ({ originalResponse }) => {
        const status = originalResponse?.getStatus() ?? 0;
        if (status === 0) http.onUnreachable(Date.now());
        // 507 is not retried: it lasts until an operator frees storage.
        return status === 0 || status === 409 || (status >= 500 && status !== 507);
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
      // If the upload cannot be deleted now, the server deletes it after a day.
      run.abort(run.url !== null).catch(() => {});
      reject(signal!.reason);
    };
    if (signal?.aborted) return reject(signal.reason);
    signal?.addEventListener('abort', abort, { once: true });
    run.start();
  });
}

async function errorOf(error: Error | DetailedError): Promise<ParlorError> {
  const reply = 'originalResponse' in error ? error.originalResponse : null;
  if (reply === null || reply.getStatus() === 0) {
    return new ParlorError('network_error', 'The server could not be reached.', { cause: error });
  }
  const headers = { 'Content-Type': reply.getHeader('Content-Type') ?? '', 'Retry-After': reply.getHeader('Retry-After') ?? '0' };
  return problemOf(new Response(reply.getBody(), { status: reply.getStatus(), headers }));
}

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
  http.call('delete', '/v1/media/uploads/{mediaID}', { path: { mediaID }, header: { 'Tus-Resumable': '1.0.0' } });
