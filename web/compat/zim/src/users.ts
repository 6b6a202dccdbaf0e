import type { Member, Profile, User, UserStatus } from 'parlor-sdk';
import { ZIMErrorCode, ZIMUserOnlineStatus } from './enums.ts';
import type { ZIMErrorUserInfo, ZIMUserFullInfo, ZIMUserInfo, ZIMUserStatus } from './types.ts';

const STATES = {
  online: ZIMUserOnlineStatus.Online,
  offline: ZIMUserOnlineStatus.Offline,
  loggedOut: ZIMUserOnlineStatus.Logout,
  unknown: ZIMUserOnlineStatus.Unknown,
} as const satisfies Record<UserStatus['state'], ZIMUserOnlineStatus>;

export function userInfo(user: User | Member | Profile): ZIMUserInfo {
  return {
    userID: user.userID,
    userName: user.userName,
    userAvatarUrl: ('avatarURL' in user && user.avatarURL) || '',
    userExtendedData: ('userExtendedData' in user && user.userExtendedData) || '',
  };
}

export function userFullInfo(profile: Profile): ZIMUserFullInfo {
  const baseInfo = userInfo(profile);
  return { baseInfo, userAvatarUrl: baseInfo.userAvatarUrl, extendedData: baseInfo.userExtendedData };
}

export function userStatus(status: UserStatus): ZIMUserStatus {
  const updated = Date.parse(status.updatedAt);
  return {
    userID: status.userID,
    onlineStatus: STATES[status.state] ?? ZIMUserOnlineStatus.Unknown,
    onlinePlatforms: [],
    customStatus: status.customStatus ?? '',
    customStatusExpiredTime: 0,
    lastUpdateTime: updated,
    lastOnlineStatusUpdateTime: updated,
    lastCustomStatusUpdateTime: updated,
  };
}

/** The users that a call could not find. */
export function errorUsers(userIDs: readonly string[], reason = ZIMErrorCode.CommonModuleUserIsNotExist): ZIMErrorUserInfo[] {
  return userIDs.map((userID) => ({ userID, reason }));
}
