import type { User } from 'parlor-sdk';
import { make } from './element.ts';

const HUES = 8;

/** A round picture of a user: the first letter of the name, in a colour that goes with the userID. */
export function avatar({ userID, userName }: User): HTMLElement {
  const [initial = '?'] = userName.trim(); // by code points: an emoji is one
  let sum = 0;
  for (const character of userID) sum = (sum * 31 + character.codePointAt(0)!) % 65_521;
  const attributes = { class: 'avatar', 'data-hue': String(sum % HUES), 'aria-hidden': 'true' };
  return make('span', attributes, initial.toUpperCase());
}
