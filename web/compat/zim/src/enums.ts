// The enums of the ZIM SDK, with its names and numbers. Applications import them by name, also those
// of functions that Parlor does not have.

export enum ZIMErrorCode {
  Success = 0,
  Failed = 1,
  CommonModuleParamsInvalid = 6000001,
  CommonModuleNotInit = 6000002,
  CommonModuleInvalidAppID = 6000003,
  CommonModuleTriggerSDKFrequencyLimit = 6000004,
  CommonModuleTriggerServerFrequencyLimit = 6000005,
  CommonModuleSwitchServerError = 6000006,
  CommonModuleIMServerError = 6000007,
  CommonModuleIMDatabaseError = 6000008,
  CommonModuleIMServerDisconnect = 6000009,
  CommonModuleUploadLogError = 6000010,
  CommonModuleUserIsNotExist = 6000011,
  CommonModuleUserInfoQueriedLimit = 6000012,
  CommonModuleUnsupportedRequest = 6000013,
  CommonModuleUnactivatedIMServer = 6000014,
  CommonModuleExceedDAULimit = 6000015,
  CommonModuleExceedMAULimit = 6000016,
  CommonModuleBlacklistLimit = 6000021,
  NetworkModuleCommonError = 6000101,
  NetworkModuleServerError = 6000102,
  NetworkModuleTokenInvalid = 6000103,
  NetworkModuleNetworkError = 6000104,
  NetworkModuleRequestTimeout = 6000105,
  NetworkModuleTokenExpired = 6000106,
  NetworkModuleTokenVersionError = 6000107,
  NetworkModuleTokenTimeIsTooShort = 6000108,
  NetworkModuleRspProtoParseError = 6000109,
  NetworkModuleUserHasAlreadyLogged = 6000111,
  NetworkModuleUserIsNotLogged = 6000121,
  NetworkModuleUserHasAlreadyLoggedOut = 6000122,
  NetworkModuleUserOffline = 6000123,
  NetworkModuleUserIDError = 6000124,
  MessageModuleCommonError = 6000201,
  MessageModuleServerError = 6000202,
  MessageModuleSendMessageFailed = 6000203,
  MessageModuleTargetDoesNotExist = 6000204,
  MessageModuleEditMessageFailed = 6000205,
  MessageModuleSendMessageFailedForCancelled = 6000206,
  MessageModuleCancelSendingMessageFailed = 6000207,
  MessageModuleMessageIsNotPinned = 6000208,
  MessageModuleFileError = 6000210,
  MessageModuleFileNotExist = 6000211,
  MessageModuleFileServerError = 6000212,
  MessageModuleFileTypeUnsupported = 6000213,
  MessageModuleFileSizeInvalid = 6000214,
  MessageModuleFileDurationInvalid = 6000215,
  MessageModuleFilePermissionDenied = 6000216,
  MessageModuleFileDownloadFailed = 6000217,
  MessageModuleFileDownloadLimit = 6000218,
  MessageModuleFileDownloadUrlNotFound = 6000219,
  MessageModuleFileDownloadHttpRequestServerError = 6000220,
  MessageModuleAuditRejected = 6000221,
  MessageModuleAuditFailed = 6000222,
  MessageModuleAuditCustomSentRejected = 6000230,
  MessageModuleCacheFileOpenFailed = 6000240,
  MessageModuleCacheFileExportOrImportIsInProgressCurrently = 6000241,
  MessageModuleCacheFileOnlyCanImportCacheOfOneself = 6000242,
  MessageModuleCacheFileExportFailed = 6000243,
  MessageModuleCacheFileImportFailed = 6000244,
  MessageModuleCacheFileJsonParseFailed = 6000245,
  MessageModuleFileConnectError = 6000251,
  MessageModuleFileHttpError = 6000252,
  MessageModuleFileVerificationError = 6000253,
  MessageModuleFileClientError = 6000254,
  CallModuleCommonError = 6000270,
  CallModuleCancelError = 6000271,
  CallModuleServerError = 6000272,
  CallModuleIsNotInvitor = 6000273,
  CallModuleIsNotInvitee = 6000274,
  CallModuleAlreadyExists = 6000275,
  CallModuleDoesNotExist = 6000276,
  MessageModuleReceiptReadError = 6000277,
  MessageModuleMessageExceedsRevokeTime = 6000278,
  MessageModuleMessageHasBeenRevoked = 6000279,
  MessageModuleMessageReactionTypeExisted = 6000280,
  CallModuleInviteUserDoesNotExist = 6000281,
  MessageModuleMessageReceiptLimit = 6000282,
  CallModuleUserAlreadyInTheCall = 6000283,
  MessageModuleSenderInBlacklist = 6000284,
  MessageModuleEditNoCorrespondingOperationAuthority = 6000285,
  MessageModuleMessageExceedsEditTime = 6000286,
  MessageModuleTheNumberOfPinnedMessagesExceedsLimit = 6000287,
  RoomModuleCommonError = 6000301,
  RoomModuleServerError = 6000302,
  RoomModuleCreateRoomError = 6000303,
  RoomModuleJoinRoomError = 6000304,
  RoomModuleLeaveRoomError = 6000306,
  RoomModuleTheRoomMemberQueryFailed = 6000310,
  RoomModuleTheRoomMembersQueryFailedCompletely = 6000311,
  RoomModuleUserIsAlreadyInTheRoom = 6000320,
  RoomModuleUserIsNotInTheRoom = 6000321,
  RoomModuleTheRoomDoesNotExist = 6000322,
  RoomModuleTheRoomAlreadyExists = 6000323,
  RoomModuleTheNumberOfExistingRoomsHasReachedLimit = 6000324,
  RoomModuleTheNumberOfJoinedRoomsHasReachedLimit = 6000325,
  RoomModuleTheRoomIsConnecting = 6000326,
  RoomModuleRoomMemberIsBlocked = 6000327,
  RoomModuleRoomAttributesCommonError = 6000330,
  RoomModuleRoomAttributesOperationFailedCompletely = 6000331,
  RoomModuleRoomAttributesOperationFailedPartly = 6000332,
  RoomModuleRoomAttributesQueryFailed = 6000333,
  RoomModuleTheNumberOfRoomAttributesExceedsLimit = 6000334,
  RoomModuleTheLengthOfRoomAttributeKeyExceedsLimit = 6000335,
  RoomModuleTheLengthOfRoomAttributeValueExceedsLimit = 6000336,
  RoomModuleTheTotalLengthOfRoomAttributesValueExceedsLimit = 6000337,
  RoomModuleRoomMemberAttributesCommonError = 6000350,
  RoomModuleTheTotalLengthOfRoomMemberAttributesExceedsLimit = 6000351,
  RoomModuleTheLengthOfRoomMemberAttributesKeyExceedsLimit = 6000352,
  RoomModuleTheLengthOfRoomMemberAttributesValueExceedsLimit = 6000353,
  RoomModuleTheMemberNumberOfRoomMemberAttributesExceedsLimit = 6000357,
  ZpnsModulePushIDInvalid = 6000401,
  GroupModuleCommonError = 6000501,
  GroupModuleServerError = 6000502,
  GroupModuleCreateGroupError = 6000503,
  GroupModuleDismissGroupError = 6000504,
  GroupModuleJoinGroupError = 6000505,
  GroupModuleLeaveGroupError = 6000506,
  GroupModuleKickoutGroupMemberError = 6000507,
  GroupModuleInviteUserIntoGroupError = 6000508,
  GroupModuleTransferOwnerError = 6000509,
  GroupModuleUpdateGroupInfoError = 6000510,
  GroupModuleQueryGroupInfoError = 6000511,
  GroupModuleGroupAttributesOperationFailed = 6000512,
  GroupModuleGroupAttributesQueryFailed = 6000513,
  GroupModuleUpdateGroupMemberInfoError = 6000514,
  GroupModuleQueryGroupMemberInfoError = 6000515,
  GroupModuleQueryGroupListError = 6000516,
  GroupModuleQueryGroupMemberListError = 6000517,
  GroupModuleUserIsNotInTheGroup = 6000521,
  GroupModuleMemberIsAlreadyInTheGroup = 6000522,
  GroupModuleGroupDoesNotExist = 6000523,
  GroupModuleGroupAlreadyExists = 6000524,
  GroupModuleGroupMemberHasReachedLimit = 6000525,
  GroupModuleGroupAttributeDoesNotExist = 6000526,
  GroupModuleCreateGroupWithDismissed = 6000527,
  GroupModuleTheNumberOfGroupAttributesExceedsLimit = 6000531,
  GroupModuleTheLengthOfGroupAttributeKeyExceedsLimit = 6000532,
  GroupModuleTheLengthOfGroupAttributeValueExceedsLimit = 6000533,
  GroupModuleTheTotalLengthOfGroupAttributesValueExceedsLimit = 6000534,
  GroupModuleGroupNoCorrespondingOperationAuthority = 6000541,
  GroupModuleForbidJoinGroupError = 6000542,
  GroupModuleNeedApplyJoinGroupError = 6000543,
  GroupModuleNeedApplyInviteGroupError = 6000544,
  ConversationModuleCommonError = 6000601,
  ConversationModuleServerError = 6000602,
  ConversationModuleConversationDoesNotExist = 6000603,
  ConversationModuleConversationPinnedListReachedLimit = 6000604,
  DatabaseModuleOpenDatabaseError = 6000701,
  DatabaseModuleModifyDatabaseError = 6000702,
  DatabaseModuleDeleteDatabaseError = 6000703,
  DatabaseModuleSeleteDatabaseError = 6000704,
  DatabaseModuleDbIsNotOpened = 6000710,
  FriendModuleFriendNumsLimit = 6000801,
  FriendModuleFriendApplicationStatusError = 6000802,
  FriendModuleIsAlreadyYourFriend = 6000803,
  FriendModuleAlreadyAddToBlacklist = 6000804,
  FriendModuleCannotAddSelfToBlacklist = 6000805,
  FriendModuleAlreadyDeleteFromBlacklist = 6000806,
  FriendModuleUserNotInBlacklist = 6000807,
  FriendModuleBlacklistListQuantityLimit = 6000808,
  FriendModuleFriendOperationLimitExceeded = 6000809,
  FriendModuleCannotAddSelfToFriendList = 6000810,
  FriendModuleFriendAreUnregistered = 6000811,
  FriendModuleNotYourFriend = 6000812,
  FriendModuleCannotDeleteSelf = 6000813,
  FriendModuleFriendApplicationExpired = 6000814,
  FriendModuleAddBlacklistFail = 6000815,
  FriendModuleDelBlacklistFail = 6000816,
}

