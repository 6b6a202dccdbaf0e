import type { HTTP } from './http.ts';
import { ParlorError } from './problem.ts';
import type { Connection, ConnectionHandler, Transport } from './stream.ts';
import { streamEventNames } from './stream-events.ts';

/**
 * EventSourceTransport reads the stream with the browser's EventSource, which reconnects by itself
 * and needs no header, but reports neither comments nor the status of an error reply.
 */
export class EventSourceTransport implements Transport {
  readonly reportsComments = false;
  readonly #http: HTTP;
  readonly #streamURL: string;

  constructor(http: HTTP, streamURL: string) {
    this.#http = http;
    this.#streamURL = streamURL;
  }

  connect(cursor: string | undefined, handler: ConnectionHandler): Connection {
    const url = new URL(this.#streamURL, this.#http.baseURL);
    // For the first request. Later ones have the Last-Event-ID header, which takes precedence.
    if (cursor !== undefined) url.searchParams.set('last_event_id', cursor);
    const source = new EventSource(url);
    source.onopen = () => handler.opened();
    source.onerror = () => {
      if (source.readyState === EventSource.CONNECTING) handler.interrupted();
      else this.#findReason(handler); // an EventSource does not retry after a status other than 200
    };
    for (const name of streamEventNames) {
      source.addEventListener(name, ({ data, lastEventId }) => {
        // lastEventId is repeated for events without an id, and is empty before the first id.
        handler.event(name, data, lastEventId === '' ? undefined : lastEventId);
      });
    }
    return { close: () => source.close() };
  }

  /** Finds out whether the session has ended or the server is only unavailable. */
  async #findReason(handler: ConnectionHandler): Promise<void> {
    try {
      await this.#http.call('get', '/v1/sessions/current', {}, { retry: false });
      handler.closed(0);
    } catch (error) {
      if (error instanceof ParlorError && error.status === 401) handler.refused(error.code);
      else handler.closed(error instanceof ParlorError ? error.retryAfter : 0);
    }
  }
}
