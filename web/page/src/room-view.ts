import {
  type ConnectionEvent,
  type ConnectionState,
  type Parlor,
  ParlorError,
  type Message,
  type RoomHandle,
  type RoomStateChange,
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
  /** The room that the view shows; undefined while the session enters it. */
  #handle: RoomHandle | undefined;
  #generation = 0;
  #out: Removal | undefined;
  /** Whether the session has ended, so that there is nothing to leave. */
  #ended = false;
  /** The messages that were not sent before a reload, until the session is in the room. */
  #unsent: Unsent[] = [];

  constructor(parlor: Parlor, room: RoomChoice, actions: RoomViewActions) {
    this.#parlor = parlor;
    this.#room = room;
    this.#actions = actions;
    this.#media = new MediaView(parlor);
    this.#log = new Log(parlor.userID, this.#media, (message) => void this.#recall(message));
    this.#history = new History(this.#log);
    this.#members = new Members(parlor.userID);
    this.#outbox = new Outbox(parlor, room.roomID, this.#log);
    this.#attachments = new Attachments(parlor, this.#log, this.#outbox);
    this.#composer = new Composer(
      parlor.limits.textBytes,
      (text) => this.#outbox.add({ text }),
      (files) => this.#attachments.add(files),
    );
    this.#stopListening = [
      parlor.on('connectionStateChanged', ({ state, event, reason }) => this.#showConnection(state, event, reason)),
    ];
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
    return this.#handle !== undefined && this.#handle.state !== 'disconnected';
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Enters the room, shows it, and sends what an earlier session did not send. */
  async enter(unsent: Unsent[], uploads: UnfinishedUpload[]): Promise<void> {
    this.#unsent = unsent;
    this.#attachments.continue(uploads);
    const handle = await this.#enterRoom();
    this.#show();
    await this.#attend(handle);
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
    this.#composer.enabled = false;
    // Without a handle, the page was left while the session entered the room.
    await this.#attend(this.#parlor.room(this.#room.roomID) ?? (await this.#enterRoom()));
  }

  close(): void {
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

  #enterRoom(): Promise<RoomHandle> {
    const { roomID, roomName } = this.#room;
    return this.#parlor.enterRoom(roomID, { roomName });
  }

  /** Shows a room that the session is in. */
  async #attend(handle: RoomHandle): Promise<void> {
    const closed = this.#generation !== 0 && this.#generation !== handle.room.generation;
    if (this.#handle !== handle) this.#listen(handle);
    this.#handle = handle;
    this.#generation = handle.room.generation;
    this.#clear();
    if (closed) this.#log.addLine(0, ['The room was closed in the meantime. This is a new one.']);
    await this.#load(handle);
  }

  /** Loads the messages and members, and sends what was not sent. */
  async #load(handle: RoomHandle): Promise<void> {
    try {
      await Promise.all([this.#history.load(handle), this.#members.load(handle)]);
    } catch (error) {
      if (!isOutside(error)) throw error; // the stream says why the session is out again
    }
    if (this.#handle !== handle || !this.inside) return;
    this.#out = undefined;
    this.#composer.enabled = true;
    this.#view.removeAttribute('data-out');
    this.#showNotice('');
    for (const message of this.#unsent.splice(0)) this.#outbox.add(message);
    this.#outbox.sendWaiting();
  }

  #clear(): void {
    this.#log.clear();
    this.#media.clear();
  }

  #listen(handle: RoomHandle): void {
    this.#stopListening.push(
      handle.on('stateChanged', ({ state, event, reason }) => {
        if (state === 'connected') this.#outbox.sendWaiting();
        if (state === 'disconnected') this.#left(event, reason);
      }),
      handle.on('roomReset', () => this.#clear()),
      handle.on('roomMemberJoined', ({ seq, memberList }) => {
        for (const { userID, userName } of memberList) {
          this.#log.addLine(seq, userID === this.#parlor.userID ? ['You joined'] : [nameElement(userName), ' joined']);
        }
      }),
      handle.on('roomMemberLeft', ({ seq, memberList }) => {
        for (const { userName, reason } of memberList) {
          this.#log.addLine(seq, [nameElement(userName), textForLeave(reason)], { 'data-reason': reason });
        }
      }),
      handle.on('roomMessageReceived', ({ messageList }) => {
        for (const message of messageList) {
          if (message.sender.userID === this.#parlor.userID) this.#outbox.sent(message);
        }
      }),
    );
  }

  /** The session is out of the room: it timed out, or was removed. */
  #left(event: RoomStateChange['event'], reason?: string): void {
    if (this.#parlor.connectionState === 'disconnected') return; // the end of the session is shown
    if (event === 'networkTimeout') void this.#enterAgain();
    else this.#showOut(reason === undefined ? { event } : { event, reason });
  }

  #showOut(out: Removal): void {
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
    await this.#loadOrShowError(async () => this.#attend(await this.#enterRoom()));
  }

  async #loadOrShowError(load: () => Promise<void>): Promise<void> {
    try {
      await load();
    } catch (error) {
      this.#showNotice(textForError(error), 'Try again', () => void this.#loadOrShowError(load));
    }
  }

  async #recall({ messageID }: Message): Promise<void> {
    const error = byID('log-error', HTMLElement);
    error.textContent = '';
    try {
      await this.#parlor.recallMessage(this.#room.roomID, messageID);
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
