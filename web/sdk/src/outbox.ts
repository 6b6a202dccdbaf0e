import { Backoff } from './backoff.ts';
import type { ConnectionState } from './connection.ts';
import { report } from './listeners.ts';
import { ParlorError } from './problem.ts';
import type { MessageReply, SendMessageRequest } from './schemas.gen.ts';

export interface SendOptions {
  /** Stops sending the message. If a call was in progress, it may have been stored. */
  signal?: AbortSignal;
  /**
   * Called whenever the message begins to wait, because the server cannot be reached (`error`), or
   * asked to wait. It is then sent by itself.
   */
  onWaiting?: (error: ParlorError) => void;
}

/** Makes one attempt to send a message. */
export type SendMessage = (message: SendMessageRequest) => Promise<MessageReply>;

interface Unsent {
  message: SendMessageRequest;
  options: SendOptions;
  resolve(reply: MessageReply): void;
  reject(reason: unknown): void;
  /** Stops listening for the signal. */
  settled(): void;
}

/** The longest pause between attempts, in milliseconds. A stream that is back ends it. */
const LONGEST_PAUSE = 5_000;
/** The most messages that may wait in all queues together. */
const MOST_UNSENT = 1_000;

/**
 * Outbox sends messages in the order in which they were given, with a queue for each room and each
 * user. One call of a queue is in progress at a time, because the server may store the messages of
 * two concurrent calls in either order. While the server cannot be reached, or asks to wait, the
 * queue waits, without a limit.
 */
export class Outbox {
  readonly #queues = new Map<string, Queue>();
  #unsent = 0;
  #closed = false;

  /** Sends a message in the queue of a name. `send` makes one attempt. */
  async add(name: string, send: SendMessage, message: SendMessageRequest, options: SendOptions): Promise<MessageReply> {
    options.signal?.throwIfAborted();
    if (this.#closed) throw sessionEnded();
    if (this.#unsent >= MOST_UNSENT) throw new ParlorError('too_many_unsent', 'Too many messages are waiting to be sent.');
    let queue = this.#queues.get(name);
    if (queue === undefined) {
      queue = new Queue(send, () => this.#queues.delete(name));
      this.#queues.set(name, queue);
    }
    this.#unsent++;
    try {
      return await queue.add(message, options);
    } finally {
      this.#unsent--;
    }
  }

  /** Sends what waits for the connection when it is back, and nothing more when it is closed. */
  follow(state: ConnectionState): void {
    this.#closed = state === 'disconnected';
    for (const queue of [...this.#queues.values()]) {
      if (state === 'connected') queue.wake();
      else if (state === 'disconnected') queue.close();
    }
  }
}

class Queue {
  readonly #send: SendMessage;
  readonly #emptied: () => void;
  readonly #waiting: Unsent[] = [];
  #running = false;
  #closed = false;
  /** Why the queue pauses; undefined if it does not. */
  #interruption: ParlorError | undefined;
  /** Ends the pause in progress, unless the server asked for it. */
  wake = () => {};

  constructor(send: SendMessage, emptied: () => void) {
    this.#send = send;
    this.#emptied = emptied;
  }

  add(message: SendMessageRequest, options: SendOptions): Promise<MessageReply> {
    const { signal } = options;
    return new Promise((resolve, reject) => {
      const unsent: Unsent = { message, options, resolve, reject, settled() {} };
      const abort = () => {
        this.#remove(unsent);
        this.wake();
        reject(signal!.reason);
      };
      signal?.addEventListener('abort', abort, { once: true });
      unsent.settled = () => signal?.removeEventListener('abort', abort);
      this.#waiting.push(unsent);
      if (this.#interruption) tell(unsent, this.#interruption);
      else if (!this.#running) void this.#run();
    });
  }

  /** Rejects all messages except the one that is being sent. */
  close(): void {
    this.#closed = true;
    this.wake();
  }

  async #run(): Promise<void> {
    this.#running = true;
    const backoff = new Backoff(LONGEST_PAUSE);
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      if (this.#closed) {
        this.#remove(next);
        next.reject(sessionEnded());
        continue;
      }
      try {
        const reply = await this.#send(next.message);
        backoff.reset();
        this.#remove(next);
        next.resolve(reply);
      } catch (error) {
        if (isInterruption(error)) await this.#pause(error, backoff.next(error.retryAfter));
        else {
          this.#remove(next);
          next.reject(error);
        }
      }
    }
    this.#running = false;
    this.#emptied();
  }

  async #pause(error: ParlorError, delay: number): Promise<void> {
    if (this.#closed) return;
    const paused = new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, delay);
      this.wake = () => {
        if (error.retryAfter > 0 && !this.#closed && this.#waiting.length > 0) return;
        clearTimeout(timer);
        resolve();
      };
    });
    this.#interruption = error;
    for (const unsent of [...this.#waiting]) tell(unsent, error);
    await paused;
    this.#interruption = undefined;
    this.wake = () => {};
  }

  #remove(unsent: Unsent): void {
    unsent.settled();
    const index = this.#waiting.indexOf(unsent);
    if (index >= 0) this.#waiting.splice(index, 1);
  }
}

function sessionEnded(): ParlorError {
  return new ParlorError('session_ended', 'The session has ended, or the client was closed.');
}

function tell({ options }: Unsent, interruption: ParlorError): void {
  try {
    options.onWaiting?.(interruption);
  } catch (error) {
    report(error);
  }
}

/** Reports whether a message can be sent later. The page of a captive portal has a status of success. */
function isInterruption(error: unknown): error is ParlorError {
  if (!(error instanceof ParlorError)) return false;
  return error.temporary || (error.code === 'unexpected_reply' && error.status < 400);
}
