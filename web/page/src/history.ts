import type { Parlor } from 'parlor-sdk';
import { byID } from './element.ts';
import type { Log } from './log.ts';
import { textForError } from './texts.ts';

const PAGE_SIZE = 50;
const LARGEST_PAGE_SIZE = 100;

/** History loads a room's stored messages into the log: the newest first, older ones on demand. */
export class History {
  readonly #earlier = byID('earlier', HTMLButtonElement);
  readonly #error = byID('log-error', HTMLElement);
  readonly #parlor: Parlor;
  readonly #roomID: string;
  readonly #log: Log;
  readonly #visibility: IntersectionObserver;
  #before: number | undefined;
  #loading = false;

  constructor(parlor: Parlor, roomID: string, log: Log) {
    this.#parlor = parlor;
    this.#roomID = roomID;
    this.#log = log;
    this.#earlier.onclick = () => void this.#loadEarlier();
    // Scrolling up to the button loads earlier messages too.
    this.#visibility = new IntersectionObserver(([entry]) => {
      if (entry?.isIntersecting) void this.#loadEarlier();
    });
    this.clear();
  }

  clear(): void {
    this.#before = undefined;
    this.#earlier.hidden = true;
    this.#showError('');
  }

  close(): void {
    this.#visibility.disconnect();
  }

  async loadNewest(): Promise<void> {
    const { messageList, nextCursor } = await this.#parlor.listRoomMessages(this.#roomID, { limit: PAGE_SIZE });
    this.#log.addHistory(messageList);
    this.#before = nextCursor;
    this.#earlier.hidden = nextCursor === undefined;
    this.#observe();
  }

  /**
   * Begins a new observation, which reports at once whether the button is visible: it is above a
   * short page, and after an empty one, whose messages are all to other members.
   */
  #observe(): void {
    this.#visibility.disconnect();
    this.#visibility.observe(this.#earlier);
  }

  /** Loads the messages that were sent while the session was out of the room. */
  async loadAfter(seq: number): Promise<void> {
    for (let after: number | undefined = seq; after !== undefined; ) {
      const query: { after: number; limit: number } = { after, limit: LARGEST_PAGE_SIZE };
      const { messageList, nextCursor } = await this.#parlor.listRoomMessages(this.#roomID, query);
      this.#log.addHistory(messageList);
      after = nextCursor;
    }
  }

  async #loadEarlier(): Promise<void> {
    const before = this.#before;
    if (before === undefined || this.#loading) return;
    this.#loading = true;
    this.#showError('');
    try {
      const { messageList, nextCursor } = await this.#parlor.listRoomMessages(this.#roomID, { before, limit: PAGE_SIZE });
      if (this.#before !== before) return; // the log was cleared in the meantime
      this.#log.addHistory(messageList);
      this.#before = nextCursor;
      this.#earlier.hidden = nextCursor === undefined;
      if (messageList.length === 0) this.#observe();
    } catch (error) {
      this.#showError(`Earlier messages could not be loaded. ${textForError(error)}`);
    } finally {
      this.#loading = false;
    }
  }

  #showError(text: string): void {
    this.#error.textContent = text;
  }
}
