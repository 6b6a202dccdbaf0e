import { Emitter } from 'parlor-compat/emitter';
import type { RoomMessageDraft } from 'parlor-sdk';
import { toZegoError } from './codes.ts';
import {
  ANOTHER_USER_ID,
  MESSAGE_EMPTY,
  NOT_INITIALIZED,
  NOT_LOGGED_IN,
  NOT_SUPPORTED,
  PARAMETER_INVALID,
  REPEATED_LOGIN,
  ROOM_ID_EMPTY,
  TOKEN_REFUSED,
  TOO_MANY_ROOMS,
  USER_ID_EMPTY,
  ZegoError,
} from './error.ts';
import { encodeText, Login } from './login.ts';
import { addMediaCalls, type MediaCalls } from './media.ts';
import {
  type ZegoCapabilityDetection,
  type ZegoDeviceInfo,
  type ZegoDeviceInfos,
  type ZegoLogConfig,
  type ZegoRoomConfig,
  type ZegoRoomEvents,
  ZegoRoomStateChangedReason,
  type ZegoServerResponse,
  type ZegoSwitchRoomConfig,
  type ZegoUser,
} from './types.ts';

/** How long a lost connection is retried, in seconds, unless the application says otherwise. */
const RETRY_TIME = 300;
/** The version of the vendor's SDK whose API this is. */
const VERSION = '3.12.0';

/** ZegoExpressEngine is a user's logins to rooms, with the methods and events of the vendor's SDK. */
export class ZegoExpressEngine {
  static readonly version = VERSION;
  readonly #server: string | undefined;
  readonly #emitter = new Emitter();
  readonly #logins = new Map<string, Login>();
  #retryTime = RETRY_TIME;
  #isMultiRoom = false;
  #isDestroyed = false;

  /**
   * The appID has no meaning here. The server is the address of the Parlor server, such as
   * `https://parlor.example.com`; if it is empty, it is the origin of the page.
   */
  constructor(_appID: number, server: string | string[], _options?: object) {
    const first = Array.isArray(server) ? server[0] : server;
    this.#server = first === '' ? undefined : first;
  }

  static setEngineOptions(_options: object): void {}

  static presetLogConfig(_config: ZegoLogConfig): boolean {
    return true;
  }

  static use(_module: unknown): void {}

  static setGeoFence(_type: number, _areaList: number[]): void {}

  static setCloudProxyConfig(_proxyList: object[], _token: string, _enable: boolean): void {}

  static setLocalProxyConfig(_config: object, _enable: boolean): void {}

  getVersion(): string {
    return VERSION;
  }

  /** Nothing is logged. */
  setLogConfig(_config: ZegoLogConfig): boolean {
    return true;
  }

  setDebugVerbose(_enable: boolean): void {}

  async uploadLog(): Promise<{ errorCode: number; extendedData: string }> {
    return { errorCode: 0, extendedData: '' };
  }

  /** `roomRetryTime` is how long a lost connection is retried, in seconds: 300 by default. */
  setEngineConfig({ roomRetryTime }: { roomRetryTime?: number }): void {
    if (roomRetryTime !== undefined && roomRetryTime > 0) this.#retryTime = roomRetryTime;
  }

