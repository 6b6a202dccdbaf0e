import type { LiveAttributes, LiveHistory, LiveMembers, Member, Message, ParlorError, RoomHandle } from 'parlor-sdk';
import { Store, useStore } from './store.ts';

/** What the SDK keeps up to date. */
interface Live {
  readonly error: ParlorError | undefined;
  onChange(listener: () => void): () => void;
}

interface Loaded {
  /** Whether the data was loaded. */
  loaded: boolean;
  /** Why it could not be loaded. It is tried again when the connection is back. */
  error: ParlorError | undefined;
}

/** LiveStore is a part of a room that the SDK keeps up to date. */
class LiveStore<L extends Live, Value extends Loaded> extends Store<Value> {
  readonly #room: RoomHandle | undefined;
  readonly #load: (room: RoomHandle) => Promise<L>;
  readonly #view: (live: L) => Omit<Value, keyof Loaded>;
  #stop: (() => void)[] = [];

  constructor(
    room: RoomHandle | undefined,
    load: (room: RoomHandle) => Promise<L>,
    view: (live: L) => Omit<Value, keyof Loaded>,
    empty: Value,
  ) {
    super(empty);
    this.#room = room;
    this.#load = load;
    this.#view = view;
  }

  protected override begin(): void {
    const room = this.#room;
    if (room === undefined) return;
    const stop = (this.#stop = [
      room.on('stateChanged', ({ state }) => {
        if (state === 'connected' && !this.get().loaded) void this.#open(room, stop);
      }),
    ]);
    void this.#open(room, stop);
  }

  protected override end(): void {
    for (const stop of this.#stop.splice(0)) stop();
  }

  async #open(room: RoomHandle, stop: (() => void)[]): Promise<void> {
    try {
      const live = await this.#load(room);
      if (stop.length === 0) return; // no component shows it any more
      const show = () => this.set({ ...this.#view(live), loaded: true, error: live.error } as Value);
      stop.push(live.onChange(show));
      show();
    } catch (error) {
      if (stop.length > 0) this.set({ ...this.get(), error: error as ParlorError });
    }
  }
}

/** Returns a function that returns the store of a room, which its components share. */
function storesOf<L extends Live, Value extends Loaded>(
  load: (room: RoomHandle) => Promise<L>,
  view: (live: L) => Omit<Value, keyof Loaded>,
  empty: Omit<Value, keyof Loaded>,
): (room: RoomHandle | undefined) => Store<Value> {
  const create = (room?: RoomHandle) =>
    new LiveStore<L, Value>(room, load, view, { ...empty, loaded: false, error: undefined } as Value);
  const none = create();
  const stores = new WeakMap<RoomHandle, Store<Value>>();
  return (room) => {
    if (room === undefined) return none;
    const store = stores.get(room) ?? create(room);
    stores.set(room, store);
    return store;
  };
}

export interface UseMembers extends Loaded {
  /** The first 500 members, in the order in which they joined. */
  members: readonly Member[];
  /** The number of users in the room. */
  count: number;
  /** Whether these are all members. */
  complete: boolean;
  /** Whether events keep the members up to date: not while the room publishes counts or nothing. */
  current: boolean;
}

const memberStores = storesOf<LiveMembers, UseMembers>(
  (room) => room.members(),
  ({ members, count, complete, current }) => ({ members, count, complete, current }),
  { members: [], count: 0, complete: false, current: false },
);

/** Returns the members of a room of useRoom, kept up to date. */
export function useMembers(room: RoomHandle | undefined): UseMembers {
  return useStore(memberStores(room));
}

export interface UseMessages extends Loaded {
  /** The messages in their order: the newest 50, those that arrived since, and earlier ones. */
  messages: readonly Message[];
  /** Whether loadEarlier has more messages. */
  hasEarlier: boolean;
  /** Loads earlier messages. */
  loadEarlier(): Promise<void>;
}

const messageStores = storesOf<LiveHistory, UseMessages>(
  (room) => room.history(),
  (history) => ({
    messages: history.messages,
    hasEarlier: history.hasEarlier,
    loadEarlier: () => history.loadEarlier(),
  }),
  { messages: [], hasEarlier: false, loadEarlier: () => Promise.resolve() },
);

/** Returns the messages of a room of useRoom: the history together with the new ones. */
export function useMessages(room: RoomHandle | undefined): UseMessages {
  return useStore(messageStores(room));
}

export interface UseAttributes extends Loaded {
  attributes: Readonly<Record<string, string>>;
  /** Their version, for `ifVersion` of updateRoomAttributes. */
  version: number;
}

const attributeStores = storesOf<LiveAttributes, UseAttributes>(
  (room) => room.attributes(),
  ({ values, version }) => ({ attributes: values, version }),
  { attributes: {}, version: 0 },
);

/** Returns the attributes of a room of useRoom, kept up to date. */
export function useAttributes(room: RoomHandle | undefined): UseAttributes {
  return useStore(attributeStores(room));
}
