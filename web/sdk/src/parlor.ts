import type { ConnectionEvent, ConnectionState, ConnectionStateChange } from './connection.ts';
import { FetchTransport } from './fetch-transport.ts';
import { HTTP } from './http.ts';
import { type Listener, Listeners, report } from './listeners.ts';
import { load } from './load.ts';
import { type PeerMessageDraft, type RoomMessageDraft, withDefaults } from './message.ts';
import { Outbox, type SendOptions } from './outbox.ts';
import { ParlorError } from './problem.ts';
import { RoomHandle } from './room.ts';
import type * as S from './schemas.gen.ts';
import { Seen } from './seen.ts';
import { EventStream, type Transport } from './stream.ts';
import type { StreamEvents } from './stream-events.ts';
import type { TokenSource } from './token-source.ts';
import type { UploadOptions } from './upload-options.ts';
import type { Uploads } from './uploads.ts';
import { ifMatch, type IfVersion } from './version.ts';

export interface ResumeOptions {
  /** Called whenever the token is about to expire. Without it, the application calls renewToken. */
  getToken?: TokenSource;
  /**
   * How the stream is read. `fetch`, the default, sends the session key in a header and detects a
   * silent connection. `eventSource` leaves reconnecting to the browser.
   */
  transport?: 'fetch' | 'eventSource';
  /** Shares the session and its stream with other tabs: the result of shareTabs (parlor-sdk/tabs). */
  tabs?: Tabs | undefined;
}

/** Tabs lets the tabs of a browser share a session and its stream: shareTabs (parlor-sdk/tabs). */
export interface Tabs {
  /** @internal Returns the session of other tabs, or the one that it creates. */
  login(baseURL: string, create: () => Promise<ResumeState>): Promise<ResumeState>;
  /** @internal Returns a transport that reads the stream once for all tabs. */
  share(transport: Transport, http: HTTP, session: S.CreateSessionReply): Transport;
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
export interface ResumeState extends S.CreateSessionReply {
  version: 1;
  baseURL: string;
  cursor?: string | undefined;
  seen: [generation: number, seq: number][];
  /** The rooms that the session is in. */
  rooms?: S.Room[];
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
  readonly limits: S.Limits;
  /** The last connectionStateChanged, if any. */
  lastChange: ConnectionStateChange | undefined;
  readonly #session: S.CreateSessionReply;
  readonly #http: HTTP;
  readonly #getToken: TokenSource | undefined;
  readonly #listeners = new Listeners<ParlorEvents>();
  readonly #seen: Seen;
  readonly #stream: EventStream;
  readonly #outbox = new Outbox();
  /** Loaded on first use, because most of its code is tus. */
  #uploads: Promise<Uploads> | undefined;
  /** The rooms that the session is in, and those that it was in last. */
  readonly #rooms = new Map<string, RoomHandle>();
  #renewal: ReturnType<typeof setTimeout> | undefined;

  /** Starts a session with a user token, and opens its stream. */
  static async login(options: LoginOptions): Promise<Parlor> {
    const origin = globalThis.location?.origin;
    if (options.baseURL === undefined && origin === undefined) {
      throw new TypeError('Parlor.login needs a baseURL outside browsers');
    }
    const baseURL = new URL(options.baseURL ?? '/', origin).href;
    const { tabs } = options;
    const create = async (): Promise<ResumeState> => {
      const token = options.token ?? (await options.getToken!());
      const body = { token, userName: options.userName, device: options.device } as S.CreateSessionRequest;
      const session = await new HTTP(baseURL).call('post', '/v1/sessions', { body }, { retry: true });
      return { version: 1, baseURL, seen: [], ...session };
    };
    return new Parlor(await (tabs ? tabs.login(baseURL, create) : create()), options);
  }

  /**
   * Continues a session from its resumeState(), and receives all events since then. If the session
   * no longer exists, opening its stream fails with a connectionStateChanged of `sessionEnded`.
   */
  static resume(state: ResumeState, options: ResumeOptions = {}): Parlor {
    if (state.version !== 1) throw new TypeError('the state is not from Parlor.resumeState()');
    return new Parlor(state, options);
  }

