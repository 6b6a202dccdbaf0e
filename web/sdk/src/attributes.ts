import type { HTTP } from './http.ts';
import type { Arguments, Operation } from './types.ts';

const ROOM = '/v1/rooms/{roomID}/attributes';
const MEMBERS = '/v1/rooms/{roomID}/member-attributes';

/**
 * The attributes to set and to delete. With `ifVersion`, they change only if that is still their
 * version; otherwise the call fails with `version_mismatch`.
 */
export type RoomAttributesUpdate = Arguments<Operation<typeof ROOM, 'patch'>>['body'] & { ifVersion?: number };

export type MemberAttributesUpdate = Arguments<Operation<typeof MEMBERS, 'patch'>>['body'];

/** Either `userID`, to look users up, or `limit` and `cursor`, to list all members by pages. */
export type MemberAttributesQuery = NonNullable<Arguments<Operation<typeof MEMBERS, 'get'>>['query']>;

export const roomAttributes = (http: HTTP, roomID: string) => http.call('get', ROOM, { path: { roomID } });

export const updateRoomAttributes = (http: HTTP, roomID: string, { ifVersion, ...body }: RoomAttributesUpdate) =>
  http.call('patch', ROOM, {
    path: { roomID },
    body,
    ...(ifVersion !== undefined && { header: { 'If-Match': `"${ifVersion}"` } }),
  });

export const memberAttributes = (http: HTTP, roomID: string, query: MemberAttributesQuery) =>
  http.call('get', MEMBERS, { path: { roomID }, query });

export const updateMemberAttributes = (http: HTTP, roomID: string, body: MemberAttributesUpdate) =>
  http.call('patch', MEMBERS, { path: { roomID }, body });
