import { ParlorError, type ProblemCode } from 'parlor-sdk';

/** The code of a call that needs audio or video. */
export const NOT_SUPPORTED = 21006;
export const INVALID_PARAMETER = 10053;
export const UNEXPECTED = 21005;
export const RECONNECT_FAILED = 21003;
export const TOKEN_INVALID = 10001;
export const TOKEN_EXPIRED = 10002;
const ROOM_FULL = 10011;
const ROOM_CLOSED = 10012;
const SAME_USER = 10022;
const SERVER_UNAVAILABLE = 10052;
const NOT_AUTHORIZED = 21001;

/** The codes that are not 21005, which stands for what an application cannot react to. */
const CODES: { [code in ProblemCode]?: number } = {
  token_invalid: TOKEN_INVALID,
  token_void: TOKEN_INVALID,
  token_user_mismatch: TOKEN_INVALID,
  token_expired: TOKEN_EXPIRED,
  room_full: ROOM_FULL,
  room_not_found: ROOM_CLOSED,
  user_in_room: SAME_USER,
  unauthenticated: NOT_AUTHORIZED,
  not_granted: NOT_AUTHORIZED,
  banned: NOT_AUTHORIZED,
  network_error: RECONNECT_FAILED,
  unavailable: SERVER_UNAVAILABLE,
  server_full: SERVER_UNAVAILABLE,
  too_many_connections: SERVER_UNAVAILABLE,
  too_many_streams: SERVER_UNAVAILABLE,
  too_many_logins: SERVER_UNAVAILABLE,
  too_many_joins: SERVER_UNAVAILABLE,
  too_many_messages: SERVER_UNAVAILABLE,
  too_many_rooms_created: SERVER_UNAVAILABLE,
  too_many_unsent: SERVER_UNAVAILABLE,
  invalid_request: INVALID_PARAMETER,
  malformed_json: INVALID_PARAMETER,
  body_too_large: INVALID_PARAMETER,
};

/** The only error that the calls are rejected with. */
export class QNRTCError extends Error {
  override readonly name = 'QNRTCError';
  code: number;
  error: string;

  constructor(code: number, message: string, cause?: unknown) {
    super(message, { cause });
    this.code = code;
    this.error = message;
  }
}

/** Returns the vendor's number for a code of docs/errors.md or of the SDK. */
export function codeOf(code: ProblemCode): number {
  return CODES[code] ?? UNEXPECTED;
}

export function toQNRTCError(error: unknown): QNRTCError {
  if (error instanceof QNRTCError) return error;
  if (error instanceof ParlorError) return new QNRTCError(codeOf(error.code), error.message, error);
  return new QNRTCError(INVALID_PARAMETER, error instanceof Error ? error.message : String(error), error);
}
