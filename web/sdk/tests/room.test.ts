import { beforeEach, describe, expect, test, vi } from 'vitest';
import { type LiveHistory, Parlor, type RoomHandle } from '../src/index.ts';
import { failAttempt, fakeTime, login, message, next, room, until } from './harness.ts';
import { type Call, TestServer } from './server.ts';

let server: TestServer;
let parlor: Parlor;
let stream: Call;

beforeEach(async () => {
  fakeTime();
  vi.spyOn(Math, 'random').mockReturnValue(0.5);
  server = await TestServer.start();
  parlor = await login(server);
  const ready = next(parlor, 'sessionReady');
  stream = (await server.nextStream()).open().ready();
  await ready;
});

/** Enters the room r, whose log is at `lastSeq`. The stream says so too, before the reply or not. */
async function enter({ lastSeq = 1, generation = 1, created = false, told = true } = {}): Promise<RoomHandle> {
  const entering = parlor.enterRoom('r');
  const call = await server.next('POST', '/v1/rooms/r/enter');
  if (told) await tell('connected', created ? 'created' : 'success', generation);
  call.reply(200, { room: room(lastSeq, generation), created });
  return entering;
}

/** Sends a roomStateChanged, and waits until it was delivered. */
async function tell(state: string, event: string, generation?: number, reason?: string): Promise<void> {
  await deliver('roomStateChanged', { roomID: 'r', state, event, ...(generation && { generation }), ...(reason && { reason }) });
}

async function deliver(name: string, data: object): Promise<void> {
  const delivered = next(parlor, name as 'roomReset');
  stream.event(name, data);
  await delivered;
}

/** Records the states of a handle. */
function statesOf(handle: RoomHandle): string[] {
  const states: string[] = [];
  handle.on('stateChanged', ({ state, event, reason }) => states.push([state, event, reason].filter(Boolean).join(' ')));
  return states;
}

/** Cuts the stream, and opens it again with these rooms. */
async function reconnect(...rooms: unknown[]): Promise<void> {
  const lost = next(parlor, 'connectionStateChanged');
  await failAttempt(() => stream.cut());
  await lost;
  vi.advanceTimersByTime(250);
  const ready = next(parlor, 'sessionReady');
  stream = (await server.nextStream()).open().ready('1:9', rooms);
  await ready;
}

test('a handle has the reply, and follows the session in the room', async () => {
  const handle = await enter({ created: true });
  expect(handle).toMatchObject({ roomID: 'r', created: true, state: 'connected', room: { roomName: 'R' } });
  expect(parlor.room('r')).toBe(handle);
  const states = statesOf(handle);
  await reconnect(room(2));
  await tell('disconnected', 'kickedOut', 1, 'spam');
  expect(states).toEqual(['reconnecting networkInterrupted', 'connected success', 'disconnected kickedOut spam']);
  expect(handle.lastChange).toEqual({ state: 'disconnected', event: 'kickedOut', reason: 'spam' });
  const again = await enter();
  expect(again).not.toBe(handle);
  expect(again.state).toBe('connected');
  expect(handle.state).toBe('disconnected');
});

test('a room that was entered twice has one handle', async () => {
  const handle = await enter();
  expect(await enter({ told: false })).toBe(handle);
  const states = statesOf(handle);
  await tell('disconnected', 'kickedOut', 1);
  expect(states).toEqual(['disconnected kickedOut']);
});

test('a room that could not be entered has no handle', async () => {
  const entering = parlor.enterRoom('r');
  const call = await server.next('POST', '/v1/rooms/r/enter');
  expect(parlor.room('r')?.state).toBe('connecting');
  call.refuse(409, 'room_full');
  await expect(entering).rejects.toMatchObject({ code: 'room_full' });
  expect(parlor.room('r')?.lastChange).toEqual({ state: 'disconnected', event: 'enterFailed' });
  const creating = parlor.createRoom('r');
  (await server.next('POST', '/v1/rooms')).reply(201, { room: room(1) });
  expect(await creating).toMatchObject({ created: true, state: 'connected' });
  const again = parlor.createRoom('r');
  (await server.next('POST', '/v1/rooms')).refuse(409, 'room_exists');
  await expect(again).rejects.toMatchObject({ code: 'room_exists' });
  expect(await creating).toMatchObject({ state: 'connected' });
});

