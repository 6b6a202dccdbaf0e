// What the ZIM SDK has and Parlor does not. Calls are rejected as in a project that has the function
// switched off; those that only read, which applications make in passing, return nothing.
import { notSupported } from './errors.ts';

const REJECTED = [
  // messages
  'deleteMessages', 'editMessage', 'replyMessage', 'pinMessage', 'queryMessageRepliedList', 'insertMessageToLocalDB',
  'searchLocalMessages', 'searchGlobalLocalMessages', 'addMessageReaction', 'deleteMessageReaction', 'deleteMessageAllReactions',
  // conversations and users
  'updateConversationPinnedState', 'setConversationNotificationStatus', 'setConversationDraft', 'setConversationMark',
  'searchLocalConversations', 'updateUserOfflinePushRule', 'updateUserBadge', 'callExperimentalAPI',
  // groups
  'createGroup', 'dismissGroup', 'joinGroup', 'leaveGroup', 'inviteUsersIntoGroup', 'kickGroupMembers', 'transferGroupOwner',
  'queryGroupInfo', 'queryGroupMemberInfo', 'queryGroupMemberCount', 'updateGroupName', 'updateGroupAvatarUrl',
  'updateGroupNotice', 'updateGroupAlias', 'updateGroupJoinMode', 'updateGroupInviteMode', 'updateGroupBeInviteMode',
  'setGroupAttributes', 'deleteGroupAttributes', 'queryGroupAttributes', 'queryGroupAllAttributes', 'setGroupMemberRole',
  'setGroupMemberNickname', 'muteGroup', 'muteGroupMembers', 'searchLocalGroups', 'searchLocalGroupMembers',
  'queryGroupMessageReceiptReadMemberList', 'queryGroupMessageReceiptUnreadMemberList', 'sendGroupMessage',
  'sendGroupJoinApplication', 'acceptGroupJoinApplication', 'rejectGroupJoinApplication', 'sendGroupInviteApplications',
  'acceptGroupInviteApplication', 'rejectGroupInviteApplication',
  // calls
  'callInvite', 'callCancel', 'callAccept', 'callReject', 'callingInvite', 'callJoin', 'callQuit', 'callEnd',
  // friends
  'addFriend', 'deleteFriends', 'checkFriendsRelation', 'updateFriendAlias', 'updateFriendAttributes', 'searchLocalFriends',
  'sendFriendApplication', 'acceptFriendApplication', 'rejectFriendApplication',
] as const;

const none = (): never[] => [];

/** What the calls return that only read, by their arguments. */
const EMPTY = {
  queryConversationPinnedList: () => ({ conversationList: none() }),
  queryPinnedMessageList: () => ({ messageList: none() }),
  queryMessageReactionUserList: (message: any, config?: { reactionType?: string } | null) => ({
    message, reactionType: config?.reactionType ?? '', userList: none(), userInfoList: none(), nextFlag: 0, totalCount: 0,
  }),
  queryGroupList: () => ({ groupList: none(), nextFlag: 0 }),
  queryGroupMemberList: (groupID: string) => ({ groupID, userList: none(), nextFlag: 0 }),
  queryGroupMemberMutedList: (groupID: string) => ({ groupID, userList: none(), nextFlag: 0 }),
  queryGroupApplicationList: () => ({ applicationList: none(), nextFlag: 0 }),
  queryCallInvitationList: () => ({ callList: none(), nextFlag: 0 }),
  queryFriendsInfo: () => ({ friendInfos: none(), errorUserList: none() }),
  queryFriendList: () => ({ friendList: none(), nextFlag: 0 }),
  queryFriendApplicationList: () => ({ applicationList: none(), nextFlag: 0 }),
};

/** The calls that Parlor does not offer. All are rejected with CommonModuleUnsupportedRequest. */
export type Unsupported = { [Name in (typeof REJECTED)[number]]: (...args: any[]) => Promise<never> };

/** The calls that return nothing, because Parlor does not have what they list. */
export type AlwaysEmpty = {
  [Name in keyof typeof EMPTY]: (
    ...args: [...Parameters<(typeof EMPTY)[Name]>, ...unused: any[]]
  ) => Promise<ReturnType<(typeof EMPTY)[Name]>>;
};

/** Adds these calls to a class. */
export function addUnsupported(prototype: object): void {
  for (const name of REJECTED) define(prototype, name, () => Promise.reject(notSupported(name)));
  for (const [name, result] of Object.entries(EMPTY)) {
    define(prototype, name, async (...args) => (result as (...args: unknown[]) => unknown)(...args));
  }
}

function define(prototype: object, name: string, value: (...args: unknown[]) => Promise<unknown>): void {
  Object.defineProperty(prototype, name, { value, writable: true, configurable: true });
}
