import type { components, paths } from './api.gen.ts';

type Schemas = components['schemas'];

export type Room = Schemas['Room'];
export type RoomConfig = Schemas['RoomConfigRequest'];
export type Member = Schemas['Member'];
export type MemberEvents = Schemas['MemberEvents'];
export type User = Schemas['User'];
export type Message = Schemas['Message'];
export type Media = Schemas['Media'];
export type MediaReply = Schemas['MediaReply'];
export type Session = Schemas['Session'];
export type SessionReply = Schemas['CreateSessionReply'];
export type Limits = Schemas['Limits'];
export type Attributes = Schemas['RoomAttributes'];
export type MemberAttributesInfo = Schemas['MemberAttributesInfo'];
export type LeaveReason = Schemas['LeaveReason'];
export type RoomStateEvent = Schemas['RoomStateEvent'];
export type ProblemDetails = Schemas['Problem'];

/** The data of each event on a session's stream, by the name of the SSE event. */
export interface StreamEvents {
  sessionReady: Schemas['SessionReadyEvent'];
  connectionStateChanged: Schemas['ConnectionStateChangedEvent'];
  roomStateChanged: Schemas['RoomStateChangedEvent'];
  roomMemberJoined: Schemas['RoomMemberJoinedEvent'];
  roomMemberLeft: Schemas['RoomMemberLeftEvent'];
  roomMemberCountUpdated: Schemas['RoomMemberCountUpdatedEvent'];
  memberReconnecting: Schemas['MemberReconnectingEvent'];
  memberReconnected: Schemas['MemberReconnectedEvent'];
  roomMessageReceived: Schemas['RoomMessageReceivedEvent'];
  messageRecalled: Schemas['MessageRecalledEvent'];
  roomSeqAdvanced: Schemas['RoomSeqAdvancedEvent'];
  roomAttributesUpdated: Schemas['RoomAttributesUpdatedEvent'];
  roomMemberAttributesUpdated: Schemas['RoomMemberAttributesUpdatedEvent'];
  roomUpdated: Schemas['RoomUpdatedEvent'];
  peerMessageReceived: Schemas['PeerMessageReceivedEvent'];
  peerMessageRecalled: Schemas['PeerMessageRecalledEvent'];
  roomReset: Schemas['RoomResetEvent'];
  inboxReset: Schemas['InboxResetEvent'];
  tokenWillExpire: Schemas['TokenWillExpireEvent'];
  reconnect: Schemas['ReconnectEvent'];
}

/**
 * The names of StreamEvents as values, because an EventSource needs a listener for each. The
 * compiler rejects a name that is not in StreamEvents; a unit test compares both with openapi.yaml.
 */
export const streamEventNames = [
  'sessionReady',
  'connectionStateChanged',
  'roomStateChanged',
  'roomMemberJoined',
  'roomMemberLeft',
  'roomMemberCountUpdated',
  'memberReconnecting',
  'memberReconnected',
  'roomMessageReceived',
  'messageRecalled',
  'roomSeqAdvanced',
  'roomAttributesUpdated',
  'roomMemberAttributesUpdated',
  'roomUpdated',
  'peerMessageReceived',
  'peerMessageRecalled',
  'roomReset',
  'inboxReset',
  'tokenWillExpire',
  'reconnect',
] as const satisfies readonly (keyof StreamEvents)[];

// The types below take the parts of an operation from the generated types, so that a call with a
// wrong path, field or reply does not compile.

type Verb = 'get' | 'post' | 'put' | 'patch' | 'delete';
type JSONContent = { content: { 'application/json': unknown } };
type JSONOf<T> = T extends JSONContent ? T['content']['application/json'] : undefined;

export type Path = keyof paths;
export type Method<P extends Path> = {
  [V in Verb]: paths[P][V] extends undefined ? never : V;
}[Verb];
export type Operation<P extends Path, M extends Method<P>> = NonNullable<paths[P][M]>;

type Parameters<O, In extends 'path' | 'query' | 'header'> = O extends { parameters: { [K in In]?: infer P } }
  ? NonNullable<P>
  : never;

type PathOf<O> = [Parameters<O, 'path'>] extends [never] ? { path?: never } : { path: Parameters<O, 'path'> };
type QueryOf<O> = { query?: Parameters<O, 'query'> };
type HeaderOf<O> = { header?: Parameters<O, 'header'> };
type BodyOf<O> = O extends { requestBody: JSONContent }
  ? { body: JSONOf<O['requestBody']> }
  : O extends { requestBody?: infer B }
    ? { body?: JSONOf<NonNullable<B>> }
    : never;

/** The arguments of an operation: its path, query, header and body. */
export type Arguments<O> = PathOf<O> & QueryOf<O> & HeaderOf<O> & BodyOf<O>;

/** The reply of an operation that succeeds; undefined if it has no body. */
export type Reply<O> = O extends { responses: infer R }
  ? { [Status in keyof R & Success]: JSONOf<R[Status]> }[keyof R & Success]
  : never;
type Success = 200 | 201 | 204;
