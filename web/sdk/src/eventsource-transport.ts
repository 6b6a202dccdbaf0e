import type { HTTP } from './http.ts';
import { ParlorError } from './problem.ts';
import type { Connection, Reports, Transport } from './stream.ts';
import { streamEventNames } from './types.ts';

/**
 * Reads the stream with the browser's EventSource, which reconnects by itself
 * and needs no header, but tells neither comments nor the status of a refusal.
 */
export class EventSourceTransport implements Transport {
  readonly hearsComments = false;
  readonly #http: HTTP;
  readonly #streamURL: string;

  constructor(http: HTTP, streamURL: string) {
    this.#http = http;
    this.#streamURL = streamURL;
  }

  connect(cursor: string | undefined, reports: Reports): Connection {
    const url = new URL(this.#streamURL, this.#http.baseURL);
    // For the first connection; the later ones carry the Last-Event-ID header, which wins.
    if (cursor !== undefined) url.searchParams.set('last_event_id', cursor);
    const source = new EventSource(url);
    source.onopen = () => reports.opened();
    source.onerror = () => {
      if (source.readyState === EventSource.CONNECTING) reports.interrupted();
      else this.#explain(reports); // any other status than 200 ends an EventSource for good
    };
    for (const name of streamEventNames) {
      source.addEventListener(name, ({ data, lastEventId }) => {
        // Events without an id repeat the last one; before the first it is empty.
        reports.event(name, data, lastEventId === '' ? undefined : lastEventId);
      });
    }
    return { close: () => source.close() };
  }

  /** Finds out whether the stream was refused or the server is merely away. */
  async #explain(reports: Reports): Promise<void> {
    try {
      await this.#http.call('get', '/v1/sessions/current', {}, { repeatable: false });
      reports.closed(0);
    } catch (error) {
      if (error instanceof ParlorError && error.status === 401) reports.refused(error.code);
      else reports.closed(error instanceof ParlorError ? error.retryAfter : 0);
    }
  }
}
