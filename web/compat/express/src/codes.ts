import { ParlorError, type ProblemCode } from 'parlor-sdk';
import {
  MESSAGE_NOT_SENT,
  MESSAGE_RATE,
  MESSAGE_TOO_LONG,
  NETWORK_BROKEN,
  NOT_LOGGED_IN,
  PARAMETER_INVALID,
  ROOM_INTERNAL,
  TOKEN_REFUSED,
  TOO_MANY_ROOMS,
  ZegoError,
} from './error.ts';

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

/** Returns the vendor's number for a code of docs/errors.md or of the SDK. */
export function codeOf(code: ProblemCode, sending = false): number {
  return (sending ? MESSAGE_CODES[code] : undefined) ?? CODES[code] ?? ROOM_INTERNAL;
}

export function toZegoError(error: unknown, sending = false): ZegoError {
  if (error instanceof ZegoError) return error;
  if (error instanceof ParlorError) return new ZegoError(codeOf(error.code, sending), error.message, error);
  return new ZegoError(PARAMETER_INVALID, error instanceof Error ? error.message : String(error), error);
}
