import { Backoff } from './backoff.ts';
import { ParlorError, mediaType, problemOf } from './problem.ts';
import type { Arguments, Method, Path, Reply } from './operations.ts';

/** How long to wait for a reply. On a dead network, the browser itself would wait for minutes. */
const REPLY_TIMEOUT = 10_000;
/** How long a call is retried before it fails. */
const RETRY_FOR = 30_000;
const LONGEST_DELAY = 5_000;

export interface CallOptions<R> {
  /**
   * Whether to retry the call, for up to 30 s, while the server cannot be reached or replies 429,
   * 502, 503 or 504. The call must be safe to repeat. The default is true for GET and PUT.
   */
  retry?: boolean;
  /**
   * Called if a repeated call is refused although an earlier attempt may have been executed, whose
   * reply was lost. It returns that reply, or undefined if the refusal is right.
   */
  recover?: (refusal: ParlorError) => R | undefined | Promise<R | undefined>;
}

/** HTTP makes the calls of the API. */
export class HTTP {
  readonly baseURL: string;
  readonly #key: string | undefined;
  /** Called whenever a call gets no reply, with the time at which it began, also before a retry. */
  readonly onUnreachable: (callBegan: number) => void;

  /** `key` is a session key or an admin token. */
  constructor(baseURL: string, key?: string, onUnreachable: (callBegan: number) => void = () => {}) {
    this.baseURL = baseURL.replace(/\/+$/, '');
    this.#key = key;
    this.onUnreachable = onUnreachable;
  }

  /** @throws {ParlorError} and nothing else. */
  async call<P extends Path, M extends Method<P>>(
    method: M,
    path: P,
    { path: names, query, header, body }: Arguments<P, M>,
    { retry = method === 'get' || method === 'put', recover }: CallOptions<Reply<P, M>> = {},
  ): Promise<Reply<P, M>> {
    const url = this.baseURL + fill(path, names) + search(query);
    const headers = new Headers({ Accept: 'application/json', ...(header as object | undefined), ...this.authorization });
    const init: RequestInit = { method: method.toUpperCase(), headers };
    if (body !== undefined) {
      headers.set('Content-Type', 'application/json');
      init.body = JSON.stringify(body);
    }
    const attempt = async () => {
      const began = Date.now();
      try {
        return (await send(url, init)) as Reply<P, M>;
      } catch (error) {
        if (error instanceof ParlorError && error.code === 'network_error') this.onUnreachable(began);
        throw error;
      }
    };
    return retry ? retried(attempt, recover) : attempt();
  }

  get authorization(): Record<string, string> {
    return this.#key === undefined ? {} : { Authorization: `Bearer ${this.#key}` };
  }
}

/** Inserts the IDs into the path, encoded, because they may contain `/`, `#`, `?` and `%`. */
function fill(path: string, names: object | undefined): string {
  let filled = path;
  for (const [name, value] of Object.entries(names ?? {})) {
    // fetch would resolve such a segment, and make another call.
    if (/^\.{0,2}$/.test(value)) throw new ParlorError('invalid_request', `The ${name} "${value}" is not a valid ID.`);
    filled = filled.replace(`{${name}}`, encodeURIComponent(value));
  }
  return filled;
}

/** Returns the query string of a call, with its `?`. */
export function search(query: object | undefined): string {
  const pairs = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined) pairs.append(name, String(one));
    }
  }
  return pairs.size > 0 ? `?${pairs}` : '';
}

async function send(url: string, init: RequestInit): Promise<unknown> {
  const timeout = new AbortController();
  const timer = setTimeout(() => timeout.abort(), REPLY_TIMEOUT);
  let status = 0;
  try {
    const response = await fetch(url, { ...init, ...FETCH_OPTIONS, signal: timeout.signal });
    if (!response.ok) throw await problemOf(response);
    if (response.status === 204) return undefined;
    ({ status } = response);
    if (mediaType(response) !== 'application/json') throw new SyntaxError();
    return await response.json();
  } catch (error) {
    if (error instanceof ParlorError) throw error;
    if (error instanceof SyntaxError) throw new ParlorError('unexpected_reply', 'The reply is not JSON.', { status, cause: error });
    throw new ParlorError('network_error', 'The server could not be reached.', { cause: error });
  } finally {
    clearTimeout(timer);
  }
}

/** No cookies, no cache and no redirects: a call sends only what it names. */
export const FETCH_OPTIONS = { cache: 'no-store', credentials: 'omit', redirect: 'error' } as const satisfies RequestInit;

async function retried<T>(attempt: () => Promise<T>, recover: CallOptions<T>['recover']): Promise<T> {
  const backoff = new Backoff(LONGEST_DELAY);
  const deadline = Date.now() + RETRY_FOR;
  let lost = false;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof ParlorError)) throw error;
      if (!error.temporary) {
        const reply = lost ? await recover?.(error) : undefined;
        if (reply === undefined) throw error;
        return reply;
      }
      lost ||= error.status !== 429; // a server that stops, or a proxy, may not know what was executed
      const delay = backoff.next(error.retryAfter);
      if (Date.now() + delay > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, delay));
    }
  }
}
