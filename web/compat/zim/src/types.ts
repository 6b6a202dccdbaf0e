// The types of the ZIM SDK, for what Parlor has. A field of a configuration is optional here if the
// call does not need it.
import type {
  ZIMBlacklistChangeAction,
  ZIMConnectionEvent,
  ZIMConnectionState,
  ZIMConversationEvent,
  ZIMConversationNotificationStatus,
  ZIMConversationType,
  ZIMErrorCode,
  ZIMMessageDeleteType,
  ZIMMessageDirection,
  ZIMMessagePriority,
  ZIMMessageQueryMode,
  ZIMMessageReceiptStatus,
  ZIMMessageRevokeStatus,
  ZIMMessageSentStatus,
  ZIMMessageType,
  ZIMPlatformType,
  ZIMRevokeType,
  ZIMRoomAttributesUpdateAction,
  ZIMRoomEvent,
  ZIMRoomState,
  ZIMUserOnlineStatus,
} from './enums.ts';

/** What calls are rejected with. */
export interface ZIMError {
  code: ZIMErrorCode;
  message: string;
}

export interface ZIMAppConfig {
  /** Not used: a Parlor server has one application. */
  appID: number;
  /** The address of the server. The default is the origin of the web page. */
  server?: string;
}

export interface ZIMLogConfig {
  logLevel: 'debug' | 'info' | 'warn' | 'error' | 'report' | 'disable';
}

// Login and connection

export interface ZIMLoginConfig {
  /** A user token of Parlor. */
  token: string;
  userName?: string;
  isOfflineLogin?: boolean;
  customStatus?: string;
  customStatusDuration?: number;
}

export interface ZIMLogoutConfig {
  isClearDB: boolean;
}

export interface ZIMTokenRenewedResult {
  token: string;
}

export interface ZIMEventOfConnectionStateChangedResult {
  state: ZIMConnectionState;
  event: ZIMConnectionEvent;
  /** JSON: `reason` is the text that an admin gave. */
  extendedData: string;
}

export interface ZIMEventOfTokenWillExpireResult {
  second: number;
}

// Users

export interface ZIMUserInfo {
  userID: string;
  userName: string;
  userAvatarUrl: string;
  /** Empty, except in users' infos. */
  userExtendedData: string;
}

export interface ZIMUserFullInfo {
  baseInfo: ZIMUserInfo;
  userAvatarUrl: string;
  extendedData: string;
}

export interface ZIMUserOfflinePushRule {
  onlinePlatforms: ZIMPlatformType[];
  notToReceiveOfflinePushPlatforms: ZIMPlatformType[];
}

export interface ZIMSelfUserInfo {
  userFullInfo: ZIMUserFullInfo;
  userRule: { offlinePushRule: ZIMUserOfflinePushRule };
  userStatus: ZIMUserStatus;
}

export interface ZIMErrorUserInfo {
  userID: string;
  /** A ZIMErrorCode. */
  reason: number;
}

export interface ZIMErrorUserList {
  errorUserList: ZIMErrorUserInfo[];
}

export interface ZIMUsersInfoQueryConfig {
  isQueryFromServer: boolean;
}

export interface ZIMUsersInfoQueriedResult extends ZIMErrorUserList {
  userList: ZIMUserFullInfo[];
}

export interface ZIMSelfUserInfoQueriedResult {
  selfUserInfo: ZIMSelfUserInfo;
}

export interface ZIMEventOfUserInfoUpdatedResult {
  info: ZIMUserFullInfo;
}

export interface ZIMUserStatus {
  userID: string;
  onlineStatus: ZIMUserOnlineStatus;
  /** Always empty: a status is that of all devices together. */
  onlinePlatforms: ZIMPlatformType[];
  customStatus: string;
  /** Always 0: a custom status does not expire. */
  customStatusExpiredTime: number;
  lastUpdateTime: number;
  lastOnlineStatusUpdateTime: number;
  lastCustomStatusUpdateTime: number;
}

export interface ZIMUserStatusSubscription {
  userStatus: ZIMUserStatus;
  subscribeExpiredTime: number;
}

export interface ZIMUserStatusSubscribeConfig {
  /** In minutes. */
  subscriptionDuration: number;
}

export interface ZIMSubscribedUserStatusQueryConfig {
  userIDs: string[];
}

export interface ZIMUserCustomStatusUpdateConfig {
  duration: number;
}

export interface ZIMUsersStatusQueriedResult extends ZIMErrorUserList {
  userStatusList: ZIMUserStatus[];
}

export interface ZIMSubscribedUserStatusListQueriedResult {
  userStatusSubscriptionList: ZIMUserStatusSubscription[];
}

export interface ZIMEventOfUserStatusUpdatedResult {
  userStatusList: ZIMUserStatus[];
}

