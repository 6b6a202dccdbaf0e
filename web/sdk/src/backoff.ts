const FIRST = 500;

/**
 * Says how long to wait before trying again: exponential with full jitter, so
 * that clients which a restart cut off together do not come back together.
 * All times are milliseconds.
 */
export class Backoff {
  readonly #cap: number;
  #failures = 0;

  constructor(cap: number) {
    this.#cap = cap;
  }

  /** The next wait: what the server asked for, and a random time on top. */
  next(asked = 0): number {
    const ceiling = Math.min(this.#cap, FIRST * 2 ** this.#failures);
    this.#failures++;
    return asked + Math.random() * ceiling;
  }

  reset(): void {
    this.#failures = 0;
  }
}