  private constructor(state: ResumeState, { getToken, transport = 'fetch', tabs }: ResumeOptions) {
    const { version: _, baseURL, cursor, seen, rooms = [], ...session } = state;
    this.#session = session;
    this.sessionID = session.sessionID;
    this.userID = session.userID;
    this.userName = session.userName;
    this.limits = session.limits;
    this.#http = new HTTP(baseURL, session.sessionKey, (callBegan) => this.#stream.suspectLoss(callBegan));
    this.#getToken = getToken;
    this.#seen = new Seen(seen);
    const handler = {
      event: (name: string, data: string) => this.#receive(name, data),
      lost: (event: ConnectionEvent) => this.#setState('reconnecting', event),
      refused: (code: string) => this.#end(code === 'token_expired' ? 'tokenExpired' : 'sessionEnded'),
    };
    const streamTransport =
      transport === 'eventSource'
        ? eventSource(this.#http, session.streamURL)
        : new FetchTransport(this.#http);
    this.#stream = new EventStream(tabs?.share(streamTransport, this.#http, session) ?? streamTransport, handler, cursor);
    for (const room of rooms) this.#handle(room.roomID).ready(room);
  }

  /** The state of the last connectionStateChanged; `connecting` before the first. */
  get connectionState(): ConnectionState {
    return this.lastChange?.state ?? 'connecting';
  }

  /** When the session ends, unless its token is renewed. */
  get tokenExpiresAt(): Date {
    return new Date(this.#session.tokenExpiresAt);
  }

  /** Adds a listener. The returned function removes it. */
  on<E extends keyof ParlorEvents>(event: E, listener: Listener<ParlorEvents[E]>): () => void {
    return this.#listeners.add(event, listener);
  }

  off<E extends keyof ParlorEvents>(event: E, listener: Listener<ParlorEvents[E]>): void {
    this.#listeners.remove(event, listener);
  }

  // The operations of openapi.yaml, by their names there: first the IDs in the path, then the rest.

  /** Returns the session as the server knows it. */
  getSession(): Promise<S.SessionReply> {
    return this.#http.call('get', '/v1/sessions/current', {});
  }

  /** Ends the session, which leaves all its rooms. Disconnects even if the call fails. */
  async endSession(): Promise<void> {
    try {
      await this.#http.call('delete', '/v1/sessions/current', {}, { retry: true });
    } catch (error) {
      // The session has ended already.
      if (!(error instanceof ParlorError && error.status === 401)) throw error;
    } finally {
      this.#end('loggedOut');
    }
  }

  /** Extends the session with a newer token of the same user. */
  async renewToken(token: string): Promise<S.RenewTokenReply> {
    const reply = await this.#http.call('put', '/v1/sessions/current/token', { body: { token } });
    this.#session.tokenExpiresAt = reply.tokenExpiresAt;
    return reply;
  }

  /** Creates a URL that opens the stream once, for an EventSource of the application. */
  createStreamTicket(): Promise<S.StreamTicketReply> {
    return this.#http.call('post', '/v1/sessions/current/stream-ticket', {}, { retry: true });
  }

  /** Lists the rooms that the session is in. */
  listSessionRooms(): Promise<S.RoomListReply> {
    return this.#http.call('get', '/v1/sessions/current/rooms', {});
  }

  /** Leaves all rooms. Other sessions of the user stay in theirs. */
  async leaveAllRooms(): Promise<S.LeaveAllRoomsReply> {
    const reply = await this.#http.call('delete', '/v1/sessions/current/rooms', {});
    reply.roomIDs.forEach((roomID) => this.#left(roomID));
    return reply;
  }

  /**
   * Returns the handle of a room that the session is in or enters; after resume(), also of those that
   * it was in before. The handle of a room that the session is out of may be returned too.
   */
  room(roomID: string): RoomHandle | undefined {
    return this.#rooms.get(roomID);
  }

  /** Creates a room and enters it. Fails with `room_exists` if there is one. */
  createRoom(roomID: string, options: Omit<S.CreateRoomRequest, 'roomID'> = {}): Promise<RoomHandle> {
    return this.#enter(roomID, this.#http.call('post', '/v1/rooms', { body: { roomID, ...options } }), true);
  }

  /** Enters a room. Fails with `room_not_found` if there is none. */
  joinRoom(roomID: string, options: S.JoinRoomRequest = {}): Promise<RoomHandle> {
    const call = this.#http.call('post', '/v1/rooms/{roomID}/join', { path: { roomID }, body: options }, { retry: true });
    return this.#enter(roomID, call);
  }

  /**
   * Enters a room, and creates it if there is none. The options are used only then, except for
   * `userData`, which is used if this user becomes a member.
   */
  enterRoom(roomID: string, options: S.EnterRoomRequest = {}): Promise<RoomHandle> {
    const call = this.#http.call('post', '/v1/rooms/{roomID}/enter', { path: { roomID }, body: options }, { retry: true });
    return this.#enter(roomID, call);
  }

  /** Leaves a room and enters another in one step. If that fails, the session stays in the first. */
  async switchRoom(roomID: string, request: S.SwitchRoomRequest): Promise<RoomHandle> {
    const call = this.#http.call('post', '/v1/rooms/{roomID}/switch', { path: { roomID }, body: request }, {
      retry: true,
      recover: async ({ code }) => {
        if (code !== 'not_in_room' && code !== 'room_not_found') return undefined;
        const { rooms } = await this.listSessionRooms();
        const room = rooms.find((one) => one.roomID === request.toRoom.roomID);
        return room && { room, created: false }; // who created it is not known any more
      },
    });
    const entered = await this.#enter(request.toRoom.roomID, call);
    this.#left(roomID);
    return entered;
  }

  async leaveRoom(roomID: string): Promise<S.LeaveRoomReply> {
    const reply = await this.#http.call('post', '/v1/rooms/{roomID}/leave', { path: { roomID } }, {
      retry: true,
      recover: ({ code }) => (code === 'not_in_room' || code === 'room_not_found' ? { roomID } : undefined),
    });
    this.#left(roomID);
    return reply;
  }

