import { type Listener, report } from './listeners.ts';
import type { ParlorError } from './problem.ts';
import type { RoomHandle } from './room.ts';

/** Live is data of a room that is loaded once and then kept up to date by the room's events. */
export abstract class Live<Change> {
  protected readonly room: RoomHandle;
  readonly #listeners = new Set<Listener<Change>>();
  #error: ParlorError | undefined;

  protected constructor(room: RoomHandle) {
    this.room = room;
    const reload = () => {
      this.discard();
      void this.reload();
    };
    room.on('roomReset', reload);
    room.on('entered', reload);
    room.on('stateChanged', ({ state }) => {
      if (state === 'connected' && this.#error) void this.reload();
    });
  }

  /** Why the data could not be loaded again. It is tried again when the connection is back. */
  get error(): ParlorError | undefined {
    return this.#error;
  }

  /** Adds a listener that is called after each change. The returned function removes it. */
  onChange(listener: Listener<Change>): () => void {
    const own: Listener<Change> = (change) => listener(change);
    this.#listeners.add(own);
    return () => void this.#listeners.delete(own);
  }

  /** Reads the data as it is now. The events that arrive meanwhile are applied to it. */
  protected abstract read(): Promise<Change>;

  /** The data is of an earlier time: events are missing. */
  protected discard(): void {}

  protected changed(change: Change): void {
    for (const listener of [...this.#listeners]) {
      try {
        listener(change);
      } catch (error) {
        report(error);
      }
    }
  }

  protected async reload(): Promise<void> {
    try {
      const change = await this.read();
      this.#error = undefined;
      this.changed(change);
    } catch (error) {
      this.#error = error as ParlorError;
    }
  }
}
