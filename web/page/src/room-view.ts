import {
  type ConnectionEvent,
  type ConnectionState,
  type Parlor,
  ParlorError,
  type Message,
  type Room,
} from 'parlor-sdk';
import { Attachments, type UnfinishedUpload } from './attachments.ts';
import { Composer } from './composer.ts';
import { byID, nameElement } from './element.ts';
import { History } from './history.ts';
import { Log } from './log.ts';
import { MediaView } from './media-view.ts';
import { Members } from './members.ts';
import { Outbox } from './outbox.ts';
import type { Removal, RoomChoice, Saved, SavedUpload, Unsent } from './saved.ts';
import { connectionTexts, textForDisconnect, textForError, textForLeave, textForRemoval } from './texts.ts';

/**
 * How long to wait for the event that says why a resumed session is out of the room, in
 * milliseconds. The server sends it together with sessionReady, or not at all.
 */
const REMOVAL_EVENT_MS = 300;

/** The actions that the view leaves to the page. */
export interface RoomViewActions {
  /** Leaves the room, ends the session, and shows the entry form. */
  leave(): void;
  /** Continues the session in this tab after another tab superseded it. */
  reclaim(): void;
  /** Starts a new session in the room; undefined if the page cannot get a token by itself. */
  logInAgain?(): Promise<void>;
}

/** RoomView shows a room, from entering it to leaving it. */
export class RoomView {
  readonly #view = byID('room', HTMLElement);
  readonly #title = byID('room-title', HTMLElement);
  readonly #connection = byID('connection', HTMLElement);
  readonly #connectionText = byID('connection-text', HTMLElement);
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
  /** The seq of the last event that the stream delivered. */
  #lastSeq = 0;
  /** Whether the session is in the room; false while it enters it. */
  #inside = false;
  #out: Removal | undefined;
  /** Whether the session has ended, so that there is nothing to leave. */
  #ended = false;
  /** The messages that were not sent before a reload, until the session is in the room. */
  #unsent: Unsent[] = [];
  /** Enters the room again unless the event that says why the session is out arrives first. */
  #reentry: ReturnType<typeof setTimeout> | undefined;

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

  get uploads(): SavedUpload[] {
    return this.#attachments.saved;
  }

  /** Removes the uploads that did not finish, so that another view can continue them. */
  takeUploads(): UnfinishedUpload[] {
    return this.#attachments.take();
  }

  /** Why the session is out of the room, if it does not enter it again by itself. */
  get out(): Removal | undefined {
    return this.#out;
  }