  /** Returns a room; with `memberLimit`, together with its first members and their attributes. */
  getRoom(roomID: string, query: S.GetRoomQuery = {}): Promise<S.RoomReply> {
    return this.#http.call('get', '/v1/rooms/{roomID}', { path: { roomID }, query });
  }

  /**
   * Changes the name and the settings of a room; what is absent stays as it is. The token needs the
   * grant `settings`. All members receive roomUpdated. With `ifVersion`, the room changes only if
   * that is still its settingsVersion; otherwise the call fails with `version_mismatch`.
   */
  updateRoom(roomID: string, { ifVersion, ...body }: S.UpdateRoomRequest & IfVersion): Promise<S.RoomReply> {
    return this.#http.call('patch', '/v1/rooms/{roomID}', { path: { roomID }, body, header: ifMatch(ifVersion) });
  }

  /**
   * Lists a page of members. For the next page, pass the reply's `nextCursor` as `cursor`. A
   * MemberList (parlor-sdk/member-list) combines the pages with the events of the stream.
   */
  listMembers(roomID: string, query: S.ListMembersQuery = {}): Promise<S.MemberListReply> {
    return this.#http.call('get', '/v1/rooms/{roomID}/members', { path: { roomID }, query });
  }

  countMembers(roomID: string): Promise<S.MemberCountReply> {
    return this.#http.call('get', '/v1/rooms/{roomID}/members/count', { path: { roomID } });
  }

  /** Removes other members from a room. The token needs the grant `kick`. */
  kickMembers(roomID: string, request: S.KickRequest): Promise<S.KickReply> {
    return this.#http.call('post', '/v1/rooms/{roomID}/kick', { path: { roomID }, body: request });
  }

  /** Returns the attributes of a room and their version. */
  getRoomAttributes(roomID: string): Promise<S.RoomAttributesReply> {
    return this.#http.call('get', '/v1/rooms/{roomID}/attributes', { path: { roomID } });
  }

  /**
   * Sets and deletes attributes of a room in one step. Attributes of other owners are changed only
   * with `force`; otherwise their keys are returned in `errorKeys`. With `ifVersion`, nothing is
   * changed unless that is still their version; the call then fails with `version_mismatch`.
   */
  updateRoomAttributes(
    roomID: string,
    { ifVersion, ...body }: S.UpdateRoomAttributesRequest & IfVersion,
  ): Promise<S.UpdateRoomAttributesReply> {
    const header = ifMatch(ifVersion);
    return this.#http.call('patch', '/v1/rooms/{roomID}/attributes', { path: { roomID }, body, header });
  }

  /** Lists the members that have attributes, by pages, or looks up those of some users. */
  listMemberAttributes(roomID: string, query: S.ListMemberAttributesQuery = {}): Promise<S.MemberAttributesReply> {
    return this.#http.call('get', '/v1/rooms/{roomID}/member-attributes', { path: { roomID }, query });
  }

