import { vi } from 'vitest';
import { room as roomOf } from '../../../sdk/tests/harness.ts';
import { type Call, session, type TestServer } from '../../../sdk/tests/server.ts';

export const joinedAt = '2026-11-21T15:00:00Z';

/** Makes a user token, which no server would accept. */
export function tokenOf(claims: object): string {
  const encode = (part: object) => Buffer.from(JSON.stringify(part)).toString('base64url');
  return `${encode({ alg: 'HS256' })}.${encode({ sub: 'alice', ...claims })}.x`;
}

/** Makes the room `r` as the server returns it. */
export function room(more: object = {}) {
  return { ...roomOf(10), memberEvents: 'names', settingsVersion: 0, ...more };
}

export interface Admitted {
  login: Call;
  enter: Call;
  stream: Call;
}

/** Answers the calls of a client that enters the room `r`, in which these users are. */
export async function admit(server: TestServer, { others = ['bob'], more = {} }: { others?: string[]; more?: object } = {}): Promise<Admitted> {
  const login = await server.next('POST', '/v1/sessions');
  login.reply(201, session);
  const enter = await server.next('POST', '/v1/rooms/r/enter');
  const entered = room({ memberCount: others.length + 1, ...more });
  enter.reply(200, { room: entered, created: false });
  const stream = await openStream(server, [entered]);
  return { login, enter, stream };
}

/** Answers the next stream of a client that is in these rooms. */
export async function openStream(server: TestServer, rooms: unknown[] = [room()]): Promise<Call> {
  if (vi.isFakeTimers()) vi.advanceTimersByTime(0); // the stream opens in the next task
  return (await server.nextStream()).open().ready('1:10', rooms);
}

/** Answers the next list of members. */
export async function listMembers(server: TestServer, others: string[] = ['bob']): Promise<void> {
  const memberList = ['alice', ...others].map((userID) => ({ userID, userName: userID.toUpperCase(), userData: `data of ${userID}`, joinedAt }));
  (await server.next('GET', '/v1/rooms/r/members')).reply(200, { generation: 1, seq: 10, memberList });
}
