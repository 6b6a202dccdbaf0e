import {
  type ConnectionEvent,
  type ConnectionState,
  type LeaveReason,
  ParlorError,
  type RoomStateEvent,
} from 'parlor-sdk';

/** What went wrong, for people. The server's own words serve where these know no better ones. */
export function wordsForError(error: unknown): string {
  if (!(error instanceof ParlorError)) return 'Something went wrong on this page. Reload it, please.';
  switch (error.code) {
    case 'network_error':
      return 'The server could not be reached. Is it running, and are you online?';
    case 'unavailable':
      return 'The server is busy or restarting. Try again in a moment.';
    case 'unexpected_reply':
      return 'Something between you and the server answered in its place. Try again in a moment.';
    case 'token_invalid':
      return 'The server does not accept this token.';
    case 'token_expired':
      return 'The token has expired. Get a new one.';
    case 'forbidden_host':
      return 'Development tokens are given out on this machine itself only. Open this page as http://localhost.';
    case 'forbidden_proxy':
      return 'Development tokens are not given out through a proxy. Start the server without --dev there.';
    case 'not_granted':
      return 'Your token does not allow that.';
    case 'banned':
      return 'You were taken out of this room and may not come back yet.';
    case 'attributes_full':
      return 'There is no place for more of that.';
    case 'version_mismatch':
      return 'Somebody changed that meanwhile. Look again, please.';
    case 'recall_too_late':
      return 'That was said too long ago to be taken back.';
    case 'file_too_large':
      return 'The file is larger than 100 MB.';
    case 'media_quota':
      return 'There is no place for more files of yours. Send or cancel what you have uploaded, or try again later.';
    case 'storage_full':
      return 'The server has no room for files for now. Try again later.';
    case 'media_lost':
      return 'The server has lost the file.';
    case 'media_not_found':
      return 'The file is gone.';
    case 'room_full':
      return 'The room is full.';
    case 'too_many_rooms':
      return 'You are in too many rooms already. Leave one first.';
    case 'not_in_room':
      return 'You are not in this room any more.';
    case 'session_ended':
    case 'unauthenticated':
      return 'Your session has ended. Enter again.';
    default:
      return error.message;
  }
}

/** How much that is, for people. */
export function wordsForBytes(bytes: number): string {
  const units = ['B', 'KB', 'MB'];
  let unit = 0;
  for (; bytes >= 1000 && unit < units.length - 1; unit++) bytes /= 1000;
  return `${bytes.toLocaleString(undefined, { maximumFractionDigits: bytes < 10 ? 1 : 0 })} ${units[unit]}`;
}

export const connectionWords: Record<ConnectionState, string> = {
  connecting: 'Connecting…',
  connected: 'Connected',
  reconnecting: 'Reconnecting…',
  disconnected: 'Disconnected',
};

/** Why the connection is gone for good. */
export function wordsForEnd(event: ConnectionEvent, reason = ''): string {
  switch (event) {
    case 'superseded':
      return 'This session goes on in another tab.';
    case 'tokenExpired':
      return 'Your token has expired.';
    case 'kickedOut':
      return reason === '' ? 'You were logged out, or logged in elsewhere once too often.' : `You were logged out: ${reason}`;
    default:
      return 'Your session has ended.';
  }
}

const reasons: Record<LeaveReason, string> = {
  left: '',
  loggedOut: ': logged out',
  timedOut: ': timed out',
  tokenExpired: ': token expired',
  switched: ': went to another room',
  replaced: ': came in elsewhere',
  kicked: ': taken out',
  notGranted: ': no longer allowed',
  roomDestroyed: ': the room was closed',
};

export function wordsForLeaving(name: string, reason: LeaveReason): string {
  return `${name} left${reasons[reason] ?? `: ${reason}`}`;
}

/** Why one is out of a room that one did not leave. */
export function wordsForBeingOut(event: RoomStateEvent, reason = ''): string {
  const because = reason === '' ? '.' : `: ${reason}`;
  switch (event) {
    case 'kickedOut':
      return `You were taken out of the room${because}`;
    case 'notGranted':
      return 'You are no longer allowed in this room.';
    case 'roomNotExist':
      return `The room was closed${because}`;
    case 'replaced':
      return 'You entered this room elsewhere.';
    default:
      return 'You are not in the room any more.';
  }
}