// The stream may be slower than the replies.
test('a room that is left and entered again is not disconnected by the end of the earlier time', async () => {
  const handle = await enter();
  const leaving = handle.leave();
  (await server.next('POST', '/v1/rooms/r/leave')).reply(200, { roomID: 'r' });
  await leaving;
  expect(handle.lastChange).toEqual({ state: 'disconnected', event: 'success' });
  const again = await enter({ told: false });
  const states = statesOf(again);
  await tell('disconnected', 'success', 1);
  await tell('connecting', 'enter');
  await tell('connected', 'success', 1);
  expect(again.state).toBe('connected');
  await tell('disconnected', 'kickedOut', 1);
  expect(states).toEqual(['disconnected kickedOut']);
});

test('a room that was destroyed and created again is not disconnected by the end of the earlier one', async () => {
  const handle = await enter();
  expect(await enter({ generation: 2, told: false })).toBe(handle);
  const states = statesOf(handle);
  const received: number[] = [];
  handle.on('roomMemberJoined', ({ generation }) => received.push(generation));
  await tell('disconnected', 'roomNotExist', 1);
  await deliver('roomMemberJoined', { roomID: 'r', generation: 1, seq: 9, memberList: [] });
  await tell('connected', 'success', 2);
  await deliver('roomMemberJoined', { roomID: 'r', generation: 2, seq: 1, memberList: [] });
  expect(states).toEqual([]);
  expect(received).toEqual([2]);
});

test('a session that entered again before the stream said that it was out is in the room', async () => {
  const handle = await enter();
  expect(await enter({ told: false })).toBe(handle); // the application knew it from a refused call
  await tell('disconnected', 'kickedOut', 1);
  await tell('connected', 'success', 1);
  expect(handle.state).toBe('connected');
  expect(parlor.room('r')).toBe(handle);
});

test('a session that was out of the room when its stream is back gets to know why', async () => {
  const handle = await enter();
  const states = statesOf(handle);
  await reconnect();
  await tell('disconnected', 'replaced', 1);
  await vi.advanceTimersByTimeAsync(300);
  expect(states).toEqual(['reconnecting networkInterrupted', 'disconnected replaced']);

  const again = await enter();
  const later = statesOf(again);
  await reconnect();
  expect(again.state).toBe('reconnecting');
  await vi.advanceTimersByTimeAsync(299);
  expect(again.state).toBe('reconnecting');
  await vi.advanceTimersByTimeAsync(1);
  expect(later).toEqual(['reconnecting networkInterrupted', 'disconnected networkTimeout']);
});

test('a room that was entered while the stream was lost is connected when it is back', async () => {
  const lost = next(parlor, 'connectionStateChanged');
  await failAttempt(() => stream.cut());
  await lost;
  const handle = await enter({ told: false });
  expect(handle.state).toBe('reconnecting');
  vi.advanceTimersByTime(250);
  const ready = next(parlor, 'sessionReady');
  // The server may have read the rooms before the call.
  stream = (await server.nextStream()).open().ready('1:9', []);
  await ready;
  await tell('connected', 'success', 1);
  await vi.advanceTimersByTimeAsync(300);
  expect(handle.state).toBe('connected');
});

