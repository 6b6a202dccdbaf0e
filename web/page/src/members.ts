import type { LiveMembers, Member, RoomHandle } from 'parlor-sdk';
import { avatar } from './avatar.ts';
import { byID, make, nameElement } from './element.ts';

/** How many members are listed; the others are only counted. */
const LISTED = 100;

/** Members shows the members of the room. */
export class Members {
  readonly #list = byID('member-list', HTMLUListElement);
  readonly #more = byID('members-more', HTMLElement);
  readonly #counts = document.querySelectorAll('.member-count');
  readonly #userID: string;
  /** The members that are shown. */
  #members: LiveMembers | undefined;

  constructor(userID: string) {
    this.#userID = userID;
    this.#show([], 0);
  }

  /** Shows the members of a room. */
  async load(room: RoomHandle): Promise<void> {
    const members = await room.members(LISTED);
    this.#members = members;
    const show = () => {
      if (this.#members === members) this.#show(members.members.slice(0, LISTED), members.count);
    };
    members.onChange(show);
    show();
  }

  #show(members: readonly Member[], total: number): void {
    this.#list.replaceChildren(...members.map((member) => this.#row(member)));
    for (const count of this.#counts) count.textContent = String(total);
    const rest = total - members.length;
    this.#more.hidden = rest <= 0;
    this.#more.textContent = `and ${rest} more`;
  }

  #row(member: Member): HTMLLIElement {
    const row = make('li', { title: member.userID }, avatar(member), nameElement(member.userName, 'name'));
    if (member.userID === this.#userID) row.append(make('span', { class: 'you' }, 'you'));
    return row;
  }
}