export enum ZIMConnectionState {
  Disconnected = 0,
  Connecting = 1,
  Connected = 2,
  Reconnecting = 3,
}

export enum ZIMConnectionEvent {
  Success = 0,
  ActiveLogin = 1,
  LoginTimeout = 2,
  LoginInterrupted = 3,
  KickedOut = 4,
  TokenExpired = 5,
  Unregistered = 6,
}

export enum ZIMConversationEvent {
  Added = 0,
  Updated = 1,
  Disabled = 2,
  Deleted = 3,
}

export enum ZIMConversationNotificationStatus {
  Notify = 1,
  DoNotDisturb = 2,
}

export enum ZIMConversationType {
  Unknown = -1,
  Peer = 0,
  Room = 1,
  Group = 2,
  CommunityChannel = 3,
}

export enum ZIMConversationSyncState {
  Started = 0,
  Finished = 1,
  Failed = 2,
}

export enum ZIMConversationPinnedFilter {
  All = 0,
  OnlyPinned = 1,
  OnlyUnpinned = 2,
}

export enum ZIMConversationSearchMode {
  MatchMessage = 0,
  MatchConversationName = 1,
}

export enum ZIMMediaFileType {
  OriginalFile = 1,
  LargeImage = 2,
  Thumbnail = 3,
  VideoFirstFrame = 4,
}

