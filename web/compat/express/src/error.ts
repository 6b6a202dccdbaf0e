import { ParlorError, type ProblemCode } from 'parlor-sdk';

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
const MESSAGE_TOO_LONG = 1009002;
const MESSAGE_NOT_SENT = 1009010;
const MESSAGE_RATE = 1009015;
const ROOM_INTERNAL = 1002099;

/** The codes that are not 1002099, which stands for what an application cannot react to. */
const CODES: { [code in ProblemCode]?: number } = {
  token_invalid: TOKEN_REFUSED,
  token_expired: TOKEN_REFUSED,
  token_void: TOKEN_REFUSED,
  unauthenticated: TOKEN_REFUSED,
  not_granted: TOKEN_REFUSED,
  token_user_mismatch: 1002077,
  banned: 1002066,
  network_error: NETWORK_BROKEN,
  unavailable: NETWORK_BROKEN,
  server_full: NETWORK_BROKEN,
  too_many_connections: NETWORK_BROKEN,
  too_many_streams: NETWORK_BROKEN,
  too_many_logins: NETWORK_BROKEN,
  too_many_joins: NETWORK_BROKEN,
  too_many_rooms_created: NETWORK_BROKEN,
  session_ended: NOT_LOGGED_IN,
  not_in_room: NOT_LOGGED_IN,
  room_not_found: 1002014,
  room_full: 1002034,
  user_in_room: 1002086,
  too_many_rooms: TOO_MANY_ROOMS,
  room_limit: TOO_MANY_ROOMS,
  creator_room_limit: TOO_MANY_ROOMS,
  attributes_full: 1002017,
  too_many_attribute_changes: MESSAGE_RATE,
  too_many_messages: MESSAGE_RATE,
  too_much_barrage: MESSAGE_RATE,
  too_many_unsent: MESSAGE_RATE,
  invalid_request: PARAMETER_INVALID,
  malformed_json: PARAMETER_INVALID,
  body_too_large: MESSAGE_TOO_LONG,
};

/** The numbers that are different if a message was not sent. */
const MESSAGE_CODES: { [code in ProblemCode]?: number } = {
  network_error: MESSAGE_NOT_SENT,
  unavailable: MESSAGE_NOT_SENT,
  not_granted: MESSAGE_NOT_SENT,
  invalid_request: MESSAGE_TOO_LONG,
};

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

/** Returns the vendor's number for a code of docs/errors.md or of the SDK. */
export function codeOf(code: ProblemCode, sending = false): number {
  return (sending ? MESSAGE_CODES[code] : undefined) ?? CODES[code] ?? ROOM_INTERNAL;
}

export function toZegoError(error: unknown, sending = false): ZegoError {
  if (error instanceof ZegoError) return error;
  if (error instanceof ParlorError) return new ZegoError(codeOf(error.code, sending), error.message, error);
  return new ZegoError(PARAMETER_INVALID, error instanceof Error ? error.message : String(error), error);
}
