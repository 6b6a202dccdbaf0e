import { createParser } from 'eventsource-parser';
import { type HTTP, PLAIN } from './http.ts';
import { mediaType, problemOf } from './problem.ts';
import type { Connection, Reports, Transport } from './stream.ts';

/** Reads the stream with fetch: the session key stays in a header, and every status can be told apart. */
export class FetchTransport implements Transport {
  readonly hearsComments = true;
  readonly #http: HTTP;

  constructor(http: HTTP) {
    this.#http = http;
  }

  connect(cursor: string | undefined, reports: Reports): Connection {
    const abort = new AbortController();
    this.#read(cursor, reports, abort.signal).catch(() => reports.closed(0));
    return { close: () => abort.abort() };
  }

  async #read(cursor: string | undefined, reports: Reports, signal: AbortSignal): Promise<void> {
    const headers = new Headers({ Accept: 'text/event-stream', ...this.#http.authorization });
    if (cursor !== undefined) headers.set('Last-Event-ID', cursor);
    const response = await fetch(`${this.#http.baseURL}/v1/events`, { ...PLAIN, headers, signal });
    if (!response.ok) {
      const problem = await problemOf(response);
      if (problem.status === 401) reports.refused(problem.code);
      else reports.closed(problem.retryAfter);
      return;
    }
    // A hotel's sign-in page answers 200 as well.
    if (mediaType(response) !== 'text/event-stream' || response.body === null) {
      await response.body?.cancel();
      reports.closed(0);
      return;
    }
    reports.opened();
    const parser = createParser({
      onEvent: ({ event = 'message', data, id }) => reports.event(event, data, id),
      onRetry: reports.retry,
    });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
      reports.alive();
      parser.feed(chunk.value);
    }
    reports.closed(0);
  }
}