test('a resumed session has a handle of each of its rooms', async () => {
  const handle = await enter();
  void parlor.enterRoom('s').catch(() => {}); // the session is not in it yet
  const states = [parlor.resumeState()];
  parlor.close();
  expect(handle.state).toBe('disconnected');
  states.push(parlor.resumeState());
  for (const state of states) {
    expect(state.rooms).toEqual([room(1)]);
    const { cursor, rooms, ...old } = state;
    parlor = Parlor.resume(JSON.parse(JSON.stringify(state)));
    expect(parlor.room('r')).toMatchObject({ state: 'connected', room: room(1) });
    vi.advanceTimersByTime(0);
    const ready = next(parlor, 'sessionReady');
    stream = (await server.nextStream()).open().ready('1:9', [room(4), { ...room(2), roomID: 'unknown' }]);
    await ready;
    expect(parlor.room('r')).toMatchObject({ state: 'connected', room: { lastSeq: 4 }, created: false });
    expect(parlor.room('unknown')).toMatchObject({ state: 'connected' });
    await tell('disconnected', 'kickedOut', 1, 'spam');
    expect(parlor.resumeState().rooms).toEqual([{ ...room(2), roomID: 'unknown' }]);
    parlor.close();
    const earlier = Parlor.resume(old); // of an earlier release
    expect(earlier.room('r')).toBeUndefined();
    earlier.close();
  }
});

test('switchRoom gives a handle of the other room, and ends that of the first', async () => {
  const handle = await enter();
  const switching = parlor.switchRoom('r', { toRoom: { roomID: 's' } });
  (await server.next('POST', '/v1/rooms/r/switch')).reply(200, { room: { ...room(1), roomID: 's' }, created: true });
  const other = await switching;
  expect(other).toMatchObject({ roomID: 's', created: true, state: 'connected' });
  expect(handle.lastChange).toEqual({ state: 'disconnected', event: 'success' });
  const failing = parlor.switchRoom('s', { toRoom: { roomID: 'r' } });
  (await server.next('POST', '/v1/rooms/s/switch')).refuse(409, 'room_full');
  await expect(failing).rejects.toMatchObject({ code: 'room_full' });
  expect(other.state).toBe('connected');
  const leaving = parlor.leaveAllRooms();
  (await server.next('DELETE', '/v1/sessions/current/rooms')).reply(200, { roomIDs: ['s'] });
  await leaving;
  expect(other.lastChange).toEqual({ state: 'disconnected', event: 'success' });
});

test.each([
  ['the session was ended', 'kickedOut', 'locked', () => stream.event('connectionStateChanged', { state: 'disconnected', event: 'kickedOut', reason: 'locked' })],
  ['another stream was opened', 'superseded', undefined, () => stream.event('connectionStateChanged', { state: 'disconnected', event: 'superseded' })],
  ['the client was closed', 'closed', undefined, () => parlor.close()],
])('a handle ends when %s', async (_, event, reason, end) => {
  const handle = await enter();
  const ended = new Promise((resolve) => handle.on('stateChanged', resolve));
  end();
  expect(await ended).toEqual({ state: 'disconnected', event, ...(reason && { reason }) });
});

test('a listener gets the events of its room, even if another one throws, until it is removed', async () => {
  const errors = vi.fn();
  vi.stubGlobal('reportError', errors);
  const handle = await enter();
  const seqs: number[] = [];
  handle.on('roomUpdated', () => {
    throw new Error('listener');
  });
  const remove = handle.on('roomUpdated', ({ seq }) => seqs.push(seq));
  const update = (roomID: string, seq: number, generation = 1) =>
    deliver('roomUpdated', { roomID, generation, seq, roomName: 'N', config: {} });
  await update('r', 2);
  await update('s', 1, 2);
  await update('r', 3);
  remove();
  await update('r', 4);
  expect(seqs).toEqual([2, 3]);
  expect(errors).toHaveBeenCalledTimes(3);
});

