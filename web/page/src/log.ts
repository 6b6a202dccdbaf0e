import type { Message } from 'parlor-sdk';
import { avatar } from './avatar.ts';
import { byID, make } from './element.ts';
import type { MediaView } from './media-view.ts';

/** Messages of one sender this close together share their heading. */
const SAME_BREATH = 5 * 60_000;
/** As long as a message may be recalled by who said it. */
const RECALLABLE = 2 * 60_000;
/** As near to the end as this counts as reading the newest, in pixels. */
const NEAR_END = 80;

interface Entry {
  seq: number;
  element: HTMLLIElement;
  /** Empty until an entry of another day is above. */
  day: HTMLElement;
  at: Date;
  /** Whose heading it may share; undefined for what the room itself says. */
  senderID: string | undefined;
}

/**
 * The room's log on the page: what was said and what happened, in the order of
 * seq, each once, whether it came live, replayed or from the history.
 */
export class Log {
  readonly #scroller = byID('log', HTMLElement);
  readonly #list = byID('messages', HTMLOListElement);
  readonly #pending = byID('pending', HTMLOListElement);
  readonly #newest = byID('newest', HTMLButtonElement);
  readonly #userID: string;
  readonly #media: MediaView;
  readonly #recall: (message: Message) => void;
  #entries: Entry[] = [];
  /** Messages that were recalled, by seq: a page of history may have been on its way with what they said. */
  #recalled = new Set<number>();

  /** `recall` is asked to take a message of this user's back. */
  constructor(userID: string, media: MediaView, recall: (message: Message) => void) {
    this.#userID = userID;
    this.#media = media;
    this.#recall = recall;
    this.clear();
    this.#newest.onclick = () => this.scrollToEnd();
    this.#scroller.onscroll = () => {
      if (this.#nearEnd()) this.#newest.hidden = true;
    };
  }

  clear(): void {
    this.#entries = [];
    this.#recalled.clear();
    this.#list.replaceChildren();
  }

  /** Shows a message; a second time it changes nothing. */
  addMessage(message: Message): void {
    const mine = message.sender.userID === this.#userID;
    const at = new Date(message.sentAt);
    const sender = make('span', { class: 'sender' }, message.sender.userName);
    const heading = make('p', { class: 'heading' }, sender, timeOf(at));
    const recalled = message.recalled || this.#recalled.has(message.seq ?? 0);
    const shown = message.media !== undefined && !recalled ? this.#media.show(message.kind, message.media) : undefined;
    const words = message.text ?? message.title ?? `(${message.kind})`;
    const bubble = make('div', { class: 'bubble', title: at.toLocaleString() }, shown ?? words);
    if (shown) bubble.classList.add('media');
    const content = make('div', { class: 'content' }, heading, bubble);
    if (recalled) showRecalled(content);
    else if (mine) this.#offerRecall(message, content, at);
    const element = make('li', { class: mine ? 'message mine' : 'message' });
    this.#insert({ seq: message.seq ?? 0, at, senderID: message.sender.userID, element }, avatar(message.sender), content);
  }

  /** Takes what a message says off the page. */
  recall(seq: number): void {
    this.#recalled.add(seq);
    const content = this.#entries.find((entry) => entry.seq === seq)?.element.querySelector<HTMLElement>('.content');
    if (content) showRecalled(content);
  }

  /** Shows what happened in the room. */
  addLine(seq: number, words: string, attributes: Record<string, string> = {}): void {
    const element = make('li', { class: 'line', ...attributes });
    this.#insert({ seq, at: new Date(), senderID: undefined, element }, make('span', {}, words));
  }

  /** Shows a message that is under way, behind everything that has a seq. */
  addPending(element: HTMLLIElement): void {
    this.#pending.append(element);
    this.scrollToEnd();
  }

  /** Shows messages of the past; the reader stays at the same words while they come in above. */
  addHistory(messages: readonly Message[]): void {
    // A page of history, read aloud from its top, would help nobody.
    this.#scroller.setAttribute('aria-live', 'off');
    setTimeout(() => this.#scroller.setAttribute('aria-live', 'polite'), 1_000);
    const reading = this.#nearEnd();
    const fromEnd = this.#scroller.scrollHeight - this.#scroller.scrollTop;
    for (const message of messages) this.addMessage(message);
    if (reading) this.scrollToEnd();
    else this.#scroller.scrollTop = this.#scroller.scrollHeight - fromEnd;
  }

  scrollToEnd(): void {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#newest.hidden = true;
  }

  /** Puts a button under a message for as long as it can be taken back. */
  #offerRecall(message: Message, content: HTMLElement, at: Date): void {
    const left = at.getTime() + RECALLABLE - Date.now();
    if (left <= 0) return;
    const words = message.text ?? message.media?.fileName ?? 'message';
    const button = make('button', { class: 'recall', type: 'button', 'aria-label': `Recall: ${words}` }, 'Recall');
    button.onclick = () => this.#recall(message);
    content.append(button);
    // A clock that is wrong shows it for no longer than it would be of use.
    setTimeout(() => button.remove(), Math.min(left, RECALLABLE));
  }

  #insert(entry: Omit<Entry, 'day'>, ...content: Node[]): void {
    const index = this.#entries.findLastIndex(({ seq }) => seq <= entry.seq) + 1;
    if (this.#entries[index - 1]?.seq === entry.seq) return;
    const day = make('p', { class: 'day' });
    entry.element.append(day, ...content);
    const reading = this.#nearEnd();
    this.#list.insertBefore(entry.element, this.#entries[index]?.element ?? null);
    this.#entries.splice(index, 0, { ...entry, day });
    this.#arrange(index);
    this.#arrange(index + 1);
    if (reading) this.scrollToEnd();
    else if (index === this.#entries.length - 1) this.#newest.hidden = false;
  }

  /** Decides what an entry shows about its sender and its day, by the entry above. */
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
      entry.at.getTime() - above.at.getTime() < SAME_BREATH;
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
