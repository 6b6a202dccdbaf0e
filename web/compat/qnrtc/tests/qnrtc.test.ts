import { readFileSync } from 'node:fs';
import { beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { failAttempt, fakeTime, message, until } from '../../../sdk/tests/harness.ts';
import { type Call, session, TestServer } from '../../../sdk/tests/server.ts';
import { admit, joinedAt, listMembers, openStream, room, tokenOf } from '../../shared/tests/admit.ts';
import { codeOf } from '../src/codes.ts';
import QNRTC, { QNConnectionState, type QNRTCClient, QNRTCError } from '../src/index.ts';

const token = tokenOf({ rooms: [{ roomID: 'r', create: true, join: true, send: true }] });
let server: TestServer;

beforeEach(async () => {
  fakeTime();
  server = await TestServer.start();
});

/** Returns a client, and what it emits. */
function createClient(): { client: QNRTCClient; log: unknown[][] } {
  const client = QNRTC.createClient({ server: server.url });
  onTestFinished(() => void client.removeAllListeners().leave());
  const log: unknown[][] = [];
  client.on('connection-state-changed', (state, info) => log.push(info === undefined ? [state] : [state, info]));
  for (const event of ['user-joined', 'user-left', 'user-reconnecting', 'user-reconnected', 'message-received'] as const) {
    client.on(event, (...args: unknown[]) => log.push([event, ...args]));
  }
  return { client, log };
}

async function joined(others?: string[]): Promise<{ client: QNRTCClient; log: unknown[][]; stream: Call }> {
  const { client, log } = createClient();
  const [{ stream }] = await Promise.all([
    admit(server, others && { others }),
    listMembers(server, others),
    client.join(token, 'mine'),
  ]);
  stream.event('roomMessageReceived', message(10), '1:10');
  await until(() => log.some(([event]) => event === 'message-received')); // the client has read the stream
  log.length = 0;
  return { client, log, stream };
}

/** Ends what a client left behind on the server. */
async function acceptEnd(): Promise<void> {
  (await server.next('DELETE', '/v1/sessions/current')).reply(204);
}

describe('joining', () => {
  test('connects, and reports the users that are there', async () => {
    const { client, log } = createClient();
    const joining = client.join(token, 'mine');
    expect(log).toEqual([['CONNECTING']]);
    const [{ login, enter, stream }] = await Promise.all([admit(server), listMembers(server)]);
    await joining;
    expect(login.body).toEqual({ token });
    expect(enter.body).toEqual({ userData: 'mine', config: { destroyDelay: 10, sameUser: 'replace', memberStates: true } });
    expect(log).toEqual([['CONNECTING'], ['CONNECTED'], ['user-joined', 'bob', 'data of bob']]);
    expect(client.remoteUsers).toMatchObject([{ userID: 'bob', userData: 'data of bob' }]);
    expect(client.getRemoteUser('bob')!.getVideoTracks()).toEqual([]);
    expect(client.getRemoteUser()).toHaveLength(1);
    expect(client).toMatchObject({ userID: 'alice', userData: 'mine', roomName: 'r' });
    await expect(client.join(token)).rejects.toMatchObject({ code: 21005 });
    expect(client.getConnectionState()).toBe(QNConnectionState.CONNECTED);
    stream.event('roomMemberJoined', { roomID: 'r', generation: 1, seq: 11, memberList: [{ userID: 'carol', userName: 'C', joinedAt }] }, '1:11');
    await until(() => log.length === 4);
    expect(log[3]).toEqual(['user-joined', 'carol', undefined]);
  });

  test('delivers what happens while the members are read afterwards, once', async () => {
    const { client, log } = createClient();
    const joining = client.join(token);
    const { stream } = await admit(server);
    const join = (seq: number, userID: string) =>
      stream.event('roomMemberJoined', { roomID: 'r', generation: 1, seq, memberList: [{ userID, userName: userID, joinedAt }] }, `1:${seq}`);
    join(10, 'bob'); // also in the list
    join(11, 'carol');
    stream.event('roomMessageReceived', message(12), '1:12');
    stream.event('tokenWillExpire', { secondsLeft: 30 });
    await listMembers(server, ['bob']);
    await joining;
    await until(() => log.length === 5);
    expect(log.map(([event, user]) => (typeof user === 'string' ? `${event} ${user}` : event))).toEqual([
      'CONNECTING', 'CONNECTED', 'user-joined bob', 'user-joined carol', 'message-received',
    ]);
  });

  test('may be later than the stream, which then begins without the room', async () => {
    const { client, log } = createClient();
    const joining = client.join(token);
    (await server.next('POST', '/v1/sessions')).reply(201, session);
    const enter = await server.next('POST', '/v1/rooms/r/enter');
    const stream = await openStream(server, []);
    for (const [state, event] of [['connecting', 'enter'], ['connected', 'created']]) {
      stream.event('roomStateChanged', { roomID: 'r', generation: 1, state, event });
    }
    stream.event('roomMessageReceived', message(11), '1:11');
    enter.reply(200, { room: room(), created: true });
    await listMembers(server, []);
    await joining;
    await until(() => log.length === 3);
    vi.advanceTimersByTime(3_000);
    expect(log.map(([event]) => event)).toEqual(['CONNECTING', 'CONNECTED', 'message-received']);
  });

  test.each([
    ['the room', { rooms: [] }],
    ['one room', { rooms: [{ roomID: 'a', join: true }, { roomID: 'b', join: true }] }],
    ['a whole name', { rooms: [{ roomID: 'a-*', join: true }] }],
    ['grants', {}],
  ])('needs a token with %s', async (_, claims) => {
    const { client, log } = createClient();
    await expect(client.join(tokenOf(claims))).rejects.toMatchObject({ name: 'QNRTCError', code: 10001 });
    await expect(client.join('x.y')).rejects.toMatchObject({ code: 10001 });
    expect(log).toEqual([]);
  });

  test.each([
    [401, 'token_invalid', 10001],
    [401, 'token_expired', 10002],
    [403, 'not_granted', 21001],
    [409, 'room_full', 10011],
    [409, 'user_in_room', 10022],
    [500, 'internal', 21005],
  ])('fails with %i %s as %i', async (status, code, errorCode) => {
    const { client, log } = createClient();
    const failed = expect(client.join(token)).rejects.toMatchObject({ code: errorCode });
    if (code.startsWith('token')) (await server.next('POST', '/v1/sessions')).refuse(status, code);
    else {
      (await server.next('POST', '/v1/sessions')).reply(201, session);
      (await server.next('POST', '/v1/rooms/r/enter')).refuse(status, code);
      await acceptEnd();
    }
    await failed;
    expect(log).toMatchObject([['CONNECTING'], ['DISCONNECTED', { reason: 'ERROR', errorCode }]]);
    expect(log[1]).toHaveLength(2);
  });

  test('can be given up, and begun again at once', async () => {
    const { client, log } = createClient();
    const failed = expect(client.join(token)).rejects.toBeInstanceOf(QNRTCError);
    const left = client.leave();
    const joining = client.join(token);
    (await server.next('POST', '/v1/sessions')).reply(201, session);
    await acceptEnd();
    await failed;
    await left;
    await Promise.all([admit(server, { others: [] }), listMembers(server, [])]);
    await joining;
    expect(log).toEqual([['CONNECTING'], ['DISCONNECTED', { reason: 'LEAVE' }], ['CONNECTING'], ['CONNECTED']]);
  });
});

test('messages of others and of other sessions of the user are delivered, own messages are not', async () => {
  const { client, log, stream } = await joined();
  const sent = client.sendMessage('greeting', 'hello');
  const call = await server.next('POST', '/v1/rooms/r/messages');
  expect(call.body).toMatchObject({ kind: 'text', text: 'hello', extendedData: 'greeting' });
  expect(call.body.to).toBeUndefined();
  const { clientMessageID } = call.body;
  const own = (seq: number, more: object) => {
    const { messageList: [stored], ...event } = message(seq);
    return { ...event, messageList: [{ ...stored, sender: { userID: 'alice', userName: 'A' }, ...more }] };
  };
  stream.event('roomMessageReceived', own(11, { clientMessageID, text: 'hello' }), '1:11');
  call.reply(201, { message: own(11, { clientMessageID }).messageList[0] });
  await sent;
  stream.event('roomMessageReceived', own(12, { clientMessageID: 'other', text: 'from my phone' }), '1:12');
  stream.event('roomMessageReceived', own(13, { sender: { userID: 'bob', userName: 'B' }, extendedData: 'kickOut', text: 'x' }), '1:13');
  await until(() => log.length === 2);
  const timestamp = Date.parse('2026-11-21T15:00:00Z');
  expect(log).toMatchObject([
    ['message-received', { userID: 'alice', content: 'from my phone', timestamp }],
    ['message-received', { ID: 'kickOut', userID: 'bob', content: 'x', timestamp }],
  ]);
});

test('messages to some users, in both orders of arguments', async () => {
  const { client } = await joined();
  for (const send of [
    () => client.sendMessage('1', 'text', client.remoteUsers),
    () => client.sendMessage('text', ['bob'], '1'),
  ]) {
    const sent = send();
    const call = await server.next('POST', '/v1/rooms/r/messages');
    expect(call.body).toMatchObject({ text: 'text', extendedData: '1', to: ['bob'] });
    call.reply(201, { message: {} });
    await sent;
  }
  await expect(client.sendMessage(1 as never, 'text')).rejects.toMatchObject({ code: 10053 });
  const refused = client.sendMessage('1', '');
  (await server.next('POST', '/v1/rooms/r/messages')).refuse(400, 'invalid_request');
  await expect(refused).rejects.toMatchObject({ name: 'QNRTCError', code: 10053 });
});

test('users leave and lose their connection', async () => {
  const { client, log, stream } = await joined(['bob', 'carol']);
  const users = (name: string, seq: number, ...userIDs: string[]) =>
    stream.event(name, { roomID: 'r', generation: 1, seq, memberList: userIDs.map((userID) => ({ userID, userName: userID, reason: 'left' })) }, `1:${seq}`);
  users('memberReconnecting', 11, 'bob', 'nobody');
  users('memberReconnected', 12, 'bob');
  stream.event('roomMemberAttributesUpdated', { roomID: 'r', generation: 1, seq: 13, infos: [{ userID: 'bob', attributes: {}, userData: 'new' }] }, '1:13');
  users('roomMemberLeft', 14, 'carol', 'alice');
  await until(() => log.length === 3);
  expect(log).toEqual([['user-reconnecting', 'bob'], ['user-reconnected', 'bob'], ['user-left', 'carol']]);
  expect(client.remoteUsers.map(({ userID, userData }) => [userID, userData])).toEqual([['bob', 'new']]);
});

test('leaving is reported at once, and then to the server', async () => {
  const { client, log } = await joined();
  const left = client.leave();
  expect(log).toEqual([['DISCONNECTED', { reason: 'LEAVE' }]]);
  expect(client.remoteUsers).toEqual([]);
  (await server.next('POST', '/v1/rooms/r/leave')).reply(200, { roomID: 'r' });
  await left;
  await acceptEnd();
  await client.leave(); // nothing to leave
  await expect(client.sendMessage('1', 'text')).rejects.toMatchObject({ code: 21005 });
  expect(log).toHaveLength(1);
});

describe('the connection', () => {
  test('is restored', async () => {
    const { log, stream } = await joined();
    await failAttempt(() => stream.cut());
    expect(log).toEqual([['RECONNECTING']]);
    vi.advanceTimersByTime(500); // the longest delay before the first attempt
    const again = await openStream(server);
    await until(() => log.length === 2);
    expect(log[1]).toEqual(['RECONNECTED']);
    await failAttempt(() => again.cut());
    expect(log[2]).toEqual(['RECONNECTING']);
  });

  test('is given up after the time in which the room keeps the user', async () => {
    const { log, stream } = await joined();
    await failAttempt(() => stream.cut());
    vi.advanceTimersByTime(29_999);
    expect(log).toHaveLength(1);
    vi.advanceTimersByTime(1);
    expect(log[1]).toMatchObject(['DISCONNECTED', { reason: 'ERROR', errorCode: 21003 }]);
    await acceptEnd();
  });

  test.each([
    ['networkTimeout', undefined, { reason: 'ERROR', errorCode: 21003 }],
    ['roomNotExist', undefined, { reason: 'ERROR', errorCode: 21003 }],
    ['roomNotExist', 'the class is over', { reason: 'ERROR', errorCode: 21003, errorMessage: 'the class is over' }],
    ['tokenExpired', undefined, { reason: 'ERROR', errorCode: 10002 }],
    ['kickedOut', 'spam', { reason: 'KICKED_OUT', errorMessage: 'spam' }],
    ['replaced', undefined, { reason: 'KICKED_OUT' }],
    ['notGranted', undefined, { reason: 'KICKED_OUT' }],
    ['success', undefined, { reason: 'LEAVE' }],
  ])('ends with %s (%s)', async (event, reason, info) => {
    const { client, log, stream } = await joined();
    stream.event('roomStateChanged', { roomID: 'r', generation: 1, state: 'disconnected', event, ...(reason && { reason }) });
    stream.event('roomMessageReceived', message(11), '1:11');
    await until(() => log.length > 0);
    expect(log).toMatchObject([['DISCONNECTED', info]]);
    expect(client.getConnectionState()).toBe('DISCONNECTED');
    if (event !== 'tokenExpired') await acceptEnd();
    expect(log).toHaveLength(1);
  });

  test.each(['kickedOut', 'tokenExpired', 'superseded'])('ends with the session: %s', async (event) => {
    const { log, stream } = await joined();
    stream.event('connectionStateChanged', { state: 'disconnected', event });
    await until(() => log.length > 0);
    expect(log).toMatchObject([['DISCONNECTED', { reason: event === 'kickedOut' ? 'KICKED_OUT' : 'ERROR' }]]);
  });

  test('ends if the room is gone, even if the server cannot say why', async () => {
    const { log, stream } = await joined();
    await failAttempt(() => stream.cut());
    vi.advanceTimersByTime(500);
    (await openStream(server, [])).event('roomMessageReceived', message(11), '1:11');
    await until(() => log.length === 2);
    vi.advanceTimersByTime(300);
    expect(log[2]).toMatchObject(['DISCONNECTED', { reason: 'ERROR', errorCode: 21003 }]);
  });
});

test('listeners are called as often as they were added, also after one that throws', async () => {
  const { client, stream, log } = await joined();
  const errors: unknown[] = [];
  vi.stubGlobal('reportError', (error: unknown) => errors.push(error));
  const calls: unknown[] = [];
  const listener = (userID: string) => calls.push(userID);
  client.on('user-left', () => {
    throw new Error('broken');
  });
  client.on('user-left', listener).addListener('user-left', listener).once('user-left', listener);
  function withContext(this: unknown) {
    calls.push(this === client);
  }
  client.on('onUserLeft', withContext);
  const leave = (seq: number, userID: string) =>
    stream.event('roomMemberLeft', { roomID: 'r', generation: 1, seq, memberList: [{ userID, userName: '', reason: 'left' }] }, `1:${seq}`);
  leave(11, 'bob');
  await until(() => log.length === 1);
  expect(calls).toEqual(['bob', 'bob', 'bob', true]);
  expect(errors).toHaveLength(1);
  expect(client.listenerCount('user-left')).toBe(4);
  client.off('user-left', listener);
  expect(client.listenerCount('user-left')).toBe(2);
  expect(client.emit('user-left', 'x')).toBe(true);
  client.removeAllListeners('user-left');
  expect(client.emit('user-left', 'x')).toBe(false);
  client.removeAllListeners();
  expect(client.eventNames()).toEqual([]);
  expect(calls).toHaveLength(4);
});

test("the names of the vendor's other SDKs", async () => {
  const { client, stream, log } = await joined();
  const calls: unknown[] = [];
  client.on('onMessageReceived', ({ message }) => calls.push(message));
  client.on('onConnectionStateChanged', (info, state) => calls.push([state, info?.reason]));
  stream.event('roomMessageReceived', message(11, 'kickOut'), '1:11');
  await until(() => log.length === 1);
  void client.leave();
  expect(calls).toEqual(['kickOut', ['DISCONNECTED', 'LEAVE']]);
});

test('what needs audio or video is refused, and there are no devices', async () => {
  const client = QNRTC.createClient();
  await expect(QNRTC.createMicrophoneAndCameraTracks()).rejects.toMatchObject({ code: 21006 });
  await expect(client.publish([])).rejects.toMatchObject({ code: 21006 });
  expect(() => QNRTC.createCustomVideoTrack({})).toThrow(QNRTCError);
  expect(await client.subscribe([])).toEqual({ videoTracks: [], audioTracks: [] });
  expect(await QNRTC.getDevices()).toEqual([]);
  await client.unpublish([]);
  expect(client.getNetworkQuality()).toBe('UNKNOWN');
});

test('every code of docs/errors.md has a number of the vendor', () => {
  const text = readFileSync(new URL('../../../../docs/errors.md', import.meta.url), 'utf8');
  const codes = [...text.matchAll(/^### (\w+)$/gm)].map(([, code]) => code);
  expect(codes.length).toBeGreaterThan(60);
  const numbers = new Set(codes.map((code) => codeOf(code as never)));
  expect([...numbers].toSorted()).toEqual([10001, 10002, 10011, 10012, 10022, 10052, 10053, 21001, 21005]);
});