export enum ZIMMessageDirection {
  Send = 0,
  Receive = 1,
}

export enum ZIMMessageOrder {
  Descending = 0,
  Ascending = 1,
}

export enum ZIMMessagePriority {
  Low = 1,
  Medium = 2,
  High = 3,
}

export enum ZIMMessageReceiptStatus {
  Unknown = -1,
  None = 0,
  Processing = 1,
  Done = 2,
  Expired = 3,
  Failed = 4,
}

export enum ZIMMessageRevokeStatus {
  Unknown = -1,
  SelfRevoke = 0,
  SystemRevoke = 1,
  ServerAPIRevoke = 2,
  GroupAdminRevoke = 3,
  GroupOwnerRevoke = 4,
  AuditRejectRevoke = 5,
}

export enum ZIMMessageSentStatus {
  Sending = 0,
  Success = 1,
  Failed = 2,
}

export enum ZIMMessageType {
  Unknown = 0,
  Text = 1,
  Command = 2,
  Multiple = 10,
  Image = 11,
  File = 12,
  Audio = 13,
  Video = 14,
  Barrage = 20,
  System = 30,
  Revoke = 31,
  Tips = 32,
  Combine = 100,
  Custom = 200,
}

export enum ZIMRevokeType {
  Unknown = -1,
  TwoWay = 0,
  OneWay = 1,
}

