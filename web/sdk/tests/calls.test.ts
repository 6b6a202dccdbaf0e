import { beforeEach, describe, expect, test, vi } from 'vitest';
import { Parlor, ParlorError } from '../src/index.ts';
import { MemberList } from '../src/member-list.ts';
import { login, message, next, failAttempt, fakeTime, room } from './harness.ts';
import { session, TestServer } from './server.ts';

let server: TestServer;
let parlor: Parlor;

beforeEach(async () => {
  fakeTime();
  vi.spyOn(Math, 'random').mockReturnValue(0.5);
  server = await TestServer.start();
  parlor = await login(server);
});

const messagesPath = '/v1/rooms/r/messages';

test('IDs that fetch would resolve are refused', async () => {
  for (const id of ['', '.', '..']) {
    await expect(parlor.leaveRoom(id)).rejects.toMatchObject({ code: 'invalid_request' });
    await expect(parlor.recallPeerMessage(id, 'm')).rejects.toMatchObject({ code: 'invalid_request' });
  }
});

test('IDs in paths are encoded', async () => {
  const roomID = "class#1?%/ \\..;,$&'*+=@:{roomID}";
  const reply = parlor.enterRoom(roomID, { roomName: 'First class' });
  const call = await server.next('POST', `/v1/rooms/${encodeURIComponent(roomID)}/enter`);
  expect(call.body).toEqual({ roomName: 'First class' });
  expect(call.header('Authorization')).toBe('Bearer sk_test');
  call.reply(201, { room: { roomID }, created: true });
  expect(await reply).toMatchObject({ created: true });
});

test('a query parameter is repeated for each of its values', async () => {
  const listing = parlor.listMembers('r', { userID: ['a', 'b&c'] });
  const call = await server.next('GET', '/v1/rooms/r/members');
  expect(call.url.searchParams.getAll('userID')).toEqual(['a', 'b&c']);
  call.reply(200, { memberList: [] });
  expect(await listing).toEqual({ memberList: [] });
});

test('a MemberList is the same as the room, whenever events arrive', async () => {
  const list = new MemberList(parlor, 'r');
  const member = (userID: string, joinedAt = '') => ({ userID, userName: userID, joinedAt });
  const joined = (seq: number, ...users: string[]) =>
    list.apply({ roomID: 'r', generation: 7, seq, memberList: users.map((user) => member(user, `at ${seq}`)) });
  const left = (seq: number, ...users: string[]) =>
    list.apply({
      roomID: 'r',
      generation: 7,
      seq,
      memberList: users.map((userID) => ({ userID, userName: userID, reason: 'left' as const })),
    });
  const page = async (seq: number, users: string[], nextCursor?: string, generation = 7) => {
    const call = await server.next('GET', '/v1/rooms/r/members');
    call.reply(200, { generation, seq, memberList: users.map((user) => member(user)), ...(nextCursor && { nextCursor }) });
    return call.url.searchParams;
  };
  const users = () => Array.from(list.members.values(), ({ userID, joinedAt }) => userID + joinedAt).join(', ');

  const loading = list.load();
  joined(4, 'early'); // the list includes it, and a leave that was not received yet
  joined(6, 'bob');
  await page(5, ['alice', 'carol'], 'c1');
  left(7, 'carol');
  joined(8, 'alice');
  expect((await page(9, ['dora', 'late'], 'c2')).get('cursor')).toBe('c1');
  left(10, 'late');
  await page(11, ['last']);
  await loading;
  expect(users()).toBe('dora, last, bobat 6, aliceat 8');
  expect(list.complete).toBe(true);
  left(8, 'alice'); // again
  left(12, 'nobody');
  joined(13, 'eve');
  expect(users()).toBe('dora, last, bobat 6, aliceat 8, eveat 13');
  const updated = (seq: number, userID: string, userData?: string) =>
    list.apply({ roomID: 'r', generation: 7, seq, infos: [{ userID, attributes: {}, ...(userData && { userData }) }] });
  updated(13, 'eve', 'old');
  updated(14, 'eve', 'new');
  updated(15, 'eve');
  updated(16, 'nobody', 'x');
  expect(list.members.get('eve')).toEqual({ ...member('eve', 'at 13'), userData: 'new' });
  expect(list.members.has('nobody')).toBe(false);

  const renamed = (seq: number, userID: string, userName: string, avatarURL?: string) =>
    list.apply({ roomID: 'r', generation: 7, seq, userList: [{ userID, userName, ...(avatarURL && { avatarURL }) }] });
  renamed(16, 'eve', 'old'); // known
  expect(list.members.get('eve')?.userName).toBe('eve');
  renamed(17, 'eve', 'Eva', 'https://a.example/1.png');
  renamed(18, 'nobody', 'x');
  const eva = { ...member('eve', 'at 13'), userData: 'new', userName: 'Eva', avatarURL: 'https://a.example/1.png' };
  expect(list.members.get('eve')).toEqual(eva);
  renamed(19, 'eve', 'eve'); // without an avatar

  const eve = { userID: 'eve', userName: 'eve' };
  list.setState('reconnecting', { roomID: 'r', generation: 7, seq: 19, memberList: [eve] }); // known
  expect(list.members.get('eve')?.state).toBeUndefined();
  list.setState('reconnecting', { roomID: 'r', generation: 7, seq: 20, memberList: [eve] });
  expect(list.members.get('eve')).toEqual({ ...member('eve', 'at 13'), userData: 'new', state: 'reconnecting' });
  const counted = (seq: number, memberEvents: 'names' | 'counts') =>
    list.apply({ roomID: 'r', generation: 7, seq, memberCount: 9, memberEvents });
  expect(list.current).toBe(true);
  counted(21, 'counts');
  expect(list.current).toBe(false);
  const listed = list.load();
  list.setState('online', { roomID: 'r', generation: 7, seq: 23, memberList: [{ userID: 'a', userName: 'a' }] });
  await page(22, ['a']);
  await listed;
  expect(list.members.get('a')?.state).toBe('online');
  expect(list.current).toBe(false); // it was right when it was loaded
  counted(24, 'names');
  const reloading = list.load(2);
  await page(25, ['a', 'b'], 'c3');
  await reloading;
  expect(users()).toBe('a, b');
  expect(list.complete).toBe(false);
  expect(list.current).toBe(true);

  const recreated = list.load();
  await page(1, ['a'], 'c4');
  await page(1, ['other'], undefined, 8);
  await page(2, ['other', 'another'], undefined, 8);
  await recreated;
  expect(users()).toBe('other, another');
});

