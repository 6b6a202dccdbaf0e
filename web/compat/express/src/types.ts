export interface ZegoUser {
  userID: string;
  userName?: string;
}

export interface ZegoRoomConfig {
  /** Whether roomUserUpdate is emitted. */
  userUpdate?: boolean;
  /** The most users of a room that this login creates; 0 is the limit of the server. */
  maxMemberCount?: number;
}

export interface ZegoSwitchRoomConfig {
  token: string;
  maxMemberCount?: number;
  isUserStatusNotify?: boolean;
}

export interface ZegoServerResponse {
  /** 0, or why the call failed: these calls are not rejected. */
  errorCode: number;
  extendedData?: string;
}

export interface ZegoBroadcastMessageInfo {
  fromUser: ZegoUser;
  message: string;
  /** When the server stored the message, in milliseconds since 1970. */
  sendTime: number;
  /** The seq of the message in the room. */
  messageID: number;
}

export interface ZegoBarrageMessageInfo {
  fromUser: ZegoUser;
  message: string;
  sendTime: number;
  messageID: string;
}

export interface ZegoRoomExtraInfo {
  key: string;
  value: string;
  /** The userID is empty if the value was set before the login, or by no user. */
  updateUser: ZegoUser;
  /** When this client received the value, in milliseconds since 1970. */
  updateTime: number;
}

export interface ZegoLogConfig {
  logLevel?: 'debug' | 'info' | 'warn' | 'error' | 'report' | 'disable';
  remoteLogLevel?: 'debug' | 'info' | 'warn' | 'error' | 'disable';
  logURL?: string;
  logCount?: number;
  logSize?: number;
}

export interface ZegoDeviceInfo {
  deviceName: string;
  deviceID: string;
}

export interface ZegoDeviceInfos {
  microphones: ZegoDeviceInfo[];
  speakers: ZegoDeviceInfo[];
  cameras: ZegoDeviceInfo[];
}

export interface ZegoCapabilityDetection {
  webRTC?: boolean;
  customCapture?: boolean;
  camera?: boolean;
  microphone?: boolean;
  screenSharing?: boolean;
  videoCodec?: { H264: boolean; H265: boolean; VP8: boolean; VP9: boolean };
  errInfo: Record<string, never>;
  result?: boolean;
}

export enum ZegoRoomStateChangedReason {
  Logining = 'LOGINING',
  Logined = 'LOGINED',
  LoginFailed = 'LOGIN_FAILED',
  Reconnecting = 'RECONNECTING',
  Reconnected = 'RECONNECTED',
  ReconnectFailed = 'RECONNECT_FAILED',
  Kickout = 'KICKOUT',
  Logout = 'LOGOUT',
  LogoutFailed = 'LOGOUT_FAILED',
}

export type ZegoRoomState = 'DISCONNECTED' | 'CONNECTING' | 'CONNECTED';

export interface ZegoRoomEvents {
  roomStateChanged: (roomID: string, reason: ZegoRoomStateChangedReason, errorCode: number, extendedData: string) => void;
  /** The older event, of the same changes. */
  roomStateUpdate: (roomID: string, state: ZegoRoomState, errorCode: number, extendedData: string) => void;
  /** Only after a login with `userUpdate`: first the users who are there, then who joins and leaves. */
  roomUserUpdate: (roomID: string, updateType: 'DELETE' | 'ADD', userList: ZegoUser[]) => void;
  roomOnlineUserCountUpdate: (roomID: string, count: number) => void;
  IMRecvBroadcastMessage: (roomID: string, chatData: ZegoBroadcastMessageInfo[]) => void;
  IMRecvBarrageMessage: (roomID: string, messageInfo: ZegoBarrageMessageInfo[]) => void;
  IMRecvCustomCommand: (roomID: string, fromUser: ZegoUser, command: string) => void;
  roomExtraInfoUpdate: (roomID: string, roomExtraInfoList: ZegoRoomExtraInfo[]) => void;
  /** 30 s before the token of the room expires. */
  tokenWillExpire: (roomID: string) => void;
}
