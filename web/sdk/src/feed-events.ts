import type * as S from './schemas.gen.ts';

/** The events with which the server ends the feed, which then continues by itself. */
type EndEvent = 'connectionStateChanged' | 'reconnect';

type EventOf<F> = F extends { event: infer E; data: infer D } ? (E extends EndEvent ? never : { event: E; data: D; id: string }) : never;

/**
 * An event of the feed, by its name. Its `id` is the position after it: store the id of the last
 * event that was processed, to continue there after a restart. A command is not stored, and has the
 * position of the event before it.
 */
export type FeedEvent = EventOf<S.FeedEvent>;

export interface FeedOptions {
  /** The id of the last event that was processed. Without it, the feed begins with what happens next. */
  lastEventID?: string | undefined;
  /** What the feed has besides the events of rooms. */
  include?: S.StreamAdminEventsQuery['include'];
  /** Ends the feed. */
  signal?: AbortSignal;
}
