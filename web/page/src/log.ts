import type { Message } from 'parlor-sdk';
import { avatar } from './avatar.ts';
import { byID, make, nameElement } from './element.ts';
import type { MediaView } from './media-view.ts';

/** Messages of one sender within this time share a heading, in milliseconds. */
const GROUPING_TIME = 5 * 60_000;
/** How long a message may be recalled by its sender, in milliseconds. */
const RECALL_TIME = 2 * 60_000;
/** The distance from the end, in pixels, within which the log follows new messages. */
const NEAR_END = 80;

interface Entry {
  seq: number;
  element: HTMLLIElement;
  /** The date; empty if the entry above has the same. */
  day: HTMLElement;
  at: Date;
  /** The sender of a message; undefined for other entries. */
  senderID: string | undefined;
}

/**
 * Log shows the room's messages and other events in the order of seq, and each once, although the
 * stream and the history may both deliver one.
 */
export class Log {
  readonly #scroller = byID('log', HTMLElement);
  readonly #list = byID('messages', HTMLOListElement);
  readonly #pending = byID('pending', HTMLOListElement);
  readonly #newest = byID('newest', HTMLButtonElement);
  readonly #growth = new ResizeObserver(() => {
    if (this.#following) this.scrollToEnd();
  });
  readonly #userID: string;
  readonly #media: MediaView;
  readonly #recall: (message: Message) => void;
  /** Whether the log shows its end, and follows new messages. */
  #following = true;
  #entries: Entry[] = [];

  /** `recall` is called when the user recalls one of their messages. */
  constructor(userID: string, media: MediaView, recall: (message: Message) => void) {
    this.#userID = userID;
    this.#media = media;
    this.#recall = recall;
    this.clear();
    this.#newest.onclick = () => this.scrollToEnd();
    this.#scroller.onscroll = () => {
      this.#following = this.#nearEnd();
      if (this.#following) this.#newest.hidden = true;
    };
    // Messages that are being sent grow when they fail.
    this.#growth.observe(this.#pending);
  }

  clear(): void {
    this.#entries = [];
    this.#list.replaceChildren();
  }

  close(): void {
    this.#growth.disconnect();
    this.clear();
  }

  /** Shows a message, unless it is shown already; as recalled if it was recalled. */
  addMessage(message: Message): void {
    if (message.recalled) this.#showRecalled(message);
    const mine = message.sender.userID === this.#userID;
    const at = new Date(message.sentAt);
    const sender = nameElement(message.sender.userName, 'sender');
    const heading = make('p', { class: 'heading' }, sender, timeOf(at));
    const media = 'media' in message ? message.media : undefined;
    const shown = media && this.#media.show(message.kind, media);
    const text = textOf(message) ?? `(${message.kind})`;
    const bubble = make('div', { class: 'bubble', title: at.toLocaleString() }, shown ?? text);
    if (shown) bubble.classList.add('media');
    const content = make('div', { class: 'content' }, heading, bubble);
    if (message.recalled) showRecalled(content);
    else if (mine) this.#offerRecall(message, content, at);
    const element = make('li', { class: mine ? 'message mine' : 'message' });
    this.#insert({ seq: message.seq ?? 0, at, senderID: message.sender.userID, element }, avatar(message.sender), content);
  }

  /** Replaces the content of a recalled message that is shown. */
  #showRecalled({ seq }: Message): void {
    const content = this.#entries.find((entry) => entry.seq === seq)?.element.querySelector<HTMLElement>('.content');
    if (content) showRecalled(content);
  }

  /** Shows an event other than a message, as a line of text. */
  addLine(seq: number, content: (Node | string)[], attributes: Record<string, string> = {}): void {
    const element = make('li', { class: 'line', ...attributes });
    this.#insert({ seq, at: new Date(), senderID: undefined, element }, make('span', {}, ...content));
  }

  /** Shows a message that is being sent, after all that have a seq. */
  addPending(element: HTMLLIElement): void {
    this.#pending.append(element);
    this.scrollToEnd();
  }

  /** Shows older messages, and keeps the scroll position although they are inserted above. */
  addHistory(messages: readonly Message[]): void {
    // Screen readers should not read a whole page of history aloud.
    this.#scroller.setAttribute('aria-live', 'off');
    setTimeout(() => this.#scroller.setAttribute('aria-live', 'polite'), 1_000);
    const following = this.#nearEnd();
    const fromEnd = this.#scroller.scrollHeight - this.#scroller.scrollTop;
    for (const message of messages) this.addMessage(message);
    if (following) this.scrollToEnd();
    else this.#scroller.scrollTop = this.#scroller.scrollHeight - fromEnd;
  }

  scrollToEnd(): void {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#newest.hidden = true;
  }

  /** Shows a recall button under a message, as long as it may be recalled. */
  #offerRecall(message: Message, content: HTMLElement, at: Date): void {
    const left = at.getTime() + RECALL_TIME - Date.now();
    if (left <= 0) return;
    const text = textOf(message) ?? 'message';
    const button = make('button', { class: 'recall', type: 'button', 'aria-label': `Recall: ${text}` }, 'Recall');
    button.onclick = () => this.#recall(message);
    content.append(button);
    // If this device's clock is slow, `left` is too long.
    setTimeout(() => button.remove(), Math.min(left, RECALL_TIME));
  }

  #insert(entry: Omit<Entry, 'day'>, ...content: Node[]): void {
    const index = this.#entries.findLastIndex(({ seq }) => seq <= entry.seq) + 1;
    if (this.#entries[index - 1]?.seq === entry.seq) return;
    const day = make('p', { class: 'day' });
    entry.element.append(day, ...content);
    const following = this.#nearEnd();
    this.#list.insertBefore(entry.element, this.#entries[index]?.element ?? null);
    this.#entries.splice(index, 0, { ...entry, day });
    this.#arrange(index);
    this.#arrange(index + 1);
    if (following) this.scrollToEnd();
    else if (index === this.#entries.length - 1) this.#newest.hidden = false;
  }

  /** Shows the sender and the date of an entry if they differ from those of the entry above. */
  #arrange(index: number): void {
    const entry = this.#entries[index];
    if (entry === undefined) return;
    const above = this.#entries[index - 1];
    const sameDay = above?.at.toDateString() === entry.at.toDateString();
    entry.day.textContent = sameDay ? '' : dayOf(entry.at);
    const follows =
      sameDay &&
      entry.senderID !== undefined &&
      entry.senderID === above?.senderID &&
      entry.at.getTime() - above.at.getTime() < GROUPING_TIME;
    entry.element.classList.toggle('follows', follows);
  }

  #nearEnd(): boolean {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    return scrollHeight - scrollTop - clientHeight < NEAR_END;
  }
}

function showRecalled(content: HTMLElement): void {
  content.querySelector('.recall')?.remove();
  const bubble = content.querySelector<HTMLElement>('.bubble')!;
  bubble.textContent = 'Message recalled';
  bubble.classList.remove('media');
  bubble.classList.add('recalled');
}

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const calendar = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' });

function timeOf(at: Date): HTMLTimeElement {
  return make('time', { datetime: at.toISOString() }, clock.format(at));
}

function dayOf(at: Date): string {
  return at.toDateString() === new Date().toDateString() ? 'Today' : calendar.format(at);
}

/** The text of a message, or what stands for it; undefined if it has neither. */
function textOf(message: Message): string | undefined {
  if ('text' in message) return message.text;
  if ('title' in message) return message.title;
  return 'media' in message ? message.media?.fileName : undefined;
}