describe('the attributes', () => {
  const changed = (seq: number, set: object, deleted: object = {}) =>
    deliver('roomAttributesUpdated', {
      roomID: 'r',
      generation: 1,
      seq,
      infos: [
        { action: 'set', roomAttributes: set },
        { action: 'delete', roomAttributes: deleted },
      ],
    });
  const read = async (values: object, version: number) =>
    (await server.next('GET', '/v1/rooms/r')).reply(200, { room: { ...room(version), roomAttributes: values, attributesVersion: version } });

  test('are those of the room, whenever events arrive', async () => {
    const handle = await enter();
    const opening = handle.attributes();
    const call = await server.next('GET', '/v1/rooms/r');
    await changed(2, { a: 'old' });
    await changed(4, { b: '2' }, { c: 'x' });
    call.reply(200, { room: { ...room(3), roomAttributes: { a: 'new', c: 'x', __proto__x: 'p' }, attributesVersion: 3 } });
    const attributes = await opening;
    expect(await handle.attributes()).toBe(attributes);
    expect(attributes.values).toEqual({ a: 'new', b: '2', __proto__x: 'p' });
    const before = attributes.values;
    const changes = vi.fn();
    const remove = attributes.onChange(changes);
    await changed(5, { a: 'newer' });
    expect(attributes.values).toEqual({ a: 'newer', b: '2', __proto__x: 'p' });
    expect(attributes.version).toBe(5);
    expect(before['a']).toBe('new');
    remove();
    await changed(6, {}, { a: 'newer' });
    expect(changes).toHaveBeenCalledTimes(1);
  });

  test('are read again after a reset, when the connection is back if that fails', async () => {
    const handle = await enter();
    const opening = handle.attributes();
    await read({ a: '1' }, 1);
    const attributes = await opening;
    await deliver('roomReset', { roomID: 'r', generation: 1, reason: 'logTrimmed', room: room(9), oldestSeq: 9 });
    expect(handle.room.lastSeq).toBe(9);
    (await server.next('GET', '/v1/rooms/r')).refuse(500, 'internal');
    await until(() => attributes.error !== undefined);
    expect(attributes.error).toMatchObject({ code: 'internal' });
    const loaded = new Promise<void>((resolve) => attributes.onChange(resolve));
    await reconnect(room(9));
    await read({ a: '2' }, 9);
    await loaded;
    expect(attributes.values).toEqual({ a: '2' });
    expect(attributes.error).toBeUndefined();
  });

  test('are loaded by the next call if they could not be loaded', async () => {
    const handle = await enter();
    const opening = handle.attributes();
    (await server.next('GET', '/v1/rooms/r')).refuse(409, 'not_in_room');
    await expect(opening).rejects.toMatchObject({ code: 'not_in_room' });
    const again = handle.attributes();
    await read({ a: '1' }, 1);
    expect((await again).values).toEqual({ a: '1' });
  });
});

