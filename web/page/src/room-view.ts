import {
  type ConnectionEvent,
  type ConnectionState,
  type Parlor,
  ParlorError,
  type Message,
  type Room,
} from 'parlor-sdk';
import { Attachments } from './attachments.ts';
import { Composer } from './composer.ts';
import { byID } from './element.ts';
import { History } from './history.ts';
import { Log } from './log.ts';
import { MediaView } from './media-view.ts';
import { Members } from './members.ts';
import { Outbox } from './outbox.ts';
import type { BeingOut, RoomChoice, Saved, Unsent } from './saved.ts';
import { connectionWords, wordsForBeingOut, wordsForEnd, wordsForError, wordsForLeaving } from './words.ts';

/** How long a session that comes back is told why it is out of the room. It comes with the same bytes, if at all. */
const EXPLANATION_MS = 300;

/** What the view asks of the page around it. */
export interface RoomViewActions {
  /** Leaves the room and the session, and goes back to the entrance. */
  leave(): void;
  /** Takes the session back from the tab that took it over. */
  reclaim(): void;
}

/** The room on the page, from entering it to leaving it. */
export class RoomView {
  readonly #view = byID('room', HTMLElement);
  readonly #title = byID('room-title', HTMLElement);
  readonly #connection = byID('connection', HTMLElement);
  readonly #connectionWords = byID('connection-words', HTMLElement);
  readonly #notice = byID('notice', HTMLElement);
  readonly #parlor: Parlor;
  readonly #room: RoomChoice;
  readonly #actions: RoomViewActions;
  readonly #composer: Composer;
  readonly #media: MediaView;
  readonly #log: Log;
  readonly #history: History;
  readonly #members: Members;
  readonly #outbox: Outbox;
  readonly #attachments: Attachments;
  readonly #stopListening: (() => void)[];
  #generation = 0;
  /** The highest seq that the stream has brought. */
  #lastSeq = 0;
  /** Whether the view shows a room the session is in; while it enters one it does not. */
  #inside = false;
  #out: BeingOut | undefined;
  /** Whether the session is over, so that there is nothing to leave. */
  #ended = false;
  /** What was not sent before the page was reloaded, until the session is in the room. */
  #unsent: Unsent[] = [];
  #unexplained: ReturnType<typeof setTimeout> | undefined;

