import type * as S from './schemas.gen.ts';

/** The data of each event of the admin feed, by the name of the SSE event. */
interface FeedData {
  feedReady: S.FeedReadyEvent;
  roomCreated: S.RoomCreatedEvent;
  roomDestroyed: S.RoomDestroyedEvent;
  roomMemberJoined: S.RoomMemberJoinedEvent;
  roomMemberLeft: S.RoomMemberLeftEvent;
  roomMemberCountUpdated: S.RoomMemberCountUpdatedEvent;
  memberReconnecting: S.MemberReconnectingEvent;
  memberReconnected: S.MemberReconnectedEvent;
  roomMessageReceived: S.RoomMessageReceivedEvent;
  messageRecalled: S.MessageRecalledEvent;
  roomAttributesUpdated: S.RoomAttributesUpdatedEvent;
  roomMemberAttributesUpdated: S.RoomMemberAttributesUpdatedEvent;
  roomUpdated: S.RoomUpdatedEvent;
  userInfoUpdated: S.UserInfoUpdatedEvent;
}

/**
 * An event of the feed. Its `id` is the position after it: store the id of the last event that was
 * processed, to continue there after a restart.
 */
export type FeedEvent = { [E in keyof FeedData]: { event: E; data: FeedData[E]; id: string } }[keyof FeedData];

export interface FeedOptions {
  /** The id of the last event that was processed. Without it, the feed begins with what happens next. */
  lastEventID?: string | undefined;
  /** Ends the feed. */
  signal?: AbortSignal;
}
