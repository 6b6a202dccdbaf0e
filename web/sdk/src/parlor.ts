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
import { type UploadOptions, Uploads } from './uploads.ts';

/** Returns a user token, which the application's backend signs. */
export type TokenSource = () => string | Promise<string>;

export interface ResumeOptions {
  /** Called whenever the token is about to expire. Without it, the application calls renewToken. */
  getToken?: TokenSource;
  /**
   * How the stream is read. `fetch`, the default, sends the session key in a header and detects a
   * silent connection. `eventSource` leaves reconnecting to the browser.
   */
  transport?: 'fetch' | 'eventSource';
}

export type LoginOptions = ResumeOptions & {
  /** The address of the server. The default is the origin of the web page. */
  baseURL?: string;
  /** The name that is displayed, up to 256 bytes. The default is the one in the token. */
  userName?: string;
  /** A name for this client, up to 64 bytes. */
  device?: string;
} & ({ token: string } | { token?: undefined; getToken: TokenSource });

/**
 * ResumeState is what resume() needs to continue a session, such as after a reload of the web page.
 * It contains the session's secrets: store it where only this page can read it, such as in
 * sessionStorage.
 */
export interface ResumeState extends SessionReply {
  version: 1;
  baseURL: string;
  cursor?: string;
  seen: [generation: number, seq: number][];
}

/** The events that an application can listen for, with their data. */
export interface ParlorEvents extends Omit<StreamEvents, 'connectionStateChanged' | 'reconnect' | 'roomSeqAdvanced'> {
  connectionStateChanged: ConnectionStateChange;
}

/** The key of the user's inbox in Seen; a room's generation is never 0. */
const INBOX = 0;

/**
 * The delay before another attempt to renew the token, in milliseconds. The first attempt is 30 s
 * before the token expires.
 */
const RENEW_RETRY_DELAY = 3_000;

