export const PARAMETER_INVALID = 1100001;
export const NOT_LOGGED_IN = 1002002;
export const TOO_MANY_ROOMS = 1002001;
export const USER_ID_EMPTY = 1002005;
export const ROOM_ID_EMPTY = 1002011;
export const ANOTHER_USER_ID = 1002018;
export const TOKEN_REFUSED = 1002033;
export const KICKED_BY_LOGIN = 1002050;
export const RECONNECTING = 1000017;
export const NETWORK_BROKEN = 1002053;
export const KICKED_BY_SERVER = 1002055;
export const REPEATED_LOGIN = 1002056;
export const TOKEN_EXPIRED = 1002078;
export const LOGIN_CANCELLED = 1102026;
export const NOT_INITIALIZED = 1101000;
/** The code of a call that needs audio or video. */
export const NOT_SUPPORTED = 1103002;
export const MESSAGE_EMPTY = 1009001;
export const MESSAGE_TOO_LONG = 1009002;
export const MESSAGE_NOT_SENT = 1009010;
export const MESSAGE_RATE = 1009015;
export const ROOM_INTERNAL = 1002099;

/** The error that a login is rejected with. */
export class ZegoError extends Error {
  override readonly name = 'ZegoError';
  code: number;
  msg: string;

  constructor(code: number, message: string, cause?: unknown) {
    super(message, { cause });
    this.code = code;
    this.msg = message;
  }
}
