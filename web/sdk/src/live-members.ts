import { Live } from './live.ts';
import { MemberList } from './member-list.ts';
import type { RoomHandle } from './room.ts';
import type { Member, Room, RoomMemberCountUpdatedEvent } from './schemas.gen.ts';

type Counted = Pick<RoomMemberCountUpdatedEvent, 'generation' | 'seq'> & { memberCount?: number };

/** The number of members that are loaded, unless the application asks for another. */
const MOST = 500;

/**
 * The members of a room, kept up to date: joins and leaves, names and avatars, userData, and states
 * if the room has memberStates.
 */
export class LiveMembers extends Live<void> {
  #list: MemberList;
  /** The list that is loaded after a reset. The earlier one is shown until then. */
  #next: MemberList | undefined;
  #most: number;
  /** The members; undefined if they have changed since they were asked for. */
  #members: readonly Member[] | undefined;
  /** The room as it was read before the list. */
  #read: Room | undefined;
  /** The last event with a number of members, and the last that said what the room publishes. */
  #counted: Counted | undefined;
  #changed: RoomMemberCountUpdatedEvent | undefined;

  /** @internal */
  static async open(room: RoomHandle, most = MOST): Promise<LiveMembers> {
    const members = new LiveMembers(room, most);
    await members.read();
    return members;
  }

  private constructor(room: RoomHandle, most: number) {
    super(room);
    this.#list = this.#newList();
    this.#most = most;
    for (const event of ['roomMemberAttributesUpdated', 'userInfoUpdated'] as const) {
      room.on(event, (data) => this.#apply((list) => list.apply(data)));
    }
    for (const event of ['roomMemberJoined', 'roomMemberLeft', 'roomMemberCountUpdated'] as const) {
      room.on(event, (data) => {
        this.#counted = data;
        this.#apply((list) => list.apply(data));
      });
    }
    room.on('roomMemberCountUpdated', (data) => {
      this.#changed = data;
      if (data.memberEvents === 'names') void this.reload();
    });
    room.on('memberReconnecting', (data) => this.#apply((list) => list.setState('reconnecting', data)));
    room.on('memberReconnected', (data) => this.#apply((list) => list.setState('online', data)));
  }

  /** The members in the order in which they joined. It is another array after each change. */
  get members(): readonly Member[] {
    this.#members ??= [...this.#list.members.values()];
    return this.#members;
  }

  get(userID: string): Member | undefined {
    return this.#list.members.get(userID);
  }

  /** The number of users in the room, which may be more than are loaded. */
  get count(): number {
    if (this.complete && this.current) return this.#list.members.size;
    return this.#newer(this.#counted)?.memberCount ?? this.#read?.memberCount ?? 0;
  }

  /** Whether all members are loaded. */
  get complete(): boolean {
    return this.#list.complete;
  }

  /** Whether events keep the members up to date: not while the room publishes counts or nothing. */
  get current(): boolean {
    const { memberEvents } = this.#newer(this.#changed) ?? this.#read ?? {};
    return this.#next === undefined && this.#list.current && memberEvents === 'names';
  }

  /** Loads the members again, and up to `most` from now on. */
  async load(most = this.#most): Promise<void> {
    this.#most = most;
    await this.read();
    this.changed();
  }

  protected override async read(): Promise<void> {
    const { parlor, roomID } = this.room;
    this.#read = (await parlor.getRoom(roomID)).room;
    const list = this.#next ?? this.#list;
    await list.load(this.#most);
    if (list !== this.#next) return;
    this.#list = list;
    this.#next = undefined;
  }

  protected override discard(): void {
    this.#next = this.#newList();
  }

  protected override changed(): void {
    this.#members = undefined;
    super.changed();
  }

  #newList(): MemberList {
    return new MemberList(this.room.parlor, this.room.roomID);
  }

  /** Returns an event if the room that was read does not include it. */
  #newer<Event extends { generation: number; seq: number }>(event: Event | undefined): Event | undefined {
    const read = this.#read;
    return event && read && event.generation === read.generation && event.seq > read.lastSeq ? event : undefined;
  }

  #apply(apply: (list: MemberList) => void): void {
    apply(this.#next ?? this.#list);
    this.changed();
  }
}
