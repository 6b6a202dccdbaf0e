import type { Member, Message, Room } from 'parlor-sdk';
import { Emitter } from 'parlor-compat/emitter';
import { type Ending, RoomSession } from 'parlor-compat/room-session';
import { type QNClientMode, type QNClientRole, QNConnectionDisconnectedReason, QNConnectionState, QNNetworkQuality } from './enums.ts';
import { codeOf, toQNRTCError } from './codes.ts';
import { INVALID_PARAMETER, QNRTCError, RECONNECT_FAILED, TOKEN_EXPIRED, UNEXPECTED } from './error.ts';
import { type QNLocalTrack, type QNRemoteAudioTrack, type QNRemoteTrack, type QNRemoteVideoTrack, notSupported } from './media.ts';
import { QNRemoteUser } from './remote-user.ts';
import { readRoomToken } from './room-token.ts';

export interface QNConnectionDisconnectedInfo {
  reason: QNConnectionDisconnectedReason;
  errorCode?: number;
  errorMessage?: string;
}

export interface QNCustomMessage {
  /** The messageID that the sender gave. */
  ID: string;
  userID: string;
  content: string;
  /** When the server stored the message, in milliseconds since 1970. */
  timestamp: number;
}

export interface QNClientEvents {
  'connection-state-changed': (connectionState: QNConnectionState, info?: QNConnectionDisconnectedInfo) => void;
  'user-joined': (remoteUserID: string, userData?: string) => void;
  'user-left': (remoteUserID: string) => void;
  'user-reconnecting': (remoteUserID: string) => void;
  'user-reconnected': (remoteUserID: string) => void;
  'message-received': (message: QNCustomMessage) => void;
  /** The events with these names are of audio and video: they do not occur. */
  'user-published': (userID: string, tracks: (QNRemoteAudioTrack | QNRemoteVideoTrack)[]) => void;
  'user-unpublished': (userID: string, tracks: (QNRemoteAudioTrack | QNRemoteVideoTrack)[]) => void;
  'direct-livestreaming-state-changed': (streamID: string, state: never) => void;
  'transcoding-livestreaming-state-changed': (streamID: string, state: never) => void;
  'media-relay-state-changed': (roomName: string, state: never) => void;
  'volume-indicator': (volumes: never[]) => void;
  /** The names of the vendor's other SDKs. In the state's, the arguments are in the other order. */
  onConnectionStateChanged: (info: QNConnectionDisconnectedInfo | undefined, connectionState: QNConnectionState) => void;
  onUserJoined: (remoteUserID: string, userData?: string) => void;
  onUserLeft: (remoteUserID: string) => void;
  onUserReconnecting: (remoteUserID: string) => void;
  onUserReconnected: (remoteUserID: string) => void;
  /** `message` is the content. */
  onMessageReceived: (message: QNCustomMessage & { message: string }) => void;
}

export interface QNClientConfig {
  mode?: QNClientMode;
  role?: QNClientRole;
  /** The address of the Parlor server. The default is that of QNRTC.setConfig, or the page's origin. */
  server?: string | undefined;
  /**
   * Returns a newer token of the user, shortly before the token expires. Without it, the client is
   * disconnected when the token expires.
   */
  getToken?: (() => string | Promise<string>) | undefined;
}

/** A user whom a message is for: the user, or the userID as on the vendor's page. */
type Receiver = { readonly userID: string } | string;

/** The shortest time without a connection after which the client gives up, in milliseconds. */
const RECONNECT_TIMEOUT = 30_000;

/** QNRTCClient is a user in a room, with the methods and events of the vendor's SDK. */
export class QNRTCClient {
  readonly #config: QNClientConfig;
  readonly #emitter = new Emitter();
  #state = QNConnectionState.DISCONNECTED;
  #session: RoomSession | undefined;
  #remoteUsers: QNRemoteUser[] = [];
  #userID: string | undefined;
  #userData: string | undefined;
  #roomName: string | undefined;

  constructor(config: QNClientConfig = {}) {
    this.#config = config;
  }

