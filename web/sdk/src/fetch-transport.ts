import type { HTTP } from './http.ts';
import { ParlorError } from './problem.ts';
import { openStream } from './sse.ts';
import type { Connection, ConnectionHandler, Transport } from './stream.ts';

/**
 * FetchTransport reads the stream with fetch: the session key is in a header, and every status is
 * visible.
 */
export class FetchTransport implements Transport {
  readonly reportsComments = true;
  readonly #http: HTTP;

  constructor(http: HTTP) {
    this.#http = http;
  }

  connect(cursor: string | undefined, handler: ConnectionHandler): Connection {
    const abort = new AbortController();
    void this.#read(cursor, handler, abort.signal);
    return { close: () => abort.abort() };
  }

  async #read(cursor: string | undefined, handler: ConnectionHandler, signal: AbortSignal): Promise<void> {
    try {
      const chunks = await openStream(this.#http, '/v1/events', cursor, signal);
      handler.opened();
      for await (const frames of chunks) {
        handler.alive();
        for (const frame of frames) {
          if ('retry' in frame) handler.retry(frame.retry);
          else handler.event(frame.name, frame.data, frame.id);
        }
      }
      handler.closed(0);
    } catch (error) {
      const problem = error instanceof ParlorError ? error : undefined;
      if (problem?.status === 401) handler.refused(problem.code);
      else handler.closed(problem?.retryAfter ?? 0);
    }
  }
}
