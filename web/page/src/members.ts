import type { Member, Parlor, StreamEvents } from 'parlor-sdk';
import { avatar } from './avatar.ts';
import { byID, make } from './element.ts';

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
  readonly #members = new Map<string, Member>();
  #total = 0;
  #changes = 0;
  #recounting: ReturnType<typeof setTimeout> | undefined;

  constructor(parlor: Parlor, roomID: string) {
    this.#parlor = parlor;
    this.#roomID = roomID;
    this.#show();
  }

  async load(): Promise<void> {
    // The reply may or may not include a join or leave that happens during the call: load again.
    for (let changes = -1; changes !== this.#changes; ) {
      changes = this.#changes;
      const [{ memberList }, { count }] = await Promise.all([
        this.#parlor.listMembers(this.#roomID, { limit: LISTED }),
        this.#parlor.countMembers(this.#roomID),
      ]);
      this.#members.clear();
      for (const member of memberList) this.#members.set(member.userID, member);
      this.#total = count;
    }
    this.#show();
  }

  joined({ memberList }: StreamEvents['roomMemberJoined']): void {
    this.#changes++;
    for (const member of memberList) {
      if (this.#members.has(member.userID)) continue;
      this.#total++;
      if (this.#members.size < LISTED) this.#members.set(member.userID, member);
    }
    this.#recount();
    this.#show();
  }

  left({ memberList }: StreamEvents['roomMemberLeft']): void {
    this.#changes++;
    for (const { userID } of memberList) {
      this.#members.delete(userID);
      this.#total = Math.max(this.#total - 1, this.#members.size);
    }
    this.#recount();
    this.#show();
  }

  #recount(): void {
    if (this.#total <= LISTED || this.#recounting !== undefined) return;
    this.#recounting = setTimeout(async () => {
      this.#recounting = undefined;
      const { count } = await this.#parlor.countMembers(this.#roomID).catch(() => ({ count: this.#total }));
      this.#total = count;
      this.#show();
    }, RECOUNT_MS);
  }

  #show(): void {
    this.#list.replaceChildren(...Array.from(this.#members.values(), (member) => this.#row(member)));
    for (const count of this.#counts) count.textContent = String(this.#total);
    const rest = this.#total - this.#members.size;
    this.#more.hidden = rest === 0;
    this.#more.textContent = `and ${rest} more`;
  }

  #row(member: Member): HTMLLIElement {
    const row = make('li', { title: member.userID }, avatar(member), make('span', { class: 'name' }, member.userName));
    if (member.userID === this.#parlor.userID) row.append(make('span', { class: 'you' }, 'you'));
    return row;
  }
}