test('recallMessage is retried after a lost reply', async () => {
  const recalling = parlor.recallMessage('r', 'm');
  const first = await server.next('DELETE', `${messagesPath}/m`);
  await failAttempt(() => first.cut());
  vi.advanceTimersByTime(250);
  (await server.next('DELETE', `${messagesPath}/m`)).reply(204);
  await recalling;
});

test('recallPeerMessage encodes the userID', async () => {
  const recalling = parlor.recallPeerMessage('b?b%', 'm');
  (await server.next('DELETE', '/v1/users/b%3Fb%25/messages/m')).reply(204);
  await recalling;
});

test('sendPeerMessage is retried, and listPeerMessages lists the messages', async () => {
  const sending = parlor.sendPeerMessage('b#b', { text: 'hello' });
  const first = await server.next('POST', '/v1/users/b%23b/messages');
  expect(first.body).toMatchObject({ kind: 'text', text: 'hello', clientMessageID: expect.any(String) });
  await failAttempt(() => first.refuse(503, 'unavailable'));
  vi.advanceTimersByTime(250);
  const second = await server.next('POST', '/v1/users/b%23b/messages');
  expect(second.body).toEqual(first.body);
  second.reply(201, { message: message(1).messageList[0] });
  await sending;
  const reading = parlor.listPeerMessages('b#b', { after: 3 });
  const call = await server.next('GET', '/v1/users/b%23b/messages');
  expect(call.url.search).toBe('?after=3');
  call.reply(200, { messageList: [], nextCursor: 4 });
  expect(await reading).toEqual({ messageList: [], nextCursor: 4 });
});

test('a room is read with its first members', async () => {
  const entering = parlor.enterRoom('r', { memberLimit: 2 });
  const entered = await server.next('POST', '/v1/rooms/r/enter');
  expect(entered.body).toEqual({ memberLimit: 2 });
  const members = { seq: 7, memberList: [], infos: [] };
  entered.reply(200, { room: {}, created: false, members });
  expect((await entering).firstMembers).toEqual(members);
  const reading = parlor.getRoom('r', { memberLimit: 3 });
  const read = await server.next('GET', '/v1/rooms/r');
  expect(read.url.search).toBe('?memberLimit=3');
  read.reply(200, { room: {}, members });
  expect((await reading).members).toEqual(members);
});

test('messages are looked up', async () => {
  const reading = parlor.listRoomMessages('r', { seq: [3, 5] });
  const call = await server.next('GET', '/v1/rooms/r/messages');
  expect(call.url.search).toBe('?seq=3&seq=5');
  call.reply(200, { messageList: [] });
  expect(await reading).toEqual({ messageList: [] });
});

test('a room is changed if its version matches', async () => {
  const updating = parlor.updateRoom('r', { roomName: 'New', config: { maxMembers: 5 }, ifVersion: 7 });
  const call = await server.next('PATCH', '/v1/rooms/r');
  expect(call.header('If-Match')).toBe('"7"');
  expect(call.body).toEqual({ roomName: 'New', config: { maxMembers: 5 } });
  call.refuse(412, 'version_mismatch');
  await expect(updating).rejects.toMatchObject({ code: 'version_mismatch', status: 412 });
});

