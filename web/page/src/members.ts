import { type Member, MemberList, type Parlor, type StreamEvents } from 'parlor-sdk';
import { avatar } from './avatar.ts';
import { byID, make, nameElement } from './element.ts';

/** How many members are listed; the others are only counted. */
const LISTED = 100;

/**
 * The least time between two requests for the number of members, in milliseconds. The page asks for
 * it in large rooms, which publish joins and leaves in batches.
 */
const RECOUNT_MS = 2000;

/** Members shows the members of the room. It loads them once, and then follows the stream. */
export class Members {
  readonly #list = byID('member-list', HTMLUListElement);
  readonly #more = byID('members-more', HTMLElement);
  readonly #counts = document.querySelectorAll('.member-count');
  readonly #parlor: Parlor;
  readonly #roomID: string;
  readonly #members: MemberList;
  #total = 0;
  #recounting: ReturnType<typeof setTimeout> | undefined;

  constructor(parlor: Parlor, roomID: string) {
    this.#parlor = parlor;
    this.#roomID = roomID;
    this.#members = new MemberList(parlor, roomID);
    this.#show();
  }

  async load(): Promise<void> {
    await this.#members.load(LISTED);
    await this.#count();
    this.#show();
  }

  /** Applies a join or a leave of members. */
  apply(event: StreamEvents['roomMemberJoined'] | StreamEvents['roomMemberLeft']): void {
    this.#members.apply(event);
    if (!this.#members.complete) this.#recount();
    this.#show();
  }

  /** Asks for the number of members, unless all of them are listed. */
  async #count(): Promise<void> {
    if (!this.#members.complete) this.#total = (await this.#parlor.countMembers(this.#roomID)).count;
  }

  #recount(): void {
    this.#recounting ??= setTimeout(async () => {
      this.#recounting = undefined;
      await this.#count().catch(() => {}); // the next event asks again
      this.#show();
    }, RECOUNT_MS);
  }

  #show(): void {
    const members = Array.from(this.#members.members.values()).slice(0, LISTED);
    const total = this.#members.complete ? this.#members.members.size : this.#total;
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
