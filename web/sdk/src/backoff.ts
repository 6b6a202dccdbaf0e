const FIRST_CEILING = 500;

/**
 * Backoff computes the delays between retries: exponential with full jitter, so that the clients
 * that a restart disconnected do not all reconnect at once. All times are in milliseconds.
 */
export class Backoff {
  readonly #cap: number;
  #failures = 0;

  constructor(cap: number) {
    this.#cap = cap;
  }

  /** Returns the next delay: the one that the server requested, plus a random time. */
  next(requested = 0): number {
    const ceiling = Math.min(this.#cap, FIRST_CEILING * 2 ** this.#failures);
    this.#failures++;
    return requested + Math.random() * ceiling;
  }

  reset(): void {
    this.#failures = 0;
  }
}
