import { Backoff } from './backoff.ts';
import type { ConnectionEvent } from './connection.ts';
import { onPageChanges } from './page-lifecycle.ts';

/** The number of heartbeats without a byte after which the connection is lost. */
const MISSED_HEARTBEATS = 3;
/** How late a heartbeat may be when a loss is suspected, in milliseconds. */
const HEARTBEAT_DELAY = 2_000;
/** The silence since a call without a reply began that means a lost connection, in milliseconds. */
const SILENCE_AFTER_CALL = 10_000;
/** The shortest silence that means a lost connection, in milliseconds: mobile networks may pause. */
const LEAST_SILENCE = 15_000;
/** How long an attempt to connect may take, in milliseconds: the server replies at once. */
const CONNECT_TIMEOUT = 15_000;
/** The age up to which an attempt to connect is not replaced by another one, in milliseconds. */
const FRESH_ATTEMPT = 1_000;
/** The heartbeat interval if the server does not send it, in milliseconds: its default is 10 s. */
const DEFAULT_HEARTBEAT = 15_000;
const LONGEST_DELAY = 30_000;

/** A connection of a stream, or the attempt to open one. */
export interface Connection {
  /** Closes the connection. Its handler is not called any more. */
  close(): void;
}

/** The callbacks of a connection. */
export interface ConnectionHandler {
  opened(): void;
  /** Bytes arrived, which may be an event or a comment. */
  alive(): void;
  /** The server sent `retry:`, with a delay in milliseconds. */
  retry(delay: number): void;
  event(name: string, data: string, id: string | undefined): void;
  /** The connection is lost, and the transport itself reconnects. */
  interrupted(): void;
  /** The connection is lost. `retryAfter` is the requested delay, in milliseconds. */
  closed(retryAfter: number): void;
  /** The session no longer exists on the server. */
  refused(code: string): void;
}

/** A way to read the stream. */
export interface Transport {
  /** Connects, and continues after the cursor if there is one. */
  connect(cursor: string | undefined, handler: ConnectionHandler): Connection;
  /** Whether `alive` is called for comments too, so that silence means a lost connection. */
  readonly reportsComments: boolean;
  /**
   * Called before the connection is closed for long: the page's code is about to stop, or the stream
   * ends for the reason of an event.
   */
  release?(event?: ConnectionEvent): void;
}

export type LossReason = 'networkInterrupted' | 'networkTimeout';

export interface StreamHandler {
  event(name: string, data: string): void;
  /** The stream broke, or could not be opened. It reconnects by itself. */
  lost(reason: LossReason): void;
  /** The session no longer exists on the server: the handler stops the stream. */
  refused(code: string): void;
}

/**
 * EventStream is the session's stream. It keeps one connection open, and reconnects when that is
 * lost, with growing delays and without a limit, until it is stopped.
 */
export class EventStream {
  readonly #transport: Transport;
  readonly #handler: StreamHandler;
  readonly #backoff = new Backoff(LONGEST_DELAY);
  readonly #stopListening: () => void;
  #cursor: string | undefined;
  #connection: Connection | undefined;
  #open = false;
  #retry = 0;
  /** When the last bytes arrived. */
  #aliveAt = 0;
  #heartbeat = DEFAULT_HEARTBEAT;
  /** When the first call began that got no reply since the last bytes arrived. */
  #unansweredSince: number | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #watchdog: ReturnType<typeof setTimeout> | undefined;