  /** Sets and deletes the same attributes of several members, or changes one's own `userData`. */
  updateMemberAttributes(
    roomID: string,
    body: S.UpdateMemberAttributesRequest,
  ): Promise<S.UpdateMemberAttributesReply> {
    return this.#http.call('patch', '/v1/rooms/{roomID}/member-attributes', { path: { roomID }, body });
  }

  /**
   * Sends a message. The messages to a room are stored in the order of these calls. While the server
   * cannot be reached or asks to wait, they wait, without a limit, and are then sent by themselves:
   * the call fails only if the server rejects the message, or the session ends. Each is stored once,
   * also if it is sent again later with the clientMessageID that it had. With `to`, only these users
   * and the sender see the message. A `barrage` does not wait: it is sent at once or fails.
   */
  async sendRoomMessage(roomID: string, draft: RoomMessageDraft, options: SendOptions = {}): Promise<S.MessageReply> {
    const send = (body: S.SendMessageRequest) =>
      this.#http.call('post', '/v1/rooms/{roomID}/messages', { path: { roomID }, body });
    const message = withDefaults(draft);
    return message.kind === 'barrage' ? send(message) : this.#outbox.add(`room ${roomID}`, send, message, options);
  }

  /**
   * Lists a page of stored messages in ascending order of `seq`: the newest, or those directly
   * `before` or `after` a seq. For the next page, pass the reply's `nextCursor` in the same way. With
   * `seq` or `messageID`, up to 100 messages that are named.
   */
  listRoomMessages(roomID: string, query: S.ListRoomMessagesQuery = {}): Promise<S.MessageListReply> {
    return this.#http.call('get', '/v1/rooms/{roomID}/messages', { path: { roomID }, query });
  }

  /**
   * Recalls a message of this user, within two minutes. The message remains in the history without
   * content and with `recalled`, and the members receive messageRecalled.
   */
  recallMessage(roomID: string, messageID: string): Promise<undefined> {
    const path = { roomID, messageID };
    return this.#http.call('delete', '/v1/rooms/{roomID}/messages/{messageID}', { path }, { retry: true });
  }

  /**
   * Sends a message to a user, as sendRoomMessage does to a room. All kinds except `barrage` are
   * allowed. All sessions of both users receive it as `peerMessageReceived`.
   */
  async sendPeerMessage(userID: string, draft: PeerMessageDraft, options: SendOptions = {}): Promise<S.MessageReply> {
    const send = (body: S.SendMessageRequest) =>
      this.#http.call('post', '/v1/users/{userID}/messages', { path: { userID }, body });
    return this.#outbox.add(`user ${userID}`, send, withDefaults(draft), options);
  }

  /** Lists the messages from and to a user, as listRoomMessages does for a room. */
  listPeerMessages(userID: string, query: S.ListPeerMessagesQuery = {}): Promise<S.MessageListReply> {
    return this.#http.call('get', '/v1/users/{userID}/messages', { path: { userID }, query });
  }

  /** Recalls a message to a user. All sessions of both users receive `peerMessageRecalled`. */
  recallPeerMessage(userID: string, messageID: string): Promise<undefined> {
    const path = { userID, messageID };
    return this.#http.call('delete', '/v1/users/{userID}/messages/{messageID}', { path }, { retry: true });
  }

  /** Returns the statuses of users: whether they are online, and their custom status. */
  listStatuses(query: S.ListStatusesQuery): Promise<S.StatusListReply> {
    return this.#http.call('get', '/v1/statuses', { query });
  }

  /** Sets one's own custom status, or removes it. */
  updateStatus(body: S.UpdateStatusRequest): Promise<undefined> {
    return this.#http.call('put', '/v1/status', { body });
  }

  listStatusSubscriptions(query: S.ListStatusSubscriptionsQuery = {}): Promise<S.StatusSubscriptionListReply> {
    return this.#http.call('get', '/v1/status-subscriptions', { query });
  }

  /** Subscribes to the statuses of users. All sessions of this user then receive userStatusUpdated. */
  subscribeStatuses(body: S.SubscribeStatusesRequest): Promise<S.SubscribeStatusesReply> {
    return this.#http.call('post', '/v1/status-subscriptions', { body }, { retry: true });
  }