describe('attributes', () => {
  test('of a room are set if their version matches', async () => {
    const reading = parlor.getRoomAttributes('r');
    (await server.next('GET', '/v1/rooms/r/attributes')).reply(200, { roomAttributes: { n: '1' }, version: 7 });
    const { roomAttributes, version } = await reading;
    expect(roomAttributes).toEqual({ n: '1' });
    const updating = parlor.updateRoomAttributes('r', { set: { n: '2' }, delete: ['m'], ifVersion: version });
    const call = await server.next('PATCH', '/v1/rooms/r/attributes');
    expect(call.header('If-Match')).toBe('"7"');
    expect(call.body).toEqual({ set: { n: '2' }, delete: ['m'] });
    call.refuse(412, 'version_mismatch');
    await expect(updating).rejects.toMatchObject({ code: 'version_mismatch', status: 412 });
  });

  test('of a room are set without a version', async () => {
    const updating = parlor.updateRoomAttributes('r', { set: { n: '2' }, force: true });
    const call = await server.next('PATCH', '/v1/rooms/r/attributes');
    expect(call.header('If-Match')).toBeUndefined();
    call.reply(200, { version: 8, errorKeys: [] });
    expect(await updating).toEqual({ version: 8, errorKeys: [] });
  });

  test('of members are set and listed', async () => {
    const updating = parlor.updateMemberAttributes('r', { userIDs: ['bob'], set: { hand: 'up' } });
    const call = await server.next('PATCH', '/v1/rooms/r/member-attributes');
    expect(call.body).toEqual({ userIDs: ['bob'], set: { hand: 'up' } });
    const infos = [{ userID: 'bob', attributes: { hand: 'up' } }];
    call.reply(200, { infos, errorUserList: [] });
    expect((await updating).infos).toEqual(infos);
    const reading = parlor.listMemberAttributes('r', { userID: ['bob'] });
    const lookup = await server.next('GET', '/v1/rooms/r/member-attributes');
    expect(lookup.url.search).toBe('?userID=bob');
    lookup.reply(200, { infos });
    expect(await reading).toEqual({ infos });
  });
});

describe('calls that are safe to repeat are repeated:', () => {
  const room = { roomID: 'r' };
  test.each([
    ['joinRoom', 'POST', '/v1/rooms/r/join', () => parlor.joinRoom('r'), { room }],
    ['enterRoom', 'POST', '/v1/rooms/r/enter', () => parlor.enterRoom('r'), { room, created: true }],
    ['leaveRoom', 'POST', '/v1/rooms/r/leave', () => parlor.leaveRoom('r'), { roomID: 'r' }],
    ['renewToken', 'PUT', '/v1/sessions/current/token', () => parlor.renewToken('t'), { tokenExpiresAt: '2026-11-21T17:00:00Z' }],
    ['login', 'POST', '/v1/sessions', () => Parlor.login({ baseURL: server.url, token: 't' }), session],
  ])('%s', async (_, method, path, call, reply) => {
    const called = call();
    const first = await server.next(method, path);
    await failAttempt(() => first.cut());
    vi.advanceTimersByTime(250);
    const second = await server.next(method, path);
    expect(second.body).toEqual(first.body);
    second.reply(200, reply);
    const result = await called;
    if (result instanceof Parlor) result.close();
    else expect(result).toMatchObject(reply);
  });

  /** Cuts the first attempt of a call, and refuses the second. */
  async function loseReply(path: string, code: string): Promise<void> {
    const first = await server.next('POST', path);
    await failAttempt(() => first.cut());
    vi.advanceTimersByTime(250);
    (await server.next('POST', path)).refuse(409, code);
  }

  test('a repeated leaveRoom has left the room before', async () => {
    const leaving = parlor.leaveRoom('r');
    await loseReply('/v1/rooms/r/leave', 'not_in_room');
    expect(await leaving).toEqual({ roomID: 'r' });
    const again = parlor.leaveRoom('r'); // not repeated: the refusal is right
    (await server.next('POST', '/v1/rooms/r/leave')).refuse(409, 'not_in_room');
    await expect(again).rejects.toMatchObject({ code: 'not_in_room' });
  });

  test.each([
    ['has switched before if the session is in the other room', [{ roomID: 's', lastSeq: 3 }]],
    ['is refused if the session is not in the other room', [{ roomID: 'x', lastSeq: 3 }]],
  ])('a repeated switchRoom %s', async (_, rooms) => {
    const switching = parlor.switchRoom('r', { toRoom: { roomID: 's' } });
    const settled = switching.catch((error: unknown) => error);
    await loseReply('/v1/rooms/r/switch', 'not_in_room');
    (await server.next('GET', '/v1/sessions/current/rooms')).reply(200, { rooms });
    if (rooms[0]!.roomID === 's') expect(await settled).toMatchObject({ room: rooms[0], created: false });
    else expect(await settled).toMatchObject({ code: 'not_in_room' });
  });

  test('createRoom is not', async () => {
    const creating = parlor.createRoom('r');
    (await server.next('POST', '/v1/rooms')).refuse(503, 'unavailable', { 'Retry-After': '3' });
    await expect(creating).rejects.toMatchObject({ code: 'unavailable', retryAfter: 3_000 });
  });
});