  get userID(): string | undefined {
    return this.#userID;
  }

  get userData(): string | undefined {
    return this.#userData;
  }

  /** The roomID of the token. */
  get roomName(): string | undefined {
    return this.#roomName;
  }

  get connectionState(): QNConnectionState {
    return this.#state;
  }

  getConnectionState(): QNConnectionState {
    return this.#state;
  }

  /** The other users in the room. */
  get remoteUsers(): QNRemoteUser[] {
    return [...this.#remoteUsers];
  }

  getRemoteUser(): QNRemoteUser[];
  getRemoteUser(userID: string): QNRemoteUser | undefined;
  getRemoteUser(userID?: string): QNRemoteUser[] | QNRemoteUser | undefined {
    if (userID === undefined) return this.remoteUsers;
    return this.#remoteUsers.find((user) => user.userID === userID);
  }

  /**
   * Joins the room that the token names. userData is shown to the others, up to 1,024 bytes. Only a
   * client that is disconnected can join.
   */
  async join(token: string, userData?: string): Promise<void> {
    if (this.#state !== QNConnectionState.DISCONNECTED) {
      throw new QNRTCError(UNEXPECTED, 'The client has joined a room: call leave first.');
    }
    const { roomID, userID } = readRoomToken(token);
    const { server, getToken } = this.#config;
    // Another session may begin before the calls of this one return.
    const current = <A extends unknown[]>(callback: (...args: A) => void) => (...args: A) => {
      if (this.#session === session) callback(...args);
    };
    const session: RoomSession = new RoomSession(
      {
        baseURL: server,
        token,
        getToken,
        roomID,
        userData,
        members: true,
        config: { destroyDelay: 10, sameUser: 'replace', memberStates: true },
        retryWindow: (room: Room) => Math.max(RECONNECT_TIMEOUT, room.config.memberTimeout * 1000),
        reenters: false,
      },
      {
        entered: current(() => this.#setState(QNConnectionState.CONNECTED)),
        joined: current((members) => this.#join(members)),
        left: current((members) => this.#leave(members)),
        memberChanged: current(({ userID: id, userData: data }) => {
          const user = this.getRemoteUser(id);
          if (user === undefined) return;
          if (data === undefined) delete user.userData;
          else user.userData = data;
        }),
        counted() {},
        memberStateChanged: current((id, state) => {
          if (state === 'reconnecting') this.#emit('user-reconnecting', 'onUserReconnecting', id);
          else this.#emit('user-reconnected', 'onUserReconnected', id);
        }),
        received: current((message) => this.#receive(message)),
        attributesChanged() {},
        tokenWillExpire() {},
        reconnecting: current(() => this.#setState(QNConnectionState.RECONNECTING)),
        reconnected: current(() => this.#setState(QNConnectionState.RECONNECTED)),
        ended: current((ending) => this.#disconnect(infoOf(ending))),
      },
    );
    this.#session = session;
    this.#userID = userID;
    this.#userData = userData;
    this.#roomName = roomID;
    this.#setState(QNConnectionState.CONNECTING);
    try {
      await session.enter();
    } catch (cause) {
      const error = toQNRTCError(cause);
      const { code: errorCode, message: errorMessage } = error;
      if (this.#session === session) {
        this.#disconnect({ reason: QNConnectionDisconnectedReason.ERROR, errorCode, errorMessage });
      }
      throw error;
    }
  }

  /** Leaves the room. Resolves when the server knows it, or cannot be reached. */
  async leave(): Promise<void> {
    const session = this.#session;
    if (session === undefined) return;
    const left = session.leave();
    this.#disconnect({ reason: QNConnectionDisconnectedReason.LEAVE });
    await left;
  }

  /**
   * Sends a message to all users of the room, or to some, up to 100. While the connection is lost,
   * it waits. The order of arguments on the vendor's page is accepted too: message, users, messageID.
   */
  async sendMessage(messageID: string, message: string, users?: Receiver[]): Promise<void>;
  async sendMessage(message: string, users: Receiver[], messageID: string): Promise<void>;
  async sendMessage(first: string, second: string | Receiver[], third?: unknown): Promise<void> {
    const [messageID, message, users] = Array.isArray(second) ? [third, first, second] : [first, second, third];
    if (typeof messageID !== 'string' || typeof message !== 'string') {
      throw new QNRTCError(INVALID_PARAMETER, 'messageID and message must be strings.');
    }
    if (this.#session === undefined) throw new QNRTCError(UNEXPECTED, 'The client is in no room.');
    const to = Array.isArray(users) ? (users as Receiver[]).map((user) => (typeof user === 'string' ? user : user.userID)) : [];
    const draft = { kind: 'text', text: message, extendedData: messageID } as const;
    try {
      await this.#session.send(to.length > 0 ? { ...draft, to } : draft);
    } catch (error) {
      throw toQNRTCError(error);
    }
  }

  on<E extends keyof QNClientEvents>(event: E, listener: QNClientEvents[E], context?: unknown): this {
    this.#emitter.add(event, listener, { context: context ?? this });
    return this;
  }

  addListener<E extends keyof QNClientEvents>(event: E, listener: QNClientEvents[E], context?: unknown): this {
    return this.on(event, listener, context);
  }

  once<E extends keyof QNClientEvents>(event: E, listener: QNClientEvents[E], context?: unknown): this {
    this.#emitter.add(event, listener, { once: true, context: context ?? this });
    return this;
  }

  /** Removes a listener, however often it was added; without one, all listeners of the event. */
  off<E extends keyof QNClientEvents>(event: E, listener?: QNClientEvents[E]): this {
    this.#emitter.remove(event, listener);
    return this;
  }

  removeListener<E extends keyof QNClientEvents>(event: E, listener?: QNClientEvents[E]): this {
    return this.off(event, listener);
  }

  removeAllListeners(event?: keyof QNClientEvents): this {
    this.#emitter.removeAll(event);
    return this;
  }

  listeners<E extends keyof QNClientEvents>(event: E): QNClientEvents[E][] {
    return this.#emitter.listeners(event) as QNClientEvents[E][];
  }

  listenerCount(event: keyof QNClientEvents): number {
    return this.#emitter.listeners(event).length;
  }

  eventNames(): (keyof QNClientEvents)[] {
    return this.#emitter.events() as (keyof QNClientEvents)[];
  }

  emit<E extends keyof QNClientEvents>(event: E, ...args: Parameters<QNClientEvents[E]>): boolean {
    return this.#emitter.emit(event, ...args);
  }

  async setClientMode(_mode: QNClientMode): Promise<void> {}

  async setClientRole(_role: QNClientRole): Promise<void> {}

  // Audio and video: the calls are rejected, except for those that only take something away.

  async publish(_tracks: QNLocalTrack | QNLocalTrack[]): Promise<void> {
    throw notSupported('publish');
  }

  async unpublish(_tracks: QNLocalTrack | QNLocalTrack[]): Promise<void> {}

  /** Resolves without tracks. */
  async subscribe(
    _tracks: QNRemoteTrack | QNRemoteTrack[],
  ): Promise<{ videoTracks: QNRemoteVideoTrack[]; audioTracks: QNRemoteAudioTrack[] }> {
    return { videoTracks: [], audioTracks: [] };
  }

  async unsubscribe(_tracks: QNRemoteTrack | QNRemoteTrack[]): Promise<void> {}

  async startDirectLiveStreaming(_config: object): Promise<void> {
    throw notSupported('startDirectLiveStreaming');
  }

  async stopDirectLiveStreaming(_streamID: string): Promise<void> {}

  async startTranscodingLiveStreaming(_config: object): Promise<void> {
    throw notSupported('startTranscodingLiveStreaming');
  }

  async stopTranscodingLiveStreaming(_streamID?: string): Promise<void> {}

  async setTranscodingLiveStreamingTracks(_streamID: string | null, _tracks: object[]): Promise<void> {
    throw notSupported('setTranscodingLiveStreamingTracks');
  }

  async removeTranscodingLiveStreamingTracks(_streamID: string | null, _tracks: object[]): Promise<void> {}

  async startMediaRelay(_config: object): Promise<never> {
    throw notSupported('startMediaRelay');
  }

  async updateMediaRelay(_config: object): Promise<never> {
    throw notSupported('updateMediaRelay');
  }

  async stopMediaRelay(): Promise<never> {
    throw notSupported('stopMediaRelay');
  }

  getNetworkQuality(): QNNetworkQuality {
    return QNNetworkQuality.UNKNOWN;
  }

  getUserNetworkQuality(_userID: string): QNNetworkQuality {
    return QNNetworkQuality.UNKNOWN;
  }

  enableAudioVolumeIndicator(): void {}

  #join(members: Member[]): void {
    const users = members.map(({ userID, userData }) => new QNRemoteUser(userID, userData));
    this.#remoteUsers.push(...users);
    for (const { userID, userData } of users) this.#emit('user-joined', 'onUserJoined', userID, userData);
  }

  #leave(members: Member[]): void {
    for (const { userID } of members) {
      this.#remoteUsers = this.#remoteUsers.filter((user) => user.userID !== userID);
      this.#emit('user-left', 'onUserLeft', userID);
    }
  }

  #receive(message: Message): void {
    const text = message.kind === 'text' || message.kind === 'custom' || message.kind === 'barrage' ? message.text : undefined;
    if (text === undefined) return; // QNRTC has only texts
    const ID = message.extendedData ?? message.messageID;
    const received = { ID, userID: message.sender.userID, content: text, timestamp: Date.parse(message.sentAt) };
    this.#emitter.emit('message-received', received);
    this.#emitter.emit('onMessageReceived', { ...received, message: text });
  }

  #disconnect(info: QNConnectionDisconnectedInfo): void {
    this.#session = undefined;
    this.#remoteUsers = [];
    this.#setState(QNConnectionState.DISCONNECTED, info);
  }

  #setState(state: QNConnectionState, info?: QNConnectionDisconnectedInfo): void {
    this.#state = state;
    if (info === undefined) this.#emitter.emit('connection-state-changed', state);
    else this.#emitter.emit('connection-state-changed', state, info);
    this.#emitter.emit('onConnectionStateChanged', info, state);
  }

  #emit(event: keyof QNClientEvents, alias: keyof QNClientEvents, ...args: unknown[]): void {
    this.#emitter.emit(event, ...args);
    this.#emitter.emit(alias, ...args);
  }
}

/** The endings that are not errors. */
const REASONS: { [event in Ending['event']]?: QNConnectionDisconnectedReason } = {
  success: QNConnectionDisconnectedReason.LEAVE,
  loggedOut: QNConnectionDisconnectedReason.LEAVE,
  kickedOut: QNConnectionDisconnectedReason.KICKED_OUT,
  replaced: QNConnectionDisconnectedReason.KICKED_OUT,
  notGranted: QNConnectionDisconnectedReason.KICKED_OUT,
};

const ERRORS: { [event in Ending['event']]?: [code: number, message: string] } = {
  tokenExpired: [TOKEN_EXPIRED, 'The token has expired.'],
  roomNotExist: [RECONNECT_FAILED, 'The room was closed.'],
  networkTimeout: [RECONNECT_FAILED, 'The connection was lost for too long.'],
  sessionEnded: [codeOf('session_ended'), 'The session has ended.'],
};

function infoOf({ event, reason: text }: Ending): QNConnectionDisconnectedInfo {
  const reason = REASONS[event];
  if (reason !== undefined) return text === undefined ? { reason } : { reason, errorMessage: text };
  const [errorCode, errorMessage] = ERRORS[event] ?? [UNEXPECTED, `The connection ended: ${event}.`];
  return { reason: QNConnectionDisconnectedReason.ERROR, errorCode, errorMessage: text ?? errorMessage };
}
