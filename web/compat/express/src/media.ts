import { NOT_SUPPORTED, ZegoError } from './error.ts';
import type { ZegoServerResponse } from './types.ts';

/** Rejected with a ZegoError, whose code says that the browser does not support it. */
const REJECTED = ['createStream', 'createZegoStream', 'startPlayingStream', 'getElectronScreenSources', 'loadAudioEffect'] as const;

/** Resolve with an errorCode. */
const RESPONDING = [
  'addPublishCdnUrl', 'addTrack', 'enableAiDenoise', 'enableBackgroundProcess', 'enableLiveAudioEffect', 'enableVirtualStereo',
  'initBackgroundModule', 'removePublishCdnUrl', 'removeTrack', 'replaceTrack', 'setAiDenoiseMode', 'setAudioChangerParam',
  'setAudioConfig', 'setAudioFrameCallback', 'setCaptureAudioFrameCallback', 'setCaptureVolume', 'setEffectsBeauty',
  'setLowlightEnhancement', 'setMixerTaskConfig', 'setReverbPreset', 'setStreamExtraInfo', 'setVideoConfig', 'setVoiceChangerParam',
  'setVoiceChangerPreset', 'startAutoMixerTask', 'startMixerTask', 'stopAutoMixerTask', 'stopMixerTask', 'updatePublishingStream',
  'useAudioDevice', 'useFrontCamera', 'useVideoDevice',
] as const;

/** Resolve with false. */
const RESOLVING_FALSE = [
  'checkAudioTrackIsActive', 'checkVideoTrackIsActive', 'enableVideoCaptureDevice', 'muteAllPlayAudioStreams',
  'muteAllPlayVideoStreams', 'mutePlayStreamAudio', 'mutePlayStreamVideo', 'setBackgroundBlurOptions', 'setDummyCaptureImagePath',
  'setPlayStreamVideoType', 'setStreamAlignmentProperty', 'setTransparentBackgroundOptions', 'setVirtualBackgroundOptions',
  'useAudioOutputDevice',
] as const;

/** Return false. */
const FALSE = [
  'isMicrophoneMuted', 'muteMicrophone', 'mutePublishStreamAudio', 'mutePublishStreamVideo', 'sendSEI', 'setMixingAudioVolume',
  'setRoomScenario', 'startMixingAudio', 'startPublishingStream', 'stopMixingAudio', 'stopPublishingStream', 'unloadAudioEffect',
] as const;

/** Return null. */
const NULL = ['getPlayingStreamQuality', 'getPublishingStreamQuality'] as const;

/** Do nothing. */
const NOTHING = [
  'destroyCopyrightedMusic', 'destroyRealTimeSequentialDataManager', 'destroyStream', 'enableAutoSwitchDevice', 'enableDualStream',
  'enableHardwareEncoder', 'setLowStreamParameter', 'setSEIConfig', 'setSoundLevelDelegate', 'setTurnServer', 'stopPlayingStream',
] as const;

/** Throw a ZegoError, because they return an object at once. */
const THROWING = [
  'createAudioEffectPlayer', 'createCopyrightedMusic', 'createLocalStreamView', 'createRangeAudioInstance',
  'createRealTimeSequentialDataManager', 'createRemoteStreamView', 'createStreamCompositor',
] as const;

type Calls<Names extends readonly string[], Result> = { [name in Names[number]]: (...args: unknown[]) => Result };

export type MediaCalls = Calls<typeof REJECTED, Promise<never>> &
  Calls<typeof RESPONDING, Promise<ZegoServerResponse>> &
  Calls<typeof RESOLVING_FALSE, Promise<boolean>> &
  Calls<typeof FALSE, boolean> &
  Calls<typeof NULL, null> &
  Calls<typeof NOTHING, void> &
  Calls<typeof THROWING, never>;

/** Adds the calls of audio and video to a prototype. */
export function addMediaCalls(prototype: object): void {
  const add = (names: readonly string[], make: (name: string) => unknown) => {
    for (const name of names) {
      Object.defineProperty(prototype, name, { value: () => make(name), writable: true, configurable: true });
    }
  };
  add(REJECTED, (name) => Promise.reject(notSupported(name)));
  add(RESPONDING, () => Promise.resolve({ errorCode: NOT_SUPPORTED }));
  add(RESOLVING_FALSE, () => Promise.resolve(false));
  add(FALSE, () => false);
  add(NULL, () => null);
  add(NOTHING, () => undefined);
  add(THROWING, (name) => {
    throw notSupported(name);
  });
}

function notSupported(name: string): ZegoError {
  return new ZegoError(NOT_SUPPORTED, `${name} is not supported: there is no audio and video.`);
}
