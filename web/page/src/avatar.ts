import type { User } from 'parlor-sdk';
import { make } from './element.ts';

const HUES = 8;

/** Makes a user's avatar: the first letter of the name, in a colour derived from the userID. */
export function avatar({ userID, userName }: User): HTMLElement {
  const [initial = '?'] = userName.trim(); // iterates over code points, so that an emoji is not split
  let sum = 0;
  for (const character of userID) sum = (sum * 31 + character.codePointAt(0)!) % 65_521;
  const attributes = { class: 'avatar', 'data-hue': String(sum % HUES), 'aria-hidden': 'true' };
  return make('span', attributes, initial.toUpperCase());
}
