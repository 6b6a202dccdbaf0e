export { type QNClientConfig, type QNClientEvents, type QNConnectionDisconnectedInfo, type QNCustomMessage, QNRTCClient } from './client.ts';
export * from './enums.ts';
export { QNRTCError } from './error.ts';
export type * from './media.ts';
export { QNRTC as default, QNRTC, type QNRTCConfig } from './qnrtc.ts';
export { QNRemoteUser } from './remote-user.ts';