  unsubscribeStatuses(query: S.UnsubscribeStatusesQuery): Promise<undefined> {
    return this.#http.call('delete', '/v1/status-subscriptions', { query }, { retry: true });
  }

  /** Lists the conversations with other users, the newest first, with their numbers of unread messages. */
  listConversations(query: S.ListConversationsQuery = {}): Promise<S.ConversationListReply> {
    return this.#http.call('get', '/v1/conversations', { query });
  }

  getConversation(userID: string): Promise<S.ConversationReply> {
    return this.#http.call('get', '/v1/conversations/{userID}', { path: { userID } });
  }

  deleteConversation(userID: string): Promise<undefined> {
    return this.#http.call('delete', '/v1/conversations/{userID}', { path: { userID } }, { retry: true });
  }

  /** Marks messages of another user as read. */
  readConversation(userID: string, body: S.ReadConversationRequest): Promise<undefined> {
    return this.#http.call('post', '/v1/conversations/{userID}/read', { path: { userID }, body }, { retry: true });
  }

  /** Marks all messages of all conversations as read. */
  readAllConversations(): Promise<undefined> {
    return this.#http.call('post', '/v1/inbox/read', {}, { retry: true });
  }

  /** Returns the profiles of users. */
  queryUsers(query: S.QueryUsersQuery): Promise<S.QueryUsersReply> {
    return this.#http.call('get', '/v1/users', { query });
  }

  /** Changes one's own profile; what is absent stays as it is. */
  updateProfile(body: S.UpdateProfileRequest): Promise<S.ProfileReply> {
    return this.#http.call('patch', '/v1/profile', { body });
  }

  /** Lists the users that this user has blocked. */
  listBlocks(query: S.ListBlocksQuery = {}): Promise<S.BlockListReply> {
    return this.#http.call('get', '/v1/blocks', { query });
  }

  /** Blocks a user, who can then not send messages to this user. */
  blockUser(userID: string): Promise<undefined> {
    return this.#http.call('put', '/v1/blocks/{userID}', { path: { userID } });
  }

  unblockUser(userID: string): Promise<undefined> {
    return this.#http.call('delete', '/v1/blocks/{userID}', { path: { userID } }, { retry: true });
  }