describe('the members', () => {
  const member = (userID: string) => ({ userID, userName: userID, joinedAt: '2026-11-21T15:00:00.000Z' });
  const list = async (seq: number, users: string[], more: object = {}, counts: object = {}) => {
    (await server.next('GET', '/v1/rooms/r')).reply(200, { room: { ...room(seq), memberCount: users.length, ...counts } });
    (await server.next('GET', '/v1/rooms/r/members')).reply(200, { generation: 1, seq, memberList: users.map(member), ...more });
  };

  test('follow joins, leaves, names, data and states', async () => {
    const handle = await enter();
    const opening = handle.members();
    await list(1, ['alice']);
    const members = await opening;
    const changes = vi.fn();
    members.onChange(changes);
    const event = (seq: number, data: object) => ({ roomID: 'r', generation: 1, seq, ...data });
    const before = members.members;
    await deliver('roomMemberJoined', event(2, { memberList: [member('bob'), member('carol')], memberCount: 3 }));
    await deliver('userInfoUpdated', event(3, { userList: [{ userID: 'bob', userName: 'Bob', avatarURL: 'https://a.example' }] }));
    await deliver('roomMemberAttributesUpdated', event(4, { infos: [{ userID: 'bob', attributes: {}, userData: 'seat 3' }] }));
    await deliver('memberReconnecting', event(5, { memberList: [{ userID: 'alice', userName: 'alice' }] }));
    await deliver('roomMemberLeft', event(6, { memberList: [{ userID: 'carol', userName: 'carol', reason: 'left' }], memberCount: 2 }));
    const bob = { ...member('bob'), userName: 'Bob', avatarURL: 'https://a.example', userData: 'seat 3' };
    expect(members.members).toEqual([{ ...member('alice'), state: 'reconnecting' }, bob]);
    await deliver('memberReconnected', event(7, { memberList: [{ userID: 'alice', userName: 'alice' }] }));
    expect(members.get('alice')?.state).toBe('online');
    expect(members).toMatchObject({ count: 2, complete: true, current: true });
    expect(before).toEqual([member('alice')]);
    expect(changes).toHaveBeenCalledTimes(6);
    expect(members.members).toBe(members.members);
  });

  test('are counted while not all are known', async () => {
    const handle = await enter();
    const opening = handle.members(1);
    await list(5, ['alice'], { nextCursor: 'c' }, { memberCount: 7 });
    const members = await opening;
    expect(members).toMatchObject({ count: 7, complete: false, current: true });
    await deliver('roomMemberJoined', { roomID: 'r', generation: 1, seq: 5, memberList: [member('x')], memberCount: 6 }); // known
    expect(members.count).toBe(7);
    const counted = (seq: number, memberCount: number, memberEvents: string) =>
      deliver('roomMemberCountUpdated', { roomID: 'r', generation: 1, seq, memberCount, memberEvents });
    await counted(6, 900, 'counts');
    expect(members).toMatchObject({ count: 900, current: false });
    const loading = members.load(3);
    await list(6, ['alice', 'bob'], {}, { memberCount: 901, memberEvents: 'counts' });
    await loading;
    expect(members).toMatchObject({ count: 901, complete: true, current: false });
    const changed = new Promise<void>((resolve) => (members.onChange(() => members.current && resolve())));
    await counted(7, 2, 'names');
    await list(7, ['alice', 'bob']);
    await changed;
    expect(members).toMatchObject({ count: 2, complete: true, current: true });
  });

  test('are loaded again after a reset, and shown until then', async () => {
    const handle = await enter();
    const opening = handle.members();
    await list(1, ['alice']);
    const members = await opening;
    await deliver('roomReset', { roomID: 'r', generation: 1, reason: 'logTrimmed', room: room(9), oldestSeq: 9 });
    const changed = new Promise<void>((resolve) => (members.onChange(() => members.current && resolve())));
    (await server.next('GET', '/v1/rooms/r')).reply(200, { room: room(9) });
    const listing = await server.next('GET', '/v1/rooms/r/members');
    await deliver('roomMemberJoined', { roomID: 'r', generation: 1, seq: 10, memberList: [member('dora')] });
    expect(members).toMatchObject({ members: [member('alice')], current: false });
    listing.reply(200, { generation: 1, seq: 9, memberList: [member('carol')] });
    await changed;
    expect(members.members).toEqual([member('carol'), member('dora')]);
  });
});

