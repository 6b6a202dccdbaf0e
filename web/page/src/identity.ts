const ROOM_ID = /^[0-9A-Za-z!#$%&()+:;<=.>?@[\]^_{}|~-]{1,128}$/;
const SUFFIX_LENGTH = 6;
const USER_ID_LENGTH = 32;

/**
 * A userID for a person who only gave a name: what of it fits the allowed
 * characters, and a suffix that tells two people of one name apart.
 */
export function userIDOf(name: string, suffix: string): string {
  const plain = name
    .normalize('NFKD')
    .replace(/\s+/g, '-')
    .replace(/[^0-9A-Za-z_-]/g, '')
    .slice(0, USER_ID_LENGTH - 1 - suffix.length);
  return `${plain || 'guest'}-${suffix}`;
}

export function randomSuffix(): string {
  const digits = crypto.getRandomValues(new Uint8Array(SUFFIX_LENGTH));
  return Array.from(digits, (digit) => (digit % 36).toString(36)).join('');
}

/**
 * A roomID for a room that was named in any words: the words themselves where
 * they are an ID, and percent-encoded where they are not. Undefined where that
 * is too long.
 */
export function roomIDOf(name: string): string | undefined {
  const words = name.normalize('NFC');
  const id = ROOM_ID.test(words) ? words : encodeURIComponent(words).replace(/['*]/g, percentEncode);
  return ROOM_ID.test(id) && id !== '.' && id !== '..' ? id : undefined;
}

function percentEncode(character: string): string {
  return `%${character.charCodeAt(0).toString(16).toUpperCase()}`;
}

/** Limits on text count bytes of UTF-8. */
export function byteLength(text: string): number {
  return new TextEncoder().encode(text).length;
}
