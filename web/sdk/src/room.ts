import type { ConnectionEvent, ConnectionState, ConnectionStateChange } from './connection.ts';
import type { LiveAttributes } from './live-attributes.ts';
import type { LiveHistory } from './live-history.ts';
import type { LiveMembers } from './live-members.ts';
import { type Listener, Listeners } from './listeners.ts';
import { load } from './load.ts';
import type { RoomMessageDraft } from './message.ts';
import type { SendOptions } from './outbox.ts';
import type { Parlor } from './parlor.ts';
import type * as S from './schemas.gen.ts';
import type { StreamEvents } from './stream-events.ts';

/** The state of the session in a room, and the event that changed it. */
export interface RoomStateChange {
  /**
   * - `connecting`: the call that enters the room is in progress.
   * - `connected`: the session is in the room.
   * - `reconnecting`: the session's stream is lost. It reconnects by itself.
   * - `disconnected`: the session is not in the room any more.
   */
  state: ConnectionState;
  /** Why: of the room (docs/room-states.md), or of the connection. */
  event: S.RoomStateEvent | ConnectionEvent;
  /** The text that an admin gave for a kick, or for the end of the room or of the session. */
  reason?: string | undefined;
}

/** The names of the events of a room. */
type RoomEventName = {
  [E in keyof StreamEvents]: StreamEvents[E] extends { roomID: string; generation: number } ? E : never;
}[keyof StreamEvents];

/** The events of a room that an application can listen for, with their data. */
export interface RoomEvents extends Omit<Pick<StreamEvents, RoomEventName>, 'roomSeqAdvanced'> {
  stateChanged: RoomStateChange;
  /** @internal The session entered the room again, so that events are missing. */
  entered: undefined;
}

/** The data of a room that is loaded on first use, with its code. */
type RoomData = typeof import('./room-data.ts');

/**
 * How long to wait, after a stream that does not list a room, for the event that says why, in
 * milliseconds. The server sends it together with sessionReady, or not at all.
 */
const REMOVAL_EVENT = 300;

/**
 * RoomHandle is a room that the session has entered, until it is out of the room: `disconnected`.
 * Entering the room again gives another handle.
 */
export class RoomHandle {
  readonly roomID: string;
  /** The room as it was when the session entered it, or when its stream last opened. */
  room!: S.Room;
  /** Whether the session created the room when it entered it. */
  created = false;
  /** The last stateChanged. */
  lastChange: RoomStateChange = { state: 'connecting', event: 'enter' };
  /** The first members, if the room was entered with `memberLimit`. */
  firstMembers: S.RoomMembers | undefined;
  /** @internal */
  readonly parlor: Parlor;
  readonly #listeners = new Listeners<RoomEvents>();
  /**
   * Whether the stream has said that the session is in the room. Before, a `disconnected` of the
   * stream is about an earlier time in the room, which may end on the stream after the reply to the
   * call that entered it again.
   */
  #confirmed = false;
  #removal: ReturnType<typeof setTimeout> | undefined;
  readonly #live: { -readonly [Name in keyof RoomData]?: Promise<any> } = {};

  /** @internal */
  constructor(parlor: Parlor, roomID: string) {
    this.parlor = parlor;
    this.roomID = roomID;
  }

  get state(): ConnectionState {
    return this.lastChange.state;
  }

  /** Adds a listener for an event of this room. The returned function removes it. */
  on<E extends keyof RoomEvents>(event: E, listener: Listener<RoomEvents[E]>): () => void {
    return this.#listeners.add(event, listener);
  }

  /** Returns the attributes of the room, which are then kept up to date. */
  attributes(): Promise<LiveAttributes> {
    return this.#open('attributes');
  }

  /**
   * Returns the members, which are then kept up to date. The first call loads them, up to `most`;
   * LiveMembers.load loads more.
   */
  members(most?: number): Promise<LiveMembers> {
    return this.#open('members', most);
  }

  /** Returns the messages: the newest that are stored, to which the new ones are added. */
  history(): Promise<LiveHistory> {
    return this.#open('history');
  }

  /** Sends a message: Parlor.sendRoomMessage. */
  async send(draft: RoomMessageDraft, options?: SendOptions): Promise<S.MessageReply> {
    const reply = await this.parlor.sendRoomMessage(this.roomID, draft, options);
    this.#live.history?.then((history: LiveHistory) => history.add(reply.message), () => {});
    return reply;
  }

  leave(): Promise<S.LeaveRoomReply> {
    return this.parlor.leaveRoom(this.roomID);
  }

  /** @internal The session entered the room. */
  entered({ room, members }: S.RoomReply, created: boolean): void {
    const again = this.room && (this.state !== 'connected' || this.room.generation !== room.generation);
    this.created ||= created;
    this.firstMembers = members;
    this.room = room;
    const connection = this.parlor.lastChange;
    if (connection && connection.state !== 'connected') this.set(connection.state, connection.event);
    else this.set('connected', 'success');
    if (again) this.#listeners.emit('entered', undefined);
  }

  /** @internal A stream has opened, and its sessionReady has the room or not; or a session in it was resumed. */
  ready(room: S.Room | undefined): void {
    if (room) {
      this.#confirmed = true;
      this.room = room;
      this.set('connected', 'success');
    } else if (this.state !== 'connecting' && this.state !== 'disconnected') {
      this.#removal = setTimeout(() => this.set('disconnected', 'networkTimeout'), REMOVAL_EVENT);
    }
  }

  /** @internal The state of the connection has changed. */
  follow({ state, event, reason }: ConnectionStateChange): void {
    if (state === 'disconnected' || (state === 'reconnecting' && this.state === 'connected')) this.set(state, event, reason);
  }

  /** @internal */
  set(state: ConnectionState, event: RoomStateChange['event'], reason?: string): void {
    clearTimeout(this.#removal);
    if (this.state === state) return;
    this.lastChange = { state, event, reason };
    this.#listeners.emit('stateChanged', this.lastChange);
  }

  /** @internal An event of the stream about this room. */
  receive(name: string, data: any): void {
    // An event of an earlier room of this name.
    if (this.room && data.generation < this.room.generation) return;
    if (name === 'roomStateChanged') {
      this.#stateChanged(data);
      return;
    }
    if (name === 'roomReset') this.room = data.room;
    this.#listeners.emit(name as keyof RoomEvents, data as never);
  }

  /** Loads data once; the next call after a failure tries again. */
  #open(name: keyof RoomData, most?: number): Promise<any> {
    this.#live[name] ??= load(() => import('./room-data.ts')).then((code): Promise<unknown> => code[name](this, most));
    this.#live[name].catch(() => delete this.#live[name]);
    return this.#live[name];
  }

  #stateChanged({ state, event, reason }: S.RoomStateChangedEvent): void {
    if (state === 'connected') {
      const again = this.state === 'disconnected';
      this.#confirmed = true;
      this.set(state, event);
      if (again) this.#listeners.emit('entered', undefined);
    } else if (state === 'disconnected' && this.#confirmed) {
      this.set(state, event, reason);
    }
  }
}
