export type Listener<T> = (data: T) => void;

/** Listeners holds the listeners of each event, in the order in which they were added. */
export class Listeners<Events> {
  readonly #byEvent = new Map<keyof Events, Set<Listener<never>>>();

  /** Adds a listener. The returned function removes it. */
  add<E extends keyof Events>(event: E, listener: Listener<Events[E]>): () => void {
    const set = this.#byEvent.get(event) ?? new Set();
    this.#byEvent.set(event, set.add(listener));
    return () => this.remove(event, listener);
  }

  remove<E extends keyof Events>(event: E, listener: Listener<Events[E]>): void {
    this.#byEvent.get(event)?.delete(listener);
  }

  /** Calls every listener, even if another one throws. */
  emit<E extends keyof Events>(event: E, data: Events[E]): void {
    for (const listener of [...(this.#byEvent.get(event) ?? [])] as Listener<Events[E]>[]) {
      try {
        listener(data);
      } catch (error) {
        report(error);
      }
    }
  }
}

/** Reports an error like an uncaught one, without throwing it at the caller. */
export function report(error: unknown): void {
  if (typeof reportError === 'function') reportError(error);
  else console.error(error); // Node has no reportError
}
