import type { QNRemoteAudioTrack, QNRemoteVideoTrack } from './media.ts';

/** Another user of the room. */
export class QNRemoteUser {
  readonly userID: string;
  userData?: string;

  constructor(userID: string, userData?: string) {
    this.userID = userID;
    if (userData !== undefined) this.userData = userData;
  }

  /** Returns an empty list: there is no video. */
  getVideoTracks(): QNRemoteVideoTrack[] {
    return [];
  }

  /** Returns an empty list: there is no audio. */
  getAudioTracks(): QNRemoteAudioTrack[] {
    return [];
  }
}
