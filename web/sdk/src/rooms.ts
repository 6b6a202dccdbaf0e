import type { HTTP } from './http.ts';
import type { Arguments, Attributes, Operation, Reply, RoomConfig } from './types.ts';

export interface RoomOptions {
  /** The name that is displayed; up to 64 bytes. */
  roomName?: string;
  config?: RoomConfig;
  /** The first attributes of the room; up to 20. */
  roomAttributes?: Attributes;
}

export type MemberQuery = NonNullable<Arguments<Operation<'/v1/rooms/{roomID}/members', 'get'>>['query']>;

export const createRoom = (http: HTTP, roomID: string, options: RoomOptions) =>
  http.call('post', '/v1/rooms', { body: { roomID, ...options } });

export const joinRoom = (http: HTTP, roomID: string) =>
  http.call('post', '/v1/rooms/{roomID}/join', { path: { roomID } });

export const enterRoom = (http: HTTP, roomID: string, options: RoomOptions) =>
  http.call('post', '/v1/rooms/{roomID}/enter', { path: { roomID }, body: options });

export const leaveRoom = (http: HTTP, roomID: string) =>
  http.call('post', '/v1/rooms/{roomID}/leave', { path: { roomID } });

export const getRoom = (http: HTTP, roomID: string) =>
  http.call('get', '/v1/rooms/{roomID}', { path: { roomID } });

export const listMembers = (http: HTTP, roomID: string, query: MemberQuery) =>
  http.call('get', '/v1/rooms/{roomID}/members', { path: { roomID }, query });

export const countMembers = (http: HTTP, roomID: string) =>
  http.call('get', '/v1/rooms/{roomID}/members/count', { path: { roomID } });

export type EnterRoomReply = Reply<Operation<'/v1/rooms/{roomID}/enter', 'post'>>;