/**
 * Parlor is a session of a user: it makes the calls of the API, and delivers the events of the
 * session's stream to listeners. Calls that fail are rejected with a ParlorError.
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
  readonly #uploads: Uploads;
  #connectionState: ConnectionState = 'connecting';
  #renewal: ReturnType<typeof setTimeout> | undefined;

  /** Starts a session with a user token, and opens its stream. */
  static async login(options: LoginOptions): Promise<Parlor> {
    const origin = globalThis.location?.origin;
    if (options.baseURL === undefined && origin === undefined) {
      throw new TypeError('Parlor.login needs a baseURL outside browsers');
    }
    const baseURL = new URL(options.baseURL ?? '/', origin).href;
    const token = options.token !== undefined ? options.token : await options.getToken();
    const { userName, device } = options;
    const session = await new HTTP(baseURL).call('post', '/v1/sessions', {
      body: { token, ...(userName !== undefined && { userName }), ...(device !== undefined && { device }) },
    });
    return new Parlor({ version: 1, baseURL, seen: [], ...session }, options);
  }

  /**
   * Continues a session from its resumeState(), and receives all events since then. If the session
   * no longer exists, opening its stream fails with a connectionStateChanged of `sessionEnded`.
   */
  static resume(state: ResumeState, options: ResumeOptions = {}): Parlor {
    if (state.version !== 1) throw new TypeError('the state is not from Parlor.resumeState()');
    return new Parlor(state, options);
  }

  private constructor(state: ResumeState, { getToken, transport = 'fetch' }: ResumeOptions) {
    const { version: _, baseURL, cursor, seen, ...session } = state;
    this.#session = session;
    this.sessionID = session.sessionID;
    this.userID = session.userID;
    this.userName = session.userName;
    this.limits = session.limits;
    this.#http = new HTTP(baseURL, session.sessionKey, (callBegan) => this.#stream.suspectLoss(callBegan));
    this.#uploads = new Uploads(this.#http);
    this.#getToken = getToken;
    this.#seen = new Seen(seen);
    const handler = {
      event: (name: string, data: string) => this.#receive(name, data),
      lost: (event: ConnectionEvent) => this.#setState('reconnecting', event),
      refused: (code: string) => this.#end(code === 'token_expired' ? 'tokenExpired' : 'sessionEnded'),
    };
    const streamTransport =
      transport === 'eventSource'
        ? new EventSourceTransport(this.#http, session.streamURL)
        : new FetchTransport(this.#http);
    this.#stream = new EventStream(streamTransport, handler, cursor);
  }

  /** The state of the last connectionStateChanged; `connecting` before the first. */
  get connectionState(): ConnectionState {
    return this.#connectionState;
  }

  /** When the session ends, unless its token is renewed. */
  get tokenExpiresAt(): Date {
    return new Date(this.#session.tokenExpiresAt);
  }

  /** Adds a listener. The returned function removes it. */
  on<E extends keyof ParlorEvents>(event: E, listener: Listener<ParlorEvents[E]>): () => void {
    this.#listeners.add(event, listener);
    return () => this.off(event, listener);
  }

  off<E extends keyof ParlorEvents>(event: E, listener: Listener<ParlorEvents[E]>): void {
    this.#listeners.remove(event, listener);
  }

  /** Creates a room and enters it. Fails with `room_exists` if there is one. */
  createRoom(roomID: string, options: rooms.RoomOptions & rooms.JoinOptions = {}) {
    return rooms.createRoom(this.#http, roomID, options);
  }

  /** Enters a room. Fails with `room_not_found` if there is none. */
  joinRoom(roomID: string, options: rooms.EnterOptions = {}) {
    return rooms.joinRoom(this.#http, roomID, options);
  }

  /**
   * Enters a room, and creates it if there is none. The options are used only then, except for
   * `userData`, which is used if this user becomes a member.
   */
  enterRoom(roomID: string, options: rooms.RoomOptions & rooms.EnterOptions = {}) {
    return rooms.enterRoom(this.#http, roomID, options);
  }

  leaveRoom(roomID: string) {
    return rooms.leaveRoom(this.#http, roomID);
  }

  /** Returns a room; with `memberLimit`, together with its first members and their attributes. */
  getRoom(roomID: string, query: rooms.RoomQuery = {}) {
    return rooms.getRoom(this.#http, roomID, query);
  }

  /**
   * Changes the name and the settings of a room; what is absent stays as it is. The token needs the
   * grant `settings`. All members receive roomUpdated.
   */
  updateRoom(roomID: string, update: rooms.RoomUpdate) {
    return rooms.updateRoom(this.#http, roomID, update);
  }

  /**
   * Lists a page of members. For the next page, pass the reply's `nextCursor` as `cursor`. A
   * MemberList combines the pages with the events of the stream.
   */
  listMembers(roomID: string, query: rooms.MemberQuery = {}) {
    return rooms.listMembers(this.#http, roomID, query);
  }

  countMembers(roomID: string) {
    return rooms.countMembers(this.#http, roomID);
  }

  /**
   * Sends a message. While the server cannot be reached, the call is retried for up to 30 s with
   * the same clientMessageID, so that the message is stored once. To retry a failed message later,
   * send it with the clientMessageID that it had. With `to`, only these users and the sender see the
   * message.
   */
  sendRoomMessage(roomID: string, draft: messages.MessageDraft) {
    return messages.sendRoomMessage(this.#http, roomID, draft);
  }

  /**
   * Lists a page of stored messages in ascending order of `seq`: the newest, or those directly
   * `before` or `after` a seq. For the next page, pass the reply's `nextCursor` in the same way. With
   * `seq` or `messageID`, up to 100 messages that are named.
   */
  listRoomMessages(roomID: string, query: messages.MessageQuery = {}) {
    return messages.listRoomMessages(this.#http, roomID, query);
  }

  /**
   * Recalls a message of this user, within two minutes. The message remains in the history without
   * content and with `recalled`, and the members receive messageRecalled.
   */
  recallMessage(roomID: string, messageID: string) {
    return messages.recallMessage(this.#http, roomID, messageID);
  }

  /**
   * Sends a message to a user, as sendRoomMessage does to a room. All kinds except `barrage` are
   * allowed. All sessions of both users receive it as `peerMessageReceived`.
   */
  sendPeerMessage(userID: string, draft: Omit<messages.MessageDraft, 'to'>) {
    return messages.sendPeerMessage(this.#http, userID, draft);
  }

  /** Recalls a message to a user. All sessions of both users receive `peerMessageRecalled`. */
  recallPeerMessage(userID: string, messageID: string) {
    return messages.recallPeerMessage(this.#http, userID, messageID);
  }

  /** Lists the messages from and to a user, as listRoomMessages does for a room. */
  listPeerMessages(userID: string, query: messages.MessageQuery = {}) {
    return messages.listPeerMessages(this.#http, userID, query);
  }

  /**
   * Uploads a file. Send its mediaID in a message of kind `image`, `audio`, `video` or `file`. While
   * the connection is lost, the upload waits, without a limit, and then continues by itself. It
   * fails if the server rejects it or the session ends: to continue it in another session of the
   * user, pass the `uploadID` that `onBegun` was called with.
   */
  uploadMedia(file: Blob, options: UploadOptions = {}) {
    return this.#uploads.upload(file, options);
  }

  /** Deletes a file that was not sent in a message, whether or not its upload is complete. */
  endUpload(mediaID: string) {
    return media.endUpload(this.#http, mediaID);
  }

  /**
   * Returns a file and a signed URL for an `<img>` or a link, valid for an hour at most. After
   * `expiresAt`, call it again.
   */
  getMedia(mediaID: string) {
    return media.getMedia(this.#http, mediaID);
  }

  /** Returns the attributes of a room and their version. */
  roomAttributes(roomID: string) {
    return attributes.roomAttributes(this.#http, roomID);
  }

  /**
   * Sets and deletes attributes of a room in one step. Attributes of other owners are changed only
   * with `force`; otherwise their keys are returned in `errorKeys`.
   */
  updateRoomAttributes(roomID: string, update: attributes.RoomAttributesUpdate) {
    return attributes.updateRoomAttributes(this.#http, roomID, update);
  }

  /** Lists the members that have attributes, by pages, or looks up those of some users. */
  memberAttributes(roomID: string, query: attributes.MemberAttributesQuery = {}) {
    return attributes.memberAttributes(this.#http, roomID, query);
  }

  /** Sets and deletes the same attributes of several members, or changes one's own `userData`. */
  updateMemberAttributes(roomID: string, update: attributes.MemberAttributesUpdate) {
    return attributes.updateMemberAttributes(this.#http, roomID, update);
  }

  /** Extends the session with a newer token of the same user. */
  async renewToken(token: string): Promise<void> {
    const { tokenExpiresAt } = await this.#http.call('put', '/v1/sessions/current/token', { body: { token } });
    this.#session.tokenExpiresAt = tokenExpiresAt;
  }

  /** Ends the session, which leaves all its rooms. Disconnects even if the call fails. */
  async logout(): Promise<void> {
    try {
      await this.#http.call('delete', '/v1/sessions/current', {}, { retry: true });
    } catch (error) {
      // The session has ended already.
      if (!(error instanceof ParlorError && error.status === 401)) throw error;
    } finally {
      this.#end('loggedOut');
    }
  }

  /** Closes the stream. The session remains, and resume() can continue it. */
  close(): void {
    this.#end('closed');
  }

  /** Returns the current state of the session, for resume(). */
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
      // The event is skipped: after a reconnect, the server would only send it again.
      report(new ParlorError('unexpected_reply', `The data of a ${name} event is not JSON.`, { cause }));
      return;
    }
    const event = { name, data: value } as StreamEvent;
    switch (event.name) {
      case 'sessionReady':
        this.#seen.retain([INBOX, ...event.data.rooms.map((room) => room.generation)]);
        this.#stream.settled(heartbeatOf(event.data));
        this.#setState('connected', 'success');
        break;
      case 'connectionStateChanged':
        this.#streamEnds(event.data);
        return;
      case 'reconnect':
        this.#stream.reconnectAfter(event.data.afterMs);
        this.#setState('reconnecting', 'serverGoingAway');
        return;
      case 'roomReset':
        this.#seen.reset(event.data.generation, event.data.room.lastSeq);
        break;
      case 'inboxReset':
        this.#seen.reset(INBOX, event.data.oldestSeq - 1);
        break;
      case 'roomSeqAdvanced':
        this.#seen.accept(event.data.generation, event.data.seq);
        return; // it has nothing for the application
      case 'peerMessageReceived':
      case 'peerMessageRecalled':
        if (event.data.seq !== undefined && !this.#seen.accept(INBOX, event.data.seq)) return;
        break;
      case 'roomMemberJoined':
      case 'roomMemberLeft':
      case 'roomMemberCountUpdated':
      case 'memberReconnecting':
      case 'memberReconnected':
      case 'roomMessageReceived':
      case 'messageRecalled':
      case 'roomAttributesUpdated':
      case 'roomMemberAttributesUpdated':
      case 'roomUpdated':
        // An event that is not stored has no seq, and is never sent twice.
        if (event.data.seq !== undefined && !this.#seen.accept(event.data.generation, event.data.seq)) return;
        break;
      case 'tokenWillExpire':
        this.#renewUntil(Date.now() + event.data.secondsLeft * 1000);
        break;
    }
    this.#listeners.emit(event.name, event.data as never);
  }

  /** The server closes the stream after this event. */
  #streamEnds({ event, reason }: StreamEvents['connectionStateChanged']): void {
    if (event === 'slowConsumer') this.#setState('reconnecting', event);
    else this.#end(event, reason);
  }

  async #renewUntil(deadline: number): Promise<void> {
    clearTimeout(this.#renewal);
    if (this.#getToken === undefined || this.connectionState === 'disconnected') return;
    try {
      await this.renewToken(await this.#getToken());
    } catch (error) {
      if (this.#connectionState === 'disconnected') return;
      if (Date.now() + RENEW_RETRY_DELAY < deadline) {
        this.#renewal = setTimeout(() => this.#renewUntil(deadline), RENEW_RETRY_DELAY);
      } else if (!(error instanceof ParlorError && error.code === 'token_expired')) {
        report(error); // if the token has expired, the stream is about to say so
      }
    }
  }

  #end(event: ConnectionEvent, reason?: string): void {
    this.#stream.stop();
    clearTimeout(this.#renewal);
    this.#setState('disconnected', event, reason);
  }

  #setState(state: ConnectionState, event: ConnectionEvent, reason?: string): void {
    // While the client reconnects, each attempt may fail in another way. Only the first is emitted.
    if (this.#connectionState === state) return;
    this.#connectionState = state;
    if (state === 'connected') this.#uploads.resume();
    else if (state === 'reconnecting') this.#uploads.pause();
    else this.#uploads.end();
    this.#listeners.emit('connectionStateChanged', { state, event, ...(reason !== undefined && { reason }) });
  }
}

/** Returns the heartbeat interval in milliseconds; undefined if an older server does not send it. */
function heartbeatOf({ heartbeatSeconds }: { heartbeatSeconds?: number }): number | undefined {
  return heartbeatSeconds === undefined ? undefined : heartbeatSeconds * 1000;
}

type StreamEvent = { [E in keyof StreamEvents]: { name: E; data: StreamEvents[E] } }[keyof StreamEvents];
