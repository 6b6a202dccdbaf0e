export type { MemberAttributesQuery, MemberAttributesUpdate, RoomAttributesUpdate } from './attributes.ts';
export {
  type LoginOptions,
  Parlor,
  type ParlorEvents,
  type ResumeOptions,
  type ResumeState,
  type TokenSource,
} from './parlor.ts';
export type { ConnectionEvent, ConnectionState, ConnectionStateChange } from './connection.ts';
export { developmentToken } from './development-token.ts';
export { MemberList } from './member-list.ts';
export { type MessageDraft, type MessageQuery, newMessageID } from './messages.ts';
export { ParlorError, type ProblemCode } from './problem.ts';
export type { EnterRoomReply, JoinOptions, MemberQuery, RoomOptions } from './rooms.ts';
export type {
  Attributes,
  LeaveReason,
  Limits,
  Media,
  MediaReply,
  Member,
  MemberAttributesInfo,
  MemberEvents,
  Message,
  Room,
  RoomStateEvent,
  Session,
  StreamEvents,
  User,
} from './types.ts';
export type { UploadOptions } from './uploads.ts';