test('GET calls are retried', async () => {
  const reading = parlor.listRoomMessages('r', { before: 9, limit: 5 });
  const first = await server.next('GET', messagesPath);
  expect(first.url.search).toBe('?before=9&limit=5');
  await failAttempt(() => first.response.writeHead(502, { 'Content-Type': 'text/html' }).end('<h1>Bad gateway</h1>'));
  vi.advanceTimersByTime(250);
  (await server.next('GET', messagesPath)).reply(200, { messageList: [] });
  expect(await reading).toEqual({ messageList: [] });
});

test('a problem is converted to a ParlorError', async () => {
  const joining = parlor.joinRoom('r');
  const errors = [{ pointer: 'path/roomID', rule: 'pattern', message: 'is odd' }];
  const problem = { type: '', title: 'Bad Request', code: 'invalid_request', detail: 'No.', requestID: 'q1', errors };
  (await server.next('POST', '/v1/rooms/r/join')).reply(400, { ...problem, status: 400 });
  const error = await joining.catch((caught: unknown) => caught);
  expect(error).toBeInstanceOf(ParlorError);
  expect(error).toMatchObject({ code: 'invalid_request', message: 'No. path/roomID: is odd', status: 400, requestID: 'q1', errors });
});

test.each([
  ['is not JSON', 200, 'text/html', '<h1>Please sign in</h1>'],
  ['says that it is JSON and is not', 200, 'application/json', '<h1>Please sign in</h1>'],
  ['is a problem of another program', 418, 'application/problem+json', '{"title":"I am a teapot"}'],
  ['is an empty problem', 400, 'application/problem+json', ''],
])('a reply that %s is an unexpected_reply', async (_, status, type, body) => {
  const joining = parlor.joinRoom('r');
  const call = await server.next('POST', '/v1/rooms/r/join');
  call.response.writeHead(status, { 'Content-Type': type }).end(body);
  await expect(joining).rejects.toMatchObject({ name: 'ParlorError', code: 'unexpected_reply', status });
});

describe('endSession', () => {
  test('ends the session and disconnects the client', async () => {
    await server.nextStream();
    const changed = next(parlor, 'connectionStateChanged');
    const leaving = parlor.endSession();
    (await server.next('DELETE', '/v1/sessions/current')).reply(204);
    await leaving;
    expect(await changed).toEqual({ state: 'disconnected', event: 'loggedOut' });
  });

  test('succeeds if the session has already ended', async () => {
    const leaving = parlor.endSession();
    (await server.next('DELETE', '/v1/sessions/current')).refuse(401, 'session_ended');
    await leaving;
    expect(parlor.connectionState).toBe('disconnected');
  });
});

describe('calls in the wrong order', () => {
  test('a message after close fails, and other calls are still made', async () => {
    parlor.close();
    parlor.close();
    await expect(parlor.sendRoomMessage('r', { text: 'a' })).rejects.toMatchObject({ name: 'ParlorError', code: 'session_ended' });
    const reading = parlor.getRoom('r');
    (await server.next('GET', '/v1/rooms/r')).refuse(401, 'session_ended');
    await expect(reading).rejects.toMatchObject({ name: 'ParlorError', code: 'session_ended' });
  });

  test('a room that was left says what the server says', async () => {
    const joining = parlor.joinRoom('r');
    (await server.next('POST', '/v1/rooms/r/join')).reply(200, { room: room(0) });
    const handle = await joining;
    for (const call of ['first', 'again']) {
      const leaving = handle.leave();
      (await server.next('POST', '/v1/rooms/r/leave')).reply(call === 'first' ? 200 : 409, { roomID: 'r', code: 'not_in_room', detail: '' });
      if (call === 'first') await leaving;
      else await expect(leaving).rejects.toMatchObject({ name: 'ParlorError', code: 'not_in_room' });
    }
    const sending = handle.send({ text: 'a' });
    (await server.next('POST', messagesPath)).refuse(409, 'not_in_room');
    await expect(sending).rejects.toMatchObject({ name: 'ParlorError', code: 'not_in_room' });
  });
});
