import type { Room as RoomReply, RoomStateChangedEvent } from 'parlor-sdk';
import { Deliveries } from './deliveries.ts';
import { ZIMErrorCode, ZIMRoomEvent, ZIMRoomState } from './enums.ts';
import { failure, notLogged } from './errors.ts';
import type { ZIMError } from './types.ts';

/**
 * How long to wait for the reason why the session is no longer in a room, in milliseconds. The server
 * sends it together with sessionReady, or not at all.
 */
const REASON_TIMEOUT = 1_000;

/** What happened to the session in a room, and why. */
export type RoomChange = (roomID: string, state: ZIMRoomState, event: ZIMRoomEvent, why?: object) => void;

/** Why the session is no longer in a room, by the server's events. It left by itself with others. */
const REASONS: Partial<Record<RoomStateChangedEvent['event'], ZIMRoomEvent>> = {
  networkTimeout: ZIMRoomEvent.ConnectTimeout,
  loggedOut: ZIMRoomEvent.NetworkDisconnected,
  tokenExpired: ZIMRoomEvent.NetworkDisconnected,
  kickedOut: ZIMRoomEvent.KickedOut,
  notGranted: ZIMRoomEvent.KickedOut,
  replaced: ZIMRoomEvent.KickedOutByOtherDevice,
  roomNotExist: ZIMRoomEvent.RoomNotExist,
};

/** A room that the session is in, or is entering. */
export class Room {
  readonly roomID: string;
  /** The events of the room. They wait until the session has entered it. */
  readonly deliveries = new Deliveries();
  /** The version of the attributes that the application knows. */
  #attributesVersion = 0;
  /** The versions of the attributes that calls of this client have made, until their events arrive. */
  readonly #ownVersions = new Set<number>();
  /** The number of calls in progress that change attributes. */
  #changes = 0;
  /** Lets events continue that wait for these calls. */
  #changed: (() => void) | undefined;
  #generation: number | undefined;
  /** Whether the stream was lost since the room was connected. */
  interrupted = false;
  /** Whether the stream has said that the session entered. */
  announced = false;
  #release: () => void;
  missing: ReturnType<typeof setTimeout> | undefined;

  constructor(roomID: string) {
    this.roomID = roomID;
    this.#release = this.deliveries.hold();
  }

  /** Whether the call to enter has got no reply yet. */
  get entering(): boolean {
    return this.#generation === undefined;
  }

  get generation(): number | undefined {
    return this.#generation;
  }

  entered(room: RoomReply): void {
    this.#generation = room.generation;
    this.#attributesVersion = room.attributesVersion;
  }

