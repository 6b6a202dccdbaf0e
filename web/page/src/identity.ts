/** The IDs of the contract: no space at the beginning or end, and no `.` and `..` between slashes. */
const ROOM_ID = /^(?! |.* $|(.*[/\\])?\.\.?([/\\]|$))[ -~]{1,128}$/;
const SUFFIX_LENGTH = 6;
const USER_ID_LENGTH = 64;

/**
 * Makes a userID from a name: the allowed characters of the name, and a suffix that distinguishes
 * users of the same name.
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
 * Makes a roomID from a room name: the name itself if it is a valid ID, and the percent-encoded
 * name otherwise. Returns undefined if that is too long.
 */
export function roomIDOf(name: string): string | undefined {
  const normalized = name.normalize('NFC');
  if (ROOM_ID.test(normalized)) return normalized;
  const encoded = encodeURIComponent(normalized).replaceAll('.', '%2E');
  return ROOM_ID.test(encoded) ? encoded : undefined;
}

/** Returns the length of a text in bytes of UTF-8, as the limits of the API count it. */
export function byteLength(text: string): number {
  return new TextEncoder().encode(text).length;
}