export interface ZIMBlacklistQueryConfig {
  nextFlag?: number;
  count: number;
}

export interface ZIMBlacklistQueriedResult {
  blacklist: ZIMUserInfo[];
  /** 0 after the last page. */
  nextFlag: number;
}

export interface ZIMEventOfBlacklistChangedResult {
  userList: ZIMUserInfo[];
  action: ZIMBlacklistChangeAction;
}

// Rooms

export interface ZIMRoomInfo {
  roomID: string;
  roomName: string;
}

export interface ZIMRoomFullInfo {
  baseInfo: ZIMRoomInfo;
}

export interface ZIMRoomAdvancedConfig {
  roomAttributes?: Record<string, string>;
  /** In seconds. */
  roomDestroyDelayTime?: number;
}

/** The result of the calls that enter a room. */
export interface ZIMRoomEnteredResult {
  roomInfo: ZIMRoomFullInfo;
}
export type ZIMRoomCreatedResult = ZIMRoomEnteredResult;
export type ZIMRoomJoinedResult = ZIMRoomEnteredResult;
export type ZIMRoomSwitchedResult = ZIMRoomEnteredResult;

export interface ZIMRoomLeftResult {
  roomID: string;
}

export interface ZIMRoomAllLeftResult {
  roomIDs: string[];
}

export interface ZIMEventOfRoomStateChangedResult {
  roomID: string;
  state: ZIMRoomState;
  event: ZIMRoomEvent;
  /** JSON: `reason` is the text that an admin gave. */
  extendedData: string;
}

export type ZIMRoomMemberInfo = ZIMUserInfo;

export interface ZIMRoomMemberQueryConfig {
  /** Empty for the first page. */
  nextFlag?: string;
  count?: number;
}
export type ZIMRoomMemberAttributesQueryConfig = ZIMRoomMemberQueryConfig;

export interface ZIMRoomMemberQueriedResult {
  roomID: string;
  memberList: ZIMUserInfo[];
  /** Empty after the last page. */
  nextFlag: string;
}

export interface ZIMRoomMembersQueriedResult extends ZIMErrorUserList {
  roomID: string;
  memberList: ZIMRoomMemberInfo[];
}

export interface ZIMRoomOnlineMemberCountQueriedResult {
  roomID: string;
  count: number;
}

export interface ZIMEventOfRoomMemberChangedResult {
  roomID: string;
  memberList: ZIMUserInfo[];
}

// Attributes

export interface ZIMRoomAttributesSetConfig {
  isForce?: boolean;
  isDeleteAfterOwnerLeft?: boolean;
  isUpdateOwner?: boolean;
}
export type ZIMRoomAttributesBatchOperationConfig = ZIMRoomAttributesSetConfig;

export interface ZIMRoomAttributesDeleteConfig {
  isForce?: boolean;
}

export interface ZIMRoomAttributesOperatedResult {
  roomID: string;
  errorKeys: string[];
}

export interface ZIMRoomAttributesBatchOperatedResult {
  roomID: string;
}

export interface ZIMRoomAttributesQueriedResult {
  roomID: string;
  roomAttributes: Record<string, string>;
}

export interface ZIMRoomAttributesUpdateInfo {
  action: ZIMRoomAttributesUpdateAction;
  roomAttributes: Record<string, string>;
}

export interface ZIMEventOfRoomAttributesUpdatedResult {
  roomID: string;
  infos: ZIMRoomAttributesUpdateInfo[];
}

export interface ZIMRoomMemberAttributesSetConfig {
  isDeleteAfterOwnerLeft?: boolean;
}

export interface ZIMRoomMemberAttributesInfo {
  userID: string;
  attributes: Record<string, string>;
}

export interface ZIMRoomMemberAttributesOperatedInfo {
  attributesInfo: ZIMRoomMemberAttributesInfo;
  errorKeys: string[];
}

export interface ZIMRoomMembersAttributesOperatedResult {
  roomID: string;
  infos: ZIMRoomMemberAttributesOperatedInfo[];
  errorUserList: string[];
}

export interface ZIMRoomMembersAttributesQueriedResult {
  roomID: string;
  infos: ZIMRoomMemberAttributesInfo[];
}

export interface ZIMRoomMemberAttributesListQueriedResult extends ZIMRoomMembersAttributesQueriedResult {
  /** Empty after the last page. */
  nextFlag: string;
}

export interface ZIMRoomMemberAttributesUpdateInfo {
  attributesInfo: ZIMRoomMemberAttributesInfo;
}

export interface ZIMRoomOperatedInfo {
  /** Empty if no user did it. */
  userID: string;
}

export interface ZIMEventOfRoomMembersAttributesUpdatedResult {
  roomID: string;
  infos: ZIMRoomMemberAttributesUpdateInfo[];
  operatedInfo: ZIMRoomOperatedInfo;
}

// Messages

