import type { StreamEvents } from './stream-events.ts';

export type ConnectionState = 'connecting' | 'connected' | 'reconnecting' | 'disconnected';

/**
 * The reason why the connection's state changed.
 *
 * - `success`: the stream is open.
 * - `networkInterrupted`: the stream broke, or could not be opened.
 * - `networkTimeout`: nothing was received from the server for three heartbeats, or for
 *   10 s after a call that got no reply began.
 * - `serverGoingAway`: the server asked the client to reconnect a moment later.
 * - `slowConsumer`: the client read too slowly. It reconnects and continues at its cursor.
 * - `loggedOut`, `tokenExpired`: the session has ended.
 * - `kickedOut`: an admin ended the session, or the user has started too many. `reason` contains
 *   the text that the admin gave, if any.
 * - `superseded`: another stream of the same session was opened, such as in a duplicated tab.
 * - `sessionEnded`: the session no longer exists on the server.
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

/** `disconnected` is final. From the other states, the client reconnects by itself. */
export interface ConnectionStateChange {
  state: ConnectionState;
  event: ConnectionEvent;
  /** The text that an admin gave when ending the session. */
  reason?: string | undefined;
}
