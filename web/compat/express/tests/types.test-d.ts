// These lines are compiled, not run: code that was written for the vendor's types compiles with ours.
import type { ZegoExpressEngine as Vendor } from 'zego-express-engine-webrtc';
import type { ZegoRTMEvent } from 'zego-express-engine-webrtc/sdk/code/zh/ZegoExpressEntity.rtm.d.ts';
import { ZegoExpressEngine, type ZegoRoomEvents } from '../src/index.ts';

type RoomParts =
  | 'enableMultiRoom'
  | 'loginRoom'
  | 'switchRoom'
  | 'logoutRoom'
  | 'renewToken'
  | 'sendBarrageMessage'
  | 'sendBroadcastMessage'
  | 'sendCustomCommand'
  | 'sendTransparentMessage'
  | 'setRoomExtraInfo'
  | 'setLogConfig'
  | 'setDebugVerbose'
  | 'getVersion'
  | 'setEngineConfig'
  | 'checkSystemRequirements'
  | 'enumDevices'
  | 'getCameras'
  | 'getMicrophones'
  | 'getSpeakers'
  | 'destroyEngine'
  | 'uploadLog'
  | 'on'
  | 'off'
  // Of audio and video, what applications call without a stream.
  | 'createStream'
  | 'createZegoStream'
  | 'destroyStream'
  | 'startPublishingStream'
  | 'stopPublishingStream'
  | 'startPlayingStream'
  | 'stopPlayingStream'
  | 'setSoundLevelDelegate'
  | 'mutePublishStreamAudio'
  | 'muteMicrophone';

export const engine: Pick<Vendor, RoomParts> = new ZegoExpressEngine(1, 'https://parlor.example.com', { scenario: 0 });

/** The listeners of an application, with the vendor's types, are accepted. */
type OurListeners = { [E in keyof ZegoRoomEvents]: ZegoRoomEvents[E] };
declare const listeners: ZegoRTMEvent;
export const accepted: OurListeners = listeners;

declare const ours: ZegoExpressEngine;
ours.on('roomUserUpdate', (roomID, updateType, users) => void [roomID, updateType === 'ADD', users[0]?.userName]);
ours.on('publisherStateUpdate', () => {});

export async function application(): Promise<void> {
  const stream: never = await ours.createStream();
  void stream;
  // @ts-expect-error the user has a userID
  await ours.loginRoom('room', 'token', { userName: 'Alice' });
}
