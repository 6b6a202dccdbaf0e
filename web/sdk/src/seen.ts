/**
 * Seen discards events that were delivered before. It stores the last delivered seq of each log: of
 * rooms by their generation, and of the user's inbox. The server sends every stored event once and
 * in order, so this is a safety net.
 */
export class Seen {
  readonly #lastSeq: Map<number, number>;

  constructor(entries: Iterable<[generation: number, seq: number]> = []) {
    this.#lastSeq = new Map(entries);
  }

  /** Reports whether an event is new, and marks it as delivered. */
  accept(generation: number, seq: number): boolean {
    if (seq <= (this.#lastSeq.get(generation) ?? 0)) return false;
    this.#lastSeq.set(generation, seq);
    return true;
  }

  /** Continues a log after its snapshot, which may be older than the last delivered event. */
  reset(generation: number, seq: number): void {
    this.#lastSeq.set(generation, seq);
  }

  /** Evicts the logs of all other generations: the session is no longer in those rooms. */
  retain(generations: readonly number[]): void {
    for (const generation of this.#lastSeq.keys()) {
      if (!generations.includes(generation)) this.#lastSeq.delete(generation);
    }
  }

  entries(): [generation: number, seq: number][] {
    return [...this.#lastSeq];
  }
}
