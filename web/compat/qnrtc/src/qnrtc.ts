import { type QNClientConfig, QNRTCClient } from './client.ts';
import type { QNLogLevel, QNTransportPolicy } from './enums.ts';
import { notSupported, rejects } from './media.ts';

export interface QNRTCConfig {
  /** The address of the Parlor server, for clients that name none. */
  server?: string;
  transportPolicy?: 'forceUdp' | 'forceTcp' | 'preferUdp';
  simulcast?: boolean;
  reconnectTimes?: number;
  requestTimeout?: number;
  mcuServerHosts?: string[];
}

/** The entrance of the vendor's SDK. What needs audio or video is rejected, or returns an empty list. */
export class QNRTC {
  static #server: string | undefined;
  static onCameraChanged?: (deviceInfo: object) => void;
  static onMicrophoneChanged?: (deviceInfo: object) => void;
  static onPlaybackDeviceChanged?: (deviceInfo: object) => void;

  /** The version of the vendor's SDK whose API this is. */
  static get VERSION(): string {
    return '4.3.2';
  }

  static createClient(config: QNClientConfig = {}): QNRTCClient {
    return new QNRTCClient({ server: QNRTC.#server, ...config });
  }

  /** Only `server` has an effect. */
  static setConfig({ server }: QNRTCConfig): void {
    if (server !== undefined) QNRTC.#server = server;
  }

  static setLogLevel(_level: QNLogLevel): void {}

  static setLogConfig(_config: object): void {}

  static setTransportPolicy(_policy: QNTransportPolicy): void {}

  static async uploadLog(_token?: string): Promise<{ code: number }> {
    return { code: 0 };
  }

  static isBrowserSupported(): boolean {
    return true;
  }

  static async isChromeExtensionAvailable(): Promise<boolean> {
    return false;
  }

  static readonly checkSystemRequirements = rejects('checkSystemRequirements');

  // There are no devices, because nothing could be done with them.

  static async getDevices(_skipPermissionCheck?: boolean): Promise<MediaDeviceInfo[]> {
    return [];
  }

  static async getCameras(_skipPermissionCheck?: boolean): Promise<MediaDeviceInfo[]> {
    return [];
  }

  static async getMicrophones(_skipPermissionCheck?: boolean): Promise<MediaDeviceInfo[]> {
    return [];
  }

  static async getPlaybackDevices(_skipPermissionCheck?: boolean): Promise<MediaDeviceInfo[]> {
    return [];
  }

  static async getElectronScreenSources(_type?: string): Promise<never[]> {
    return [];
  }

  static readonly createCameraVideoTrack = rejects('createCameraVideoTrack');
  static readonly createMicrophoneAudioTrack = rejects('createMicrophoneAudioTrack');
  static readonly createScreenVideoTrack = rejects('createScreenVideoTrack');
  static readonly createMicrophoneAndCameraTracks = rejects('createMicrophoneAndCameraTracks');
  static readonly createBufferSourceAudioTrack = rejects('createBufferSourceAudioTrack');
  static readonly createAudioMusicMixer = unavailable('createAudioMusicMixer');
  static readonly createAudioEffectMixer = unavailable('createAudioEffectMixer');
  static readonly createCanvasVideoTrack = unavailable('createCanvasVideoTrack');
  static readonly createCustomAudioTrack = unavailable('createCustomAudioTrack');
  static readonly createCustomVideoTrack = unavailable('createCustomVideoTrack');
  static readonly createMediaRecorder = unavailable('createMediaRecorder');
  static readonly createDeviceManger = unavailable('createDeviceManger');

  static destroyAudioMusicMixer(): void {}

  static destroyAudioEffectMixer(): void {}

  static async checkAudioTrackIsActive(_track: never, _timeout?: number): Promise<boolean> {
    return false;
  }

  static async checkVideoTrackIsActive(_track: never, _timeout?: number): Promise<boolean> {
    return false;
  }
}

/** Returns a function that throws, for a call that returns something of audio or video at once. */
function unavailable(name: string): (...args: unknown[]) => never {
  return () => {
    throw notSupported(name);
  };
}
