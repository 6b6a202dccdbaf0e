import * as attributes from './attributes.ts';
import type { ConnectionEvent, ConnectionState, ConnectionStateChange } from './connection.ts';
import { EventSourceTransport } from './eventsource-transport.ts';
import { FetchTransport } from './fetch-transport.ts';
import { HTTP } from './http.ts';
import { type Listener, Listeners, report } from './listeners.ts';
import * as media from './media.ts';
import * as messages from './messages.ts';
import { ParlorError } from './problem.ts';
import * as rooms from './rooms.ts';
import { Seen } from './seen.ts';
import { EventStream } from './stream.ts';
import type { Limits, SessionReply, StreamEvents } from './types.ts';

/** Gives a user token, made by the application's backend. */
export type TokenSource = () => string | Promise<string>;

export interface ResumeOptions {
  /** Asked for a token whenever one is about to expire; without it, renewToken must be called. */
  getToken?: TokenSource;
  /**
   * How the stream is read. `fetch`, the default, sends the session key in a
   * header and notices a connection that fell silent. `eventSource` leaves
   * reconnecting to the browser.
   */
  transport?: 'fetch' | 'eventSource';
}

export type LoginOptions = ResumeOptions & {
  /** Where the server is; the page's own origin unless said otherwise. */
  baseURL?: string;
  /** Shown to people, up to 256 bytes; unless given, the token's. */
  userName?: string;
  /** What this client calls itself; up to 64 bytes. */
  device?: string;
} & ({ token: string } | { token?: undefined; getToken: TokenSource });

/**
 * What it takes to go on with a session elsewhere, such as after a reload of
 * the page. It holds the session's secrets: keep it where only this page reads
 * it, as sessionStorage.
 */
export interface ResumeState extends SessionReply {
  version: 1;
  baseURL: string;
  cursor?: string;
  seen: [generation: number, seq: number][];
}

/** Everything that can be listened for, and the data it comes with. */
export interface ParlorEvents extends Omit<StreamEvents, 'connectionStateChanged' | 'reconnect'> {
  connectionStateChanged: ConnectionStateChange;
}

/** Stands for the user's inbox where rooms have their generation, which is never 0. */
const INBOX = 0;

/** After a failed renewal of the token, in milliseconds; there are 30 s left when it begins. */
const RENEW_AGAIN_AFTER = 3_000;

/**
 * A logged-in session of a user: the rooms it is in and the stream of what
 * happens there. Calls are rejected with a ParlorError.
 */
export class Parlor {
  readonly sessionID: string;
  readonly userID: string;
  readonly userName: string;
  readonly limits: Limits;
  readonly #session: SessionReply;
  readonly #http: HTTP;
  readonly #getToken: TokenSource | undefined;
  readonly #listeners = new Listeners<ParlorEvents>();
  readonly #seen: Seen;
  readonly #stream: EventStream;
  #connectionState: ConnectionState = 'connecting';
  #renewal: ReturnType<typeof setTimeout> | undefined;

  /** Trades a user token for a session and opens its stream. */
  static async login(options: LoginOptions): Promise<Parlor> {
    const here = globalThis.location?.origin;
    if (options.baseURL === undefined && here === undefined) {
      throw new TypeError('Parlor.login needs a baseURL outside of browsers');
    }
    const baseURL = new URL(options.baseURL ?? '/', here).href;
    const token = options.token !== undefined ? options.token : await options.getToken();
    const { userName, device } = options;
    const session = await new HTTP(baseURL).call('post', '/v1/sessions', {
      body: { token, ...(userName !== undefined && { userName }), ...(device !== undefined && { device }) },
    });
    return new Parlor({ version: 1, baseURL, seen: [], ...session }, options);
  }

  /**
   * Goes on with a session where its resumeState() was taken, and receives what
   * happened since. Whether the session still exists shows when the stream
   * opens: a connectionStateChanged with `sessionEnded` says that it does not.
   */
  static resume(state: ResumeState, options: ResumeOptions = {}): Parlor {
    if (state.version !== 1) throw new TypeError('this state is not from Parlor.resumeState()');
    return new Parlor(state, options);
  }

