import { type Parlor, ParlorError, type RoomHandle, type RoomStateChange } from 'parlor-sdk';
import { useEffect } from 'react';
import { useParlor } from './parlor.ts';
import { Store, useStore } from './store.ts';

/** What a room is entered with: `roomName`, `config` and others. */
export type RoomOptions = NonNullable<Parameters<Parlor['enterRoom']>[1]>;

export interface UseRoom {
  /** The room, after it was entered. */
  room: RoomHandle | undefined;
  state: RoomStateChange['state'];
  /** The reason of the last change of the state; undefined before the first. */
  event?: RoomStateChange['event'];
  /** The text that an admin gave. */
  reason?: string | undefined;
  /** Why the room could not be entered. */
  error: ParlorError | undefined;
  /** Enters the room again, after it could not be entered or the session was removed from it. */
  enter(): void;
}

/** RoomStore is in the room while a component shows it. */
class RoomStore extends Store<UseRoom> {
  readonly #parlor: Parlor;
  readonly #roomID: string;
  /** The stores of the session's rooms, in which this one is while it is used. */
  readonly #stores: Map<string, RoomStore>;
  #room: RoomHandle | undefined;
  /** The calls that enter and leave the room, one after another. */
  #calls = Promise.resolve();
  options: RoomOptions | undefined;

  constructor(parlor: Parlor, roomID: string, stores: Map<string, RoomStore>) {
    super({ room: undefined, state: 'connecting', error: undefined, enter: () => this.#settle() });
    this.#parlor = parlor;
    this.#roomID = roomID;
    this.#stores = stores;
    stores.set(roomID, this);
  }

  protected override begin(): void {
    this.#stores.set(this.#roomID, this);
    this.#settle();
  }

  protected override end(): void {
    this.#settle();
  }

  /** Enters or leaves the room, whichever the components need after the calls before. */
  #settle(): void {
    this.#calls = this.#calls.then(async () => {
      const inside = this.#room !== undefined && this.#room.state !== 'disconnected';
      if (this.shown && !inside) await this.#enter();
      if (!this.shown && inside) await this.#room!.leave().catch(() => {}); // the session may have ended
      if (!this.shown) this.#stores.delete(this.#roomID);
    });
  }

  async #enter(): Promise<void> {
    try {
      const room = await this.#parlor.enterRoom(this.#roomID, this.options);
      if (room !== this.#room) room.on('stateChanged', () => this.#changed(room));
      this.#room = room;
      this.#changed(room);
    } catch (error) {
      this.set({ ...this.get(), room: undefined, state: 'disconnected', error: error as ParlorError });
    }
  }

  #changed(room: RoomHandle): void {
    if (room !== this.#room) return; // an earlier time in the room
    const { state, event, reason } = room.lastChange;
    this.set({ ...this.get(), room, state, event, reason, error: undefined });
    if (event === 'networkTimeout' && this.shown) this.#settle();
  }
}

const stores = new WeakMap<Parlor, Map<string, RoomStore>>();

/**
 * Enters a room while the component is mounted. Components that use the same room share it: the
 * session leaves it after the last of them is unmounted. If the session comes back too late after a
 * loss of the network, it enters the room again by itself. Otherwise, a room that the session is out
 * of is `disconnected`, until `enter` is called.
 */
export function useRoom(roomID: string, options?: RoomOptions): UseRoom {
  const parlor = useParlor();
  const rooms = stores.get(parlor) ?? new Map<string, RoomStore>();
  stores.set(parlor, rooms);
  const store = rooms.get(roomID) ?? new RoomStore(parlor, roomID, rooms);
  // Before the effect that subscribes, and so enters the room.
  useEffect(() => {
    store.options = options;
  });
  return useStore(store);
}
