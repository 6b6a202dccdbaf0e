import { type Message, newMessageID, type Parlor } from 'parlor-sdk';
import { make } from './element.ts';
import type { Log } from './log.ts';
import type { Unsent } from './saved.ts';
import { wordsForError } from './words.ts';

interface Item extends Unsent {
  element: HTMLLIElement;
  state: HTMLElement;
  failed: boolean;
}

/**
 * The messages on their way. They are sent one after the other, because two
 * calls at once may be stored in either order.
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

  add({ clientMessageID = newMessageID(), ...said }: Omit<Unsent, 'clientMessageID'> & Partial<Unsent>): void {
    const { text } = said;
    const state = make('p', { class: 'state' });
    const content = make('div', { class: 'content' }, make('p', { class: 'bubble' }, text), state);
    const element = make('li', { class: 'message mine' }, content);
    this.#items.set(clientMessageID, { ...said, clientMessageID, element, state, failed: false });
    this.#log.addPending(element);
    this.#show(this.#items.get(clientMessageID)!, 'Sending…');
    void this.#sendAll();
  }

  /** The message has arrived in the log, and is shown there. */
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
    const again = make('button', { type: 'button' }, 'Try again');
    again.onclick = () => {
      item.failed = false;
      this.#show(item, 'Sending…');
      void this.#sendAll();
    };
    const discard = make('button', { type: 'button' }, 'Discard');
    discard.onclick = () => {
      this.#remove(item.clientMessageID);
      // Else the server deletes it after a day; where the message was sent after all, it keeps it.
      if (item.file) this.#parlor.endUpload(item.file.mediaID).catch(() => {});
    };
    this.#show(item, `Not sent. ${wordsForError(error)} `, again, ' ', discard);
  }

  #show(item: Item, ...words: (Node | string)[]): void {
    item.element.dataset['state'] = item.failed ? 'failed' : 'sending';
    item.state.replaceChildren(...words);
  }

  #remove(clientMessageID: string): void {
    this.#items.get(clientMessageID)?.element.remove();
    this.#items.delete(clientMessageID);
  }
}
