import { ParlorError, type ProblemCode } from 'parlor-sdk';
import {
  INVALID_PARAMETER,
  NOT_AUTHORIZED,
  RECONNECT_FAILED,
  ROOM_CLOSED,
  ROOM_FULL,
  SAME_USER,
  SERVER_UNAVAILABLE,
  TOKEN_EXPIRED,
  TOKEN_INVALID,
  UNEXPECTED,
  QNRTCError,
} from './error.ts';

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

/** Returns the vendor's number for a code of docs/errors.md or of the SDK. */
export function codeOf(code: ProblemCode): number {
  return CODES[code] ?? UNEXPECTED;
}

export function toQNRTCError(error: unknown): QNRTCError {
  if (error instanceof QNRTCError) return error;
  if (error instanceof ParlorError) return new QNRTCError(codeOf(error.code), error.message, error);
  return new QNRTCError(INVALID_PARAMETER, error instanceof Error ? error.message : String(error), error);
}