  /** Allows to log in to several rooms at a time. Returns false if the user is logged in already. */
  enableMultiRoom(enable: boolean): boolean {
    if (this.#logins.size > 0) return false;
    this.#isMultiRoom = enable;
    return true;
  }

  /**
   * Logs in to a room, which is created if there is none. The token must be one of this user. If the
   * login fails, the call is rejected with a ZegoError.
   */
  async loginRoom(roomID: string, token: string, user: ZegoUser, config: ZegoRoomConfig = {}): Promise<boolean> {
    if (this.#isDestroyed) throw new ZegoError(NOT_INITIALIZED, 'The engine was destroyed.');
    if (typeof roomID !== 'string' || roomID === '') throw new ZegoError(ROOM_ID_EMPTY, 'The roomID is empty.');
    if (typeof user?.userID !== 'string' || user.userID === '') throw new ZegoError(USER_ID_EMPTY, 'The userID is empty.');
    if (typeof token !== 'string' || token === '') throw new ZegoError(TOKEN_REFUSED, 'The token is empty.');
    if (this.#logins.has(roomID)) throw new ZegoError(REPEATED_LOGIN, 'The user is logged in to this room.');
    const [another] = this.#logins.values();
    if (another !== undefined) {
      if (!this.#isMultiRoom) throw new ZegoError(TOO_MANY_ROOMS, 'The user is logged in to another room: call logoutRoom or enableMultiRoom first.');
      if (another.user.userID !== user.userID) throw new ZegoError(ANOTHER_USER_ID, 'All logins must be of the same user.');
    }
    const login: Login = new Login(
      roomID,
      {
        server: this.#server,
        token,
        user,
        config,
        retryTime: this.#retryTime * 1000,
        onEnd: () => {
          if (this.#logins.get(roomID) === login) this.#logins.delete(roomID);
        },
      },
      this.#emitter,
    );
    this.#logins.set(roomID, login);
    await login.begin();
    return true;
  }

  /** Logs out of a room, and then logs in to another. */
  async switchRoom(fromRoomID: string, toRoomID: string, config: ZegoSwitchRoomConfig): Promise<boolean> {
    const from = this.#logins.get(fromRoomID);
    if (from === undefined) throw new ZegoError(NOT_LOGGED_IN, 'The user is not logged in to the first room.');
    from.logout();
    const { token, maxMemberCount = 0, isUserStatusNotify = false } = config;
    return this.loginRoom(toRoomID, token, from.user, { maxMemberCount, userUpdate: isUserStatusNotify });
  }

  /** Logs out of a room, or of all rooms. */
  logoutRoom(roomID?: string): void {
    if (roomID === undefined) {
      for (const login of [...this.#logins.values()]) login.logout();
      return;
    }
    const login = this.#logins.get(roomID);
    if (login !== undefined) login.logout();
    else this.#emitter.emit('roomStateChanged', roomID, ZegoRoomStateChangedReason.LogoutFailed, NOT_LOGGED_IN, '');
  }

  /**
   * Renews the token of a room, or of all rooms. Returns whether there is one: if the server refuses
   * the token, the login ends when the earlier one expires.
   */
  renewToken(token: string, roomID?: string): boolean {
    const all = typeof token === 'string' && token !== '' ? [...this.#logins.values()] : [];
    const logins = roomID === undefined ? all : all.filter((login) => login.roomID === roomID);
    for (const { session } of logins) {
      session.renewToken(token).catch((error: unknown) => console.warn('renewToken failed:', error));
    }
    return logins.length > 0;
  }

  /** Sends a text to the other users of the room. */
  sendBroadcastMessage(roomID: string, message: string): Promise<ZegoServerResponse> {
    return this.#send(roomID, message, { kind: 'text', text: message });
  }

  /** Sends a text that is not stored, and may be discarded if there are many. */
  sendBarrageMessage(roomID: string, message: string): Promise<ZegoServerResponse> {
    return this.#send(roomID, message, { kind: 'barrage', text: message });
  }

  /** Sends a command to some users, up to 100, or to all if there are none. */
  sendCustomCommand(roomID: string, command: string, toUserIDList: string[]): Promise<ZegoServerResponse> {
    const draft = { kind: 'command', data: encodeText(String(command)) } as const;
    const to = toUserIDList ?? [];
    return this.#send(roomID, command, to.length > 0 ? { ...draft, to } : draft);
  }

  async sendTransparentMessage(_roomID: string, _message: object): Promise<ZegoServerResponse> {
    return { errorCode: NOT_SUPPORTED };
  }

  /** Sets an attribute of the room: keys have up to 16 bytes, values 1,024, and a room has 20. */
  async setRoomExtraInfo(roomID: string, key: string, value: string): Promise<ZegoServerResponse> {
    return this.#respond(roomID, (login) => login.session.setAttribute(key, value));
  }

  on<E extends keyof ZegoRoomEvents>(event: E, callBack: ZegoRoomEvents[E]): boolean;
  /** The events of audio and video do not occur. */
  on(event: string, callBack: (...args: never[]) => unknown): boolean;
  on(event: string, callBack: (...args: never[]) => unknown): boolean {
    if (typeof callBack !== 'function') return false;
    this.#emitter.add(event, callBack);
    return true;
  }

  off<E extends keyof ZegoRoomEvents>(event: E, callBack?: ZegoRoomEvents[E]): boolean;
  off(event: string, callBack?: (...args: never[]) => unknown): boolean;
  /** Removes a listener; without one, all listeners of the event. */
  off(event: string, callBack?: (...args: never[]) => unknown): boolean {
    this.#emitter.remove(event, callBack);
    return true;
  }

  /** Logs out of all rooms, without events. */
  destroyEngine(): void {
    this.#isDestroyed = true;
    this.#emitter.removeAll();
    for (const login of this.#logins.values()) login.discard();
    this.#logins.clear();
  }

  // Audio and video: the page can run, and there are no devices.

  async checkSystemRequirements(_checkType?: string, _checkLevel?: 0 | 1): Promise<ZegoCapabilityDetection> {
    return {
      webRTC: true, // that the engine can be used is what applications ask
      customCapture: false,
      camera: false,
      microphone: false,
      screenSharing: false,
      videoCodec: { H264: false, H265: false, VP8: false, VP9: false },
      errInfo: {},
      result: true,
    };
  }

  async enumDevices(): Promise<ZegoDeviceInfos> {
    return { microphones: [], speakers: [], cameras: [] };
  }

  async getCameras(): Promise<ZegoDeviceInfo[]> {
    return [];
  }

  async getMicrophones(): Promise<ZegoDeviceInfo[]> {
    return [];
  }

  async getSpeakers(): Promise<ZegoDeviceInfo[]> {
    return [];
  }

  async #send(roomID: string, text: unknown, draft: RoomMessageDraft): Promise<ZegoServerResponse> {
    if (typeof text !== 'string') return { errorCode: PARAMETER_INVALID };
    if (text === '') return { errorCode: MESSAGE_EMPTY };
    return this.#respond(roomID, (login) => login.session.send(draft), true);
  }

  /** Makes a call that resolves with an errorCode also if it fails. */
  async #respond(roomID: string, call: (login: Login) => Promise<unknown>, sending = false): Promise<ZegoServerResponse> {
    const login = this.#logins.get(roomID);
    if (login === undefined) return { errorCode: NOT_LOGGED_IN };
    try {
      await call(login);
      return { errorCode: 0, extendedData: '' };
    } catch (error) {
      const { code, msg } = toZegoError(error, sending);
      return { errorCode: code, extendedData: msg };
    }
  }
}

/** The calls of audio and video, which fail. */
export interface ZegoExpressEngine extends MediaCalls {}
addMediaCalls(ZegoExpressEngine.prototype);
