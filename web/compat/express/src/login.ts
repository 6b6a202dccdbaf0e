import type { Emitter } from 'parlor-compat/emitter';
import { type AttributesChange, type Ending, RoomSession } from 'parlor-compat/room-session';
import type { Member, Message } from 'parlor-sdk';
import { toZegoError } from './codes.ts';
import {
  KICKED_BY_LOGIN,
  KICKED_BY_SERVER,
  LOGIN_CANCELLED,
  NETWORK_BROKEN,
  RECONNECTING,
  TOKEN_EXPIRED,
  ZegoError,
} from './error.ts';
import {
  type ZegoRoomConfig,
  type ZegoRoomEvents,
  type ZegoRoomExtraInfo,
  type ZegoRoomState,
  ZegoRoomStateChangedReason as Reason,
  type ZegoUser,
} from './types.ts';

/** The states of the older event. LOGOUT_FAILED changes none. */
const STATES: { [reason in Exclude<Reason, Reason.LogoutFailed>]: ZegoRoomState } = {
  LOGINING: 'CONNECTING',
  LOGINED: 'CONNECTED',
  LOGIN_FAILED: 'DISCONNECTED',
  RECONNECTING: 'CONNECTING',
  RECONNECTED: 'CONNECTED',
  RECONNECT_FAILED: 'DISCONNECTED',
  KICKOUT: 'DISCONNECTED',
  LOGOUT: 'DISCONNECTED',
};

/** How a login ends, unless the connection was lost. */
const ENDINGS: { [event in Ending['event']]?: [keyof typeof STATES, code: number] } = {
  success: [Reason.Logout, 0],
  loggedOut: [Reason.Logout, 0],
  replaced: [Reason.Kickout, KICKED_BY_LOGIN],
  superseded: [Reason.Kickout, KICKED_BY_LOGIN],
  kickedOut: [Reason.Kickout, KICKED_BY_SERVER],
  notGranted: [Reason.Kickout, KICKED_BY_SERVER],
  roomNotExist: [Reason.Kickout, KICKED_BY_SERVER],
  tokenExpired: [Reason.Kickout, TOKEN_EXPIRED],
};

/** These endings are failures to reconnect if the connection was lost before. */
const OF_THE_SESSION = new Set<Ending['event']>(['tokenExpired', 'loggedOut', 'sessionEnded']);

export interface LoginOptions {
  server: string | undefined;
  token: string;
  user: ZegoUser;
  config: ZegoRoomConfig;
  /** In milliseconds. */
  retryTime: number;
  /** Called when the login has ended. */
  onEnd: () => void;
}

/** Login is the user's login to one room: a session of its own, because each has its own token. */
export class Login {
  readonly roomID: string;
  readonly user: ZegoUser;
  readonly session: RoomSession;
  readonly #emitter: Emitter;
  readonly #onEnd: () => void;
  #memberCount = 0;
  #lost = false;
  #ended = false;

  constructor(roomID: string, { server, token, user, config, retryTime, onEnd }: LoginOptions, emitter: Emitter) {
    this.roomID = roomID;
    this.user = user;
    this.#emitter = emitter;
    this.#onEnd = onEnd;
    const { userUpdate = false, maxMemberCount = 0 } = config;
    this.session = new RoomSession(
      {
        baseURL: server,
        token,
        roomID,
        userID: user.userID,
        userName: user.userName === '' ? undefined : user.userName,
        members: userUpdate,
        config: { memberTimeout: 90, sameUser: 'replace', ...(maxMemberCount > 0 && { maxMembers: maxMemberCount }) },
        retryWindow: () => retryTime,
        reenters: true,
      },
      {
        entered: () => this.#setState(Reason.Logined),
        joined: (members) => this.#emit('roomUserUpdate', roomID, 'ADD', members.map(toUser)),
        left: (members) => this.#emit('roomUserUpdate', roomID, 'DELETE', members.map(toUser)),
        memberChanged() {},
        counted: (count) => this.#count(count),
        memberStateChanged() {},
        received: (message) => this.#receive(message),
        attributesChanged: (change) => this.#change(change),
        tokenWillExpire: () => this.#emit('tokenWillExpire', roomID),
        reconnecting: () => {
          this.#lost = true;
          this.#setState(Reason.Reconnecting, RECONNECTING);
        },
        reconnected: () => {
          this.#lost = false;
          this.#setState(Reason.Reconnected);
        },
        ended: (ending) => this.#end(...this.#endOf(ending)),
      },
    );
  }

