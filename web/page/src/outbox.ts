import { type Message, newMessageID, type Parlor } from 'parlor-sdk';
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
 * Outbox holds the messages that are being sent. It sends one at a time, because the server may
 * store messages of two concurrent calls in either order.
 */
export class Outbox {
  readonly #parlor: Parlor;
  readonly #roomID: string;
  readonly #log: Log;
  readonly #items = new Map<string, Item>();
  #sending = false;

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
    this.#show(this.#items.get(clientMessageID)!, 'Sending…');
    void this.#sendAll();
  }

  /** Removes a message that the log shows. */
  sent({ clientMessageID = '' }: Message): void {
    this.#remove(clientMessageID);
  }

  async #sendAll(): Promise<void> {
    if (this.#sending) return;
    this.#sending = true;
    for (let item = this.#next(); item !== undefined; item = this.#next()) {
      const { clientMessageID, text, file } = item;
      try {
        const { message } = await this.#parlor.sendRoomMessage(this.#roomID, { ...(file ?? { text }), clientMessageID });
        this.#log.addMessage(message);
        this.sent(message);
        this.#remove(clientMessageID);
      } catch (error) {
        this.#fail(item, error);
      }
    }
    this.#sending = false;
  }

  #next(): Item | undefined {
    for (const item of this.#items.values()) if (!item.failed) return item;
    return undefined;
  }

  #fail(item: Item, error: unknown): void {
    item.failed = true;
    const retry = make('button', { type: 'button' }, 'Try again');
    retry.onclick = () => {
      item.failed = false;
      this.#show(item, 'Sending…');
      void this.#sendAll();
    };
    const discard = make('button', { type: 'button' }, 'Discard');
    discard.onclick = () => {
      this.#remove(item.clientMessageID);
      // If this fails, the server deletes the file after a day, unless the message was stored.
      if (item.file) this.#parlor.endUpload(item.file.mediaID).catch(() => {});
    };
    this.#show(item, `Not sent. ${textForError(error)} `, retry, ' ', discard);
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
