import { beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { failAttempt, fakeTime, message, until } from '../../../sdk/tests/harness.ts';
import { type Call, TestServer } from '../../../sdk/tests/server.ts';
import { RoomSession, type RoomSessionHandler } from '../src/room-session.ts';
import { admit, joinedAt, listMembers, openStream, room, tokenOf } from './admit.ts';

let server: TestServer;

beforeEach(async () => {
  fakeTime();
  server = await TestServer.start();
});

/** Enters the room with bob in it, and records what the session reports. */
async function entered(): Promise<{ roomSession: RoomSession; log: unknown[][]; stream: Call }> {
  const log: unknown[][] = [];
  const handler = new Proxy({}, { get: (_, name) => (...args: unknown[]) => log.push([name, ...args]) }) as RoomSessionHandler;
  const roomSession = new RoomSession(
    { baseURL: server.url, token: tokenOf({}), roomID: 'r', members: true, config: {}, retryWindow: () => 10_000, reenters: false },
    handler,
  );
  onTestFinished(() => void roomSession.leave());
  const [{ stream }] = await Promise.all([admit(server), listMembers(server), roomSession.enter()]);
  send(stream, 'roomMessageReceived', 10, message(10));
  await until(() => log.some(([name]) => name === 'received'));
  log.length = 0;
  return { roomSession, log, stream };
}

function send(stream: Call, name: string, seq: number, data: object, generation = 1): void {
  stream.event(name, { ...data, roomID: 'r', generation, seq }, `${generation}:${seq}`);
}

const join = (...userIDs: string[]) => ({ memberList: userIDs.map((userID) => ({ userID, userName: userID, joinedAt })) });
const setAttributes = (roomAttributes: object, userID: string) => ({ infos: [{ action: 'set', roomAttributes }], operatedInfo: { userID } });
const names = (log: unknown[][]) => log.map(([name]) => name);

test('events of another generation of the room are ignored', async () => {
  const { log, stream } = await entered();
  send(stream, 'roomMemberJoined', 11, join('old'), 0);
  send(stream, 'roomMessageReceived', 12, message(12), 0);
  send(stream, 'roomMemberJoined', 11, join('carol'));
  await until(() => log.length > 0);
  expect(log).toEqual([['joined', [expect.objectContaining({ userID: 'carol' })]]]);
});

test('after roomReset, the room is read again, and the differences are reported', async () => {
  const { roomSession, log, stream } = await entered();
  const again = room({ generation: 2, memberCount: 2, roomAttributes: { a: '1' }, attributesVersion: 9, lastSeq: 9 });
  stream.event('roomReset', { roomID: 'r', generation: 2, reason: 'epochChanged', oldestSeq: 1, room: again }, '2:9');
  send(stream, 'roomMemberJoined', 10, join('dave'), 2);
  send(stream, 'roomAttributesUpdated', 9, setAttributes({ a: '1' }, 'bob'), 2); // the room that was read includes it
  const list = { generation: 2, seq: 9, memberList: join('alice', 'carol').memberList };
  (await server.next('GET', '/v1/rooms/r/members')).reply(200, list);
  await until(() => log.length === 5);
  expect(log).toMatchObject([
    ['left', [{ userID: 'bob' }]],
    ['joined', [{ userID: 'carol' }]],
    ['counted', 2],
    ['attributesChanged', { set: { a: '1' }, deleted: [] }],
    ['joined', [{ userID: 'dave' }]],
  ]);
  expect([...roomSession.members.keys()]).toEqual(['carol', 'dave']);
});

test('when a room publishes names again, its members are read again', async () => {
  const { log, stream } = await entered();
  send(stream, 'roomMemberCountUpdated', 11, { memberCount: 900, memberEvents: 'counts' });
  send(stream, 'roomMemberCountUpdated', 12, { memberCount: 2, memberEvents: 'names' });
  (await server.next('GET', '/v1/rooms/r/members')).reply(200, { generation: 1, seq: 12, memberList: join('alice', 'carol').memberList });
  await until(() => log.length === 4);
  expect(names(log)).toEqual(['counted', 'counted', 'left', 'joined']);
});

test('a connection that is back is not given up later', async () => {
  const { log, stream } = await entered();
  await failAttempt(() => stream.cut());
  vi.advanceTimersByTime(500);
  await openStream(server);
  await until(() => log.length === 2);
  vi.advanceTimersByTime(14_000); // more than retryWindow, and less than the silence that means a loss
  expect(names(log)).toEqual(['reconnecting', 'reconnected']);
});

test('leaving does not wait for the server while the connection is lost, nor for long otherwise', async () => {
  const first = await entered();
  await failAttempt(() => first.stream.cut());
  await first.roomSession.leave();
  expect(names(first.log)).toEqual(['reconnecting']);
  (await server.next('POST', '/v1/rooms/r/leave')).reply(200, { roomID: 'r' });
  (await server.next('DELETE', '/v1/sessions/current')).reply(204);

  const second = await entered();
  const left = second.roomSession.leave();
  const call = await server.next('POST', '/v1/rooms/r/leave');
  vi.advanceTimersByTime(3_000);
  await left;
  second.stream.event('tokenWillExpire', { secondsLeft: 30 });
  call.reply(200, { roomID: 'r' });
  (await server.next('DELETE', '/v1/sessions/current')).reply(204);
  expect(second.log).toEqual([]);
  await expect(second.roomSession.send({ text: 'x' })).rejects.toMatchObject({ code: 'session_ended' });
});

test('a session that the server has ended is not ended again', async () => {
  const { log, stream } = await entered();
  const calls: string[] = [];
  const { fetch } = globalThis;
  vi.stubGlobal('fetch', (...args: Parameters<typeof fetch>) => {
    calls.push(args[1]!.method!);
    return fetch(...args);
  });
  stream.event('roomStateChanged', { roomID: 'r', generation: 1, state: 'disconnected', event: 'tokenExpired' });
  await until(() => log.length > 0);
  expect(log).toMatchObject([['ended', { event: 'tokenExpired' }]]);
  expect(calls).toEqual([]);
});

test('a change of attributes that failed, or changed nothing, hides no later change', async () => {
  const { roomSession, log, stream } = await entered();
  const refused = roomSession.setAttribute('a', '1');
  (await server.next('PATCH', '/v1/rooms/r/attributes')).refuse(403, 'not_granted');
  await expect(refused).rejects.toMatchObject({ code: 'not_granted' });
  const unchanged = roomSession.setAttribute('a', '1');
  (await server.next('PATCH', '/v1/rooms/r/attributes')).reply(200, { version: 0, errorKeys: [] });
  await unchanged;
  send(stream, 'roomAttributesUpdated', 11, setAttributes({ a: '1' }, 'alice'));
  await until(() => log.length > 0);
  expect(log).toEqual([['attributesChanged', { set: { a: '1' }, deleted: [], userID: 'alice' }]]);
});

test('names that change are known', async () => {
  const { roomSession, log, stream } = await entered();
  send(stream, 'userInfoUpdated', 11, { userList: [{ userID: 'bob', userName: 'Robert' }] });
  await until(() => log.length > 0);
  expect(roomSession.members.get('bob')).toMatchObject({ userName: 'Robert' });
  expect(names(log)).toEqual(['memberChanged']);
});
