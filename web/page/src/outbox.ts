import { type Message, newMessageID, type Parlor, ParlorError } from 'parlor-sdk';
import { make } from './element.ts';
import type { Log } from './log.ts';
import type { Unsent } from './saved.ts';
import { textForError } from './texts.ts';

interface Item extends Unsent {
  element: HTMLLIElement;
  state: HTMLElement;
  failed: boolean;
  /** Whether the session was out of the room, so that the message is sent when it is back. */
  outside: boolean;
  /** Stops sending the message. */
  cancel: AbortController;
}

/** How long a message is shown as being sent, in milliseconds, before the user can discard it. */
const PATIENCE = 20_000;

/** Outbox shows the messages that are being sent. The SDK sends them in their order. */
export class Outbox {
  readonly #parlor: Parlor;
  readonly #roomID: string;
  readonly #log: Log;
  readonly #items = new Map<string, Item>();

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
    const cancel = new AbortController();
    const item = { ...draft, clientMessageID, element, state, failed: false, outside: false, cancel };
    this.#items.set(clientMessageID, item);
    this.#log.addPending(element);
    void this.#send(item);
  }

  /** Sends the messages that wait for the room: the session is in it again. */
  sendWaiting(): void {
    for (const item of this.#items.values()) if (item.outside) void this.#send(item);
  }

  /** Stops sending. */
  close(): void {
    for (const clientMessageID of [...this.#items.keys()]) this.#remove(clientMessageID);
  }

  /** Removes a message that the log shows. */
  sent({ clientMessageID = '' }: Message): void {
    this.#remove(clientMessageID);
  }

  async #send(item: Item): Promise<void> {
    const { clientMessageID, text, file } = item;
    const cancel = new AbortController();
    const since = Date.now();
    Object.assign(item, { cancel, failed: false, outside: false });
    this.#show(item, 'Sending…');
    try {
      const draft = { ...(file ?? { text }), clientMessageID };
      const { message } = await this.#parlor.sendRoomMessage(this.#roomID, draft, {
        signal: cancel.signal,
        onWaiting: () => {
          if (Date.now() - since >= PATIENCE) this.#showWaiting(item, 'the server can be reached');
        },
      });
      this.#log.addMessage(message);
      this.sent(message);
      this.#remove(clientMessageID);
    } catch (error) {
      if (cancel.signal.aborted) return;
      if (error instanceof ParlorError && error.code === 'not_in_room') {
        item.outside = true;
        this.#showWaiting(item, 'you are back in the room');
      } else {
        item.failed = true;
        this.#show(item, `Not sent. ${textForError(error)} `, ...this.#buttons(item));
      }
    }
  }

  #showWaiting(item: Item, until: string): void {
    this.#show(item, `Not sent yet. This is sent when ${until}. `, ...this.#buttons(item));
  }

  /** Returns buttons that send a message again or discard it, with a space between them. */
  #buttons(item: Item): (Node | string)[] {
    const retry = make('button', { type: 'button' }, 'Try again');
    retry.onclick = () => {
      // Together with those that wait, so that they keep their order.
      const again = [...this.#items.values()].filter((other) => other === item || !other.failed);
      for (const { cancel } of again) cancel.abort();
      for (const other of again) void this.#send(other);
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
    const item = this.#items.get(clientMessageID);
    this.#items.delete(clientMessageID);
    item?.cancel.abort();
    item?.element.remove();
  }
}
