import type { LiveHistory, RoomHandle } from 'parlor-sdk';
import { byID } from './element.ts';
import type { Log } from './log.ts';
import { textForError } from './texts.ts';

/** History shows a room's messages in the log: the newest and the new ones, and earlier ones on demand. */
export class History {
  readonly #earlier = byID('earlier', HTMLButtonElement);
  readonly #error = byID('log-error', HTMLElement);
  readonly #log: Log;
  readonly #visibility: IntersectionObserver;
  /** The messages that are shown. */
  #messages: LiveHistory | undefined;
  #loading = false;

  constructor(log: Log) {
    this.#log = log;
    this.#earlier.onclick = () => void this.#loadEarlier();
    // Scrolling up to the button loads earlier messages too.
    this.#visibility = new IntersectionObserver(([entry]) => {
      if (entry?.isIntersecting) void this.#loadEarlier();
    });
    this.#earlier.hidden = true;
    this.#showError('');
  }

  close(): void {
    this.#visibility.disconnect();
    this.#messages = undefined;
  }

  /** Shows the messages of a room. */
  async load(room: RoomHandle): Promise<void> {
    this.#messages = undefined;
    this.#offerEarlier();
    const history = await room.history();
    this.#messages = history;
    history.onChange((changed) => {
      if (this.#messages !== history) return;
      if (this.#loading || changed.length > 1) this.#log.addHistory(changed);
      else for (const message of changed) this.#log.addMessage(message);
      this.#offerEarlier();
    });
    this.#log.addHistory(history.messages);
    this.#offerEarlier();
  }

  /**
   * Shows the button if there are earlier messages. After a page, a new observation reports at once
   * whether it is still visible: it is above a short page.
   */
  #offerEarlier(): void {
    const hidden = this.#messages?.hasEarlier !== true;
    if (hidden === this.#earlier.hidden && !this.#loading) return;
    this.#earlier.hidden = hidden;
    this.#visibility.disconnect();
    this.#visibility.observe(this.#earlier);
  }

  async #loadEarlier(): Promise<void> {
    if (this.#loading) return;
    this.#loading = true;
    this.#showError('');
    try {
      await this.#messages?.loadEarlier();
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
