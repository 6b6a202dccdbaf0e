import type { HTTP } from './http.ts';
import type { Arguments, Attributes, Operation, Reply, RoomConfig } from './types.ts';

export interface RoomOptions {
  /** The name that is displayed; up to 64 bytes. */
  roomName?: string;
  config?: RoomConfig;
  /** The first attributes of the room; up to 20. */
  roomAttributes?: Attributes;
}

export interface JoinOptions {
  /** Text of the application about this member, which all members see; up to 1,024 bytes. */
  userData?: string;
}

export interface EnterOptions extends JoinOptions {
  /** Return also the first members, at most this many, and their attributes; up to 500. */
  memberLimit?: number;
}

export type RoomQuery = NonNullable<Arguments<Operation<'/v1/rooms/{roomID}', 'get'>>['query']>;
export type MemberQuery = NonNullable<Arguments<Operation<'/v1/rooms/{roomID}/members', 'get'>>['query']>;

export const createRoom = (http: HTTP, roomID: string, options: RoomOptions & JoinOptions) =>
  http.call('post', '/v1/rooms', { body: { roomID, ...options } });

export const joinRoom = (http: HTTP, roomID: string, options: EnterOptions) =>
  http.call('post', '/v1/rooms/{roomID}/join', { path: { roomID }, body: options });

export const enterRoom = (http: HTTP, roomID: string, options: RoomOptions & EnterOptions) =>
  http.call('post', '/v1/rooms/{roomID}/enter', { path: { roomID }, body: options });

export const leaveRoom = (http: HTTP, roomID: string) =>
  http.call('post', '/v1/rooms/{roomID}/leave', { path: { roomID } });

export const getRoom = (http: HTTP, roomID: string, query: RoomQuery) =>
  http.call('get', '/v1/rooms/{roomID}', { path: { roomID }, query });

/**
 * The name and the settings to change. With `ifVersion`, they change only if that is still the
 * room's settingsVersion; otherwise the call fails with `version_mismatch`.
 */
export type RoomUpdate = Arguments<Operation<'/v1/rooms/{roomID}', 'patch'>>['body'] & { ifVersion?: number };

export const updateRoom = (http: HTTP, roomID: string, { ifVersion, ...body }: RoomUpdate) =>
  http.call('patch', '/v1/rooms/{roomID}', {
    path: { roomID },
    body,
    ...(ifVersion !== undefined && { header: { 'If-Match': `"${ifVersion}"` } }),
  });

export const listMembers = (http: HTTP, roomID: string, query: MemberQuery) =>
  http.call('get', '/v1/rooms/{roomID}/members', { path: { roomID }, query });

export const countMembers = (http: HTTP, roomID: string) =>
  http.call('get', '/v1/rooms/{roomID}/members/count', { path: { roomID } });

export type EnterRoomReply = Reply<Operation<'/v1/rooms/{roomID}/enter', 'post'>>;
