type AnyListener = (...args: never[]) => unknown;

interface Registration {
  listener: AnyListener;
  once: boolean;
  /** The `this` of the listener. */
  context: unknown;
}

/**
 * Emitter calls the listeners of each event in the order in which they were added, a listener that
 * was added twice twice. It is what the vendors' SDKs take from Node's EventEmitter.
 */
export class Emitter {
  readonly #registrations = new Map<string, Registration[]>();

  add(event: string, listener: AnyListener, { once = false, context = undefined as unknown } = {}): void {
    // A copy, because the event may be being emitted.
    this.#registrations.set(event, [...this.#of(event), { listener, once, context }]);
  }

  /** Removes a listener, however often it was added; without one, all listeners of the event. */
  remove(event: string, listener?: AnyListener): void {
    this.#keep(event, (one) => listener !== undefined && one.listener !== listener);
  }

  removeAll(event?: string): void {
    if (event === undefined) this.#registrations.clear();
    else this.#registrations.delete(event);
  }

  listeners(event: string): AnyListener[] {
    return this.#of(event).map(({ listener }) => listener);
  }

  events(): string[] {
    return [...this.#registrations.keys()];
  }

  /** Reports whether there was a listener. One that throws does not stop the others. */
  emit(event: string, ...args: unknown[]): boolean {
    const registrations = this.#of(event);
    for (const registration of registrations) {
      if (registration.once) this.#keep(event, (one) => one !== registration);
      try {
        registration.listener.apply(registration.context, args as never[]);
      } catch (error) {
        // As an uncaught error, which the application's own monitoring sees.
        if (typeof reportError === 'function') reportError(error);
        else console.error(error);
      }
    }
    return registrations.length > 0;
  }

  #of(event: string): Registration[] {
    return this.#registrations.get(event) ?? [];
  }

  #keep(event: string, keeps: (registration: Registration) => boolean): void {
    const kept = this.#of(event).filter(keeps);
    if (kept.length > 0) this.#registrations.set(event, kept);
    else this.#registrations.delete(event);
  }
}