  private constructor(state: ResumeState, { getToken, transport = 'fetch' }: ResumeOptions) {
    const { version: _, baseURL, cursor, seen, ...session } = state;
    this.#session = session;
    this.sessionID = session.sessionID;
    this.userID = session.userID;
    this.userName = session.userName;
    this.limits = session.limits;
    this.#http = new HTTP(baseURL, session.sessionKey);
    this.#getToken = getToken;
    this.#seen = new Seen(seen);
    const handler = {
      event: (name: string, data: string) => this.#receive(name, data),
      lost: (event: ConnectionEvent) => this.#change('reconnecting', event),
      refused: (code: string) => this.#end(code === 'token_expired' ? 'tokenExpired' : 'sessionEnded'),
    };
    const reader =
      transport === 'eventSource'
        ? new EventSourceTransport(this.#http, session.streamURL)
        : new FetchTransport(this.#http);
    this.#stream = new EventStream(reader, handler, cursor);
  }

  /** As the last connectionStateChanged said; `connecting` before the first. */
  get connectionState(): ConnectionState {
    return this.#connectionState;
  }

  /** When the session ends unless its token is renewed. */
  get tokenExpiresAt(): Date {
    return new Date(this.#session.tokenExpiresAt);
  }

  /** Calls the listener at every such event from now on, until the returned function is called. */
  on<E extends keyof ParlorEvents>(event: E, listener: Listener<ParlorEvents[E]>): () => void {
    this.#listeners.add(event, listener);
    return () => this.off(event, listener);
  }

  off<E extends keyof ParlorEvents>(event: E, listener: Listener<ParlorEvents[E]>): void {
    this.#listeners.remove(event, listener);
  }

  /** Creates a room and enters it; `room_exists` if there is one. */
  createRoom(roomID: string, options: rooms.RoomOptions = {}) {
    return rooms.createRoom(this.#http, roomID, options);
  }

  /** Enters a room that exists; `room_not_found` if it does not. */
  joinRoom(roomID: string) {
    return rooms.joinRoom(this.#http, roomID);
  }

  /** Enters a room, creating it where there is none; the options count only then. */
  enterRoom(roomID: string, options: rooms.RoomOptions = {}) {
    return rooms.enterRoom(this.#http, roomID, options);
  }

  leaveRoom(roomID: string) {
    return rooms.leaveRoom(this.#http, roomID);
  }

  getRoom(roomID: string) {
    return rooms.getRoom(this.#http, roomID);
  }

  /** Lists who is in the room, a page at a time; the next one with the reply's `nextCursor` as `cursor`. */
  listMembers(roomID: string, query: rooms.MemberQuery = {}) {
    return rooms.listMembers(this.#http, roomID, query);
  }

  countMembers(roomID: string) {
    return rooms.countMembers(this.#http, roomID);
  }

  /**
   * Sends a message. While the server cannot be reached it is sent again for up
   * to 30 s, under one clientMessageID, so that it is stored once. To try a
   * failed message again later, send it with the clientMessageID it had.
   */
  sendRoomMessage(roomID: string, draft: messages.MessageDraft) {
    return messages.sendRoomMessage(this.#http, roomID, draft);
  }

  /**
   * Reads stored messages, in ascending `seq`: the newest, or those next
   * `before` or next `after` a seq; the next page with the reply's `nextCursor`
   * in the same place.
   */
  listRoomMessages(roomID: string, query: messages.MessageQuery = {}) {
    return messages.listRoomMessages(this.#http, roomID, query);
  }

  /**
   * Takes back what this user said, within two minutes. The message stays with
   * `recalled` and without content, and everybody hears of it by messageRecalled.
   */
  recallMessage(roomID: string, messageID: string) {
    return messages.recallMessage(this.#http, roomID, messageID);
  }

  /**
   * Sends a message to a user, as sendRoomMessage does to a room; any kind but
   * `barrage`. It comes as `peerMessageReceived` to all sessions of both users.
   */
  sendPeerMessage(userID: string, draft: messages.MessageDraft) {
    return messages.sendPeerMessage(this.#http, userID, draft);
  }

  /** As recallMessage; both users hear of it by `peerMessageRecalled`. */
  recallPeerMessage(userID: string, messageID: string) {
    return messages.recallPeerMessage(this.#http, userID, messageID);
  }

  /** Reads the messages with a user, as listRoomMessages does those of a room. */
  listPeerMessages(userID: string, query: messages.MessageQuery = {}) {
    return messages.listPeerMessages(this.#http, userID, query);
  }

  /**
   * Uploads a file, for a message of a kind `image`, `audio`, `video` or `file`
   * to carry its mediaID. Where the connection breaks it goes on by itself; where
   * it gives up, it can go on later with the `uploadID` of `onBegun`.
   */
  uploadMedia(file: Blob, options: media.UploadOptions = {}) {
    return media.uploadMedia(this.#http, file, options);
  }

  /** Deletes a file that was not sent, whether or not its upload is done. */
  endUpload(mediaID: string) {
    return media.endUpload(this.#http, mediaID);
  }

  /** A file, and a URL that opens it for an hour at most, for an `<img>` or a link; ask again after `expiresAt`. */
  getMedia(mediaID: string) {
    return media.getMedia(this.#http, mediaID);
  }

  /** The attributes of a room, and their version. */
  roomAttributes(roomID: string) {
    return attributes.roomAttributes(this.#http, roomID);
  }

  /**
   * Sets and deletes attributes of a room, all at once. What others own is left
   * alone unless `force` is given, and comes back in `errorKeys`.
   */
  updateRoomAttributes(roomID: string, update: attributes.RoomAttributesUpdate) {
    return attributes.updateRoomAttributes(this.#http, roomID, update);
  }

  /** Lists the members who have attributes, a page at a time, or looks up those of some users. */
  memberAttributes(roomID: string, query: attributes.MemberAttributesQuery = {}) {
    return attributes.memberAttributes(this.#http, roomID, query);
  }

  /** Sets and deletes attributes of members, the same for all of them. */
  updateMemberAttributes(roomID: string, update: attributes.MemberAttributesUpdate) {
    return attributes.updateMemberAttributes(this.#http, roomID, update);
  }

  /** Stays logged in with a newer token of the same user. */
  async renewToken(token: string): Promise<void> {
    const { tokenExpiresAt } = await this.#http.call('put', '/v1/sessions/current/token', { body: { token } });
    this.#session.tokenExpiresAt = tokenExpiresAt;
  }

  /** Ends the session; it leaves all its rooms. This client is done even where the call fails. */
  async logout(): Promise<void> {
    try {
      await this.#http.call('delete', '/v1/sessions/current', {}, { repeatable: true });
    } catch (error) {
      // The session is over, and that is what was wanted.
      if (!(error instanceof ParlorError && error.status === 401)) throw error;
    } finally {
      this.#end('loggedOut');
    }
  }

  /** Stops the stream and keeps the session, for resume() to go on with. */
  close(): void {
    this.#end('closed');
  }

  /** The session as it stands, for resume(). */
  resumeState(): ResumeState {
    const { cursor } = this.#stream;
    const state = { version: 1 as const, baseURL: this.#http.baseURL, seen: this.#seen.entries(), ...this.#session };
    return cursor === undefined ? state : { ...state, cursor };
  }

  #receive(name: string, data: string): void {
    let value: unknown;
    try {
      value = JSON.parse(data);
    } catch (cause) {
      // It would come again if the stream were dropped for it.
      report(new ParlorError('unexpected_reply', `The data of a ${name} event is not JSON.`, { cause }));
      return;
    }
    const event = { name, data: value } as StreamEvent;
    switch (event.name) {
      case 'sessionReady':
        this.#seen.keep([INBOX, ...event.data.rooms.map((room) => room.generation)]);
        this.#stream.settled();
        this.#change('connected', 'success');
        break;
      case 'connectionStateChanged':
        this.#interrupt(event.data);
        return;
      case 'reconnect':
        this.#stream.reconnectAfter(event.data.afterMs);
        this.#change('reconnecting', 'serverGoingAway');
        return;
      case 'roomReset':
        this.#seen.reset(event.data.generation, event.data.room.lastSeq);
        break;
      case 'inboxReset':
        this.#seen.reset(INBOX, event.data.oldestSeq - 1);
        break;
      case 'peerMessageReceived':
      case 'peerMessageRecalled':
        if (event.data.seq !== undefined && !this.#seen.take(INBOX, event.data.seq)) return;
        break;
      case 'roomMemberJoined':
      case 'roomMemberLeft':
      case 'roomMessageReceived':
      case 'messageRecalled':
      case 'roomAttributesUpdated':
      case 'roomMemberAttributesUpdated':
        // What is not stored has no seq, and never comes twice.
        if (event.data.seq !== undefined && !this.#seen.take(event.data.generation, event.data.seq)) return;
        break;
      case 'tokenWillExpire':
        this.#renewUntil(Date.now() + event.data.secondsLeft * 1000);
        break;
    }
    this.#listeners.emit(event.name, event.data as never);
  }

  /** The server's last word on a stream. */
  #interrupt({ event, reason }: StreamEvents['connectionStateChanged']): void {
    if (event === 'slowConsumer') this.#change('reconnecting', event); // the stream ends and comes back
    else this.#end(event, reason);
  }

  async #renewUntil(deadline: number): Promise<void> {
    clearTimeout(this.#renewal);
    if (this.#getToken === undefined || this.connectionState === 'disconnected') return;
    try {
      await this.renewToken(await this.#getToken());
    } catch (error) {
      if (Date.now() + RENEW_AGAIN_AFTER < deadline) {
        this.#renewal = setTimeout(() => this.#renewUntil(deadline), RENEW_AGAIN_AFTER);
      } else report(error);
    }
  }

  #end(event: ConnectionEvent, reason?: string): void {
    this.#stream.stop();
    clearTimeout(this.#renewal);
    this.#change('disconnected', event, reason);
  }

  #change(state: ConnectionState, event: ConnectionEvent, reason?: string): void {
    // While it reconnects, each failed attempt is lost in its own way. What counts is why it began.
    if (this.#connectionState === state) return;
    this.#connectionState = state;
    this.#listeners.emit('connectionStateChanged', { state, event, ...(reason !== undefined && { reason }) });
  }
}

type StreamEvent = { [E in keyof StreamEvents]: { name: E; data: StreamEvents[E] } }[keyof StreamEvents];