  /**
   * Makes a call that changes attributes. ZIM does not tell a client about its own changes, and the
   * event of one may arrive before the reply that says which it is.
   */
  async change<Reply extends { version: number }>(call: () => Promise<Reply>): Promise<Reply> {
    this.#changes++;
    try {
      const reply = await call();
      if (reply.version > this.#attributesVersion) this.#ownVersions.add(reply.version);
      return reply;
    } finally {
      if (--this.#changes === 0) {
        this.#changed?.();
        this.#changed = undefined;
      }
    }
  }

  /** Makes events wait for the calls in progress, because one of them may be about such a call. */
  awaitOwnChanges(): void {
    if (this.#changes > 0) this.#changed ??= this.deliveries.hold();
  }

  /** Reports whether a version of the attributes is new to the application, which then knows it. */
  isNewVersion(version: number): boolean {
    if (version <= this.#attributesVersion) return false;
    this.#attributesVersion = version;
    return !this.#ownVersions.delete(version);
  }

  /** Delivers the events that have arrived before the reply. */
  open(): void {
    this.#release();
  }

  close(): void {
    clearTimeout(this.missing);
    this.deliveries.close();
  }
}

/**
 * Rooms follows the states of a session in its rooms. ZIM has no `reconnecting` for rooms: while the
 * stream is lost, they are Connecting.
 */
export class Rooms {
  readonly #rooms = new Map<string, Room>();
  /** The calls in progress that leave a room. The room is entered again only after them. */
  readonly #leaving = new Map<string, Promise<unknown>>();
  readonly #changed: RoomChange;
  /** Asks the server whether the session is in a generation of a room. */
  readonly #isIn: (room: Room) => Promise<boolean>;

  constructor(changed: RoomChange, isIn: (room: Room) => Promise<boolean>) {
    this.#changed = changed;
    this.#isIn = isIn;
  }

  get(roomID: string): Room | undefined {
    return this.#rooms.get(roomID);
  }

  /**
   * Enters a room by a call. Its states are Connecting and then Connected, or Disconnected with
   * `failed`. `entered` is called before the events of the room are delivered.
   */
  async enter<Reply extends { room: RoomReply }>(
    roomID: string,
    active: ZIMRoomEvent,
    failed: ZIMRoomEvent,
    call: () => Promise<Reply>,
    entered: (reply: Reply) => void,
  ): Promise<Reply> {
    const leaving = this.#leaving.get(roomID);
    if (leaving !== undefined) await leaving.catch(() => {});
    const existing = this.#rooms.get(roomID);
    if (existing?.entering || existing?.interrupted) throw connecting();
    if (existing) throw failure(ZIMErrorCode.RoomModuleUserIsAlreadyInTheRoom, 'The user is in the room already.');
    const room = new Room(roomID);
    this.#rooms.set(roomID, room);
    this.#changed(roomID, ZIMRoomState.Connecting, active);
    try {
      const reply = await call();
      if (this.#rooms.get(roomID) !== room) throw notLogged(); // logged out meanwhile
      room.entered(reply.room);
      this.#changed(roomID, ZIMRoomState.Connected, ZIMRoomEvent.Success);
      entered(reply);
      room.open();
      return reply;
    } catch (error) {
      if (this.#rooms.get(roomID) === room && room.entering) this.#end(room, failed);
      throw error;
    }
  }

  /** Leaves a room by a call. */
  async leave<Reply>(roomID: string, call: () => Promise<Reply>): Promise<Reply> {
    const room = this.#rooms.get(roomID);
    if (room?.entering) throw connecting();
    const leaving = call();
    this.#leaving.set(roomID, leaving);
    try {
      const reply = await leaving;
      this.left(room);
      return reply;
    } finally {
      if (this.#leaving.get(roomID) === leaving) this.#leaving.delete(roomID);
    }
  }

  /** Leaves all rooms by a call, which returns their IDs. */
  async leaveAll(call: () => Promise<{ roomIDs: string[] }>): Promise<{ roomIDs: string[] }> {
    const rooms = [...this.#rooms.values()];
    const leaving = call();
    for (const { roomID } of rooms) this.#leaving.set(roomID, leaving);
    try {
      const reply = await leaving;
      for (const room of rooms) if (!room.entering) this.left(room);
      return reply;
    } finally {
      for (const { roomID } of rooms) if (this.#leaving.get(roomID) === leaving) this.#leaving.delete(roomID);
    }
  }

  /** The session has left a room by a call. */
  left(room: Room | undefined): void {
    if (room !== undefined) this.#end(room, ZIMRoomEvent.Success);
  }

  /** The stream is lost. */
  interrupt(): void {
    for (const room of this.#rooms.values()) {
      clearTimeout(room.missing);
      if (room.entering || room.interrupted) continue;
      room.interrupted = true;
      this.#changed(room.roomID, ZIMRoomState.Connecting, ZIMRoomEvent.NetworkInterrupted);
    }
  }

  /** The stream is open, and the session is in these rooms. Returns those that were never entered. */
  resume(rooms: readonly RoomReply[]): string[] {
    const listed = new Map(rooms.map((room) => [room.roomID, room.generation]));
    for (const room of [...this.#rooms.values()]) {
      if (room.entering || !room.interrupted) continue;
      if (listed.get(room.roomID) === room.generation) {
        room.interrupted = false;
        room.announced = true;
        this.#changed(room.roomID, ZIMRoomState.Connected, ZIMRoomEvent.Success);
      } else {
        // The stream says why, unless it was lost again just then.
        room.missing = setTimeout(() => this.#end(room, ZIMRoomEvent.ConnectTimeout), REASON_TIMEOUT);
      }
    }
    return [...listed.keys()].filter((roomID) => !this.#rooms.has(roomID) && !this.#leaving.has(roomID));
  }

  /** Applies an event of the stream about the session itself. */
  apply(event: RoomStateChangedEvent): void {
    const room = this.#rooms.get(event.roomID);
    if (room === undefined) return;
    if (event.state === 'connected') room.announced = true;
    const reason = REASONS[event.event];
    if (event.state !== 'disconnected' || reason === undefined) return; // the reply to the call says the same
    const end = () => {
      if (event.generation !== undefined && event.generation !== room.generation) return;
      this.#end(room, reason, event.reason === undefined ? undefined : { reason: event.reason });
    };
    room.deliveries.add(() => {
      // An event that was sent before the session entered again is not about the room as it is now.
      if (room.announced || room.interrupted) end();
      else void this.#isIn(room).then((isIn) => isIn || end(), () => {});
    });
  }

  /** The session has ended: it is in no room any more. */
  end(event: ZIMRoomEvent): void {
    for (const room of [...this.#rooms.values()]) this.#end(room, event);
  }

  /** Forgets all rooms, without an event. */
  close(): void {
    for (const room of this.#rooms.values()) room.close();
    this.#rooms.clear();
  }

  #end(room: Room, event: ZIMRoomEvent, why?: object): void {
    if (this.#rooms.get(room.roomID) !== room) return;
    this.#rooms.delete(room.roomID);
    room.close();
    this.#changed(room.roomID, ZIMRoomState.Disconnected, event, why);
  }
}

function connecting(): ZIMError {
  return failure(ZIMErrorCode.RoomModuleTheRoomIsConnecting, 'The room is connecting.');
}
