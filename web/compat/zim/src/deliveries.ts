interface Delivery {
  /** What the delivery waits for, if anything. */
  ready: Promise<unknown> | undefined;
  deliver: () => void;
}

/**
 * Deliveries passes events on in their order. An event that has to wait, such as a message for the
 * URL of its file, makes those after it wait too. An event that need not wait is passed on at once.
 */
export class Deliveries {
  #waiting: Delivery[] = [];
  #holds = 0;
  #running = false;

  /** Passes an event on after all others, when it is ready. `ready` must not reject. */
  add(deliver: () => void, ready?: Promise<unknown>): void {
    this.#waiting.push({ ready, deliver });
    this.#run();
  }

  /** Makes events wait until the returned function is called. */
  hold(): () => void {
    this.#holds++;
    return () => {
      this.#holds--;
      this.#run();
    };
  }

  /** Discards the events that wait. */
  close(): void {
    this.#waiting = [];
  }

  #run(): void {
    if (this.#running) return;
    this.#running = true;
    while (this.#holds === 0) {
      const next = this.#waiting[0];
      if (next === undefined) break;
      if (next.ready !== undefined) {
        // The event stays first until it is ready.
        const release = this.hold();
        void next.ready.then(() => {
          next.ready = undefined;
          release();
        });
        break;
      }
      this.#waiting.shift();
      next.deliver();
    }
    this.#running = false;
  }
}
