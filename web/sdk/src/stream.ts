import { Backoff } from './backoff.ts';

/** The server writes at least a comment every 10 s, unless its operator chose more; four of them missing mean that nobody is there. */
const SILENCE_LIMIT = 45_000;
const LONGEST_PAUSE = 30_000;

/** One connection of a stream, or the attempt to make one. */
export interface Connection {
  /** Drops the connection. Nothing is reported after that. */
  close(): void;
}

/** What a transport reports about its connection. */
export interface Reports {
  opened(): void;
  /** Bytes arrived, be they events or not. */
  alive(): void;
  /** The server's `retry:`, in milliseconds. */
  retry(pause: number): void;
  event(name: string, data: string, id: string | undefined): void;
  /** The connection is lost and the transport itself makes a new one. */
  interrupted(): void;
  /** The connection is lost; `retryAfter` is how long the server asked to stay away, in milliseconds. */
  closed(retryAfter: number): void;
  /** The server does not know the session any more. */
  refused(code: string): void;
}

/** A way to get at the stream. */
export interface Transport {
  /** Connects and continues after the cursor, where one is given. */
  connect(cursor: string | undefined, reports: Reports): Connection;
  /** Whether `alive` tells of every byte, comments too, so that silence means something. */
  readonly hearsComments: boolean;
}

export type LossReason = 'networkInterrupted' | 'networkTimeout';

export interface StreamHandler {
  event(name: string, data: string): void;
  /** The stream broke off, or could not be opened. It comes back by itself. */
  lost(reason: LossReason): void;
  refused(code: string): void;
}

/**
 * The session's stream: it keeps one connection and makes a new one whenever it
 * is lost, until it is stopped. It never gives up, it only slows down.
 */
export class EventStream {
  readonly #transport: Transport;
  readonly #handler: StreamHandler;
  readonly #backoff = new Backoff(LONGEST_PAUSE);
  readonly #stopListening: () => void;
  #cursor: string | undefined;
  #connection: Connection | undefined;
  #open = false;
  #retry = 0;
  #heardAt = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #watchdog: ReturnType<typeof setTimeout> | undefined;

  constructor(transport: Transport, handler: StreamHandler, cursor?: string) {
    this.#transport = transport;
    this.#handler = handler;
    this.#cursor = cursor;
    this.#stopListening = onWake(() => this.#wake());
    // In the next task, so that listeners added right after login miss nothing.
    this.#timer = setTimeout(() => this.#connect());
  }

  /** The id of the last event that had one. */
  get cursor(): string | undefined {
    return this.#cursor;
  }

  stop(): void {
    this.#drop();
    this.#stopListening();
  }

  /** The server proved that it works: the next loss is not a repeated failure. */
  settled(): void {
    this.#backoff.reset();
  }

  /** Drops the connection and makes a new one after exactly this pause, which the server chose. */
  reconnectAfter(pause: number): void {
    this.#drop();
    this.#timer = setTimeout(() => this.#connect(), pause);
  }

  #connect(): void {
    this.#drop();
    this.#heardAt = Date.now();
    // A connection that was dropped may still have reports under way.
    let current = true;
    const guard =
      <A extends unknown[]>(report: (...args: A) => void) =>
      (...args: A) => {
        if (current) report(...args);
      };
    const connection = this.#transport.connect(this.#cursor, {
      opened: guard(() => {
        this.#open = true;
        this.#heardAt = Date.now();
      }),
      alive: guard(() => {
        this.#heardAt = Date.now();
      }),
      retry: guard((pause) => {
        this.#retry = Math.min(pause, LONGEST_PAUSE);
      }),
      event: guard((name, data, id) => {
        // Before the listeners run: one that saves the session saves this event as seen.
        if (id !== undefined) this.#cursor = id;
        this.#handler.event(name, data);
      }),
      interrupted: guard(() => {
        this.#open = false;
        this.#handler.lost('networkInterrupted');
      }),
      closed: guard((retryAfter) => this.#lose('networkInterrupted', retryAfter)),
      refused: guard((code) => {
        this.stop();
        this.#handler.refused(code);
      }),
    });
    this.#connection = {
      close() {
        current = false;
        connection.close();
      },
    };
    if (this.#transport.hearsComments) this.#watch();
  }

  #lose(reason: LossReason, retryAfter = 0): void {
    this.#drop();
    const pause = this.#backoff.next(Math.max(this.#retry, retryAfter));
    this.#timer = setTimeout(() => this.#connect(), pause);
    this.#handler.lost(reason);
  }

  /** Ends a connection that looks open while nothing arrives on it. */
  #watch(): void {
    const left = this.#heardAt + SILENCE_LIMIT - Date.now();
    if (left <= 0) this.#lose('networkTimeout');
    else this.#watchdog = setTimeout(() => this.#watch(), left);
  }

  /** The network is back, or somebody looks at the page again: no time to sit out a pause. */
  #wake(): void {
    const fresh = Date.now() - this.#heardAt < SILENCE_LIMIT;
    if (this.#open && (fresh || !this.#transport.hearsComments)) return;
    // A computer that slept kept the timers asleep too, so an old connection has to be dropped here.
    if (this.#open) this.#handler.lost('networkTimeout');
    this.#connect();
  }

  #drop(): void {
    this.#open = false;
    clearTimeout(this.#timer);
    clearTimeout(this.#watchdog);
    this.#connection?.close();
    this.#connection = undefined;
  }
}

/** Calls back when the browser comes online or its page into view; never outside of browsers. */
function onWake(callback: () => void): () => void {
  const listening = new AbortController();
  const { signal } = listening;
  globalThis.addEventListener?.('online', callback, { signal });
  globalThis.document?.addEventListener(
    'visibilitychange',
    () => {
      if (document.visibilityState === 'visible') callback();
    },
    { signal },
  );
  return () => listening.abort();
}
