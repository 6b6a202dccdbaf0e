import { Backoff } from './backoff.ts';
import { ParlorError, mediaType, problemOf } from './problem.ts';
import type { Arguments, Method, Operation, Path, Reply } from './types.ts';

/**
 * A call that has not been answered by then counts as lost: on a dead network
 * the browser itself would wait for minutes.
 */
const ANSWER_WITHIN = 10_000;
/** How long a call is repeated before its caller learns that it failed. */
const REPEAT_FOR = 30_000;
const LONGEST_PAUSE = 5_000;

export interface CallOptions {
  /**
   * Whether repeating the call does no harm. It is then repeated for up to 30 s
   * while the server cannot be reached or says 429, 502, 503 or 504. Reading is
   * always repeatable.
   */
  repeatable?: boolean;
}

/** Makes the contract's calls. */
export class HTTP {
  readonly baseURL: string;
  readonly #sessionKey: string | undefined;

  constructor(baseURL: string, sessionKey?: string) {
    this.baseURL = baseURL.replace(/\/+$/, '');
    this.#sessionKey = sessionKey;
  }

  /** @throws {ParlorError} and nothing else. */
  async call<P extends Path, M extends Method<P>>(
    method: M,
    path: P,
    { path: names, query, header, body }: Arguments<Operation<P, M>>,
    { repeatable = method === 'get' }: CallOptions = {},
  ): Promise<Reply<Operation<P, M>>> {
    const url = this.baseURL + fill(path, names) + search(query);
    const headers = new Headers({ Accept: 'application/json', ...(header as Record<string, string>), ...this.authorization });
    const init: RequestInit = { method: method.toUpperCase(), headers };
    if (body !== undefined) {
      headers.set('Content-Type', 'application/json');
      init.body = JSON.stringify(body);
    }
    const once = () => ask(url, init) as Promise<Reply<Operation<P, M>>>;
    return repeatable ? repeat(once) : once();
  }

  get authorization(): Record<string, string> {
    return this.#sessionKey === undefined ? {} : { Authorization: `Bearer ${this.#sessionKey}` };
  }
}

/** Puts the IDs into the path, encoded: they may hold `#`, `?` and `%`. */
function fill(path: string, names: object = {}): string {
  let filled = path;
  for (const [name, value] of Object.entries(names)) {
    filled = filled.replace(`{${name}}`, encodeURIComponent(value));
  }
  return filled;
}

function search(query: object = {}): string {
  const pairs = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined) pairs.append(name, String(one));
    }
  }
  return pairs.size > 0 ? `?${pairs}` : '';
}

async function ask(url: string, init: RequestInit): Promise<unknown> {
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), ANSWER_WITHIN);
  try {
    const response = await fetch(url, { ...init, ...PLAIN, signal: late.signal });
    if (!response.ok) throw await problemOf(response);
    if (response.status === 204) return undefined;
    if (mediaType(response) !== 'application/json') {
      throw new ParlorError('unexpected_reply', 'The answer is not JSON.', { status: response.status });
    }
    return await response.json();
  } catch (error) {
    if (error instanceof ParlorError) throw error;
    throw new ParlorError('network_error', 'The server could not be reached.', { cause: error });
  } finally {
    clearTimeout(timer);
  }
}

/** Nothing is sent or kept that the call itself does not name. */
export const PLAIN = { cache: 'no-store', credentials: 'omit', redirect: 'error' } as const satisfies RequestInit;

async function repeat<T>(once: () => Promise<T>): Promise<T> {
  const backoff = new Backoff(LONGEST_PAUSE);
  const giveUpAt = Date.now() + REPEAT_FOR;
  for (;;) {
    try {
      return await once();
    } catch (error) {
      if (!(error instanceof ParlorError && error.temporary)) throw error;
      const pause = backoff.next(error.retryAfter);
      if (Date.now() + pause > giveUpAt) throw error;
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
}