  /** @throws {ZegoError} */
  async begin(): Promise<void> {
    this.#setState(Reason.Logining);
    try {
      await this.session.enter();
    } catch (cause) {
      if (this.#ended) throw new ZegoError(LOGIN_CANCELLED, 'The user logged out.', cause);
      const error = toZegoError(cause);
      this.#end(Reason.LoginFailed, error.code);
      throw error;
    }
  }

  logout(): void {
    void this.session.leave();
    this.#end(Reason.Logout, 0);
  }

  /** Logs out without an event. */
  discard(): void {
    this.#ended = true;
    void this.session.leave();
  }

  #endOf({ event, reason }: Ending): [keyof typeof STATES, code: number, extendedData: string] {
    const extendedData = reason === undefined ? '' : JSON.stringify({ custom_kickout_message: reason });
    const [state, code] = (this.#lost && OF_THE_SESSION.has(event) ? undefined : ENDINGS[event]) ?? [Reason.ReconnectFailed, NETWORK_BROKEN];
    return [state, code, extendedData];
  }

  #end(reason: keyof typeof STATES, code: number, extendedData = ''): void {
    if (this.#ended) return;
    this.#onEnd();
    this.#setState(reason, code, extendedData);
    this.#ended = true;
  }

  #setState(reason: keyof typeof STATES, code = 0, extendedData = ''): void {
    this.#emit('roomStateChanged', this.roomID, reason, code, extendedData);
    this.#emit('roomStateUpdate', this.roomID, STATES[reason], code, extendedData);
  }

  #count(count: number): void {
    if (count === this.#memberCount) return;
    this.#memberCount = count;
    this.#emit('roomOnlineUserCountUpdate', this.roomID, count);
  }

  #receive(message: Message): void {
    const fromUser = toUser(message.sender);
    const sendTime = Date.parse(message.sentAt);
    switch (message.kind) {
      case 'text':
        if (message.text === undefined) return; // recalled in the meantime
        this.#emit('IMRecvBroadcastMessage', this.roomID, [{ fromUser, message: message.text, sendTime, messageID: message.seq ?? 0 }]);
        break;
      case 'barrage':
        this.#emit('IMRecvBarrageMessage', this.roomID, [{ fromUser, message: message.text ?? '', sendTime, messageID: message.messageID }]);
        break;
      case 'command':
        this.#emit('IMRecvCustomCommand', this.roomID, fromUser, decodeText(message.data ?? ''));
    }
  }

  #change({ set, deleted, userID = '' }: AttributesChange): void {
    const updateUser = { userID, userName: this.session.members.get(userID)?.userName ?? '' };
    const updateTime = Date.now();
    const values = [...Object.entries(set), ...deleted.map((key) => [key, ''] as const)];
    const infos: ZegoRoomExtraInfo[] = values.map(([key, value]) => ({ key, value, updateUser, updateTime }));
    this.#emit('roomExtraInfoUpdate', this.roomID, infos);
  }

  #emit<E extends keyof ZegoRoomEvents>(event: E, ...args: Parameters<ZegoRoomEvents[E]>): void {
    // A listener may have logged out.
    if (!this.#ended) this.#emitter.emit(event, ...args);
  }
}

function toUser({ userID, userName }: Pick<Member, 'userID' | 'userName'>): ZegoUser {
  return { userID, userName };
}

/** Encodes the text of a custom command in Base64. */
export function encodeText(text: string): string {
  return btoa(Array.from(new TextEncoder().encode(text), (byte) => String.fromCharCode(byte)).join(''));
}

function decodeText(data: string): string {
  return new TextDecoder().decode(Uint8Array.from(atob(data), (char) => char.charCodeAt(0)));
}
