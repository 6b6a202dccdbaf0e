import type { Parlor } from './parlor.ts';
import type { Member, MemberEvents } from './schemas.gen.ts';
import type { StreamEvents } from './stream-events.ts';

type Joined = StreamEvents['roomMemberJoined'];
type Left = StreamEvents['roomMemberLeft'];
type AttributesUpdated = StreamEvents['roomMemberAttributesUpdated'];
type Counted = StreamEvents['roomMemberCountUpdated'];
type InfoUpdated = StreamEvents['userInfoUpdated'];
type Event = Joined | Left | Counted | AttributesUpdated | InfoUpdated;

/** The most members in a page of listMembers. */
const PAGE = 500;

/**
 * The members of a room at any time: a list, and the events after it. RoomHandle.members() keeps one
 * up to date. Pass it every roomMemberJoined, roomMemberLeft and roomMemberCountUpdated of the room,
 * also before and while the list is loaded; roomMemberAttributesUpdated, if members change their
 * userData; and userInfoUpdated, if they change their names and avatars. In a room with
 * memberStates, pass it memberReconnecting and memberReconnected by setState.
 */
export class MemberList {
  readonly #parlor: Parlor;
  readonly #roomID: string;
  #members = new Map<string, Member>();
  #complete = false;
  #current = false;
  #memberEvents: MemberEvents;
  #generation = 0;
  /** The event up to which the members are true. */
  #seq = 0;
  #loading = 0;
  /** The events that arrived while the list is loaded. It may or may not include them. */
  #meanwhile: (() => void)[] = [];

  /** `memberEvents` is that of the room as it was entered. */
  constructor(parlor: Parlor, roomID: string, memberEvents: MemberEvents = 'names') {
    this.#parlor = parlor;
    this.#roomID = roomID;
    this.#memberEvents = memberEvents;
  }

  /** The members by userID: those of the list in the order in which they joined, and then others. */
  get members(): ReadonlyMap<string, Member> {
    return this.#members;
  }

  /** Whether these are all members; false if there were more than load was asked for. */
  get complete(): boolean {
    return this.#complete;
  }

  /**
   * Whether the events keep the members up to date. They do not while the room publishes counts or
   * nothing. After a roomMemberCountUpdated with `names`, load the list again.
   */
  get current(): boolean {
    return this.#current;
  }

  /** Loads the list, or the first `most` members. */
  async load(most = Number.MAX_SAFE_INTEGER): Promise<void> {
    this.#loading++;
    try {
      const query = { limit: Math.min(most, PAGE) };
      const first = await this.#parlor.listMembers(this.#roomID, query);
      const members = new Map(first.memberList.map((member) => [member.userID, member]));
      let page = first;
      while (page.nextCursor !== undefined && members.size < most) {
        page = await this.#parlor.listMembers(this.#roomID, { ...query, cursor: page.nextCursor });
        if (page.generation !== first.generation) return await this.load(most); // another room
        for (const member of page.memberList) members.set(member.userID, member);
      }
      this.#members = members;
      this.#complete = page.nextCursor === undefined;
      this.#generation = first.generation;
      this.#seq = first.seq;
      this.#current = this.#memberEvents === 'names';
      for (const apply of this.#meanwhile) apply();
    } finally {
      if (--this.#loading === 0) this.#meanwhile = [];
    }
  }

  /** Applies an event, unless the list includes it. */
  apply(event: Event): void {
    if ('memberEvents' in event) this.#memberEvents = event.memberEvents;
    this.#now(() => this.#apply(event));
  }

  /** Applies a memberReconnecting or a memberReconnected, unless the list includes it. */
  setState(state: NonNullable<Member['state']>, event: StreamEvents['memberReconnecting']): void {
    this.#now(() => {
      if (event.generation !== this.#generation || event.seq <= this.#seq) return;
      this.#seq = event.seq;
      for (const { userID } of event.memberList) this.#change(userID, (member) => ({ ...member, state }));
    });
  }

  /** Applies an event, and again to the list that is being loaded. */
  #now(apply: () => void): void {
    if (this.#loading > 0) this.#meanwhile.push(apply);
    apply();
  }

  #apply(event: Event): void {
    if (event.generation !== this.#generation || event.seq <= this.#seq) return;
    this.#seq = event.seq;
    if ('memberEvents' in event) {
      this.#current = false; // members joined or left without an event, before it or from now on
      return;
    }
    if ('infos' in event) {
      for (const { userID, userData } of event.infos) {
        if (userData !== undefined) this.#change(userID, (member) => ({ ...member, userData }));
      }
      return;
    }
    if ('userList' in event) {
      for (const { userID, userName, avatarURL } of event.userList) {
        this.#change(userID, ({ avatarURL: _, ...member }) => ({ ...member, userName, ...(avatarURL && { avatarURL }) }));
      }
      return;
    }
    for (const member of event.memberList) {
      this.#members.delete(member.userID);
      if ('joinedAt' in member) this.#members.set(member.userID, member);
    }
  }

  #change(userID: string, change: (member: Member) => Member): void {
    const member = this.#members.get(userID); // none if the join is not published yet
    if (member !== undefined) this.#members.set(userID, change(member));
  }
}