export enum ZIMTipsMessageEvent {
  Unknown = 0,
  GroupCreated = 1,
  GroupDismissed = 2,
  GroupJoined = 3,
  GroupInvited = 4,
  GroupLeft = 5,
  GroupKickedOut = 6,
  GroupInfoChanged = 7,
  GroupMemberInfoChanged = 8,
  GroupMessagePinned = 9,
  CommunityCreated = 101,
  CommunityJoined = 103,
  CommunityInvited = 104,
  CommunityChannelCreated = 151,
}

export enum ZIMTipsMessageChangeInfoType {
  Unknown = 0,
  GroupDataChanged = 1,
  GroupNoticeChanged = 2,
  GroupNameChanged = 3,
  GroupAvatarUrlChanged = 4,
  GroupMuteChanged = 5,
  GroupOwnerTransferred = 10,
  GroupMemberRoleChanged = 11,
  GroupMemberMuteChanged = 12,
  GroupMessagePinInfoChanged = 21,
}

export enum ZIMMessageMentionedType {
  Unknown = 0,
  MentionMe = 1,
  MentionAll = 2,
  MentionAllAndMe = 3,
}

export enum ZIMMessageDeleteType {
  MessageListDeleted = 0,
  ConversationAllMessagesDeleted = 1,
  AllConversationMessagesDeleted = 2,
}

export enum ZIMMessageRepliedInfoState {
  Normal = 0,
  Deleted = 1,
  NotFound = 2,
}

export enum ZIMMessagePinStatus {
  NotPinned = 0,
  Pinned = 1,
  Updated = 2,
}

export enum ZIMMessageReactionUserChangeAction {
  Added = 0,
  Deleted = 1,
}

export enum ZIMRoomEvent {
  Success = 0,
  NetworkInterrupted = 1,
  NetworkDisconnected = 2,
  RoomNotExist = 3,
  ActiveCreate = 4,
  CreateFailed = 5,
  ActiveEnter = 6,
  EnterFailed = 7,
  KickedOut = 8,
  ConnectTimeout = 9,
  KickedOutByOtherDevice = 10,
  ActiveSwitch = 11,
  SwitchFailed = 12,
}

export enum ZIMRoomState {
  Disconnected = 0,
  Connecting = 1,
  Connected = 2,
}

export enum ZIMRoomAttributesUpdateAction {
  Set = 0,
  Delete = 1,
}

export enum ZIMRoomMemberAttributesUpdateAction {
  Set = 0,
}

export enum ZIMGroupState {
  Quit = 0,
  Enter = 1,
}

export enum ZIMGroupEvent {
  Unknown = -1,
  Created = 1,
  Dismissed = 2,
  Joined = 3,
  Invited = 4,
  Left = 5,
  KickedOut = 6,
}