  /**
   * Uploads a file. Send its mediaID in a message of kind `image`, `audio`, `video` or `file`. While
   * the connection is lost, the upload waits, without a limit, and then continues by itself. It
   * fails if the server rejects it or the session ends: to continue it in another session of the
   * user, pass the `uploadID` that `onBegun` was called with.
   */
  async uploadMedia(file: Blob, options: UploadOptions = {}): Promise<S.MediaReply> {
    this.#uploads ??= load(() => import('./uploads.ts')).then(
      ({ Uploads }) => new Uploads(this.#http, (uploadID) => this.endUpload(uploadID), this.connectionState),
    );
    this.#uploads.catch(() => (this.#uploads = undefined)); // the next upload loads it again
    return (await this.#uploads).upload(file, options);
  }

  /** Deletes a file that was not sent in a message, whether or not its upload is complete. */
  endUpload(mediaID: string): Promise<undefined> {
    const header = { 'Tus-Resumable': '1.0.0' } as const;
    return this.#http.call('delete', '/v1/media/uploads/{mediaID}', { path: { mediaID }, header });
  }

  /**
   * Returns a file and a signed URL for an `<img>` or a link, valid for an hour at most. After
   * `expiresAt`, call it again.
   */
  async getMedia(mediaID: string): Promise<S.MediaReply> {
    return (await loadMedia()).getMedia(this.#http, mediaID);
  }

  /** Downloads a file. */
  async downloadMedia(mediaID: string): Promise<Blob> {
    return (await loadMedia()).downloadMedia(this.#http, mediaID);
  }

  /** Returns the HTTP headers with which a file is downloaded, such as its `ETag`. */
  async headMedia(mediaID: string): Promise<Headers> {
    return (await loadMedia()).headMedia(this.#http, mediaID);
  }

  /** Closes the stream. The session remains, and resume() can continue it. */
  close(): void {
    this.#end('closed');
  }

  /** Returns the current state of the session, for resume(). */
  resumeState(): ResumeState {
    // If the client was closed, its handles have ended, and the session is still in the rooms.
    const handles = [...this.#rooms.values()].filter(({ state, lastChange }) => state !== 'disconnected' || lastChange.event === this.lastChange?.event);
    return {
      version: 1,
      baseURL: this.#http.baseURL,
      cursor: this.#stream.cursor,
      seen: this.#seen.entries(),
      rooms: handles.flatMap(({ room }) => room ?? []), // without those that are being entered
      ...this.#session,
    };
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
        this.#stream.settled(event.data.heartbeatSeconds);
        this.#setState('connected', 'success');
        this.#ready(event.data.rooms);
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
      case 'tokenWillExpire':
        this.#renewUntil(Date.now() + event.data.secondsLeft * 1000);
        break;
      default: {
        // An event of a room's log or of the inbox. One that is not stored has no seq, and is never
        // sent twice.
        const { generation = INBOX, seq } = event.data as { generation?: number; seq?: number };
        if (seq !== undefined && !this.#seen.accept(generation, seq)) return;
      }
    }
    this.#rooms.get((event.data as { roomID?: string }).roomID!)?.receive(event.name, event.data);
    this.#listeners.emit(event.name, event.data as never);
  }

  /** Makes a call that enters a room, and returns the handle of the room. */
  async #enter(roomID: string, call: Promise<S.RoomReply & { created?: boolean }>, creates = false): Promise<RoomHandle> {
    // Before the reply, because the stream may be faster.
    const room = this.#handle(roomID);
    try {
      const reply = await call;
      this.#rooms.set(roomID, room);
      room.entered(reply, reply.created ?? creates);
    } catch (error) {
      if (room.state === 'connecting') room.set('disconnected', 'enterFailed');
      throw error;
    }
    return room;
  }

  /** Returns the handle of a room that the session is in or enters. */
  #handle(roomID: string): RoomHandle {
    const known = this.#rooms.get(roomID);
    if (known && known.state !== 'disconnected') return known;
    for (const [old, { state }] of this.#rooms) if (state === 'disconnected') this.#rooms.delete(old);
    const room = new RoomHandle(this, roomID);
    this.#rooms.set(roomID, room);
    return room;
  }

  #ready(rooms: readonly S.Room[]): void {
    for (const room of rooms) this.#handle(room.roomID);
    for (const [roomID, handle] of this.#rooms) handle.ready(rooms.find((room) => room.roomID === roomID));
  }

  #left(roomID: string): void {
    this.#rooms.get(roomID)?.set('disconnected', 'success');
    this.#rooms.delete(roomID);
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
      if (this.lastChange?.state === 'disconnected') return;
      if (Date.now() + RENEW_RETRY_DELAY < deadline) {
        this.#renewal = setTimeout(() => this.#renewUntil(deadline), RENEW_RETRY_DELAY);
      } else if (!(error instanceof ParlorError && error.code === 'token_expired')) {
        report(error); // if the token has expired, the stream is about to say so
      }
    }
  }

  #end(event: ConnectionEvent, reason?: string): void {
    this.#stream.stop(event);
    clearTimeout(this.#renewal);
    this.#setState('disconnected', event, reason);
  }

  #setState(state: ConnectionState, event: ConnectionEvent, reason?: string): void {
    // While the client reconnects, each attempt may fail in another way. Only the first is emitted.
    if (this.connectionState === state) return;
    this.lastChange = { state, event, reason };
    this.#outbox.follow(state);
    this.#uploads?.then((uploads) => uploads.follow(state), () => {});
    for (const room of this.#rooms.values()) room.follow(this.lastChange);
    this.#listeners.emit('connectionStateChanged', this.lastChange);
  }
}

const loadMedia = () => load(() => import('./media.ts'));

/** Returns the EventSourceTransport, whose code is loaded on first use: few clients choose it. */
function eventSource(http: HTTP, streamURL: string): Transport {
  return {
    reportsComments: false,
    connect(cursor, handler) {
      const connection = import('./eventsource-transport.ts').then(({ EventSourceTransport }) =>
        new EventSourceTransport(http, streamURL).connect(cursor, handler),
      );
      connection.catch(() => handler.closed(0)); // the network was lost before
      // If it is closed before the code is loaded, the connection ends before it makes a request.
      return { close: () => void connection.then((opened) => opened.close(), () => {}) };
    },
  };
}

type StreamEvent = { [E in keyof StreamEvents]: { name: E; data: StreamEvents[E] } }[keyof StreamEvents];
