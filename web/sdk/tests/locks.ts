import { vi } from 'vitest';

interface Request {
  name: string;
  grant(): void;
  reject(error: DOMException): void;
}

/** Locks is the LockManager of a browser, which Node.js 20 does not have: exclusive locks only. */
export class Locks {
  #held = new Map<string, Request>();
  #queue: Request[] = [];

  /** Gives the tabs of a test their locks. */
  static install(): Locks {
    const locks = new Locks();
    vi.stubGlobal('navigator', { locks });
    return locks;
  }

  request<T>(
    name: string,
    options: { steal?: boolean; signal?: AbortSignal } | (() => T | Promise<T>),
    use = options as () => T | Promise<T>,
  ): Promise<T> {
    const { steal = false, signal } = options as { steal?: boolean; signal?: AbortSignal };
    return new Promise((resolve, reject) => {
      const request: Request = {
        name,
        reject,
        grant: () => {
          this.#held.set(name, request);
          void Promise.resolve().then(use).then(resolve, reject).finally(() => this.#release(request));
        },
      };
      signal?.addEventListener('abort', () => {
        if (!this.#queue.includes(request)) return;
        this.#queue = this.#queue.filter((one) => one !== request);
        reject(signal.reason);
      });
      if (steal) {
        this.#held.get(name)?.reject(new DOMException('stolen', 'AbortError'));
        request.grant();
      } else if (this.#held.has(name)) {
        this.#queue.push(request);
      } else {
        request.grant();
      }
    });
  }

  /** Releases all locks, as those of a page that goes away. */
  releaseAll(): void {
    this.#held.clear();
  }

  async query(): Promise<{ held: { name: string }[] }> {
    return { held: [...this.#held.keys()].map((name) => ({ name })) };
  }

  #release(request: Request): void {
    if (this.#held.get(request.name) !== request) return; // stolen
    this.#held.delete(request.name);
    const next = this.#queue.findIndex(({ name }) => name === request.name);
    if (next >= 0) this.#queue.splice(next, 1)[0]!.grant();
  }
}