export interface ZIMMessage {
  type: ZIMMessageType;
  messageID?: string;
  localMessageID?: string;
  /** 0 if the message is of a type that is not stored. */
  messageSeq?: number;
  senderUserID?: string;
  conversationID?: string;
  conversationType?: ZIMConversationType;
  direction?: ZIMMessageDirection;
  sentStatus?: ZIMMessageSentStatus;
  /** In milliseconds since 1970. */
  timestamp?: number;
  orderKey?: number;
  extendedData?: string;
  localExtendedData?: string;
  receiptStatus?: ZIMMessageReceiptStatus;
  isUserInserted?: boolean;
  isBroadcastMessage?: boolean;
  isServerMessage?: boolean;
  isMentionAll?: boolean;
  isGroupTargetedMessage?: boolean;
  mentionedUserIDs?: string[];
  /** Always empty: Parlor has no reactions. */
  reactions?: any[];
  rootRepliedCount?: number;
  editorUserID?: string;
  editedTime?: number;
  pinnedUserID?: string;
  pinnedTime?: number;
}

export interface ZIMTextMessage extends ZIMMessage {
  type: ZIMMessageType.Text;
  message: string;
}

export interface ZIMCommandMessage extends ZIMMessage {
  type: ZIMMessageType.Command;
  message: Uint8Array;
}

export interface ZIMBarrageMessage extends ZIMMessage {
  type: ZIMMessageType.Barrage;
  message: string;
}

export interface ZIMCustomMessage extends ZIMMessage {
  type: ZIMMessageType.Custom;
  message: string;
  /** 0 to 200; 0 if it is absent. */
  subType: number;
  searchedContent?: string;
}

export interface ZIMCombineMessage extends ZIMMessage {
  type: ZIMMessageType.Combine;
  title: string;
  summary: string;
  combineID?: string;
  messageList: ZIMMessage[];
}

export interface ZIMRevokeMessage extends ZIMMessage {
  type: ZIMMessageType.Revoke;
  revokeType: ZIMRevokeType;
  revokeStatus: ZIMMessageRevokeStatus;
  revokeTimestamp: number;
  /** Empty if an admin did it. */
  operatedUserID: string;
  /** Unknown if this client has not received the message. */
  originalMessageType: ZIMMessageType;
  /** Always empty: a recalled message has no content. */
  originalTextMessageContent: string;
  /** Always empty. */
  revokeExtendedData: string;
}

export interface ZIMMediaMessage extends ZIMMessage {
  /** The file to send. */
  fileLocalPath?: File;
  /** Valid for an hour at most: query the message again for another one. */
  fileDownloadUrl?: string;
  fileUID?: string;
  fileName?: string;
  /** In bytes. */
  fileSize?: number;
}

export interface ZIMImageMessage extends ZIMMediaMessage {
  type: ZIMMessageType.Image;
  /** As `fileDownloadUrl`: the server makes no smaller images. */
  thumbnailDownloadUrl?: string;
  largeImageDownloadUrl?: string;
  originalImageWidth?: number;
  originalImageHeight?: number;
  largeImageWidth?: number;
  largeImageHeight?: number;
  thumbnailWidth?: number;
  thumbnailHeight?: number;
}

export interface ZIMFileMessage extends ZIMMediaMessage {
  type: ZIMMessageType.File;
}

export interface ZIMAudioMessage extends ZIMMediaMessage {
  type: ZIMMessageType.Audio;
  /** In seconds. */
  audioDuration: number;
}

export interface ZIMVideoMessage extends ZIMMediaMessage {
  type: ZIMMessageType.Video;
  /** In seconds. */
  videoDuration: number;
  /** Always empty. */
  videoFirstFrameDownloadUrl?: string;
  videoFirstFrameWidth?: number;
  videoFirstFrameHeight?: number;
}

export interface ZIMMessageSendConfig {
  priority?: ZIMMessagePriority;
  // The rest is not used.
  pushConfig?: object;
  hasReceipt?: boolean;
  isNotifyMentionedUsers?: boolean;
  isRetrySend?: boolean;
  disableUnreadMessageCount?: boolean;
  isAllowMultipleMessagePartialFailed?: boolean;
}

export type ZIMMessageAttachedResult = (message: ZIMMessage) => void;
export type ZIMMediaUploadingProgress = (message: ZIMMediaMessage, currentFileSize: number, totalFileSize: number) => void;

export interface ZIMMessageSendNotification {
  /** Called before the message is sent, with the object that the call returns later. */
  onMessageAttached?: ZIMMessageAttachedResult;
  onMediaUploadingProgress?: ZIMMediaUploadingProgress;
}
export type ZIMMediaMessageSendNotification = ZIMMessageSendNotification;

