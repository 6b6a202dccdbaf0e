import { QNRTCError, TOKEN_INVALID } from './error.ts';

interface Grant {
  roomID?: unknown;
  join?: unknown;
}

/**
 * Returns the room and the user of a user token: `join` has no other parameter that names them. The
 * token must allow to join exactly one room, by its whole name. The server verifies it.
 */
export function readRoomToken(token: string): { roomID: string; userID: string } {
  const claims = decode(token);
  const grants = Array.isArray(claims['rooms']) ? (claims['rooms'] as Grant[]) : [];
  const rooms = grants.filter(({ join, roomID }) => join === true && typeof roomID === 'string') as { roomID: string }[];
  const [room, another] = rooms;
  if (room === undefined || another !== undefined || /(^|[^\\])\*$/.test(room.roomID)) {
    throw new QNRTCError(TOKEN_INVALID, 'The token must have a claim "rooms" with the one room to join.');
  }
  return { roomID: room.roomID.replace(/\\\*$/, '*'), userID: String(claims['sub']) };
}

function decode(token: string): Record<string, unknown> {
  try {
    const [, payload = ''] = token.split('.');
    const bytes = atob(payload.replace(/-/g, '+').replace(/_/g, '/'));
    const text = new TextDecoder().decode(Uint8Array.from(bytes, (char) => char.charCodeAt(0)));
    const claims: unknown = JSON.parse(text);
    if (typeof claims === 'object' && claims !== null) return claims as Record<string, unknown>;
  } catch {
    // The same as any other text.
  }
  throw new QNRTCError(TOKEN_INVALID, 'The token is not a JWT.');
}