  constructor(parlor: Parlor, room: RoomChoice, actions: RoomViewActions) {
    this.#parlor = parlor;
    this.#room = room;
    this.#actions = actions;
    this.#media = new MediaView(parlor);
    this.#log = new Log(parlor.userID, this.#media, (message) => void this.#recall(message));
    this.#history = new History(parlor, room.roomID, this.#log);
    this.#members = new Members(parlor, room.roomID);
    this.#outbox = new Outbox(parlor, room.roomID, this.#log);
    this.#attachments = new Attachments(parlor, this.#log, this.#outbox);
    this.#composer = new Composer(
      parlor.limits.textBytes,
      (text) => this.#outbox.add({ text }),
      (files) => this.#attachments.add(files),
    );
    this.#stopListening = this.#listen();
    byID('leave', HTMLButtonElement).onclick = () => actions.leave();
    this.#view.removeAttribute('data-out');
    this.#showConnection(parlor.connectionState);
    this.#showNotice('');
  }

  get room(): RoomChoice {
    return this.#room;
  }

  get unsent(): Unsent[] {
    return [...this.#unsent, ...this.#outbox.unsent];
  }

  /** Why the session is out of the room, where it does not go back by itself. */
  get out(): BeingOut | undefined {
    return this.#out;
  }

  get inside(): boolean {
    return this.#inside;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Enters the room, and shows it. */
  async enter(): Promise<void> {
    const { roomID, roomName } = this.#room;
    const { room } = await this.#parlor.enterRoom(roomID, { roomName });
    this.#show();
    await this.#load(room);
  }

  /** Goes on where the page was reloaded, and sends what was not sent. */
  async resume({ out, unsent }: Saved): Promise<void> {
    this.#show();
    this.#unsent = unsent;
    if (out !== undefined) {
      this.#showOut(out);
      return;
    }
    // As far as this page knows. If it is not so, the stream says that, and why: see #listen.
    this.#inside = true;
    this.#composer.enabled = false;
    try {
      const { room } = await this.#parlor.getRoom(this.#room.roomID);
      if (this.#inside) await this.#load(room);
    } catch (error) {
      if (!isOutside(error)) throw error;
    }
  }

  close(): void {
    clearTimeout(this.#unexplained);
    for (const stop of this.#stopListening) stop();
    this.#history.close();
    this.#attachments.close();
    this.#media.clear();
    this.#log.clear();
    this.#view.hidden = true;
  }

  #show(): void {
    const title = this.#room.roomName || this.#room.roomID;
    this.#title.textContent = title;
    document.title = `${title} · Parlor`;
    this.#view.hidden = false;
    this.#composer.focus();
  }

  /** Fills the view; `after` is how far it was filled before the session fell out of the room. */
  async #load(room: Room, after = 0): Promise<void> {
    const known = room.generation === this.#generation && after > 0;
    this.#begin(room.generation);
    this.#inside = true;
    this.#out = undefined;
    this.#composer.enabled = true;
    this.#view.removeAttribute('data-out');
    this.#showNotice('');
    const messages = known ? this.#history.loadAfter(after) : this.#history.loadNewest();
    try {
      await Promise.all([messages, this.#members.load()]);
    } catch (error) {
      if (!isOutside(error)) throw error; // out again already: the stream says so, and why
    }
    if (this.#inside) for (const message of this.#unsent.splice(0)) this.#outbox.add(message);
  }

  /** Starts over where the room is another one of the same name. */
  #begin(generation: number): void {
    if (generation === this.#generation) return;
    const first = this.#generation === 0;
    this.#generation = generation;
    this.#lastSeq = 0;
    this.#clear();
    if (!first) this.#log.addLine(0, 'The room has closed meanwhile. This is a new one.');
  }

  #clear(): void {
    this.#log.clear();
    this.#media.clear();
    this.#history.clear();
  }

  #listen(): (() => void)[] {
    const parlor = this.#parlor;
    /** Takes an event of this room, also before the reply to entering it is here. */
    const ours = (event: { roomID: string; generation: number; seq: number }) => {
      if (event.roomID !== this.#room.roomID || event.generation < this.#generation) return false;
      this.#begin(event.generation);
      this.#lastSeq = event.seq;
      return true;
    };
    return [
      parlor.on('connectionStateChanged', ({ state, event, reason }) => this.#showConnection(state, event, reason)),
      parlor.on('sessionReady', ({ rooms }) => {
        if (!this.#inside || rooms.some(({ roomID }) => roomID === this.#room.roomID)) return;
        // Why comes next, where the server still knows it.
        this.#unexplained = setTimeout(() => void this.#enterAgain(), EXPLANATION_MS);
      }),
      parlor.on('roomStateChanged', ({ roomID, state, event, reason }) => {
        if (!this.#inside || state !== 'disconnected' || roomID !== this.#room.roomID) return;
        this.#leave(reason === undefined ? { event } : { event, reason });
      }),
      parlor.on('roomReset', ({ room }) => {
        if (!this.#inside || room.roomID !== this.#room.roomID) return;
        this.#begin(room.generation);
        this.#clear();
        this.#lastSeq = room.lastSeq;
        this.#loadOrSay(() => this.#load(room));
      }),
      parlor.on('roomMemberJoined', (event) => {
        if (!ours(event)) return;
        this.#members.joined(event);
        for (const { userID, userName } of event.memberList) {
          this.#log.addLine(event.seq, userID === parlor.userID ? 'You joined' : `${userName} joined`);
        }
      }),
      parlor.on('roomMemberLeft', (event) => {
        if (!ours(event)) return;
        this.#members.left(event);
        for (const { userName, reason } of event.memberList) {
          this.#log.addLine(event.seq, wordsForLeaving(userName, reason), { 'data-reason': reason });
        }
      }),
      parlor.on('roomMessageReceived', (event) => {
        const { seq } = event;
        if (seq === undefined || !ours({ ...event, seq })) return; // this page keeps what is stored
        for (const message of event.messageList) {
          this.#log.addMessage(message);
          if (message.sender.userID === parlor.userID) this.#outbox.sent(message);
        }
      }),
      parlor.on('messageRecalled', (event) => {
        if (ours(event)) this.#log.recall(event.recalledSeq);
      }),
    ];
  }

  /** The session is out of the room: for having been away too long, or because somebody decided so. */
  #leave(out: BeingOut): void {
    clearTimeout(this.#unexplained);
    if (out.event === 'networkTimeout') void this.#enterAgain();
    else this.#showOut(out);
  }

  #showOut(out: BeingOut): void {
    this.#inside = false;
    this.#out = out;
    this.#shutOut();
    const [label, act] =
      out.event === 'kickedOut'
        ? ['Back to the entrance', () => this.#actions.leave()]
        : ['Enter again', () => void this.#enterAgain().then(() => this.#composer.focus())];
    this.#showNotice(wordsForBeingOut(out.event, out.reason), label, act);
  }

  /** Shows nothing that is no longer known, and takes no messages. */
  #shutOut(): void {
    this.#composer.enabled = false;
    this.#view.setAttribute('data-out', '');
  }

  async #enterAgain(): Promise<void> {
    this.#inside = false; // until entered; further events that say so change nothing
    const after = this.#lastSeq;
    await this.#loadOrSay(async () => {
      const { roomID, roomName } = this.#room;
      const { room } = await this.#parlor.enterRoom(roomID, { roomName });
      await this.#load(room, after);
    });
  }

  async #loadOrSay(load: () => Promise<void>): Promise<void> {
    try {
      await load();
    } catch (error) {
      this.#showNotice(wordsForError(error), 'Try again', () => void this.#loadOrSay(load));
    }
  }

  async #recall({ messageID, seq = 0 }: Message): Promise<void> {
    const error = byID('log-error', HTMLElement);
    error.textContent = '';
    try {
      await this.#parlor.recallMessage(this.#room.roomID, messageID);
      this.#log.recall(seq);
      this.#composer.focus(); // the button that had it is gone
    } catch (fault) {
      error.textContent = `The message was not recalled. ${wordsForError(fault)}`;
    }
  }

  #showConnection(state: ConnectionState, event?: ConnectionEvent, reason?: string): void {
    this.#connection.dataset['state'] = state;
    this.#connectionWords.textContent = connectionWords[state];
    if (state !== 'disconnected' || event === undefined) return;
    this.#shutOut();
    this.#ended = event !== 'superseded';
    const [label, act] =
      event === 'superseded'
        ? ['Continue here', () => this.#actions.reclaim()]
        : ['Back to the entrance', () => this.#actions.leave()];
    this.#showNotice(wordsForEnd(event, reason), label, act);
  }

  #showNotice(words: string, label = '', act = () => {}): void {
    this.#notice.hidden = words === '';
    byID('notice-words', HTMLElement).textContent = words;
    const button = byID('notice-button', HTMLButtonElement);
    button.textContent = label;
    button.onclick = act;
  }
}

function isOutside(error: unknown): boolean {
  return error instanceof ParlorError && (error.code === 'not_in_room' || error.code === 'room_not_found');
}
