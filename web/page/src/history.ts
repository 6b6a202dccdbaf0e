import type { Parlor } from 'parlor-sdk';
import { byID } from './element.ts';
import type { Log } from './log.ts';
import { wordsForError } from './words.ts';

const PAGE = 50;
const LARGEST_PAGE = 100;

/** Brings a room's stored messages into the log: the newest first, older ones on demand. */
export class History {
  readonly #earlier = byID('earlier', HTMLButtonElement);
  readonly #error = byID('log-error', HTMLElement);
  readonly #parlor: Parlor;
  readonly #roomID: string;
  readonly #log: Log;
  readonly #inSight: IntersectionObserver;
  #before: number | undefined;
  #loading = false;

  constructor(parlor: Parlor, roomID: string, log: Log) {
    this.#parlor = parlor;
    this.#roomID = roomID;
    this.#log = log;
    this.#earlier.onclick = () => void this.#loadEarlier();
    // Scrolling up to the button is as good as pressing it.
    this.#inSight = new IntersectionObserver(([entry]) => {
      if (entry?.isIntersecting) void this.#loadEarlier();
    });
    this.clear();
  }

  clear(): void {
    this.#before = undefined;
    this.#earlier.hidden = true;
    this.#say('');
  }

  close(): void {
    this.#inSight.disconnect();
  }

  async loadNewest(): Promise<void> {
    const { messageList, nextCursor } = await this.#parlor.listRoomMessages(this.#roomID, { limit: PAGE });
    this.#log.addHistory(messageList);
    this.#before = nextCursor;
    this.#earlier.hidden = nextCursor === undefined;
    // Observing afresh reports at once whether the button is in sight, as after a first page of few lines.
    this.#inSight.disconnect();
    this.#inSight.observe(this.#earlier);
  }

  /** Loads what was said while the session was out of the room. */
  async loadAfter(seq: number): Promise<void> {
    for (let after: number | undefined = seq; after !== undefined; ) {
      const query: { after: number; limit: number } = { after, limit: LARGEST_PAGE };
      const { messageList, nextCursor } = await this.#parlor.listRoomMessages(this.#roomID, query);
      this.#log.addHistory(messageList);
      after = nextCursor;
    }
  }

  async #loadEarlier(): Promise<void> {
    const before = this.#before;
    if (before === undefined || this.#loading) return;
    this.#loading = true;
    this.#say('');
    try {
      const { messageList, nextCursor } = await this.#parlor.listRoomMessages(this.#roomID, { before, limit: PAGE });
      if (this.#before !== before) return; // the log was cleared meanwhile
      this.#log.addHistory(messageList);
      this.#before = nextCursor;
      this.#earlier.hidden = nextCursor === undefined;
    } catch (error) {
      this.#say(`Earlier messages could not be loaded. ${wordsForError(error)}`);
    } finally {
      this.#loading = false;
    }
  }

  #say(words: string): void {
    this.#error.textContent = words;
  }
}
