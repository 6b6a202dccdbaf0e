import { type Message, newMessageID, type Parlor, ParlorError } from 'parlor-sdk';
import { make } from './element.ts';
import type { Log } from './log.ts';
import type { Unsent } from './saved.ts';
import { textForError } from './texts.ts';

interface Item extends Unsent {
  element: HTMLLIElement;
  state: HTMLElement;
  failed: boolean;
}

/**
 * How long to wait before messages are sent again if the stream stays connected, in milliseconds,
 * such as while the server has no database.
 */
const RETRY_DELAY = 30_000;

/**
 * Outbox holds the messages that are being sent. It sends one at a time, because the server may
 * store messages of two concurrent calls in either order. While the connection is lost, messages
 * wait, and are sent in their order when it is back.
 */
export class Outbox {
  readonly #parlor: Parlor;
  readonly #roomID: string;
  readonly #log: Log;
  readonly #items = new Map<string, Item>();
  #sending = false;
  /** Whether sendWaiting was called since the call in progress began. */
  #sendAgain = false;
  #retry: ReturnType<typeof setTimeout> | undefined;

  constructor(parlor: Parlor, roomID: string, log: Log) {
    this.#parlor = parlor;
    this.#roomID = roomID;
    this.#log = log;
  }

  get unsent(): Unsent[] {
    return Array.from(this.#items.values(), ({ clientMessageID, text, file }) => ({
      clientMessageID,
      text,
      ...(file !== undefined && { file }),
    }));
  }

  add({ clientMessageID = newMessageID(), ...draft }: Omit<Unsent, 'clientMessageID'> & Partial<Unsent>): void {
    const { text } = draft;
    const state = make('p', { class: 'state' });
    const content = make('div', { class: 'content' }, make('p', { class: 'bubble' }, text), state);
    const element = make('li', { class: 'message mine' }, content);
    this.#items.set(clientMessageID, { ...draft, clientMessageID, element, state, failed: false });
    this.#log.addPending(element);
    this.sendWaiting();
  }

  /** Sends the messages that wait: the connection is back, or the session is in the room again. */
  sendWaiting(): void {
    this.#sendAgain = true;
    for (const item of this.#items.values()) if (!item.failed) this.#show(item, 'Sending…');
    void this.#sendAll();
  }

  /** Stops after the call in progress. */
  close(): void {
    clearTimeout(this.#retry);
    for (const clientMessageID of [...this.#items.keys()]) this.#remove(clientMessageID);
  }

  /** Removes a message that the log shows. */
  sent({ clientMessageID = '' }: Message): void {
    this.#remove(clientMessageID);
  }

  async #sendAll(): Promise<void> {
    if (this.#sending) return;
    this.#sending = true;
    clearTimeout(this.#retry);
    for (let item = this.#next(); item !== undefined; item = this.#next()) {
      const { clientMessageID, text, file } = item;
      this.#sendAgain = false;
      try {
        const { message } = await this.#parlor.sendRoomMessage(this.#roomID, { ...(file ?? { text }), clientMessageID });
        this.#log.addMessage(message);
        this.sent(message);
        this.#remove(clientMessageID);
      } catch (error) {
        if (!isTemporary(error)) this.#fail(item, error);
        else if (!this.#sendAgain) {
          this.#wait(error);
          break;
        }
      }
    }
    this.#sending = false;
  }

  #next(): Item | undefined {
    for (const item of this.#items.values()) if (!item.failed) return item;
    return undefined;
  }

  #wait(error: ParlorError): void {
    const outside = error.code === 'not_in_room';
    // A session that is out of the room cannot send, however often it tries.
    if (!outside) this.#retry = setTimeout(() => this.sendWaiting(), RETRY_DELAY);
    const until = outside ? 'you are back in the room' : 'the server can be reached';
    for (const item of this.#items.values()) {
      if (!item.failed) this.#show(item, `Not sent yet. This is sent when ${until}. `, ...this.#buttons(item));
    }
  }

  #fail(item: Item, error: unknown): void {
    item.failed = true;
    this.#show(item, `Not sent. ${textForError(error)} `, ...this.#buttons(item));
  }

  /** Returns buttons that send a message again or discard it, with a space between them. */
  #buttons(item: Item): (Node | string)[] {
    const retry = make('button', { type: 'button' }, 'Try again');
    retry.onclick = () => {
      item.failed = false;
      this.sendWaiting();
    };
    const discard = make('button', { type: 'button' }, 'Discard');
    discard.onclick = () => {
      this.#remove(item.clientMessageID);
      // If this fails, the server deletes the file after a day, unless the message was stored.
      if (item.file) this.#parlor.endUpload(item.file.mediaID).catch(() => {});
    };
    return [retry, ' ', discard];
  }

  #show(item: Item, ...content: (Node | string)[]): void {
    item.element.dataset['state'] = item.failed ? 'failed' : 'sending';
    item.state.replaceChildren(...content);
  }

  #remove(clientMessageID: string): void {
    this.#items.get(clientMessageID)?.element.remove();
    this.#items.delete(clientMessageID);
  }
}

/**
 * Reports whether a message failed because the connection was lost, or because the session timed
 * out of the room meanwhile. The reply of a captive portal is an unexpected_reply.
 */
function isTemporary(error: unknown): error is ParlorError {
  if (!(error instanceof ParlorError)) return false;
  const { code, status } = error;
  return code === 'not_in_room' || code === 'unexpected_reply' || (error.temporary && status !== 429);
}
