import type { Problem } from './schemas.gen.ts';

/**
 * `network_error` means that no reply arrived in time; whether the server executed the call is
 * unknown. `unexpected_reply` means that the reply was not from Parlor. `file_unreadable` means that
 * a file to upload could not be read. `too_many_unsent` means that 1,000 messages wait to be sent. All
 * other codes are the server's: see docs/errors.md.
 */
export type ProblemCode = Problem['code'] | 'network_error' | 'unexpected_reply' | 'file_unreadable' | 'too_many_unsent';

/** ParlorError is the only error that calls are rejected with. */
export class ParlorError extends Error {
  override readonly name = 'ParlorError';
  readonly code: ProblemCode;
  /** The HTTP status; 0 if no reply arrived. */
  readonly status: number;
  /** The ID of the request in the server's log. */
  readonly requestID: string | undefined;
  /** The faults of the request, by field. */
  readonly errors: NonNullable<Problem['errors']>;
  /** The delay before a retry that the server requested, in milliseconds. */
  readonly retryAfter: number;

  constructor(
    code: ProblemCode,
    detail: string,
    more: Partial<Pick<ParlorError, 'status' | 'requestID' | 'errors' | 'retryAfter' | 'cause'>> = {},
  ) {
    const [fault] = more.errors ?? [];
    super(fault === undefined ? detail : `${detail} ${fault.pointer}: ${fault.message}`, { cause: more.cause });
    this.code = code;
    this.status = more.status ?? 0;
    this.requestID = more.requestID;
    this.errors = more.errors ?? [];
    this.retryAfter = more.retryAfter ?? 0;
  }

  /** Whether the same call may succeed a little later. */
  get temporary(): boolean {
    return this.code === 'network_error' || [429, 502, 503, 504].includes(this.status);
  }
}

/** Converts a reply that is not a success to an error. */
export async function problemOf(response: Response): Promise<ParlorError> {
  const retryAfter = retryAfterOf(response.headers);
  const { status } = response;
  try {
    if (mediaType(response) === 'application/problem+json') {
      const problem = (await response.json()) as Problem;
      // Another program may reply in this format too.
      if (problem.code) return new ParlorError(problem.code, problem.detail, { ...problem, status, retryAfter });
    }
    await response.body?.cancel();
  } catch {
    // The connection broke during the reply. Its status is still useful.
  }
  // A proxy replies in place of a server that restarts.
  const code = [502, 503, 504].includes(status) ? 'unavailable' : 'unexpected_reply';
  return new ParlorError(code, `The server replied with status ${status} and without a reason.`, { status, retryAfter });
}

export function mediaType(response: Response): string {
  return (response.headers.get('Content-Type') ?? '').split(';', 1)[0]!.trim().toLowerCase();
}

/** Parses Retry-After, which is a number of seconds or a date (RFC 9110). */
function retryAfterOf(headers: Headers): number {
  const value = headers.get('Retry-After');
  if (value === null) return 0;
  const milliseconds = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return milliseconds > 0 ? milliseconds : 0; // NaN, from an invalid date, gives 0 as well
}
