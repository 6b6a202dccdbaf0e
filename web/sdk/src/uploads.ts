import { type DetailedError, Upload as TusUpload } from 'tus-js-client';
import type { ConnectionState } from './connection.ts';
import type { HTTP } from './http.ts';
import { getMedia } from './media.ts';
import { ParlorError, problemOf } from './problem.ts';
import type { MediaReply } from './schemas.gen.ts';
import type { UploadOptions } from './upload-options.ts';

/** The path of resumable uploads. */
const UPLOADS = '/v1/media/uploads';
/** Delays between retries, in milliseconds. They start over whenever bytes were accepted. */
const RETRY_DELAYS = [0, 1_000, 2_000, 3_000, 5_000];
/** How long an upload waits after those, in milliseconds, unless the stream reconnects before. */
const RETRY_PAUSE = 30_000;
/** How long an upload may make no progress, in milliseconds: its connection is dead. */
const STALL_TIMEOUT = 20_000;
/** How long the server may take to store the file after the last byte, in milliseconds. */
const STORE_TIMEOUT = 60_000;
/** The size of a request, in bytes. A proxy that buffers requests can lose no more than this. */
const CHUNK_SIZE = 8 * 1024 * 1024;

export type EndUpload = (uploadID: string) => Promise<unknown>;

/**
 * Uploads are the uploads in progress. They stop while the connection is lost, and continue from
 * the server's offset when it is back, so that an upload fails only if the server rejects it.
 */
export class Uploads {
  readonly #http: HTTP;
  readonly #running = new Set<Upload>();
  readonly #endUpload: EndUpload;
  #state: ConnectionState;

  constructor(http: HTTP, endUpload: EndUpload, state: ConnectionState) {
    this.#http = http;
    this.#endUpload = endUpload;
    this.#state = state;
  }

