import type * as S from './schemas.gen.ts';

/** The data of each event on a session's stream, by the name of the SSE event. */
export interface StreamEvents {
  sessionReady: S.SessionReadyEvent;
  connectionStateChanged: S.ConnectionStateChangedEvent;
  roomStateChanged: S.RoomStateChangedEvent;
  roomMemberJoined: S.RoomMemberJoinedEvent;
  roomMemberLeft: S.RoomMemberLeftEvent;
  roomMemberCountUpdated: S.RoomMemberCountUpdatedEvent;
  memberReconnecting: S.MemberReconnectingEvent;
  memberReconnected: S.MemberReconnectedEvent;
  roomMessageReceived: S.RoomMessageReceivedEvent;
  messageRecalled: S.MessageRecalledEvent;
  roomSeqAdvanced: S.RoomSeqAdvancedEvent;
  roomAttributesUpdated: S.RoomAttributesUpdatedEvent;
  roomMemberAttributesUpdated: S.RoomMemberAttributesUpdatedEvent;
  roomUpdated: S.RoomUpdatedEvent;
  peerMessageReceived: S.PeerMessageReceivedEvent;
  peerMessageRecalled: S.PeerMessageRecalledEvent;
  blockListChanged: S.BlockListChangedEvent;
  userStatusUpdated: S.UserStatusUpdatedEvent;
  conversationChanged: S.ConversationChangedEvent;
  conversationsRead: S.ConversationsReadEvent;
  profileUpdated: S.ProfileUpdatedEvent;
  userInfoUpdated: S.UserInfoUpdatedEvent;
  roomReset: S.RoomResetEvent;
  inboxReset: S.InboxResetEvent;
  tokenWillExpire: S.TokenWillExpireEvent;
  reconnect: S.ReconnectEvent;
}

/**
 * The names of StreamEvents as values, because an EventSource needs a listener for each. The
 * compiler rejects a name that is not in StreamEvents; a unit test compares both with openapi.yaml.
 */
export const streamEventNames = [
  'sessionReady',
  'connectionStateChanged',
  'roomStateChanged',
  'roomMemberJoined',
  'roomMemberLeft',
  'roomMemberCountUpdated',
  'memberReconnecting',
  'memberReconnected',
  'roomMessageReceived',
  'messageRecalled',
  'roomSeqAdvanced',
  'roomAttributesUpdated',
  'roomMemberAttributesUpdated',
  'roomUpdated',
  'peerMessageReceived',
  'peerMessageRecalled',
  'blockListChanged',
  'userStatusUpdated',
  'conversationChanged',
  'conversationsRead',
  'profileUpdated',
  'userInfoUpdated',
  'roomReset',
  'inboxReset',
  'tokenWillExpire',
  'reconnect',
] as const satisfies readonly (keyof StreamEvents)[];
