export type { ConnectionEvent, ConnectionState, ConnectionStateChange } from './connection.ts';
export type { LiveAttributes } from './live-attributes.ts';
export type { LiveHistory } from './live-history.ts';
export type { LiveMembers } from './live-members.ts';
export { newMessageID, type PeerMessageDraft, type RoomMessageDraft } from './message.ts';
export {
  type LoginOptions,
  Parlor,
  type ParlorEvents,
  type ResumeOptions,
  type ResumeState,
} from './parlor.ts';
export type { SendOptions } from './outbox.ts';
export { ParlorError, type ProblemCode } from './problem.ts';
export type { RoomEvents, RoomHandle, RoomStateChange } from './room.ts';
export type * from './schemas.gen.ts';
export type { StreamEvents } from './stream-events.ts';
export type { TokenSource } from './token-source.ts';
export type { UploadOptions } from './upload-options.ts';
