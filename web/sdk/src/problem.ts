import type { ProblemDetails } from './types.ts';

/**
 * `network_error`: no answer came, or none in time; whether the server did what
 * it was asked is unknown. `unexpected_reply`: what answered was not Parlor.
 * All other codes are the server's, see docs/errors.md.
 */
export type ProblemCode = ProblemDetails['code'] | 'network_error' | 'unexpected_reply';

/** The one error that calls are rejected with. */
export class ParlorError extends Error {
  override readonly name = 'ParlorError';
  readonly code: ProblemCode;
  /** The HTTP status; 0 where no answer came. */
  readonly status: number;
  /** To be found in the server's log. */
  readonly requestID: string | undefined;
  /** What is wrong with the request, field by field. */
  readonly errors: NonNullable<ProblemDetails['errors']>;
  /** How long the server asked to wait before trying again, in milliseconds. */
  readonly retryAfter: number;

  constructor(
    code: ProblemCode,
    detail: string,
    more: Partial<Pick<ParlorError, 'status' | 'requestID' | 'errors' | 'retryAfter' | 'cause'>> = {},
  ) {
    super(detail, { cause: more.cause });
    this.code = code;
    this.status = more.status ?? 0;
    this.requestID = more.requestID;
    this.errors = more.errors ?? [];
    this.retryAfter = more.retryAfter ?? 0;
  }

  /** Whether the same call may well succeed a little later. */
  get temporary(): boolean {
    return this.code === 'network_error' || [429, 502, 503, 504].includes(this.status);
  }
}

/** Turns a reply that is not a success into an error. */
export async function problemOf(response: Response): Promise<ParlorError> {
  const retryAfter = retryAfterOf(response.headers);
  const { status } = response;
  try {
    if (mediaType(response) === 'application/problem+json') {
      const problem = (await response.json()) as ProblemDetails;
      return new ParlorError(problem.code, problem.detail, { ...problem, status, retryAfter });
    }
    await response.body?.cancel();
  } catch {
    // The reply broke off. Its status still says enough.
  }
  // A proxy in front of a server that restarts speaks for it, in its own words.
  const code = [502, 503, 504].includes(status) ? 'unavailable' : 'unexpected_reply';
  return new ParlorError(code, `The answer was status ${status}, without a reason.`, { status, retryAfter });
}

export function mediaType(response: Response): string {
  return (response.headers.get('Content-Type') ?? '').split(';', 1)[0]!.trim().toLowerCase();
}

/** Reads Retry-After, which RFC 9110 lets be seconds or a date. */
function retryAfterOf(headers: Headers): number {
  const value = headers.get('Retry-After');
  if (value === null) return 0;
  const milliseconds = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return milliseconds > 0 ? milliseconds : 0; // NaN, the unreadable date, is not above 0 either
}