export interface ZIMMessageSentResult {
  message: ZIMMessage;
}
export type ZIMMessageRevokedResult = ZIMMessageSentResult;
export type ZIMMessageInsertedResult = ZIMMessageSentResult;
export type ZIMMessageLocalExtendedDataUpdatedResult = ZIMMessageSentResult;

export interface ZIMCombineMessageDetailQueriedResult {
  message: ZIMCombineMessage;
}

export interface ZIMMessageQueryConfig {
  /** The message next to the page; none for the first page. */
  nextMessage?: ZIMMessage | null;
  count: number;
  /** Whether to read from the newest messages to older ones. */
  reverse?: boolean;
  mode?: ZIMMessageQueryMode;
}

export interface ZIMMessageRevokeConfig {
  // Not used.
  revokeExtendedData?: string;
  pushConfig?: object;
}

export interface ZIMMessageDeleteConfig {
  isAlsoDeleteServerMessage: boolean;
}

export interface ZIMConversationBaseInfo {
  conversationID: string;
  conversationType: ZIMConversationType;
}
export type ZIMMessageDeletedResult = ZIMConversationBaseInfo;

export interface ZIMMessageQueriedResult extends ZIMConversationBaseInfo {
  /** In ascending order. */
  messageList: ZIMMessage[];
}

export interface ZIMMessageReceiptInfo extends ZIMConversationBaseInfo {
  status: ZIMMessageReceiptStatus;
  messageID: string;
  readMemberCount: number;
  unreadMemberCount: number;
  isSelfOperated: boolean;
  readTime: number;
}

export interface ZIMMessageReceiptsReadSentResult extends ZIMConversationBaseInfo {
  errorMessageIDs: string[];
}

export interface ZIMMessageReceiptsInfoQueriedResult {
  infos: ZIMMessageReceiptInfo[];
  errorMessageIDs: string[];
}

export interface ZIMEventOfReceiveConversationMessageResult {
  messageList: ZIMMessage[];
  fromConversationID: string;
}

export interface ZIMMessageReceivedInfo {
  /** Whether the message was sent before this client logged in. */
  isOfflineMessage: boolean;
}

export interface ZIMEventOfConversationMessageReceivedResult extends ZIMEventOfReceiveConversationMessageResult {
  info: ZIMMessageReceivedInfo;
}

export interface ZIMMessageSentStatusChangeInfo {
  status: ZIMMessageSentStatus;
  message: ZIMMessage;
  reason: string;
}

export interface ZIMEventOfMessageSentStatusChangedResult {
  infos: ZIMMessageSentStatusChangeInfo[];
}

export interface ZIMEventOfMessageRevokeReceivedResult {
  messageList: ZIMRevokeMessage[];
}

export interface ZIMEventOfMessageDeletedResult extends ZIMConversationBaseInfo {
  isDeleteConversationAllMessage: boolean;
  messageDeleteType: ZIMMessageDeleteType;
  messageList: ZIMMessage[];
}

// Conversations, which are those with other users

export interface ZIMConversation {
  conversationID: string;
  type: ZIMConversationType;
  conversationName: string;
  conversationAvatarUrl: string;
  conversationAlias: string;
  notificationStatus: ZIMConversationNotificationStatus;
  unreadMessageCount: number;
  readMessageSeq: number;
  lastMessage?: ZIMMessage;
  orderKey: number;
  isPinned: boolean;
  pinnedTime: number;
  mentionedInfoList: any[];
  draft: string;
  marks: number[];
}

export interface ZIMConversationQueryConfig {
  /** The last conversation of the page before. */
  nextConversation?: ZIMConversation | null;
  count: number;
}

export interface ZIMConversationFilterOption {
  conversationTypes?: ZIMConversationType[];
  isOnlyUnreadConversation?: boolean;
  // The rest is not used.
  marks?: number[];
  pinnedFilter?: number;
}

export interface ZIMConversationListQueriedResult {
  conversationList: ZIMConversation[];
}

export interface ZIMConversationQueriedResult {
  conversation: ZIMConversation;
}

export interface ZIMConversationTotalUnreadMessageCountQueriedResult {
  unreadMessageCount: number;
}

export interface ZIMConversationDeleteConfig {
  isAlsoDeleteServerConversation: boolean;
}
export type ZIMConversationDeletedResult = ZIMConversationBaseInfo;
export type ZIMConversationUnreadMessageCountClearedResult = ZIMConversationBaseInfo;
export type ZIMConversationMessageReceiptReadSentResult = ZIMConversationBaseInfo;

export interface ZIMConversationChangeInfo {
  event: ZIMConversationEvent;
  conversation: ZIMConversation;
}

export interface ZIMEventOfConversationChangedResult {
  infoList: ZIMConversationChangeInfo[];
}

export interface ZIMEventOfConversationTotalUnreadMessageCountUpdatedResult {
  totalUnreadMessageCount: number;
}
