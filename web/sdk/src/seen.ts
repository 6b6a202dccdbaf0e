/**
 * The seq up to which each room's events were delivered, by the room's
 * generation, and those of the user's inbox. The server sends every stored event once and in order; this is
 * the net below it, for an event that arrives again all the same.
 */
export class Seen {
  readonly #lastSeq: Map<number, number>;

  constructor(entries: Iterable<[generation: number, seq: number]> = []) {
    this.#lastSeq = new Map(entries);
  }

  /** Whether the event is new. It counts as delivered from then on. */
  take(generation: number, seq: number): boolean {
    if (seq <= (this.#lastSeq.get(generation) ?? 0)) return false;
    this.#lastSeq.set(generation, seq);
    return true;
  }

  /** After a reset the room goes on behind its snapshot, which may lie further back than what was seen. */
  reset(generation: number, seq: number): void {
    this.#lastSeq.set(generation, seq);
  }

  /** Forgets the rooms that the session is no longer in. */
  keep(generations: readonly number[]): void {
    for (const generation of this.#lastSeq.keys()) {
      if (!generations.includes(generation)) this.#lastSeq.delete(generation);
    }
  }

  entries(): [generation: number, seq: number][] {
    return [...this.#lastSeq];
  }
}
