import { createParser } from 'eventsource-parser';
import { FETCH_OPTIONS, type HTTP } from './http.ts';
import { mediaType, problemOf } from './problem.ts';
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
    this.#read(cursor, handler, abort.signal).catch(() => handler.closed(0));
    return { close: () => abort.abort() };
  }

  async #read(cursor: string | undefined, handler: ConnectionHandler, signal: AbortSignal): Promise<void> {
    const headers = new Headers({ Accept: 'text/event-stream', ...this.#http.authorization });
    if (cursor !== undefined) headers.set('Last-Event-ID', cursor);
    const response = await fetch(`${this.#http.baseURL}/v1/events`, { ...FETCH_OPTIONS, headers, signal });
    if (!response.ok) {
      const problem = await problemOf(response);
      if (problem.status === 401) handler.refused(problem.code);
      else handler.closed(problem.retryAfter);
      return;
    }
    // The sign-in page of a captive portal has status 200 as well.
    if (mediaType(response) !== 'text/event-stream' || response.body === null) {
      await response.body?.cancel();
      handler.closed(0);
      return;
    }
    handler.opened();
    const parser = createParser({
      onEvent: ({ event = 'message', data, id }) => handler.event(event, data, id),
      onRetry: handler.retry,
    });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
      handler.alive();
      parser.feed(chunk.value);
    }
    handler.closed(0);
  }
}
