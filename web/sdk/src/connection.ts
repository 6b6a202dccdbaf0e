import type { StreamEvents } from './types.ts';

export type ConnectionState = 'connecting' | 'connected' | 'reconnecting' | 'disconnected';

/**
 * Why the connection's state changed.
 *
 * - `success`: the stream is open.
 * - `networkInterrupted`: the stream broke off or could not be opened.
 * - `networkTimeout`: nothing was heard from the server for 45 s.
 * - `serverGoingAway`: the server asked to come back in a moment.
 * - `slowConsumer`: this reader fell behind; it goes on where it was.
 * - `loggedOut`, `tokenExpired`: the session has ended.
 * - `kickedOut`: the operator ended the session, or the user began too many; `reason` has what was said of it.
 * - `superseded`: another stream of the same session was opened, say in a duplicated tab.
 * - `sessionEnded`: the server does not know the session any more.
 * - `closed`: `close()` was called.
 */
export type ConnectionEvent =
  | StreamEvents['connectionStateChanged']['event']
  | 'success'
  | 'networkInterrupted'
  | 'networkTimeout'
  | 'serverGoingAway'
  | 'sessionEnded'
  | 'closed';

/** `disconnected` is final, the client comes back from the other states by itself. */
export interface ConnectionStateChange {
  state: ConnectionState;
  event: ConnectionEvent;
  /** What an operator said of the session's end. */
  reason?: string;
}
