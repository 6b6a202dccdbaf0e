import type * as T from './types.ts';
import type { ZIM } from './zim.ts';

type Listener<Data> = (zim: ZIM, data: Data) => void;

/** The events, with their data. The older names of the same events are called as well. */
export interface ZIMEventHandler {
  error: Listener<T.ZIMError>;
  tokenWillExpire: Listener<T.ZIMEventOfTokenWillExpireResult>;
  connectionStateChanged: Listener<T.ZIMEventOfConnectionStateChangedResult>;
  userInfoUpdated: Listener<T.ZIMEventOfUserInfoUpdatedResult>;
  userStatusUpdated: Listener<T.ZIMEventOfUserStatusUpdatedResult>;
  blacklistChanged: Listener<T.ZIMEventOfBlacklistChangedResult>;
  conversationChanged: Listener<T.ZIMEventOfConversationChangedResult>;
  conversationTotalUnreadMessageCountUpdated: Listener<T.ZIMEventOfConversationTotalUnreadMessageCountUpdatedResult>;
  receivePeerMessage: Listener<T.ZIMEventOfReceiveConversationMessageResult>;
  receiveRoomMessage: Listener<T.ZIMEventOfReceiveConversationMessageResult>;
  peerMessageReceived: Listener<T.ZIMEventOfConversationMessageReceivedResult>;
  roomMessageReceived: Listener<T.ZIMEventOfConversationMessageReceivedResult>;
  messageSentStatusChanged: Listener<T.ZIMEventOfMessageSentStatusChangedResult>;
  messageRevokeReceived: Listener<T.ZIMEventOfMessageRevokeReceivedResult>;
  messageDeleted: Listener<T.ZIMEventOfMessageDeletedResult>;
  roomStateChanged: Listener<T.ZIMEventOfRoomStateChangedResult>;
  roomMemberJoined: Listener<T.ZIMEventOfRoomMemberChangedResult>;
  roomMemberLeft: Listener<T.ZIMEventOfRoomMemberChangedResult>;
  roomAttributesUpdated: Listener<T.ZIMEventOfRoomAttributesUpdatedResult>;
  roomAttributesBatchUpdated: Listener<T.ZIMEventOfRoomAttributesUpdatedResult>;
  roomMemberAttributesUpdated: Listener<T.ZIMEventOfRoomMembersAttributesUpdatedResult>;
}

/** The events of what Parlor does not offer. An application may listen for them; they do not occur. */
export type UnusedEventName =
  | 'experimentalEventReceived' | 'userRuleUpdated' | 'conversationMessageReceiptChanged'
  | 'conversationsAllDeleted' | 'conversationSyncStateChanged' | 'receiveGroupMessage'
  | 'groupMessageReceived' | 'broadcastMessageReceived' | 'messageReceiptChanged' | 'messageReactionsChanged'
  | 'messageRepliedInfoChanged' | 'messageRepliedCountChanged' | 'messageEdited' | 'messagePinStatusChanged'
  | 'groupStateChanged' | 'groupNameUpdated' | 'groupAvatarUrlUpdated' | 'groupNoticeUpdated'
  | 'groupAliasUpdated' | 'groupAttributesUpdated' | 'groupMutedInfoUpdated' | 'groupVerifyInfoUpdated'
  | 'groupMemberStateChanged' | 'groupMemberInfoUpdated' | 'groupApplicationListChanged'
  | 'groupApplicationUpdated' | 'callInvitationCreated' | 'callInvitationReceived'
  | 'callInvitationCancelled' | 'callInvitationEnded' | 'callInvitationRejected' | 'callInvitationAccepted'
  | 'callInvitationTimeout' | 'callInviteesAnsweredTimeout' | 'callUserStateChanged' | 'friendListChanged'
  | 'friendInfoUpdated' | 'friendApplicationListChanged' | 'friendApplicationUpdated';

export type EventName = keyof ZIMEventHandler;
export type EventData<E extends EventName> = Parameters<ZIMEventHandler[E]>[1];

/** A listener as it was written for ZIM 1.x: its arguments are the fields of the data. */
export type PositionalListener = (zim: ZIM, ...fields: any[]) => void;

/** The fields of the data that a listener of ZIM 1.x takes, in their order. */
const positions: { [E in EventName]?: (data: EventData<E>) => unknown[] } = {
  connectionStateChanged: ({ state, event, extendedData }) => [state, event, extendedData],
  roomStateChanged: ({ state, event, extendedData, roomID }) => [state, event, extendedData, roomID],
  roomMemberJoined: ({ memberList, roomID }) => [memberList, roomID],
  roomMemberLeft: ({ memberList, roomID }) => [memberList, roomID],
  receivePeerMessage: ({ messageList, fromConversationID }) => [messageList, fromConversationID],
  receiveRoomMessage: ({ messageList, fromConversationID }) => [messageList, fromConversationID],
  roomAttributesUpdated: ({ infos, roomID }) => [infos[0], roomID],
  roomAttributesBatchUpdated: ({ infos, roomID }) => [infos, roomID],
};

/** Events holds one listener of each event, as ZIM does. */
export class Events {
  readonly #zim: ZIM;
  readonly #listeners = new Map<EventName | UnusedEventName, PositionalListener>();

  constructor(zim: ZIM) {
    this.#zim = zim;
  }

  /** Sets the listener of an event. One with more than two parameters is of the older form. */
  set(event: EventName | UnusedEventName, listener: PositionalListener): void {
    this.#listeners.set(event, listener);
  }

  /** Removes the listener of an event, or only if it is this one. */
  remove(event: EventName | UnusedEventName, listener?: PositionalListener): void {
    if (listener === undefined || this.#listeners.get(event) === listener) this.#listeners.delete(event);
  }

  has(event: EventName): boolean {
    return this.#listeners.has(event);
  }

  emit<E extends EventName>(event: E, data: EventData<E>): void {
    const listener = this.#listeners.get(event);
    if (listener === undefined) return;
    const fields = listener.length > 2 ? positions[event]?.(data) : undefined;
    guarded(() => listener(this.#zim, ...(fields ?? [data])));
  }

  clear(): void {
    this.#listeners.clear();
  }
}

/** Calls code of the application. What it throws is reported like an uncaught error. */
export function guarded(call: () => void): void {
  try {
    call();
  } catch (error) {
    if (typeof reportError === 'function') reportError(error);
    else console.error(error); // Node has no reportError
  }
}
