import { readFileSync } from 'node:fs';
import { beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { failAttempt, fakeTime, message, until } from '../../../sdk/tests/harness.ts';
import { type Call, session, TestServer } from '../../../sdk/tests/server.ts';
import { admit, joinedAt, listMembers, openStream, room, tokenOf } from '../../shared/tests/admit.ts';
import { codeOf } from '../src/codes.ts';
import { ZegoError, ZegoExpressEngine, type ZegoRoomConfig } from '../src/index.ts';

const token = tokenOf({});
const user = { userID: 'alice', userName: 'Alice' };
let server: TestServer;

beforeEach(async () => {
  fakeTime();
  server = await TestServer.start();
});

/** Returns an engine, and what it emits; of the states only those of the newer event. */
function createEngine(): { engine: ZegoExpressEngine; log: unknown[][] } {
  const engine = new ZegoExpressEngine(1234567890, server.url);
  onTestFinished(() => engine.destroyEngine());
  const log: unknown[][] = [];
  engine.on('roomStateChanged', (...args) => log.push(args));
  for (const event of [
    'roomUserUpdate', 'roomOnlineUserCountUpdate', 'IMRecvBroadcastMessage', 'IMRecvBarrageMessage', 'IMRecvCustomCommand',
    'roomExtraInfoUpdate', 'tokenWillExpire',
  ] as const) {
    engine.on(event, (...args: unknown[]) => log.push([event, ...args]));
  }
  return { engine, log };
}

async function loggedIn(config: ZegoRoomConfig = {}): Promise<{ engine: ZegoExpressEngine; log: unknown[][]; stream: Call }> {
  const { engine, log } = createEngine();
  const lists = config.userUpdate ? [listMembers(server)] : [];
  const [{ stream }] = await Promise.all([admit(server), engine.loginRoom('r', token, user, config), ...lists]);
  await readStream(stream, log);
  return { engine, log, stream };
}

/** Waits until the client has read the stream, and forgets what it emitted. */
async function readStream(stream: Call, log: unknown[][]): Promise<void> {
  stream.event('roomMessageReceived', message(10), '1:10');
  await until(() => log.some(([event]) => event === 'IMRecvBroadcastMessage'));
  log.length = 0;
}

async function acceptEnd(): Promise<void> {
  (await server.next('DELETE', '/v1/sessions/current')).reply(204);
}

/** An event of the room's log. */
function roomEvent(stream: Call, name: string, seq: number, data: object): void {
  stream.event(name, { roomID: 'r', generation: 1, seq, ...data }, `1:${seq}`);
}

describe('a login', () => {
  test('is reported with both events, then the users, their number and the extra info', async () => {
    const { engine, log } = createEngine();
    const older: unknown[][] = [];
    engine.on('roomStateUpdate', (...args) => older.push(args));
    const logging = engine.loginRoom('r', token, user, { userUpdate: true, maxMemberCount: 8 });
    expect(log).toEqual([['r', 'LOGINING', 0, '']]);
    const more = { roomAttributes: { notice: 'hi' }, attributesVersion: 9 };
    const [{ login, enter }] = await Promise.all([admit(server, { more }), listMembers(server)]);
    expect(await logging).toBe(true);
    expect(login.body).toEqual({ token, userName: 'Alice' });
    expect(enter.body).toEqual({ config: { memberTimeout: 90, sameUser: 'replace', maxMembers: 8 } });
    expect(log).toEqual([
      ['r', 'LOGINING', 0, ''],
      ['r', 'LOGINED', 0, ''],
      ['roomUserUpdate', 'r', 'ADD', [{ userID: 'bob', userName: 'BOB' }]],
      ['roomOnlineUserCountUpdate', 'r', 2],
      ['roomExtraInfoUpdate', 'r', [{ key: 'notice', value: 'hi', updateUser: { userID: '', userName: '' }, updateTime: Date.now() }]],
    ]);
    expect(older).toEqual([['r', 'CONNECTING', 0, ''], ['r', 'CONNECTED', 0, '']]);
  });

  test('without userUpdate reads no members', async () => {
    const { log, stream } = await loggedIn();
    const memberList = [{ userID: 'carol', userName: 'Carol', joinedAt }];
    roomEvent(stream, 'roomMemberJoined', 11, { memberList, memberCount: 3 });
    await until(() => log.length > 0);
    expect(log).toEqual([['roomOnlineUserCountUpdate', 'r', 3]]);
  });

  test.each([
    [401, 'token_invalid', 1002033],
    [401, 'token_expired', 1002033],
    [403, 'not_granted', 1002033],
    [409, 'room_full', 1002034],
    [409, 'user_in_room', 1002086],
    [403, 'banned', 1002066],
    [500, 'internal', 1002099],
  ])('fails with %i %s as %i', async (status, code, errorCode) => {
    const { engine, log } = createEngine();
    const failed = expect(engine.loginRoom('r', token, user)).rejects.toMatchObject({ name: 'ZegoError', code: errorCode, msg: expect.any(String) });
    if (code.startsWith('token')) (await server.next('POST', '/v1/sessions')).refuse(status, code);
    else {
      (await server.next('POST', '/v1/sessions')).reply(201, session);
      (await server.next('POST', '/v1/rooms/r/enter')).refuse(status, code);
      await acceptEnd();
    }
    await failed;
    expect(log).toEqual([['r', 'LOGINING', 0, ''], ['r', 'LOGIN_FAILED', errorCode, '']]);
  });

  test('fails if the token is for another user', async () => {
    const { engine, log } = createEngine();
    const failed = expect(engine.loginRoom('r', token, { userID: 'mallory' })).rejects.toMatchObject({ code: 1002077 });
    (await server.next('POST', '/v1/sessions')).reply(201, session);
    await acceptEnd();
    await failed;
    expect(log.at(-1)).toEqual(['r', 'LOGIN_FAILED', 1002077, '']);
  });

  test('fails without calling the server', async () => {
    const { engine, log } = createEngine();
    await expect(engine.loginRoom('', token, user)).rejects.toMatchObject({ code: 1002011 });
    await expect(engine.loginRoom('r', token, { userID: '' })).rejects.toMatchObject({ code: 1002005 });
    await expect(engine.loginRoom('r', undefined as never, user)).rejects.toMatchObject({ code: 1002033 });
    engine.destroyEngine();
    await expect(engine.loginRoom('r', token, user)).rejects.toMatchObject({ code: 1101000 });
    expect(log).toEqual([]);
  });

  test('can be given up, and begun again at once', async () => {
    const { engine, log } = createEngine();
    const failed = expect(engine.loginRoom('r', token, user)).rejects.toMatchObject({ code: 1102026 });
    engine.logoutRoom('r');
    const logging = engine.loginRoom('r', token, user);
    (await server.next('POST', '/v1/sessions')).reply(201, session);
    await acceptEnd();
    await failed;
    await admit(server, { others: [] });
    await logging;
    expect(log.map(([, reason]) => reason).slice(0, 4)).toEqual(['LOGINING', 'LOGOUT', 'LOGINING', 'LOGINED']);
  });
});

test('one room at a time, or several of the same user', async () => {
  const { engine } = await loggedIn();
  await expect(engine.loginRoom('r', token, user)).rejects.toMatchObject({ code: 1002056 });
  await expect(engine.loginRoom('s', token, user)).rejects.toMatchObject({ code: 1002001 });
  expect(engine.enableMultiRoom(true)).toBe(false);
  engine.logoutRoom();
  (await server.next('POST', '/v1/rooms/r/leave')).reply(200, { roomID: 'r' });
  await acceptEnd();

  expect(engine.enableMultiRoom(true)).toBe(true);
  await Promise.all([admit(server), engine.loginRoom('r', token, user)]);
  await expect(engine.loginRoom('s', token, { userID: 'bob' })).rejects.toMatchObject({ code: 1002018 });
  const second = engine.loginRoom('s', token, user);
  (await server.next('POST', '/v1/sessions')).reply(201, { ...session, sessionKey: 'sk_second' });
  (await server.next('POST', '/v1/rooms/s/enter')).reply(200, { room: { ...room(), roomID: 's' }, created: true });
  expect(await second).toBe(true);
});

test('logging out', async () => {
  const { engine, log } = await loggedIn();
  engine.logoutRoom('elsewhere');
  engine.logoutRoom('r');
  engine.logoutRoom('r');
  expect(log).toEqual([['elsewhere', 'LOGOUT_FAILED', 1002002, ''], ['r', 'LOGOUT', 0, ''], ['r', 'LOGOUT_FAILED', 1002002, '']]);
  (await server.next('POST', '/v1/rooms/r/leave')).reply(200, { roomID: 'r' });
  await acceptEnd();
});

test('switching rooms logs out of the first', async () => {
  const { engine, log } = await loggedIn();
  await expect(engine.switchRoom('x', 's', { token })).rejects.toMatchObject({ code: 1002002 });
  const switched = engine.switchRoom('r', 's', { token });
  (await server.next('POST', '/v1/rooms/r/leave')).reply(200, { roomID: 'r' });
  await acceptEnd();
  (await server.next('POST', '/v1/sessions')).reply(201, session);
  (await server.next('POST', '/v1/rooms/s/enter')).reply(200, { room: { ...room(), roomID: 's' }, created: true });
  expect(await switched).toBe(true);
  expect(log.slice(0, 3)).toEqual([['r', 'LOGOUT', 0, ''], ['s', 'LOGINING', 0, ''], ['s', 'LOGINED', 0, '']]);
});

test('the three kinds of messages are sent', async () => {
  const { engine } = await loggedIn();
  const sends: [() => Promise<unknown>, object][] = [
    [() => engine.sendBroadcastMessage('r', 'hello'), { kind: 'text', text: 'hello' }],
    [() => engine.sendBarrageMessage('r', 'fun'), { kind: 'barrage', text: 'fun' }],
    [() => engine.sendCustomCommand('r', '举手', ['bob']), { kind: 'command', data: Buffer.from('举手').toString('base64'), to: ['bob'] }],
    [() => engine.sendCustomCommand('r', 'x', []), { kind: 'command', data: 'eA==' }],
  ];
  for (const [send, body] of sends) {
    const sent = send();
    const call = await server.next('POST', '/v1/rooms/r/messages');
    const { clientMessageID, ...rest } = call.body;
    expect(rest).toEqual(body);
    call.reply(201, { message: {} });
    expect(await sent).toEqual({ errorCode: 0, extendedData: '' });
  }
});

test('calls that fail resolve with an errorCode', async () => {
  const { engine } = await loggedIn();
  expect(await engine.sendBroadcastMessage('elsewhere', 'x')).toEqual({ errorCode: 1002002 });
  expect(await engine.sendBroadcastMessage('r', '')).toEqual({ errorCode: 1009001 });
  expect(await engine.sendBarrageMessage('r', 1 as never)).toEqual({ errorCode: 1100001 });
  for (const [status, code, errorCode] of [[400, 'invalid_request', 1009002], [403, 'not_granted', 1009010]] as const) {
    const refused = engine.sendBroadcastMessage('r', 'x');
    (await server.next('POST', '/v1/rooms/r/messages')).refuse(status, code);
    expect(await refused).toMatchObject({ errorCode });
  }
  const barrage = engine.sendBarrageMessage('r', 'x');
  (await server.next('POST', '/v1/rooms/r/messages')).refuse(429, 'too_much_barrage');
  expect(await barrage).toMatchObject({ errorCode: 1009015 });
  const info = engine.setRoomExtraInfo('r', 'k', 'v');
  (await server.next('PATCH', '/v1/rooms/r/attributes')).refuse(409, 'attributes_full');
  expect(await info).toMatchObject({ errorCode: 1002017 });
});

test('messages are received by their kinds', async () => {
  const { log, stream } = await loggedIn();
  const content = (seq: number | undefined, more: object) => {
    const { messageList: [stored] } = message(11);
    const { text, ...rest } = stored!;
    return { messageList: [{ ...rest, messageID: 'm', ...(seq && { seq }), ...more }] };
  };
  roomEvent(stream, 'roomMessageReceived', 11, content(11, { kind: 'text', text: 'hello' }));
  stream.event('roomMessageReceived', { roomID: 'r', generation: 1, ...content(undefined, { kind: 'barrage', text: 'fun' }) });
  stream.event('roomMessageReceived', { roomID: 'r', generation: 1, ...content(undefined, { kind: 'command', data: Buffer.from('举手').toString('base64') }) });
  roomEvent(stream, 'roomMessageReceived', 12, content(12, { kind: 'image' }));
  stream.event('tokenWillExpire', { secondsLeft: 30 });
  await until(() => log.length === 4);
  const fromUser = { userID: 'bob', userName: 'Bob' };
  const sendTime = Date.parse('2026-11-21T15:00:00Z');
  expect(log).toEqual([
    ['IMRecvBroadcastMessage', 'r', [{ fromUser, message: 'hello', sendTime, messageID: 11 }]],
    ['IMRecvBarrageMessage', 'r', [{ fromUser, message: 'fun', sendTime, messageID: 'm' }]],
    ['IMRecvCustomCommand', 'r', fromUser, '举手'],
    ['tokenWillExpire', 'r'],
  ]);
});

describe('extra info', () => {
  const updated = (stream: Call, seq: number, userID: string, set: object, deleted?: object) =>
    roomEvent(stream, 'roomAttributesUpdated', seq, {
      infos: [{ action: 'set', roomAttributes: set }, ...(deleted ? [{ action: 'delete', roomAttributes: deleted }] : [])],
      operatedInfo: { userID },
    });

  test('of others is reported, with its user', async () => {
    const { log, stream } = await loggedIn({ userUpdate: true });
    updated(stream, 11, 'bob', { a: '1', b: '2' });
    updated(stream, 12, 'bob', { a: '3' }, { b: '2' });
    await until(() => log.length === 2);
    const common = { updateUser: { userID: 'bob', userName: 'BOB' }, updateTime: Date.now() };
    expect(log).toEqual([
      ['roomExtraInfoUpdate', 'r', [{ key: 'a', value: '1', ...common }, { key: 'b', value: '2', ...common }]],
      ['roomExtraInfoUpdate', 'r', [{ key: 'a', value: '3', ...common }, { key: 'b', value: '', ...common }]],
    ]);
  });

  test.each(['before', 'after'])('of this engine is not, if its event arrives %s the reply', async (order) => {
    const { engine, log, stream } = await loggedIn();
    const setting = engine.setRoomExtraInfo('r', 'a', '1');
    const call = await server.next('PATCH', '/v1/rooms/r/attributes');
    expect(call.body).toEqual({ set: { a: '1' }, force: true });
    const reply = () => call.reply(200, { version: 11, errorKeys: [] });
    if (order === 'after') {
      reply();
      expect(await setting).toEqual({ errorCode: 0, extendedData: '' });
    }
    updated(stream, 11, 'alice', { a: '1' });
    updated(stream, 12, 'alice', { a: '1' }); // by another session of the user
    await until(() => log.length === 1);
    expect(log).toMatchObject([['roomExtraInfoUpdate', 'r', [{ key: 'a', value: '1', updateUser: { userID: 'alice' } }]]]);
    if (order === 'before') reply();
    await setting;
  });
});

describe('a lost connection', () => {
  test('is restored before the members notice', async () => {
    const { log, stream } = await loggedIn();
    await failAttempt(() => stream.cut());
    vi.advanceTimersByTime(500);
    await openStream(server);
    await until(() => log.length === 2);
    expect(log).toEqual([['r', 'RECONNECTING', 1000017, ''], ['r', 'RECONNECTED', 0, '']]);
  });

  test('is restored later, by entering the room again', async () => {
    const { log, stream } = await loggedIn({ userUpdate: true });
    await failAttempt(() => stream.cut());
    vi.advanceTimersByTime(500);
    const again = await openStream(server, []);
    again.event('roomStateChanged', { roomID: 'r', generation: 1, state: 'disconnected', event: 'networkTimeout' });
    const enter = await server.next('POST', '/v1/rooms/r/enter');
    again.event('roomStateChanged', { roomID: 'r', generation: 1, state: 'connected', event: 'success' });
    expect(log).toHaveLength(1);
    enter.reply(200, { room: room({ memberCount: 2, roomAttributes: { a: '1' }, attributesVersion: 9 }), created: false });
    await listMembers(server, ['carol']);
    roomEvent(again, 'roomMessageReceived', 11, message(11));
    await until(() => log.length === 6);
    expect(log.map(([first, second, third]) => (first === 'r' ? second : third === 'r' ? first : [first, third]))).toEqual([
      'RECONNECTING',
      'RECONNECTED',
      ['roomUserUpdate', 'DELETE'],
      ['roomUserUpdate', 'ADD'],
      ['roomExtraInfoUpdate', [expect.objectContaining({ key: 'a' })]],
      ['IMRecvBroadcastMessage', [expect.objectContaining({ messageID: 11 })]],
    ]);
  });

  test('ends if the room cannot be entered again', async () => {
    const { log, stream } = await loggedIn();
    await failAttempt(() => stream.cut());
    vi.advanceTimersByTime(500);
    (await openStream(server, [])).event('roomStateChanged', { roomID: 'r', generation: 1, state: 'disconnected', event: 'networkTimeout' });
    (await server.next('POST', '/v1/rooms/r/enter')).refuse(409, 'room_full');
    await until(() => log.length === 2);
    expect(log[1]).toEqual(['r', 'RECONNECT_FAILED', 1002053, '']);
    await acceptEnd();
  });

  test.each([[undefined, 300], [20, 20]])('is given up (roomRetryTime %s) after %i s', async (roomRetryTime, seconds) => {
    const { engine, log } = createEngine();
    if (roomRetryTime) engine.setEngineConfig({ roomRetryTime });
    const [{ stream }] = await Promise.all([admit(server), engine.loginRoom('r', token, user)]);
    await readStream(stream, log);
    await failAttempt(() => stream.cut());
    vi.advanceTimersByTime(seconds * 1000 - 1);
    expect(log).toHaveLength(1);
    vi.advanceTimersByTime(1);
    expect(log[1]).toEqual(['r', 'RECONNECT_FAILED', 1002053, '']);
    expect(await engine.sendBroadcastMessage('r', 'x')).toEqual({ errorCode: 1002002 });
  });
});

test.each([
  ['kickedOut', 'spam', 'KICKOUT', 1002055, '{"custom_kickout_message":"spam"}'],
  ['notGranted', undefined, 'KICKOUT', 1002055, ''],
  ['roomNotExist', undefined, 'KICKOUT', 1002055, ''],
  ['replaced', undefined, 'KICKOUT', 1002050, ''],
  ['tokenExpired', undefined, 'KICKOUT', 1002078, ''],
  ['success', undefined, 'LOGOUT', 0, ''],
])('the login ends with %s (%s)', async (event, reason, state, code, extendedData) => {
  const { engine, log, stream } = await loggedIn();
  const older: unknown[][] = [];
  engine.on('roomStateUpdate', (...args) => older.push(args));
  stream.event('roomStateChanged', { roomID: 'r', generation: 1, state: 'disconnected', event, ...(reason && { reason }) });
  roomEvent(stream, 'roomMessageReceived', 11, message(11));
  await until(() => older.length > 0);
  expect(log).toEqual([['r', state, code, extendedData]]);
  expect(older).toEqual([['r', 'DISCONNECTED', code, extendedData]]);
  if (event !== 'tokenExpired') await acceptEnd();
  expect(log).toHaveLength(1);
});

test('a session that ended while the connection was lost', async () => {
  const { log, stream } = await loggedIn();
  await failAttempt(() => stream.cut());
  vi.advanceTimersByTime(500);
  (await server.nextStream()).refuse(401, 'token_expired');
  await until(() => log.length === 2);
  expect(log[1]).toEqual(['r', 'RECONNECT_FAILED', 1002053, '']);
});

test('the token is renewed', async () => {
  const { engine } = await loggedIn();
  expect(engine.renewToken('new', 'elsewhere')).toBe(false);
  expect(engine.renewToken('')).toBe(false);
  expect(engine.renewToken('new')).toBe(true);
  const call = await server.next('PUT', '/v1/sessions/current/token');
  expect(call.body).toEqual({ token: 'new' });
  const warnings = vi.spyOn(console, 'warn').mockImplementation(() => {});
  call.refuse(401, 'token_invalid');
  await until(() => warnings.mock.calls.length > 0);
});

test('after destroyEngine nothing is emitted', async () => {
  const { engine, log, stream } = await loggedIn();
  engine.destroyEngine();
  stream.event('tokenWillExpire', { secondsLeft: 30 });
  (await server.next('POST', '/v1/rooms/r/leave')).reply(200, { roomID: 'r' });
  await acceptEnd();
  expect(log).toEqual([]);
});

test('listeners are removed with and without naming them', () => {
  const engine = new ZegoExpressEngine(1, 'https://parlor.example.com');
  const calls: string[] = [];
  const listener = (roomID: string) => calls.push(roomID);
  expect(engine.on('roomStateChanged', listener)).toBe(true);
  engine.on('publisherStateUpdate', () => {}); // of audio and video
  expect(engine.on('roomStateChanged', undefined as never)).toBe(false);
  engine.logoutRoom('a');
  engine.off('roomStateChanged', listener);
  engine.logoutRoom('b');
  engine.on('roomStateChanged', listener);
  engine.off('roomStateChanged');
  engine.logoutRoom('c');
  expect(calls).toEqual(['a']);
});

test('what pages call before and beside the room', async () => {
  const engine = new ZegoExpressEngine(1, ['https://parlor.example.com']);
  expect(engine.getVersion() >= '2.17.0').toBe(true);
  expect(await engine.checkSystemRequirements()).toMatchObject({ webRTC: true, camera: false });
  expect(engine.setLogConfig({ logLevel: 'disable' })).toBe(true);
  engine.setDebugVerbose(false);
  expect(await engine.enumDevices()).toEqual({ microphones: [], speakers: [], cameras: [] });
  await expect(engine.createStream()).rejects.toBeInstanceOf(ZegoError);
  await expect(engine.createZegoStream()).rejects.toMatchObject({ code: 1103002 });
  expect(engine.startPublishingStream('s', {})).toBe(false);
  expect(engine.stopPublishingStream('s')).toBe(false);
  engine.destroyStream({});
  expect(await engine.setVideoConfig()).toEqual({ errorCode: 1103002 });
  expect(await engine.mutePlayStreamAudio('s', true)).toBe(false);
  expect(engine.getPlayingStreamQuality('s')).toBeNull();
  expect(() => engine.createRangeAudioInstance()).toThrow('createRangeAudioInstance is not supported');
});

test('every code of docs/errors.md has a number of the vendor', () => {
  const text = readFileSync(new URL('../../../../docs/errors.md', import.meta.url), 'utf8');
  const codes = [...text.matchAll(/^### (\w+)$/gm)].map(([, code]) => code as never);
  expect(codes.length).toBeGreaterThan(60);
  const numbers = (sending: boolean) => [...new Set(codes.map((code) => codeOf(code, sending)))].toSorted();
  expect(numbers(false)).toEqual([
    1002001, 1002002, 1002014, 1002017, 1002033, 1002034, 1002053, 1002066, 1002077, 1002086, 1002099, 1009002, 1009015, 1100001,
  ]);
  expect(numbers(true)).toEqual([
    1002001, 1002002, 1002014, 1002017, 1002033, 1002034, 1002053, 1002066, 1002077, 1002086, 1002099, 1009002, 1009010, 1009015, 1100001,
  ]);
});
