import { readFileSync } from 'node:fs';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { fakeTime } from '../../../sdk/tests/harness.ts';
import { session, TestServer } from '../../../sdk/tests/server.ts';
import Default, * as api from '../src/index.ts';
import { inArea, numbers } from '../src/errors.ts';
import { create, generation, inRoom, login, message, received, roomMessage, roomReply, states, until } from './harness.ts';

const { ZIM } = api;
let server: TestServer;

beforeEach(async () => {
  server = await TestServer.start();
});

describe('the client', () => {
  test('is a named export and the default, beside the enums', () => {
    expect(Default).toBe(ZIM);
    expect(api.ZIMRoomEvent.KickedOutByOtherDevice).toBe(10);
    expect(ZIM.getVersion()).toBe('2.29.0');
  });

  test('exists once, until it is destroyed', () => {
    const first = ZIM.create(1)!;
    expect(ZIM.create({ appID: 1 })).toBeNull();
    expect(ZIM.getInstance()).toBe(first);
    first.destroy();
    expect(ZIM.getInstance()).toBeNull();
    const second = ZIM.create({ appID: 1 })!; // as StrictMode of React does
    first.destroy();
    expect(ZIM.getInstance()).toBe(second);
    second.destroy();
  });

  test('rejects calls before the login and after the end', async () => {
    const { zim } = create(server);
    await expect(zim.joinRoom('r')).rejects.toEqual({ code: 6000121, message: 'The user is not logged in.' });
    await expect(zim.login('', { token: 'token' })).rejects.toMatchObject({ code: 6000001 });
    zim.destroy();
    await expect(zim.joinRoom('r')).rejects.toMatchObject({ code: 6000002 });
    await expect(zim.login('alice', { token: 'token' })).rejects.toMatchObject({ code: 6000002 });
  });

  test('rejects what Parlor does not offer, and lists nothing of it', async () => {
    const { zim } = await login(server);
    await expect(zim.createGroup({}, [])).rejects.toMatchObject({ code: 6000013 });
    await expect(zim.callInvite(['bob'], {})).rejects.toMatchObject({ code: 6000013 });
    await expect(zim.sendMessage({ type: 1, message: 'x' } as api.ZIMMessage, 'g', 2)).rejects.toMatchObject({ code: 6000013 });
    await expect(zim.sendMessage({ type: 10, messageInfoList: [] } as never, 'r', 1)).rejects.toMatchObject({ code: 6000013 });
    expect(await zim.queryGroupMemberList('g', {})).toEqual({ groupID: 'g', userList: [], nextFlag: 0 });
  });

  test.each([[[]], [[null, null, null, null, null]], [[{}, {}, {}, {}, {}]], [[[], 'x', [], 'x']]])(
    'rejects calls with wrong arguments with a number: %j',
    async (args) => {
      const { zim } = await login(server);
      const reply = { type: '', title: '', status: 400, code: 'invalid_request', detail: 'wrong' };
      const headers = { 'Content-Type': 'application/problem+json' };
      vi.spyOn(globalThis, 'fetch').mockImplementation(async () => new Response(JSON.stringify(reply), { status: 400, headers }));
      const names = ['constructor', 'destroy', 'logout', 'on', 'off', 'setLogConfig', 'beginRoomAttributesBatchOperation'];
      const calls = Object.getOwnPropertyNames(ZIM.prototype).filter((name) => !names.includes(name));
      expect(calls.length).toBeGreaterThan(120);
      zim.beginRoomAttributesBatchOperation(args[0] as string, args[1] as object);
      for (const name of calls) {
        const call = (zim as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>)[name]!.bind(zim);
        await call(...args).catch((error: unknown) => {
          expect(error, name).toEqual({ code: expect.any(Number), message: expect.any(String) });
          // Failed stands for what nobody has thought of.
          expect(error, name).not.toHaveProperty('code', api.ZIMErrorCode.Failed);
        });
      }
    },
  );

  test('has a number for each code, as docs/room-states.md says', () => {
    const read = (name: string) => readFileSync(new URL(`../../../../docs/${name}`, import.meta.url), 'utf8');
    const codes = Array.from(read('errors.md').matchAll(/^### (\w+)$/gm), ([, code]) => code as keyof typeof numbers);
    expect(codes.length).toBeGreaterThan(80);
    const rows = new Map(Array.from(read('room-states.md').matchAll(/^\| (6000\d+) [^|]*\|([^|]*)\|/gm), ([, number, row]) => [Number(number), row]));
    for (const table of [numbers, ...Object.values(inArea)]) {
      for (const code of codes) {
        const number = table[code];
        expect(number === undefined && table === numbers, code).toBe(false);
        if (number !== undefined && number !== api.ZIMErrorCode.Failed) expect(rows.get(number), code).toContain(`\`${code}\``);
      }
    }
  });
});

describe('a login', () => {
  test('is finished when the stream is open', async () => {
    const { zim, log } = create(server);
    const done = zim.login('alice', { userName: 'Alice', token: 'token' });
    const call = await server.next('POST', '/v1/sessions');
    expect(call.body).toEqual({ token: 'token', userName: 'Alice' });
    await expect(zim.login('alice', { token: 'token' })).rejects.toMatchObject({ code: 6000111 });
    call.reply(201, session);
    const stream = await server.nextStream();
    await expect(zim.joinRoom('r')).rejects.toMatchObject({ code: 6000121 });
    stream.open().ready();
    await done;
    expect(states(log)).toEqual(['c 1/1', 'c 2/0']);
    await expect(zim.login('alice', { token: 'token' })).rejects.toMatchObject({ code: 6000111 });
  });

  test('bears a stream that breaks at first', async () => {
    const { zim, log } = create(server);
    const done = zim.login('alice', { token: 'token' });
    (await server.next('POST', '/v1/sessions')).reply(201, session);
    (await server.nextStream()).cut();
    (await server.nextStream()).open().ready();
    await done;
    expect(states(log)).toEqual(['c 1/1', 'c 2/0']);
  });

  test('has the form of ZIM 1.x, too', async () => {
    const { zim } = create(server);
    void zim.login({ userID: 'alice', userName: 'Al' }, 'token').catch(() => {});
    expect((await server.next('POST', '/v1/sessions')).body).toEqual({ token: 'token', userName: 'Al' });
  });

  test.each([
    [401, 'token_invalid', 6000103, 'c 0/0'],
    [401, 'token_expired', 6000106, 'c 0/0'],
    [500, 'internal', 6000007, 'c 0/0'],
  ])('that is refused with %d %s is rejected with %d', async (status, problem, code, state) => {
    const { zim, log } = create(server);
    const done = zim.login('alice', { userName: '', token: 'token' });
    (await server.next('POST', '/v1/sessions')).refuse(status, problem);
    await expect(done).rejects.toMatchObject({ code });
    expect(states(log)).toEqual(['c 1/1', state]);
    void zim.login('alice', { token: 'token' }).catch(() => {}); // another attempt is possible
    await server.next('POST', '/v1/sessions');
  });

  test('with the token of another user is rejected, and its session ends', async () => {
    const { zim } = create(server);
    const done = zim.login('bob', { token: 'token' });
    (await server.next('POST', '/v1/sessions')).reply(201, session);
    await expect(done).rejects.toMatchObject({ code: 6000124 });
    await server.next('DELETE', '/v1/sessions/current');
  });

  test('whose stream does not open fails', async () => {
    fakeTime();
    const { zim, log } = create(server);
    const done = zim.login('alice', { token: 'token' });
    done.catch(() => {});
    (await server.next('POST', '/v1/sessions')).reply(201, session);
    let opened = false;
    void server.nextStream().then((stream) => {
      stream.open();
      opened = true;
    });
    await until(() => vi.advanceTimersByTime(0) && opened);
    vi.advanceTimersByTime(10_000);
    await expect(done).rejects.toMatchObject({ code: 6000105 });
    expect(states(log)).toEqual(['c 1/1', 'c 0/2']);
    await server.next('DELETE', '/v1/sessions/current');
  });

  test.each([['logout', ['c 1/1', 'c 0/0']], ['destroy', ['c 1/1']]] as const)('that is followed by %s ends', async (end, expected) => {
    const { zim, log } = create(server);
    const done = zim.login('alice', { token: 'token' });
    const call = await server.next('POST', '/v1/sessions');
    zim[end]();
    const next = ZIM.create(1); // after destroy, as in StrictMode of React
    expect(next === null).toBe(end === 'logout');
    next?.destroy();
    call.reply(201, session);
    await expect(done).rejects.toMatchObject({ code: 6000121 });
    expect(states(log)).toEqual(expected);
    await server.next('DELETE', '/v1/sessions/current');
  });
});

describe('listeners', () => {
  test('replace each other, and are removed with or without being named', async () => {
    const { zim, stream } = await login(server);
    const calls: string[] = [];
    const first = () => calls.push('first');
    const second = () => calls.push('second');
    zim.on('tokenWillExpire', first);
    zim.on('tokenWillExpire', second);
    zim.off('tokenWillExpire', first);
    const seen = new Promise((resolve) => zim.on('userInfoUpdated', resolve));
    stream.event('tokenWillExpire', { secondsLeft: 30 });
    stream.event('profileUpdated', { seq: 1, profile: { userID: 'alice', userName: 'Al' } });
    await seen;
    zim.off('tokenWillExpire');
    expect(calls).toEqual(['second']);
  });

  test('with positions get the fields', async () => {
    const { zim, stream } = await inRoom(server);
    const args = new Promise<unknown[]>((resolve) => {
      zim.on('receiveRoomMessage', function (_zim: unknown, messageList: unknown[], roomID: string) {
        resolve([messageList.length, roomID]);
      });
    });
    stream.event('roomMessageReceived', roomMessage(2));
    expect(await args).toEqual([1, 'r']);
  });

  test('that throw do not disturb others', async () => {
    const errors = vi.spyOn(console, 'error').mockReturnValue();
    const { zim, log, stream } = await inRoom(server);
    zim.on('roomMessageReceived', () => {
      throw new Error('from the application');
    });
    stream.event('roomMessageReceived', roomMessage(2)).event('roomMessageReceived', roomMessage(3));
    await until(() => log.filter(([event]) => event === 'receiveRoomMessage').length === 2);
    const onMessageAttached = () => {
      throw new Error('from the application');
    };
    void zim.sendMessage({ type: 1, message: 'x' } as api.ZIMTextMessage, 'r', 1, { priority: 1 }, { onMessageAttached }).catch(() => {});
    await server.next('POST', '/v1/rooms/r/messages');
    expect(errors).toHaveBeenCalledTimes(3);
  });
});

describe('the states of a room', () => {
  test.each([
    ['createRoom', () => ZIM.getInstance()!.createRoom({ roomID: 'r', roomName: '' }), '/v1/rooms', 4, 5],
    ['joinRoom', () => ZIM.getInstance()!.joinRoom('r'), '/v1/rooms/r/join', 6, 7],
    ['enterRoom', () => ZIM.getInstance()!.enterRoom({ roomID: 'r', roomName: 'R' }), '/v1/rooms/r/enter', 6, 7],
  ])('of %s', async (_, call, path, active, failed) => {
    const { log } = await login(server);
    const refused = call();
    await expect(call()).rejects.toMatchObject({ code: 6000326 });
    (await server.next('POST', path)).refuse(409, 'room_full');
    await expect(refused).rejects.toMatchObject({ code: 6000304 });
    const entered = call().then((result) => log.push(['result', result]));
    (await server.next('POST', path)).reply(200, { room: roomReply({ roomAttributes: { key: 'value' } }), ...(path !== '/v1/rooms' && { created: false }) });
    await entered;
    // The client that creates a room has chosen its attributes.
    expect(log.some(([event]) => event === 'roomAttributesUpdated')).toBe(path !== '/v1/rooms');
    expect(states(log)).toEqual([`r 1/${active}`, `r 0/${failed}`, `r 1/${active}`, 'r 2/0']);
    expect(log.at(-1)).toEqual(['result', { roomInfo: { baseInfo: { roomID: 'r', roomName: 'R' } } }]);
    await expect(call()).rejects.toMatchObject({ code: 6000320 });
  });

  test('of switchRoom: the new room first', async () => {
    const { zim, log } = await inRoom(server);
    const options = { roomDestroyDelayTime: 90, roomAttributes: { key: 'value' } };
    const refused = zim.switchRoom('r', { roomID: 'r2', roomName: 'R2' }, true, options);
    const call = await server.next('POST', '/v1/rooms/r/switch');
    expect(call.body).toEqual({
      toRoom: { roomID: 'r2', roomName: 'R2' }, createIfNotExists: true, config: { destroyDelay: 90 }, roomAttributes: { key: 'value' },
    });
    call.refuse(409, 'room_limit');
    await expect(refused).rejects.toMatchObject({ code: 6000324 });
    const done = zim.switchRoom('r', { roomID: 'r2', roomName: 'R2' }, false);
    (await server.next('POST', '/v1/rooms/r/switch')).reply(200, { room: roomReply({ roomID: 'r2' }), created: false });
    await done;
    expect(states(log)).toEqual(['r2 1/11', 'r2 0/12', 'r2 1/11', 'r2 2/0', 'r 0/0']);
  });

  test('of leaveRoom and leaveAllRoom', async () => {
    const { zim, log } = await inRoom(server);
    const left = zim.leaveRoom('r');
    const again = zim.enterRoom({ roomID: 'r', roomName: '' }); // waits until the room is left
    (await server.next('POST', '/v1/rooms/r/leave')).reply(200, { roomID: 'r' });
    expect(await left).toEqual({ roomID: 'r' });
    (await server.next('POST', '/v1/rooms/r/enter')).reply(200, { room: roomReply(), created: false });
    await again;
    const all = zim.leaveAllRoom();
    (await server.next('DELETE', '/v1/sessions/current/rooms')).reply(200, { roomIDs: ['r'] });
    expect(await all).toEqual({ roomIDs: ['r'] });
    expect(states(log)).toEqual(['r 0/0', 'r 1/6', 'r 2/0', 'r 0/0']);
    const notIn = zim.leaveRoom('r');
    (await server.next('POST', '/v1/rooms/r/leave')).refuse(409, 'not_in_room');
    await expect(notIn).rejects.toMatchObject({ code: 6000321 });
  });

  test.each([
    ['roomNotExist', 3], ['kickedOut', 8], ['notGranted', 8], ['replaced', 10], ['networkTimeout', 9], ['tokenExpired', 2],
  ])('after %s', async (event, number) => {
    const { log, stream } = await inRoom(server);
    stream.event('roomStateChanged', { roomID: 'r', generation, state: 'connected', event: 'success' });
    stream.event('roomStateChanged', { roomID: 'r', generation, state: 'disconnected', event, reason: 'why' });
    expect(await received(log, 'roomStateChanged')).toEqual({ roomID: 'r', state: 0, event: number, extendedData: '{"reason":"why"}' });
    stream.event('roomMessageReceived', roomMessage(2)).event('tokenWillExpire', { secondsLeft: 1 });
    await received(log, 'tokenWillExpire');
    expect(log).toHaveLength(2);
  });

  test('survive a kick that was sent before the room was entered again', async () => {
    const { log, stream } = await inRoom(server);
    stream.event('roomStateChanged', { roomID: 'r', generation, state: 'disconnected', event: 'kickedOut' });
    (await server.next('GET', '/v1/sessions/current/rooms')).reply(200, { rooms: [roomReply()] });
    stream.event('tokenWillExpire', { secondsLeft: 1 });
    await received(log, 'tokenWillExpire');
    expect(states(log)).toEqual([]);
  });

  test('events wait until the room is entered', async () => {
    const { zim, log, stream } = await login(server);
    const done = zim.joinRoom('r');
    const call = await server.next('POST', '/v1/rooms/r/join');
    stream.event('roomMessageReceived', { ...roomMessage(9), generation: 0 }); // of an earlier room of this name
    stream.event('roomMessageReceived', roomMessage(3)).event('tokenWillExpire', { secondsLeft: 1 });
    await received(log, 'tokenWillExpire');
    call.reply(200, { room: roomReply({ roomAttributes: { topic: 'x' }, attributesVersion: 2 }) });
    await done;
    expect(log.map(([event]) => event)).toEqual([
      'roomStateChanged', 'tokenWillExpire', 'roomStateChanged', 'roomAttributesUpdated', 'roomMessageReceived', 'receiveRoomMessage',
    ]);
  });
});

describe('a lost stream', () => {
  test('and its return within the timeout', async () => {
    const { zim, log, stream } = await inRoom(server);
    stream.response.end();
    await received(log, 'roomStateChanged');
    await expect(zim.joinRoom('r')).rejects.toMatchObject({ code: 6000326 });
    (await server.nextStream()).open().ready('1:1', [roomReply()]);
    await until(() => log.length === 4);
    expect(states(log)).toEqual(['c 3/3', 'r 1/1', 'c 2/0', 'r 2/0']);
  });

  test.each([['networkTimeout', 9], ['roomNotExist', 3], ['kickedOut', 8]])('and its return after %s', async (event, number) => {
    const { log, stream } = await inRoom(server);
    stream.response.end();
    const again = (await server.nextStream()).open().ready('1:1', []);
    again.event('roomStateChanged', { roomID: 'r', generation, state: 'disconnected', event });
    await until(() => log.length === 4);
    expect(states(log)).toEqual(['c 3/3', 'r 1/1', 'c 2/0', `r 0/${number}`]);
  });

  test('and a reason that is lost with the next stream', async () => {
    const { log, stream } = await inRoom(server);
    stream.response.end();
    const next = (await server.nextStream()).open().ready('1:1', []);
    await until(() => log.length === 3);
    next.response.end();
    (await server.nextStream()).open().ready('1:1', []);
    await until(() => log.length === 6);
    expect(states(log)).toEqual(['c 3/3', 'r 1/1', 'c 2/0', 'c 3/3', 'c 2/0', 'r 0/9']);
  });

  test('and a room that was entered without a reply: it is left', async () => {
    const { stream } = await login(server);
    stream.response.end();
    (await server.nextStream()).open().ready('1:1', [roomReply()]);
    (await server.next('POST', '/v1/rooms/r/leave')).reply(200, { roomID: 'r' });
  });

  test.each([
    ['tokenExpired', 'c 0/5'], ['kickedOut', 'c 0/4'], ['superseded', 'c 0/4'],
  ])('for good, because of %s', async (event, state) => {
    const { zim, log, stream } = await inRoom(server);
    const again = new Promise<void>((resolve) => {
      zim.on('connectionStateChanged', (_, data) => {
        log.push(['connectionStateChanged', data]);
        // As the vendor's page does.
        if (data.state === 0 && data.event !== 0) void zim.login('alice', { token: 'token' }).catch(() => {}).finally(resolve);
      });
    });
    stream.event('connectionStateChanged', { state: 'disconnected', event, reason: 'why' });
    (await server.next('POST', '/v1/sessions')).refuse(401, 'token_expired');
    await again;
    expect(states(log)).toEqual(['r 0/2', state, 'c 1/1', 'c 0/0']);
    expect(log[1]![1].extendedData).toBe('{"reason":"why"}');
    await expect(zim.joinRoom('r')).rejects.toMatchObject({ code: 6000121 });
  });
});

test('a logout ends the session, and another login begins a new one', async () => {
  const { zim, log } = await inRoom(server);
  zim.logout();
  expect(states(log)).toEqual(['r 0/2', 'c 0/0']);
  (await server.next('DELETE', '/v1/sessions/current')).reply(204);
  const done = zim.login('alice', { token: 'token' });
  (await server.next('POST', '/v1/sessions')).reply(201, session);
  (await server.nextStream()).open().ready();
  await done;
  expect(states(log).slice(2)).toEqual(['c 1/1', 'c 2/0']);
});

describe('members', () => {
  test('others who join and leave, and not the user', async () => {
    const { log, stream } = await inRoom(server);
    const joinedAt = '2026-11-21T15:00:00.000Z';
    const bob = { userID: 'bob', userName: 'Bob', avatarURL: 'https://example.com/bob.png', joinedAt };
    const alice = { userID: 'alice', userName: 'Alice', joinedAt };
    stream.event('roomMemberJoined', { roomID: 'r', generation, seq: 2, memberList: [alice] });
    stream.event('roomMemberJoined', { roomID: 'r', generation, seq: 3, memberList: [alice, bob] });
    stream.event('roomMemberLeft', { roomID: 'r', generation, seq: 4, memberList: [{ userID: 'bob', userName: 'Bob', reason: 'left' }] });
    await received(log, 'roomMemberLeft');
    const shown = { userID: 'bob', userName: 'Bob', userAvatarUrl: 'https://example.com/bob.png', userExtendedData: '' };
    expect(log).toEqual([
      ['roomMemberJoined', { roomID: 'r', memberList: [shown] }],
      ['roomMemberLeft', { roomID: 'r', memberList: [{ ...shown, userAvatarUrl: '' }] }],
    ]);
  });

  test('by pages and by userID', async () => {
    const { zim } = await inRoom(server);
    const list = zim.queryRoomMemberList('r', { nextFlag: 'c1', count: 10 });
    const call = await server.next('GET', '/v1/rooms/r/members');
    expect(call.url.search).toBe('?limit=10&cursor=c1');
    call.reply(200, { generation, seq: 1, memberList: [{ userID: 'bob', userName: 'Bob' }], nextCursor: 'c2' });
    expect(await list).toMatchObject({ roomID: 'r', memberList: [{ userID: 'bob' }], nextFlag: 'c2' });
    const some = zim.queryRoomMembers(['bob', 'carol@example.com'], 'r');
    (await server.next('GET', '/v1/rooms/r/members')).reply(200, { generation, seq: 1, memberList: [{ userID: 'bob', userName: 'Bob' }] });
    expect(await some).toMatchObject({ memberList: [{ userID: 'bob' }], errorUserList: [{ userID: 'carol@example.com', reason: 6000321 }] });
  });
});

describe('attributes', () => {
  const changed = (seq: number, userID: string, ...actions: string[]) => ({
    roomID: 'r', generation, seq, operatedInfo: { userID },
    infos: actions.map((action) => ({ action, roomAttributes: { [action]: `${seq}` } })),
  });

  test('of others, one by one and in batches', async () => {
    const { log, stream } = await inRoom(server, roomReply({ attributesVersion: 2 }));
    stream.event('roomAttributesUpdated', changed(2, 'bob', 'set')); // known already
    stream.event('roomAttributesUpdated', changed(3, 'bob', 'delete'));
    stream.event('roomAttributesUpdated', changed(4, 'bob', 'set', 'delete'));
    await received(log, 'roomAttributesBatchUpdated');
    expect(log).toEqual([
      ['roomAttributesUpdated', { roomID: 'r', infos: [{ action: 1, roomAttributes: { delete: '3' } }] }],
      ['roomAttributesBatchUpdated', { roomID: 'r', infos: [{ action: 0, roomAttributes: { set: '4' } }, { action: 1, roomAttributes: { delete: '4' } }] }],
    ]);
  });

  test('of this client cause no event, whichever of reply and event comes first; those of other sessions do', async () => {
    const { zim, log, stream } = await inRoom(server);
    const set = zim.setRoomAttributes({ key: 'value' }, 'r', { isForce: true, isDeleteAfterOwnerLeft: false, isUpdateOwner: true });
    const call = await server.next('PATCH', '/v1/rooms/r/attributes');
    expect(call.body).toEqual({ set: { key: 'value' }, force: true, deleteAfterOwnerLeft: false, updateOwner: true });
    stream.event('roomAttributesUpdated', changed(2, 'alice', 'set')); // by another tab
    stream.event('roomAttributesUpdated', changed(3, 'alice', 'set')); // by this call
    stream.event('roomMessageReceived', roomMessage(4));
    stream.event('tokenWillExpire', { secondsLeft: 1 });
    await received(log, 'tokenWillExpire');
    expect(log).toHaveLength(1); // the rest waits for the reply
    call.reply(200, { version: 3, errorKeys: [] });
    expect(await set).toEqual({ roomID: 'r', errorKeys: [] });
    await received(log, 'receiveRoomMessage');
    expect(log[1]).toEqual(['roomAttributesUpdated', { roomID: 'r', infos: [{ action: 0, roomAttributes: { set: '2' } }] }]);
    expect(log).toHaveLength(4);

    const remove = zim.deleteRoomAttributes(['key'], 'r', { isForce: false });
    (await server.next('PATCH', '/v1/rooms/r/attributes')).reply(200, { version: 5, errorKeys: [] });
    await remove;
    stream.event('roomAttributesUpdated', changed(5, 'alice', 'delete')).event('roomAttributesUpdated', changed(6, 'bob', 'set'));
    await until(() => log.length === 5);
    expect(log[4]![1].infos).toEqual([{ action: 0, roomAttributes: { set: '6' } }]);
  });

  test('in a batch are one call, in which the last change of a key counts', async () => {
    const { zim } = await inRoom(server);
    await expect(zim.endRoomAttributesBatchOperation('r')).rejects.toMatchObject({ code: 6000001 });
    zim.beginRoomAttributesBatchOperation('r', { isForce: true, isDeleteAfterOwnerLeft: true, isUpdateOwner: false });
    expect(await zim.setRoomAttributes({ a: '1', b: '2' }, 'r', {})).toEqual({ roomID: 'r', errorKeys: [] });
    await zim.deleteRoomAttributes(['b', 'c'], 'r', {});
    const end = zim.endRoomAttributesBatchOperation('r');
    const call = await server.next('PATCH', '/v1/rooms/r/attributes');
    expect(call.body).toEqual({ set: { a: '1' }, delete: ['b', 'c'], force: true, deleteAfterOwnerLeft: true, updateOwner: false });
    call.reply(200, { version: 2, errorKeys: ['b'] });
    expect(await end).toEqual({ roomID: 'r' });
    const set = zim.setRoomAttributes({ a: '1' }, 'r', {});
    (await server.next('PATCH', '/v1/rooms/r/attributes')).reply(200, { version: 2, errorKeys: ['a'] });
    await expect(set).rejects.toMatchObject({ code: 6000331 });
  });

  test.each([
    [{ ['k'.repeat(17)]: '' }, 6000335], [{ key: 'ü'.repeat(513) }, 6000336], [{ key: 'x' }, 6000001],
  ])('that are too long: %j', async (attributes, code) => {
    const { zim } = await inRoom(server);
    const set = zim.setRoomAttributes(attributes, 'r', {});
    (await server.next('PATCH', '/v1/rooms/r/attributes')).refuse(400, 'invalid_request');
    await expect(set).rejects.toMatchObject({ code });
  });

  test('of members', async () => {
    const { zim, log, stream } = await inRoom(server);
    const set = zim.setRoomMembersAttributes({ hand: 'up' }, ['bob', 'carol'], 'r', { isDeleteAfterOwnerLeft: true });
    const call = await server.next('PATCH', '/v1/rooms/r/member-attributes');
    expect(call.body).toEqual({ userIDs: ['bob', 'carol'], set: { hand: 'up' }, deleteAfterOwnerLeft: true });
    call.reply(200, { infos: [{ userID: 'bob', attributes: { hand: 'up' } }], errorUserList: ['carol'] });
    expect(await set).toEqual({
      roomID: 'r', infos: [{ attributesInfo: { userID: 'bob', attributes: { hand: 'up' } }, errorKeys: [] }], errorUserList: ['carol'],
    });
    stream.event('roomMemberAttributesUpdated', {
      roomID: 'r', generation, seq: 2, infos: [{ userID: 'bob', attributes: { hand: 'up' } }], operatedInfo: { userID: 'alice' },
    });
    expect(await received(log, 'roomMemberAttributesUpdated')).toEqual({
      roomID: 'r', infos: [{ attributesInfo: { userID: 'bob', attributes: { hand: 'up' } } }], operatedInfo: { userID: 'alice' },
    });
    const full = zim.setRoomMembersAttributes({ hand: 'up' }, ['bob'], 'r');
    (await server.next('PATCH', '/v1/rooms/r/member-attributes')).refuse(409, 'attributes_full');
    await expect(full).rejects.toMatchObject({ code: 6000351 });
    const long = zim.setRoomMembersAttributes({ tooLongKey: '' }, ['bob'], 'r');
    (await server.next('PATCH', '/v1/rooms/r/member-attributes')).refuse(400, 'invalid_request');
    await expect(long).rejects.toMatchObject({ code: 6000352 });
  });
});

describe('messages', () => {
  const text = { type: 1, message: 'Hello', extendedData: '' } as api.ZIMTextMessage;

  test('are sent as one object, and are not echoed', async () => {
    const { zim, log, stream } = await inRoom(server);
    const attached: api.ZIMMessage[] = [];
    const status: number[] = [];
    zim.on('messageSentStatusChanged', (_, { infos }) => status.push(infos[0]!.status));
    const sent = zim.sendMessage(text, 'r', 1, { priority: 3 }, { onMessageAttached: (one) => attached.push(one) });
    expect(attached[0]).toMatchObject({ message: 'Hello', sentStatus: 0, senderUserID: 'alice', conversationID: 'r', conversationType: 1, direction: 0 });
    const call = await server.next('POST', '/v1/rooms/r/messages');
    const { clientMessageID } = call.body;
    expect(call.body).toEqual({ kind: 'text', text: 'Hello', priority: 'high', clientMessageID });
    const own = { sender: { userID: 'alice', userName: 'Alice' }, text: 'Hello' };
    stream.event('roomMessageReceived', roomMessage(2, { ...own, clientMessageID }));
    stream.event('roomMessageReceived', roomMessage(3, own)); // by another tab
    stream.event('roomMessageReceived', roomMessage(4, { sentAt: '2024-11-20T00:00:00.000Z' })); // before the login
    call.reply(201, { message: message(2, { ...own, clientMessageID }) });
    const { message: result } = await sent;
    expect(result).toBe(attached[0]);
    expect(result).toMatchObject({ messageID: 'm2', messageSeq: 2, sentStatus: 1, timestamp: Date.parse('2026-11-21T15:00:00.000Z') });
    await until(() => log.length === 4);
    const another = { messageID: 'm3', direction: 0, senderUserID: 'alice' };
    expect(log.slice(0, 3)).toMatchObject([
      ['roomMessageReceived', { messageList: [another], fromConversationID: 'r', info: { isOfflineMessage: false } }],
      ['receiveRoomMessage', { messageList: [another], fromConversationID: 'r' }],
      ['roomMessageReceived', { messageList: [{ messageID: 'm4', direction: 1 }], info: { isOfflineMessage: true } }],
    ]);
    expect(status).toEqual([0, 1]);
  });

  test('that are refused fail with their number', async () => {
    const { zim } = await inRoom(server);
    let attached: api.ZIMMessage | undefined;
    const sent = zim.sendMessage(text, 'bob', 0, { priority: 1 }, { onMessageAttached: (one) => (attached = one) });
    (await server.next('POST', '/v1/users/bob/messages')).refuse(403, 'blocked');
    await expect(sent).rejects.toMatchObject({ code: 6000284 });
    expect(attached!.sentStatus).toBe(2);
    const away = zim.sendRoomMessage(text, 'elsewhere');
    (await server.next('POST', '/v1/rooms/elsewhere/messages')).refuse(409, 'not_in_room');
    await expect(away).rejects.toMatchObject({ code: 6000204 });
  });

  test('that wait are not sent after a logout', async () => {
    const { zim } = await inRoom(server);
    const first = zim.sendPeerMessage(text, 'bob');
    await server.next('POST', '/v1/users/bob/messages');
    const second = zim.sendPeerMessage(text, 'bob');
    zim.logout();
    for (const sent of [first, second]) await expect(sent).rejects.toMatchObject({ code: 6000121 });
  });

  test('that wait can be cancelled', async () => {
    const { zim } = await inRoom(server);
    const first = zim.sendPeerMessage(text, 'bob');
    const call = await server.next('POST', '/v1/users/bob/messages');
    let waiting: api.ZIMMessage;
    const second = zim.sendMessage(text, 'bob', 0, {}, { onMessageAttached: (one) => (waiting = one) });
    await zim.cancelSendingMessage(waiting!);
    await expect(second).rejects.toMatchObject({ code: 6000206 });
    call.reply(201, { message: message(1, { roomID: undefined, userID: 'bob', sender: { userID: 'alice', userName: 'Alice' } }) });
    await expect(zim.cancelSendingMessage((await first).message)).rejects.toMatchObject({ code: 6000207 });
  });

  test.each([
    [{ type: 2, message: Uint8Array.of(0, 255, 16) }, { kind: 'command', data: 'AP8Q' }],
    [{ type: 20, message: 'x' }, { kind: 'barrage', text: 'x' }],
    [{ type: 200, message: '{}' }, { kind: 'custom', text: '{}', subType: 0 }],
    [{ type: 200, message: '{}', subType: 7 }, { kind: 'custom', text: '{}', subType: 7 }],
    [
      { type: 100, title: 'T', summary: '', messageList: [{ type: 1, message: 'x', senderUserID: 'bob', timestamp: 0 }] },
      { kind: 'combine', title: 'T', messageList: [{ kind: 'text', text: 'x', sender: { userID: 'bob' }, sentAt: '1970-01-01T00:00:00.000Z' }] },
    ],
  ])('of each type: %j', async (draft, body) => {
    const { zim, log, stream } = await inRoom(server);
    void zim.sendMessage(draft as never, 'r', 1).catch(() => {});
    expect((await server.next('POST', '/v1/rooms/r/messages')).body).toMatchObject(body);
    const { text: _, ...other } = message(2);
    stream.event('roomMessageReceived', { roomID: 'r', generation, seq: 2, messageList: [{ ...other, ...body }] });
    const { messageList } = await received(log, 'roomMessageReceived');
    expect(messageList).toMatchObject([draft]);
  });

  test('with files are delivered in order, with a URL', async () => {
    const { log, stream } = await inRoom(server);
    const media = { mediaID: 'f1', fileName: 'a.png', size: 3, contentType: 'image/png', width: 4, height: 5, url: '/v1/media/f1/a.png' };
    stream.event('roomMessageReceived', roomMessage(2, { kind: 'image', text: undefined, media }));
    stream.event('roomMessageReceived', roomMessage(3));
    const call = await server.next('GET', '/v1/media/f1');
    expect(log).toEqual([]);
    call.reply(200, { media, signedURL: '/v1/media/f1/a.png?sig=s', expiresAt: '2100-01-01T00:00:00.000Z' });
    await until(() => log.length === 4);
    expect(log[0]![1].messageList[0]).toMatchObject({
      type: 11, fileUID: 'f1', fileName: 'a.png', fileSize: 3, originalImageWidth: 4, fileDownloadUrl: `${server.url}/v1/media/f1/a.png?sig=s`,
    });
    expect(log[2]![1].messageList[0].messageSeq).toBe(3);
  });

  test('that wait for the URL of a file are not delivered after the room is left', async () => {
    const { zim, log, stream } = await inRoom(server);
    const media = { mediaID: 'f1', fileName: 'a.png', size: 3, contentType: 'image/png', url: '/v1/media/f1/a.png' };
    stream.event('roomMessageReceived', roomMessage(2, { kind: 'image', text: undefined, media }));
    const call = await server.next('GET', '/v1/media/f1');
    const left = zim.leaveRoom('r');
    (await server.next('POST', '/v1/rooms/r/leave')).reply(200, { roomID: 'r' });
    await left;
    call.refuse(404, 'media_not_found');
    stream.event('tokenWillExpire', { secondsLeft: 1 });
    await received(log, 'tokenWillExpire');
    await new Promise((resolve) => setImmediate(resolve));
    expect(log.map(([event]) => event)).toEqual(['roomStateChanged', 'tokenWillExpire']);
  });

  test('are recalled by others and by this client', async () => {
    const { zim, log, stream } = await inRoom(server);
    stream.event('roomMessageReceived', roomMessage(2));
    const known = (await received(log, 'receiveRoomMessage')).messageList[0];
    const revoked = zim.revokeMessage(known);
    const call = await server.next('DELETE', '/v1/rooms/r/messages/m2');
    stream.event('messageRecalled', { roomID: 'r', generation, seq: 3, messageID: 'm2', recalledSeq: 2, operatedInfo: { userID: 'alice' } });
    call.reply(204);
    expect((await revoked).message).toMatchObject({ type: 31, messageID: 'm2', originalMessageType: 1, operatedUserID: 'alice', revokeStatus: 0 });
    stream.event('messageRecalled', { roomID: 'r', generation, seq: 4, messageID: 'm1', recalledSeq: 1 });
    expect((await received(log, 'messageRevokeReceived')).messageList).toMatchObject([
      { type: 31, messageID: 'm1', messageSeq: 1, originalMessageType: 0, operatedUserID: '', revokeStatus: 2, conversationID: 'r', conversationType: 1 },
    ]);
    const late = zim.revokeMessage(known);
    (await server.next('DELETE', '/v1/rooms/r/messages/m2')).refuse(409, 'recall_too_late');
    await expect(late).rejects.toMatchObject({ code: 6000278 });
  });

  test('of the history come in pages of any size, in ascending order', async () => {
    const { zim } = await inRoom(server);
    const first = zim.queryHistoryMessage('r', 1, { nextMessage: null, count: 3, reverse: true, mode: 0 });
    let call = await server.next('GET', '/v1/rooms/r/messages');
    expect(call.url.search).toBe('?limit=3');
    call.reply(200, { messageList: [message(9)], nextCursor: 9 }); // the others are not for this user
    call = await server.next('GET', '/v1/rooms/r/messages');
    expect(call.url.search).toBe('?limit=2&before=9');
    call.reply(200, { messageList: [message(5, { recalled: true, text: undefined }), message(7)], nextCursor: 5 });
    const { messageList } = await first;
    expect(messageList.map(({ messageSeq, type }) => [messageSeq, type])).toEqual([[5, 31], [7, 1], [9, 1]]);
    const forward = zim.queryHistoryMessage('r', 1, { nextMessage: messageList[2]!, count: 2, reverse: false, mode: 0 });
    call = await server.next('GET', '/v1/rooms/r/messages');
    expect(call.url.search).toBe('?limit=2&after=9');
    call.reply(200, { messageList: [] });
    expect((await forward).messageList).toEqual([]);
  });
});

describe('users', () => {
  test('statuses', async () => {
    const { zim, log, stream } = await login(server);
    const bob = { userID: 'bob', state: 'loggedOut', customStatus: 'x', updatedAt: '1970-01-01T00:00:01.000Z' };
    const shown = { userID: 'bob', onlineStatus: 2, customStatus: 'x', lastUpdateTime: 1000, onlinePlatforms: [] };
    const subscribed = zim.subscribeUsersStatus(['bob', 'nobody'], { subscriptionDuration: 2 });
    const call = await server.next('POST', '/v1/status-subscriptions');
    expect(call.body).toEqual({ userIDs: ['bob', 'nobody'], durationSeconds: 120 });
    call.reply(200, { expiresAt: '1970-01-01T00:02:00.000Z', statusList: [bob], errorUserList: ['nobody'] });
    expect(await subscribed).toEqual({ errorUserList: [{ userID: 'nobody', reason: 6000011 }] });
    expect(await received(log, 'userStatusUpdated')).toMatchObject({ userStatusList: [shown] });
    stream.event('userStatusUpdated', { statusList: [bob] });
    await until(() => log.length === 2);
    const query = zim.queryUsersStatus(['bob', 'nobody']);
    (await server.next('GET', '/v1/statuses')).reply(200, { statusList: [bob, { userID: 'nobody', state: 'unknown', updatedAt: bob.updatedAt }] });
    expect(await query).toMatchObject({ userStatusList: [shown], errorUserList: [{ userID: 'nobody' }] });
  });

  test('block lists, whose nextFlag is a number', async () => {
    const { zim, log, stream } = await login(server);
    const add = zim.addUsersToBlacklist(['bob', 'alice']);
    (await server.next('PUT', '/v1/blocks/bob')).reply(204);
    (await server.next('PUT', '/v1/blocks/alice')).refuse(400, 'block_self');
    expect(await add).toEqual({ errorUserList: [{ userID: 'alice', reason: 6000805 }] });
    stream.event('blockListChanged', { userID: 'bob', seq: 1, blocked: true });
    expect(await received(log, 'blacklistChanged')).toMatchObject({ userList: [{ userID: 'bob' }], action: 0 });
    const page = zim.queryBlacklist({ nextFlag: 0, count: 1 });
    (await server.next('GET', '/v1/blocks')).reply(200, { blockList: [{ userID: 'bob', blockedAt: '' }], nextCursor: 'c' });
    (await server.next('GET', '/v1/users')).reply(200, { userList: [{ userID: 'bob', userName: 'Bob' }], errorUserList: [] });
    const { nextFlag } = await page;
    const next = zim.queryBlacklist({ nextFlag, count: 1 });
    const call = await server.next('GET', '/v1/blocks');
    expect(call.url.search).toBe('?limit=1&cursor=c');
    call.reply(200, { blockList: [] });
    expect(await next).toEqual({ blacklist: [], nextFlag: 0 });
    await expect(zim.queryBlacklist({ nextFlag: 99, count: 1 })).rejects.toMatchObject({ code: 6000001 });
  });
});

describe('conversations', () => {
  const peer = (seq: number) => ({ seq, messageList: [message(seq, { roomID: undefined, userID: 'bob' })] });
  const conversation = (seq: number, unreadCount: number) => ({
    seq, totalUnreadCount: unreadCount,
    conversation: { userID: 'bob', unreadCount, readSeq: 0, lastMessage: message(seq, { roomID: undefined, userID: 'bob' }) },
  });
  const bob = { userList: [{ userID: 'bob', userName: 'Bob', avatarURL: 'https://example.com/b' }], errorUserList: [] };

  test('are read after they have changed, once for several changes', async () => {
    const { zim, log, stream } = await login(server);
    zim.on('conversationChanged', (_, data) => log.push(['conversationChanged', data]));
    zim.on('conversationTotalUnreadMessageCountUpdated', (_, data) => log.push(['total', data]));
    stream.event('peerMessageReceived', peer(1));
    const first = await server.next('GET', '/v1/conversations/bob');
    stream.event('peerMessageReceived', peer(2)).event('peerMessageReceived', peer(3)).event('tokenWillExpire', { secondsLeft: 1 });
    await received(log, 'tokenWillExpire');
    first.reply(200, conversation(1, 1));
    (await server.next('GET', '/v1/users')).reply(200, bob);
    (await server.next('GET', '/v1/conversations/bob')).reply(200, conversation(3, 3));
    (await server.next('GET', '/v1/users')).reply(200, bob);
    await until(() => log.filter(([event]) => event === 'total').length === 2);
    const changes = log.filter(([event]) => event === 'conversationChanged').map(([, { infoList }]) => infoList[0]);
    expect(changes).toMatchObject([
      { event: 0, conversation: { conversationID: 'bob', type: 0, conversationName: 'Bob', unreadMessageCount: 1 } },
      { event: 1, conversation: { unreadMessageCount: 3, lastMessage: { messageSeq: 3 } } },
    ]);
    expect(log.at(-1)).toEqual(['total', { totalUnreadMessageCount: 3 }]);
  });

  test('are not read for an application that does not listen', async () => {
    const { log, stream } = await login(server);
    const fetches = vi.spyOn(globalThis, 'fetch');
    stream.event('peerMessageReceived', peer(1));
    await received(log, 'receivePeerMessage');
    expect(fetches).not.toHaveBeenCalled();
  });

  test('are listed by pages, read and deleted', async () => {
    const { zim } = await login(server);
    const list = zim.queryConversationList({ count: 1 });
    (await server.next('GET', '/v1/conversations')).reply(200, {
      seq: 5, totalUnreadCount: 1, conversationList: [conversation(5, 1).conversation], nextCursor: 5,
    });
    (await server.next('GET', '/v1/users')).reply(200, bob);
    const { conversationList } = await list;
    expect(conversationList).toMatchObject([{ conversationID: 'bob', orderKey: 5, conversationAvatarUrl: 'https://example.com/b' }]);
    const next = zim.queryConversationList({ nextConversation: conversationList[0]!, count: 1 });
    const call = await server.next('GET', '/v1/conversations');
    expect(call.url.search).toBe('?limit=1&before=5');
    call.reply(200, { seq: 5, totalUnreadCount: 1, conversationList: [] });
    expect((await next).conversationList).toEqual([]);

    const clear = zim.clearConversationUnreadMessageCount('bob', 0);
    (await server.next('GET', '/v1/conversations/bob')).reply(200, conversation(5, 1));
    const read = await server.next('POST', '/v1/conversations/bob/read');
    expect(read.body).toEqual({ seq: 5 });
    read.reply(204);
    expect(await clear).toEqual({ conversationID: 'bob', conversationType: 0 });
    const gone = zim.deleteConversation('bob', 0, { isAlsoDeleteServerConversation: true });
    (await server.next('DELETE', '/v1/conversations/bob')).refuse(404, 'conversation_not_found');
    expect(await gone).toEqual({ conversationID: 'bob', conversationType: 0 });
    expect(await zim.sendConversationMessageReceiptRead('bob', 0)).toEqual({ conversationID: 'bob', conversationType: 0 });
  });
});
