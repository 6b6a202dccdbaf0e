import type { Member, Parlor, StreamEvents } from 'parlor-sdk';
import { MemberList } from 'parlor-sdk/member-list';
import { avatar } from './avatar.ts';
import { byID, make, nameElement } from './element.ts';

/** How many members are listed; the others are only counted. */
const LISTED = 100;

/** Members shows the members of the room. It loads them once, and then follows the stream. */
export class Members {
  readonly #list = byID('member-list', HTMLUListElement);
  readonly #more = byID('members-more', HTMLElement);
  readonly #counts = document.querySelectorAll('.member-count');
  readonly #parlor: Parlor;
  readonly #roomID: string;
  readonly #members: MemberList;
  /** The number of members by the newest event or request. */
  #total = 0;

  constructor(parlor: Parlor, roomID: string) {
    this.#parlor = parlor;
    this.#roomID = roomID;
    this.#members = new MemberList(parlor, roomID);
    this.#show();
  }

  async load(): Promise<void> {
    await this.#members.load(LISTED);
    if (!this.#exact) this.#total = (await this.#parlor.countMembers(this.#roomID)).count;
    this.#show();
  }

  /** Applies a join or a leave of members, or their number. */
  apply(
    event: StreamEvents['roomMemberJoined'] | StreamEvents['roomMemberLeft'] | StreamEvents['roomMemberCountUpdated'],
  ): void {
    this.#members.apply(event);
    if (event.memberCount !== undefined) this.#total = event.memberCount;
    this.#show();
  }

  /** Whether the list has all members. */
  get #exact(): boolean {
    return this.#members.complete && this.#members.current;
  }

  #show(): void {
    const members = Array.from(this.#members.members.values()).slice(0, LISTED);
    const total = this.#exact ? this.#members.members.size : this.#total;
    this.#list.replaceChildren(...members.map((member) => this.#row(member)));
    for (const count of this.#counts) count.textContent = String(total);
    const rest = total - members.length;
    this.#more.hidden = rest <= 0;
    this.#more.textContent = `and ${rest} more`;
  }

  #row(member: Member): HTMLLIElement {
    const row = make('li', { title: member.userID }, avatar(member), nameElement(member.userName, 'name'));
    if (member.userID === this.#parlor.userID) row.append(make('span', { class: 'you' }, 'you'));
    return row;
  }
}