  /** @throws {ParlorError}, or the signal's reason. */
  async upload(file: Blob, options: UploadOptions): Promise<MediaReply> {
    const upload = new Upload(this.#http, this.#endUpload, file, options);
    this.#running.add(upload);
    if (this.#state === 'disconnected') upload.fail(sessionEnded());
    else if (this.#state === 'reconnecting') upload.pause();
    else upload.start();
    try {
      return await upload.result;
    } finally {
      this.#running.delete(upload);
    }
  }

  /**
   * Stops all uploads while the connection is lost, or the page is suspended, and continues them
   * when it is back. If the session has ended, they fail; another session can continue them.
   */
  follow(state: ConnectionState): void {
    for (const upload of this.#running) {
      if (state === 'disconnected') upload.fail(sessionEnded());
      else if (state === 'reconnecting') upload.pause();
      else if (this.#state === 'reconnecting') upload.start();
    }
    this.#state = state;
  }
}

const sessionEnded = () => new ParlorError('session_ended', 'The session has ended.');

class Upload {
  readonly result: Promise<MediaReply>;
  readonly #http: HTTP;
  readonly #endUpload: EndUpload;
  readonly #file: Blob;
  readonly #options: UploadOptions;
  readonly #cancelled = () => this.#cancel();
  #resolve!: (reply: MediaReply) => void;
  #reject!: (reason: unknown) => void;
  #uploadID: string | undefined;
  #unreadable: ParlorError | undefined;
  /** The attempt in progress. It is never started again, because its requests could overlap. */
  #attempt: TusUpload | undefined;
  /** Starts another attempt after a pause, or after a stall. */
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(http: HTTP, endUpload: EndUpload, file: Blob, options: UploadOptions) {
    this.#http = http;
    this.#endUpload = endUpload;
    this.#file = file;
    this.#options = options;
    this.#uploadID = options.uploadID;
    this.result = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    const { signal } = options;
    if (signal?.aborted) this.#cancel();
    else signal?.addEventListener('abort', this.#cancelled, { once: true });
  }

  /** Starts or continues the upload, with a new attempt if there is one already. */
  start(): void {
    this.#stop();
    if (this.#options.signal?.aborted) return;
    const endpoint = this.#http.baseURL + UPLOADS;
    const fileName = this.#options.fileName ?? (this.#file instanceof File ? this.#file.name : undefined);
    const attempt: TusUpload = new TusUpload(this.#file as File, {
      // With both, it would start over after any error, such as a 409.
      ...(this.#uploadID === undefined ? { endpoint } : { uploadUrl: `${endpoint}/${this.#uploadID}` }),
      headers: this.#http.authorization,
      ...(fileName !== undefined && { metadata: { filename: fileName } }),
      chunkSize: CHUNK_SIZE,
      fileReader: { openFile: async () => this.#source() },
      retryDelays: RETRY_DELAYS,
      // This does not check navigator.onLine, which may be wrong; the delays are short.
      onShouldRetry: ({ originalResponse }) => {
        const status = originalResponse?.getStatus() ?? 0;
        if (this.#unreadable) return false;
        // 507 is not retried: it lasts until an operator frees storage.
        return status === 0 || status === 409 || (status >= 500 && status !== 507);
      },
      storeFingerprintForResuming: false,
      onProgress: (sent, total) => {
        this.#watch(sent === total ? STORE_TIMEOUT : STALL_TIMEOUT);
        this.#options.onProgress?.(sent, total);
      },
      onUploadUrlAvailable: () => {
        this.#uploadID = attempt.url!.slice(attempt.url!.lastIndexOf('/') + 1);
        this.#options.onBegun?.(this.#uploadID);
      },
      onSuccess: () => void this.#finish(attempt),
      onError: (error) => void errorOf(error).then((problem) => this.#failed(attempt, problem)),
    });
    this.#attempt = attempt;
    this.#watch(STALL_TIMEOUT);
    attempt.start();
  }

  /**
   * Returns what tus reads the file from: without it, tus reads no Blob under Node.js. Each request
   * has its bytes in memory, so that a file that cannot be read is not taken for a lost connection.
   */
  #source() {
    const { size } = this.#file;
    return {
      size,
      slice: async (start: number, end: number) => {
        try {
          const bytes = new Uint8Array(await this.#file.slice(start, end).arrayBuffer());
          return { value: Object.assign(bytes, { size: bytes.length }), done: end >= size };
        } catch (cause) {
          this.#unreadable = new ParlorError('file_unreadable', 'The file could not be read.', { cause });
          throw cause;
        }
      },
      close: () => {},
    };
  }

  pause(): void {
    this.#stop();
    this.#options.onInterrupted?.();
  }

  fail(reason: unknown): void {
    this.#stop();
    this.#options.signal?.removeEventListener('abort', this.#cancelled);
    this.#reject(reason);
  }

  /** Gets the file that the server has made of the uploaded bytes. */
  async #finish(attempt: TusUpload): Promise<void> {
    clearTimeout(this.#timer); // the call has a timeout of its own
    try {
      const reply = await getMedia(this.#http, this.#uploadID!);
      if (this.#attempt !== attempt) return;
      this.#options.signal?.removeEventListener('abort', this.#cancelled);
      this.#resolve(reply);
    } catch (error) {
      this.#failed(attempt, error as ParlorError);
    }
  }

  #failed(attempt: TusUpload, error: ParlorError): void {
    if (this.#attempt !== attempt) return; // it was replaced meanwhile
    if (this.#unreadable) this.fail(this.#unreadable);
    else if (error.status === 404 && attempt.options.uploadUrl) {
      // The server has deleted the upload, which may have waited for days: start over.
      this.#uploadID = undefined;
      this.start();
    } else if (isInterruption(error)) {
      this.pause();
      this.#timer = setTimeout(() => this.start(), RETRY_PAUSE);
    } else this.fail(error);
  }

  /** Starts another attempt if this one makes no progress within this time, in milliseconds. */
  #watch(timeout: number): void {
    clearTimeout(this.#timer);
    const since = Date.now();
    this.#timer = setTimeout(() => {
      this.#http.onUnreachable(since);
      this.start();
    }, timeout);
  }

  #stop(): void {
    clearTimeout(this.#timer);
    this.#attempt?.abort().catch(() => {}); // it makes no request that could fail
    this.#attempt = undefined;
  }

  #cancel(): void {
    this.fail(this.#options.signal!.reason);
    // If this fails, the server deletes the upload after a day.
    if (this.#uploadID !== undefined) this.#endUpload(this.#uploadID).catch(() => {});
  }
}

/**
 * Reports whether an upload can continue later. A 409 says that another request of the same upload
 * has not stopped yet. The page of a captive portal has a status of success.
 */
function isInterruption({ code, status }: ParlorError): boolean {
  return code === 'network_error' || (code === 'unexpected_reply' && status < 400) || [409, 502, 503, 504].includes(status);
}

async function errorOf(error: Error | DetailedError): Promise<ParlorError> {
  const reply = 'originalResponse' in error ? error.originalResponse : null;
  if (reply === null || reply.getStatus() === 0) {
    return new ParlorError('network_error', 'The server could not be reached.', { cause: error });
  }
  const headers = { 'Content-Type': reply.getHeader('Content-Type') ?? '', 'Retry-After': reply.getHeader('Retry-After') ?? '0' };
  return problemOf(new Response(reply.getBody() || null, { status: reply.getStatus(), headers }));
}
