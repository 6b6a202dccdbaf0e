import { NOT_SUPPORTED, QNRTCError } from './error.ts';

/** Parlor carries no audio and video: there is never a track. */
export type QNTrack = never;
export type QNLocalTrack = never;
export type QNLocalAudioTrack = never;
export type QNLocalVideoTrack = never;
export type QNCameraVideoTrack = never;
export type QNMicrophoneAudioTrack = never;
export type QNScreenVideoTrack = never;
export type QNCanvasVideoTrack = never;
export type QNCustomAudioTrack = never;
export type QNCustomVideoTrack = never;
export type QNBufferSourceAudioTrack = never;
export type QNRemoteTrack = never;
export type QNRemoteAudioTrack = never;
export type QNRemoteVideoTrack = never;

/** What needs audio or video fails like this. */
export function notSupported(name: string): QNRTCError {
  return new QNRTCError(NOT_SUPPORTED, `${name} is not supported: there is no audio and video.`);
}

/** Returns a function that is rejected, for a call that needs audio or video. */
export function rejects(name: string): (...args: unknown[]) => Promise<never> {
  return () => Promise.reject(notSupported(name));
}