describe('the history', () => {
  const id = (seq: number) => `m${seq}`;
  type Stored = ReturnType<typeof message>['messageList'][number] & { clientMessageID: string; extendedData: string; recalled?: true };
  const stored = (seq: number, more: object = {}) => ({
    ...message(seq).messageList[0]!,
    messageID: id(seq),
    clientMessageID: `c${seq}`,
    extendedData: 'x',
    ...more,
  } as Stored);
  const without = ({ text, extendedData, ...message }: Stored) => ({ ...message, recalled: true });
  const send = (one: object & { seq?: unknown }, seq = one.seq) =>
    deliver('roomMessageReceived', { roomID: 'r', generation: 1, ...(seq !== undefined && { seq }), messageList: [one] });
  const recall = (seq: number, recalledSeq: number) =>
    deliver('messageRecalled', { roomID: 'r', generation: 1, seq, messageID: id(recalledSeq), recalledSeq });
  const nextPage = () => server.next('GET', '/v1/rooms/r/messages');
  const reset = (lastSeq: number) =>
    deliver('roomReset', { roomID: 'r', generation: 1, reason: 'logTrimmed', room: room(lastSeq), oldestSeq: 1 });

  test('has a message of the stream and of the history once, and is in order', async () => {
    const handle = await enter();
    const opening = handle.history();
    const page = await nextPage();
    expect(page.url.search).toBe('?limit=50');
    await send(stored(6));
    await send({ ...message(0).messageList[0]!, kind: 'barrage', seq: undefined } as object);
    page.reply(200, { messageList: [stored(4), stored(5), stored(6)], nextCursor: 4 });
    const history = await opening;
    const changes: number[][] = [];
    history.onChange((changed) => changes.push(changed.map(({ seq }) => seq!)));
    expect(history.messages).toEqual([stored(4), stored(5), stored(6)]);
    expect(history.hasEarlier).toBe(true);

    const sending = handle.send({ text: 'mine' });
    (await server.next('POST', '/v1/rooms/r/messages')).reply(201, { message: stored(8) }); // before the stream
    await sending;
    await until(() => history.messages.length === 4);
    await send(stored(7));
    await send(stored(8));
    const before = history.messages;
    await recall(9, 5);
    expect(history.messages).toEqual([stored(4), without(stored(5)), stored(6), stored(7), stored(8)]);
    expect(before[1]).toEqual(stored(5));
    expect(changes).toEqual([[8], [7], [5]]);
  });

  test('has earlier messages on demand, also past a page of messages to others', async () => {
    const handle = await enter();
    const opening = handle.history();
    (await nextPage()).reply(200, { messageList: [stored(90)], nextCursor: 80 });
    const history = await opening;
    const loading = [history.loadEarlier(), history.loadEarlier()];
    const second = await nextPage();
    expect(second.url.search).toBe('?limit=50&before=80');
    await recall(91, 20); // its page may still have the content
    second.reply(200, { messageList: [], nextCursor: 30 });
    const third = await nextPage();
    expect(third.url.search).toBe('?limit=50&before=30');
    third.reply(200, { messageList: [stored(20)] });
    await Promise.all(loading);
    expect(history.messages.map(({ seq }) => seq)).toEqual([20, 90]);
    expect(history.hasEarlier).toBe(false);
    await history.loadEarlier(); // makes no call
  });

  test('shows a message as recalled although the page was read before', async () => {
    const handle = await enter();
    const opening = handle.history();
    const page = await nextPage();
    await recall(3, 2);
    page.reply(200, { messageList: [stored(1), stored(2)] });
    expect((await opening).messages).toEqual([stored(1), without(stored(2))]);
  });

  test('begins again after a reset, and does not use a page from before', async () => {
    const handle = await enter();
    const opening = handle.history();
    (await nextPage()).reply(200, { messageList: [stored(5)], nextCursor: 5 });
    const history = await opening;
    const loading = history.loadEarlier();
    const stale = await nextPage();
    await reset(9);
    expect(history.messages).toEqual([]);
    expect(history.hasEarlier).toBe(false);
    const fresh = await nextPage();
    await reset(12); // and again
    const last = await nextPage();
    stale.reply(200, { messageList: [stored(4)], nextCursor: 4 });
    fresh.reply(200, { messageList: [stored(9)], nextCursor: 9 });
    await loading;
    await send(stored(13));
    last.reply(200, { messageList: [stored(12)], nextCursor: 12 });
    await until(() => history.messages.length === 2);
    expect(history.messages).toEqual([stored(12), stored(13)]);
    expect(history.hasEarlier).toBe(true);
  });

  test('is loaded again when the session is in the room again', async () => {
    const handle = await enter();
    const opening = handle.history();
    (await nextPage()).reply(200, { messageList: [stored(5)] });
    const history = await opening;
    const lost = next(parlor, 'connectionStateChanged');
    await failAttempt(() => stream.cut());
    await lost;
    expect(await enter({ told: false })).toBe(handle);
    (await nextPage()).reply(200, { messageList: [stored(5), stored(7)] });
    await until(() => history.messages.length === 2);
  });

  test('of a room without one has the new messages', async () => {
    const handle = await enter();
    const opening = handle.history();
    (await nextPage()).refuse(409, 'no_history');
    const history = await opening;
    await send(stored(2));
    expect(history.messages).toEqual([stored(2)]);
    expect(history.hasEarlier).toBe(false);
  });

  test('keeps a thousand new messages, and those that were asked for', async () => {
    const handle = await enter();
    const opening = handle.history();
    (await nextPage()).reply(200, { messageList: [stored(10)], nextCursor: 10 });
    const history = await opening;
    const loading = history.loadEarlier();
    (await nextPage()).reply(200, { messageList: [stored(8), stored(9)] });
    await loading;
    for (let seq = 11; seq < 1_010; seq++) history.add(stored(seq) as never);
    expect(history.messages).toHaveLength(1_002);
    expect(history.hasEarlier).toBe(false);
    history.add(stored(1_010) as never);
    expect(history.messages[0]).toEqual(stored(9));
    const again = history.loadEarlier();
    const page = await nextPage();
    expect(page.url.search).toBe('?limit=50&before=9');
    page.reply(200, { messageList: [stored(8)] });
    await again;
    expect(history.messages[0]).toEqual(stored(8));
    expect(history.hasEarlier).toBe(false);
  });

  // Each run is another order of messages, recalls, pages and resets.
  test.each(Array.from({ length: 20 }, (_, seed) => seed + 1))('is the log, in any order of events and replies (%i)', async (seed) => {
    let random = seed * 7919;
    const choose = (below: number) => (random = (random * 48271) % 2147483647) % below;
    const log = new Map<number, Stored | undefined>(); // by seq
    let seq = 0;
    const append = () => log.set(++seq, stored(seq));
    const view = (at: number) => (log.get(at)?.recalled ? without(log.get(at)!) : log.get(at))!;
    const answer = (call: Call) => {
      const before = Number(call.url.searchParams.get('before') ?? seq + 1);
      const seqs = [...log.keys()].filter((at) => at < before && log.get(at)).slice(-4);
      const more = [...log.keys()].some((at) => at < seqs[0]! && log.get(at));
      return { messageList: seqs.map(view), ...(more && { nextCursor: seqs[0]! }) };
    };
    for (let at = 0; at < 10; at++) append();
    const handle = await enter();
    const opening = handle.history();
    const calls = [{ call: await nextPage(), reply: undefined as object | undefined }];
    let history: LiveHistory | undefined;
    void opening.then((opened) => (history = opened));
    const loads: Promise<unknown>[] = [opening];
    for (let step = 0; step < 30; step++) {
      const what = choose(6);
      if (what < 2) {
        append();
        await send(view(seq), seq);
      } else if (what === 2) {
        const recalled = 1 + choose(seq);
        const target = log.get(recalled);
        if (target === undefined || target.recalled) continue;
        log.set(recalled, { ...target, recalled: true });
        log.set(++seq, undefined);
        await recall(seq, recalled);
      } else if (what === 3) {
        const waiting = calls[0];
        if (waiting) waiting.reply ??= answer(waiting.call); // read now, and delivered later
      } else if (what === 4) {
        const waiting = calls.shift();
        if (waiting) waiting.call.reply(200, waiting.reply ?? answer(waiting.call));
      } else if (calls.length === 0) {
        await Promise.all(loads);
        if (!history!.hasEarlier) continue;
        loads.push(history!.loadEarlier());
        calls.push({ call: await nextPage(), reply: undefined });
      }
    }
    for (const { call, reply } of calls) call.reply(200, reply ?? answer(call));
    await Promise.all(loads);
    while (history!.hasEarlier) {
      const loading = history!.loadEarlier();
      const call = await nextPage();
      call.reply(200, answer(call));
      await loading;
    }
    expect(history!.messages).toEqual([...log.keys()].filter((at) => log.get(at)).map(view));
  });
});
