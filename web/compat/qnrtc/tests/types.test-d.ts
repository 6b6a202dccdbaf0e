// These lines are compiled, not run: code that was written for the vendor's types compiles with ours.
import VendorQNRTC, * as vendor from 'qnweb-rtc';
import QNRTC, * as ours from '../src/index.ts';

type RoomParts =
  | 'userID'
  | 'userData'
  | 'roomName'
  | 'remoteUsers'
  | 'getRemoteUser'
  | 'setClientMode'
  | 'setClientRole'
  | 'join'
  | 'leave'
  | 'sendMessage'
  | 'unpublish'
  | 'getNetworkQuality';

declare const client: ours.QNRTCClient;
declare const user: ours.QNRemoteUser;
declare const info: ours.QNConnectionDisconnectedInfo;
declare const message: ours.QNCustomMessage;

export const asClient: Pick<vendor.QNRTCClient, RoomParts> = client;
export const asUser: vendor.QNRemoteUser = user;
export const asInfo: vendor.QNConnectionDisconnectedInfo = info;
export const asMessage: vendor.QNCustomMessage = message;
export const asEntrance: Pick<typeof VendorQNRTC, 'VERSION' | 'setLogLevel' | 'isBrowserSupported' | 'getDevices' | 'setConfig'> = QNRTC;

/** The listeners of an application, with the vendor's types, are accepted. */
declare const onState: (state: vendor.QNConnectionState, info?: vendor.QNConnectionDisconnectedInfo) => void;
declare const onMessage: (message: vendor.QNCustomMessage) => void;
declare const onTracks: (userID: string, tracks: (vendor.QNRemoteAudioTrack | vendor.QNRemoteVideoTrack)[]) => void;
declare const onUser: (userID: string, userData?: string) => void;
client.on('connection-state-changed', onState).addListener('message-received', onMessage).once('user-joined', onUser);
client.on('user-published', onTracks).off('user-left', onUser).removeAllListeners('user-left');

export async function application(): Promise<void> {
  await client.join('token', 'data');
  await client.sendMessage('1', 'text', [{} as vendor.QNRemoteUser]);
  // @ts-expect-error there is no track to publish
  await client.publish({} as MediaStreamTrack);
  // @ts-expect-error a misspelled event
  client.on('user-join', () => {});
}
