import {
  type ConnectionEvent,
  type ConnectionState,
  type LeaveReason,
  ParlorError,
  type RoomStateChange,
} from 'parlor-sdk';

/** Returns the text for an error. The default is the server's own text. */
export function textForError(error: unknown): string {
  if (!(error instanceof ParlorError)) return 'Something went wrong on this page. Please reload it.';
  switch (error.code) {
    case 'network_error':
      return 'The server could not be reached. Is it running, and are you online?';
    case 'unavailable':
      return 'The server is busy or restarting. Try again in a moment.';
    case 'unexpected_reply':
      return 'The reply came from a proxy or a login page of your network. Try again in a moment.';
    case 'token_invalid':
      return 'The server does not accept this token.';
    case 'token_expired':
      return 'The token has expired. Get a new one.';
    case 'forbidden_host':
      return "Development tokens are available only on the server's own machine. Open this page as http://localhost.";
    case 'forbidden_proxy':
      return 'Development tokens are not available through a proxy. Start the server without --dev.';
    case 'not_granted':
      return 'Your token does not allow that.';
    case 'banned':
      return 'You were removed from this room and cannot enter it yet.';
    case 'attributes_full':
      return 'The limit for attributes has been reached. Delete some first.';
    case 'version_mismatch':
      return 'Someone else has changed this in the meantime. Please check it and try again.';
    case 'recall_too_late':
      return 'This message is too old to be recalled.';
    case 'file_too_large':
      return 'The file is larger than 100 MB.';
    case 'media_quota':
      return 'Upload quota exceeded. Send or discard some of your uploaded files, or try again later.';
    case 'storage_full':
      return 'The server has no storage left for files. Try again later.';
    case 'media_lost':
      return 'The file is missing on the server.';
    case 'media_not_found':
      return 'The file no longer exists.';
    case 'invalid_request': {
      const fault = error.errors.find(({ pointer }) => names[pointer] !== undefined);
      return fault === undefined ? error.message : `${names[fault.pointer]} ${fault.message}.`;
    }
    case 'room_full':
      return 'The room is full.';
    case 'too_many_rooms':
      return 'You are in too many rooms. Leave one first.';
    case 'not_in_room':
      return 'You are no longer in this room.';
    case 'session_ended':
    case 'unauthenticated':
      return 'Your session has ended. Enter again.';
    default:
      return error.message;
  }
}

/** The words for the names in a request, by their place. */
const names: Record<string, string> = { '/userName': 'Your name', '/roomName': 'The name of the room' };

/** Formats a number of bytes, as "1.2 MB". */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KB', 'MB'];
  let unit = 0;
  for (; bytes >= 1000 && unit < units.length - 1; unit++) bytes /= 1000;
  return `${bytes.toLocaleString(undefined, { maximumFractionDigits: bytes < 10 ? 1 : 0 })} ${units[unit]}`;
}

export const connectionTexts: Record<ConnectionState, string> = {
  connecting: 'Connecting…',
  connected: 'Connected',
  reconnecting: 'Reconnecting…',
  disconnected: 'Disconnected',
};

/** Returns the text for the end of a session or its stream. */
export function textForDisconnect(event: ConnectionEvent, reason = ''): string {
  switch (event) {
    case 'superseded':
      return 'This session continues in another tab.';
    case 'tokenExpired':
      return 'Your token has expired.';
    case 'kickedOut':
      return reason === '' ? 'You were logged out, or logged in on too many other devices.' : `You were logged out: ${reason}`;
    default:
      return 'Your session has ended.';
  }
}

const reasons: Record<LeaveReason, string> = {
  left: '',
  loggedOut: ': logged out',
  timedOut: ': timed out',
  tokenExpired: ': token expired',
  switched: ': switched rooms',
  replaced: ': entered from another session',
  kicked: ': removed',
  notGranted: ': no longer allowed',
  roomDestroyed: ': the room was closed',
};

/** Returns the text after the name of a user who left. */
export function textForLeave(reason: LeaveReason): string {
  return ` left${reasons[reason] ?? `: ${reason}`}`;
}

/** Returns the text for being out of a room without having left it. */
export function textForRemoval(event: RoomStateChange['event'], reason = ''): string {
  const because = reason === '' ? '.' : `: ${reason}`;
  switch (event) {
    case 'kickedOut':
      return `You were removed from the room${because}`;
    case 'notGranted':
      return 'You are no longer allowed in this room.';
    case 'roomNotExist':
      return `The room was closed${because}`;
    case 'replaced':
      return 'You entered this room from another session.';
    default:
      return 'You are no longer in the room.';
  }
}
