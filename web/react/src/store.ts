import { useSyncExternalStore } from 'react';

/**
 * Store is a value outside React that components show. It is active while at least one of them is
 * mounted. StrictMode unmounts and mounts a component again at once.
 */
export abstract class Store<Value> {
  #value: Value;
  readonly #listeners = new Set<() => void>();

  protected constructor(value: Value) {
    this.#value = value;
  }

  readonly get = (): Value => this.#value;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    if (this.#listeners.size === 1) this.begin();
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size === 0) this.end();
    };
  };

  /** Whether a component shows the value. */
  protected get shown(): boolean {
    return this.#listeners.size > 0;
  }

  protected abstract begin(): void;
  protected abstract end(): void;

  protected set(value: Value): void {
    this.#value = value;
    for (const listener of [...this.#listeners]) listener();
  }
}

/** Returns the value of a store, and renders the component again when it changes. */
export function useStore<Value>(store: Store<Value>): Value {
  return useSyncExternalStore(store.subscribe, store.get, store.get);
}
