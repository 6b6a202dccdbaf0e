/** The code of a call that needs audio or video. */
export const NOT_SUPPORTED = 21006;
export const INVALID_PARAMETER = 10053;
export const UNEXPECTED = 21005;
export const RECONNECT_FAILED = 21003;
export const TOKEN_INVALID = 10001;
export const TOKEN_EXPIRED = 10002;
export const ROOM_FULL = 10011;
export const ROOM_CLOSED = 10012;
export const SAME_USER = 10022;
export const SERVER_UNAVAILABLE = 10052;
export const NOT_AUTHORIZED = 21001;

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