  constructor(transport: Transport, handler: StreamHandler, cursor?: string) {
    this.#transport = transport;
    this.#handler = handler;
    this.#cursor = cursor;
    this.#stopListening = onPageChanges({
      wake: () => this.#wake(),
      offline: () => this.#lose('networkInterrupted'),
      suspend: () => this.#suspend(),
    });
    // In the next task, so that listeners that are added right after login miss no event.
    this.#timer = setTimeout(() => this.#connect());
  }

  /** The id of the last event that had one. */
  get cursor(): string | undefined {
    return this.#cursor;
  }

  stop(event?: ConnectionEvent): void {
    this.#transport.release?.(event);
    this.#disconnect();
    this.#stopListening();
  }

  /**
   * The server works: the next loss of the connection is not another failure in a row. `heartbeat`
   * is the longest time without a byte from the server, in seconds; an older server does not say.
   */
  settled(heartbeat: number | undefined): void {
    this.#backoff.reset();
    this.#heartbeat = heartbeat === undefined ? DEFAULT_HEARTBEAT : heartbeat * 1000;
    this.#watch();
  }

  /**
   * A call that began at this time got no reply. If nothing has arrived since then for as long as
   * calls wait for their reply, or not even a heartbeat, the connection is lost. A transport that
   * reports no comments reconnects if there is no event either.
   */
  suspectLoss(callBegan: number): void {
    if (!this.#open || callBegan < this.#aliveAt) return;
    this.#unansweredSince ??= callBegan;
    this.#watch();
  }

  /** Closes the connection, and reconnects after exactly this delay, which the server chose. */
  reconnectAfter(delay: number): void {
    this.#disconnect();
    this.#timer = setTimeout(() => this.#connect(), delay);
  }

  #connect(): void {
    this.#disconnect();
    this.#alive();
    // A transport may still call the handler of a connection that was closed.
    let current = true;
    const guard =
      <A extends unknown[]>(callback: (...args: A) => void) =>
      (...args: A) => {
        if (current) callback(...args);
      };
    const connection = this.#transport.connect(this.#cursor, {
      opened: guard(() => {
        this.#open = true;
        this.#alive();
        this.#watch();
      }),
      alive: guard(() => this.#alive()),
      retry: guard((delay) => {
        this.#retry = Math.min(delay, LONGEST_DELAY);
      }),
      event: guard((name, data, id) => {
        // Before the listeners run, because one may save the session, with this event as delivered.
        if (id !== undefined) this.#cursor = id;
        this.#alive();
        this.#handler.event(name, data);
      }),
      interrupted: guard(() => {
        this.#open = false;
        this.#alive(); // the transport connects again
        this.#watch();
        this.#handler.lost('networkInterrupted');
      }),
      closed: guard((retryAfter) => this.#lose('networkInterrupted', retryAfter)),
      // The handler stops the stream.
      refused: guard((code) => this.#handler.refused(code)),
    });
    this.#connection = {
      close() {
        current = false;
        connection.close();
      },
    };
    this.#watch();
  }

  #alive(): void {
    this.#aliveAt = Date.now();
    this.#unansweredSince = undefined;
  }

  #lose(reason: LossReason, retryAfter = 0): void {
    this.#disconnect();
    const delay = this.#backoff.next(Math.max(this.#retry, retryAfter));
    this.#timer = setTimeout(() => this.#connect(), delay);
    this.#handler.lost(reason);
  }

  /** Closes a connection that is silent for too long. */
  #watch(): void {
    clearTimeout(this.#watchdog);
    if (this.#connection === undefined) return;
    const now = Date.now();
    this.#aliveAt = Math.min(this.#aliveAt, now); // a clock that was set back must not hide the silence
    const left = this.#deadline - now;
    if (left <= 0) this.#lose('networkTimeout');
    else if (left < Infinity) this.#watchdog = setTimeout(() => this.#watch(), left);
  }

  /** Reconnects at once, because the network is back or the page's code runs again. */
  #wake(): void {
    const now = Date.now();
    if (this.#open && now < this.#deadline) return;
    if (!this.#open && this.#connection !== undefined && now < this.#aliveAt + FRESH_ATTEMPT) return;
    // Timers do not run while a computer sleeps, so #watch has not noticed a stale connection.
    if (this.#open) this.#handler.lost('networkTimeout');
    this.#connect();
  }

  /** Closes the connection while the page's code does not run: nobody would read it. */
  #suspend(): void {
    this.#transport.release?.();
    this.#disconnect();
    this.#handler.lost('networkInterrupted');
  }

  /** When the connection is lost unless bytes arrive, in milliseconds. */
  get #deadline(): number {
    if (!this.#open) return this.#aliveAt + CONNECT_TIMEOUT;
    if (this.#unansweredSince !== undefined) {
      return Math.min(this.#aliveAt + this.#heartbeat + HEARTBEAT_DELAY, this.#unansweredSince + SILENCE_AFTER_CALL);
    }
    if (!this.#transport.reportsComments) return Infinity;
    return this.#aliveAt + Math.max(MISSED_HEARTBEATS * this.#heartbeat, LEAST_SILENCE);
  }

  #disconnect(): void {
    this.#open = false;
    clearTimeout(this.#timer);
    clearTimeout(this.#watchdog);
    this.#connection?.close();
    this.#connection = undefined;
  }
}