export enum ZIMGroupMemberEvent {
  Unknown = -1,
  Joined = 1,
  Left = 2,
  KickedOut = 4,
  Invited = 5,
}

export enum ZIMGroupMemberState {
  Quit = 0,
  Enter = 1,
}

export enum ZIMGroupMessageNotificationStatus {
  Notify = 1,
  Disturb = 2,
}

export enum ZIMGroupAttributesUpdateAction {
  Set = 0,
  Delete = 1,
}

export enum ZIMGroupMuteMode {
  None = 0,
  Normal = 1,
  All = 2,
  Custom = 3,
}

export enum ZIMGroupJoinMode {
  Any = 0,
  Auth = 1,
  Forbid = 2,
}

export enum ZIMGroupInviteMode {
  Any = 0,
  Admin = 1,
}

export enum ZIMGroupBeInviteMode {
  None = 0,
  Auth = 1,
}

export enum ZIMGroupEnterType {
  Unknown = 0,
  Created = 1,
  JoinApply = 2,
  Joined = 3,
  Invited = 4,
  InviteApply = 5,
}

export enum ZIMGroupApplicationType {
  Unknown = -1,
  None = 0,
  Join = 1,
  Invite = 2,
  BeInvite = 3,
}

export enum ZIMGroupApplicationState {
  Unknown = -1,
  Waiting = 1,
  Accepted = 2,
  Rejected = 3,
  Expired = 4,
  Disabled = 5,
}

export enum ZIMGroupApplicationListChangeAction {
  Added = 0,
}

export enum ZIMCallInvitationMode {
  Unknown = -1,
  General = 0,
  Advanced = 1,
}

export enum ZIMCallState {
  Unknown = -1,
  Started = 1,
  Ended = 2,
}

export enum ZIMCallUserState {
  Unknown = -1,
  Inviting = 0,
  Accepted = 1,
  Rejected = 2,
  Cancelled = 3,
  Offline = 4,
  Received = 5,
  Timeout = 6,
  Quit = 7,
  Ended = 8,
  NotYetReceived = 9,
  BeCancelled = 10,
}

export enum ZIMFriendListChangeAction {
  Added = 0,
  Deleted = 1,
}

export enum ZIMFriendApplicationListChangeAction {
  Added = 0,
  Deleted = 1,
}

export enum ZIMFriendApplicationType {
  Unknown = -1,
  None = 0,
  Received = 1,
  Sent = 2,
  Both = 3,
}

export enum ZIMFriendApplicationState {
  Unknown = -1,
  Waiting = 1,
  Accepted = 2,
  Rejected = 3,
  Expired = 4,
  Disabled = 5,
}

export enum ZIMFriendRelationCheckType {
  Both = 0,
  Single = 1,
}

export enum ZIMFriendDeleteType {
  Both = 0,
  Single = 1,
}

export enum ZIMUserRelationType {
  Unknown = 0,
  SingleNo = 1,
  SingleHave = 2,
  BothAllNo = 3,
  BothSelfHave = 4,
  BothOtherHave = 5,
  BothAllHave = 6,
}

export enum ZIMBlacklistChangeAction {
  Added = 0,
  Removed = 1,
}

export enum ZIMCXHandleType {
  Generic = 1,
  PhoneNumber = 2,
  EmailAddress = 3,
}

export enum ZIMGeofencingType {
  None = 0,
  Include = 1,
  Exclude = 2,
}

export enum ZIMPlatformType {
  Win = 1,
  IPhoneOS = 2,
  Android = 3,
  MacOS = 4,
  Linux = 5,
  Web = 6,
  MiniProgram = 7,
  IPadOS = 9,
  OHOS = 10,
  Unknown = 32,
}

export enum ZIMUserOnlineStatus {
  Online = 0,
  Offline = 1,
  Logout = 2,
  Unknown = 99,
}

export enum ZIMMessageQueryMode {
  General = 0,
  PreferServer = 1,
  OnlyLocal = 2,
}