  get inside(): boolean {
    return this.#inside;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Enters the room, shows it, and sends what an earlier session did not send. */
  async enter(unsent: Unsent[], uploads: UnfinishedUpload[]): Promise<void> {
    this.#unsent = unsent;
    this.#attachments.continue(uploads);
    const { roomID, roomName } = this.#room;
    const { room } = await this.#parlor.enterRoom(roomID, { roomName });
    this.#show();
    await this.#load(room);
  }

  /**
   * Shows the room after a reload, and sends what was not sent: the saved messages, and the uploads
   * of another view of this page.
   */
  async resume({ out, unsent, uploads }: Saved, unfinished: UnfinishedUpload[]): Promise<void> {
    this.#show();
    this.#unsent = unsent;
    this.#attachments.showInterrupted(uploads);
    this.#attachments.continue(unfinished);
    if (out !== undefined) {
      this.#showOut(out);
      return;
    }
    // The session was in the room when the page was left. If it no longer is, the stream says why.
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
    clearTimeout(this.#reentry);
    for (const stop of this.#stopListening) stop();
    this.#history.close();
    this.#attachments.close();
    this.#outbox.close();
    this.#media.clear();
    this.#log.close();
    this.#view.hidden = true;
  }

  #show(): void {
    const title = this.#room.roomName || this.#room.roomID;
    this.#title.replaceChildren(nameElement(title));
    document.title = `\u2068${title}\u2069 · Parlor`; // isolated: a title has no elements
    this.#view.hidden = false;
    this.#composer.focus();
  }

  /**
   * Loads the messages and members. `after` is the seq of the last message that the view showed
   * before the session was out of the room.
   */
  async #load(room: Room, after = 0): Promise<void> {
    const sameGeneration = room.generation === this.#generation && after > 0;
    this.#begin(room.generation);
    this.#inside = true;
    this.#out = undefined;
    this.#composer.enabled = true;
    this.#view.removeAttribute('data-out');
    this.#showNotice('');
    const messages = sameGeneration ? this.#history.loadAfter(after) : this.#history.loadNewest();
    try {
      await Promise.all([messages, this.#members.load()]);
    } catch (error) {
      if (!isOutside(error)) throw error; // the stream says why the session is out again
    }
    if (!this.#inside) return;
    for (const message of this.#unsent.splice(0)) this.#outbox.add(message);
    this.#outbox.sendWaiting();
  }

  /** Clears the view if the room has a new generation. */
  #begin(generation: number): void {
    if (generation === this.#generation) return;
    const first = this.#generation === 0;
    this.#generation = generation;
    this.#lastSeq = 0;
    this.#clear();
    if (!first) this.#log.addLine(0, ['The room was closed in the meantime. This is a new one.']);
  }

  #clear(): void {
    this.#log.clear();
    this.#media.clear();
    this.#history.clear();
  }

  #listen(): (() => void)[] {
    const parlor = this.#parlor;
    /** Reports whether an event is of this room. It may arrive before the reply to enterRoom. */
    const ours = (event: { roomID: string; generation: number; seq: number }) => {
      if (event.roomID !== this.#room.roomID || event.generation < this.#generation) return false;
      this.#begin(event.generation);
      this.#lastSeq = event.seq;
      return true;
    };
    return [
      parlor.on('connectionStateChanged', ({ state, event, reason }) => this.#showConnection(state, event, reason)),
      parlor.on('sessionReady', ({ rooms }) => {
        if (!this.#inside) return;
        if (rooms.some(({ roomID }) => roomID === this.#room.roomID)) this.#outbox.sendWaiting();
        else this.#reentry = setTimeout(() => void this.#enterAgain(), REMOVAL_EVENT_MS);
      }),
      parlor.on('roomStateChanged', ({ roomID, state, event, reason }) => {
        if (!this.#inside || state !== 'disconnected' || roomID !== this.#room.roomID) return;
        this.#removed(reason === undefined ? { event } : { event, reason });
      }),
      parlor.on('roomReset', ({ room }) => {
        if (!this.#inside || room.roomID !== this.#room.roomID) return;
        this.#begin(room.generation);
        this.#clear();
        this.#lastSeq = room.lastSeq;
        this.#loadOrShowError(() => this.#load(room));
      }),
      parlor.on('roomMemberJoined', (event) => {
        if (!ours(event)) return;
        this.#members.apply(event);
        for (const { userID, userName } of event.memberList) {
          this.#log.addLine(event.seq, userID === parlor.userID ? ['You joined'] : [nameElement(userName), ' joined']);
        }
      }),
      parlor.on('roomMemberLeft', (event) => {
        if (!ours(event)) return;
        this.#members.apply(event);
        for (const { userName, reason } of event.memberList) {
          this.#log.addLine(event.seq, [nameElement(userName), textForLeave(reason)], { 'data-reason': reason });
        }
      }),
      parlor.on('roomMemberCountUpdated', (event) => {
        if (!ours(event)) return;
        this.#members.apply(event);
        if (event.memberEvents === 'names') this.#loadOrShowError(() => this.#members.load());
      }),
      parlor.on('roomMessageReceived', (event) => {
        const { seq } = event;
        if (seq === undefined || !ours({ ...event, seq })) return; // the page shows only stored messages
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

  /** The session is out of the room: it timed out, or was removed. */
  #removed(out: Removal): void {
    clearTimeout(this.#reentry);
    if (out.event === 'networkTimeout') void this.#enterAgain();
    else this.#showOut(out);
  }

  #showOut(out: Removal): void {
    this.#inside = false;
    this.#out = out;
    this.#disable();
    const [label, act] =
      out.event === 'kickedOut'
        ? ['Back to the start page', () => this.#actions.leave()]
        : ['Enter again', () => void this.#enterAgain().then(() => this.#composer.focus())];
    this.#showNotice(textForRemoval(out.event, out.reason), label, act);
  }

  /** Hides the members, which are no longer up to date, and disables the composer. */
  #disable(): void {
    this.#composer.enabled = false;
    this.#view.setAttribute('data-out', '');
  }

  async #enterAgain(): Promise<void> {
    this.#inside = false; // so that further events about this are ignored
    const after = this.#lastSeq;
    await this.#loadOrShowError(async () => {
      const { roomID, roomName } = this.#room;
      const { room } = await this.#parlor.enterRoom(roomID, { roomName });
      await this.#load(room, after);
    });
  }

  async #loadOrShowError(load: () => Promise<void>): Promise<void> {
    try {
      await load();
    } catch (error) {
      this.#showNotice(textForError(error), 'Try again', () => void this.#loadOrShowError(load));
    }
  }

  async #recall({ messageID, seq = 0 }: Message): Promise<void> {
    const error = byID('log-error', HTMLElement);
    error.textContent = '';
    try {
      await this.#parlor.recallMessage(this.#room.roomID, messageID);
      this.#log.recall(seq);
      this.#composer.focus(); // the focused button was removed
    } catch (cause) {
      error.textContent = `The message was not recalled. ${textForError(cause)}`;
    }
  }

  #showConnection(state: ConnectionState, event?: ConnectionEvent, reason?: string): void {
    this.#connection.dataset['state'] = state;
    this.#connectionText.textContent = connectionTexts[state];
    if (state === 'disconnected' && event !== undefined) this.#showEnd(event, reason);
  }

  #showEnd(event: ConnectionEvent, reason?: string): void {
    this.#disable();
    this.#ended = event !== 'superseded';
    const { leave, reclaim, logInAgain } = this.#actions;
    // The server deletes expired sessions after a while, and then does not know why they ended.
    const expired = event === 'tokenExpired' || (event === 'sessionEnded' && this.#parlor.tokenExpiresAt <= new Date());
    if (event === 'superseded') {
      this.#showNotice(textForDisconnect(event), 'Continue here', reclaim);
    } else if (expired && logInAgain !== undefined && this.#out === undefined) {
      this.#showNotice(textForDisconnect('tokenExpired'), 'Enter again', () => void logInAgain());
      void logInAgain();
    } else {
      this.#showNotice(textForDisconnect(event, reason), 'Back to the start page', leave);
    }
  }

  #showNotice(text: string, label = '', act = () => {}): void {
    this.#notice.hidden = text === '';
    byID('notice-text', HTMLElement).textContent = text;
    const button = byID('notice-button', HTMLButtonElement);
    button.textContent = label;
    button.onclick = act;
  }
}

function isOutside(error: unknown): boolean {
  return error instanceof ParlorError && (error.code === 'not_in_room' || error.code === 'room_not_found');
}
