import { beforeEach, expect, test, vi } from 'vitest';
import { Parlor } from '../src/index.ts';
import { login, message, next, record, room, fakeTime } from './harness.ts';
import { TestServer } from './server.ts';

let server: TestServer;

beforeEach(async () => {
  fakeTime();
  server = await TestServer.start();
});

/** Resolves when all events that were written so far are delivered. */
async function delivered(parlor: Parlor, stream: Awaited<ReturnType<TestServer['nextStream']>>): Promise<void> {
  const last = next(parlor, 'tokenWillExpire');
  stream.event('tokenWillExpire', { secondsLeft: 9 });
  await last;
}

test('every stored event is delivered once and in order, even if the stream repeats some', async () => {
  const parlor = await login(server);
  const events = record(parlor, 'roomMessageReceived');
  const first = (await server.nextStream()).open().ready();
  for (const seq of [1, 2, 2, 3]) first.event('roomMessageReceived', message(seq), `1:${seq}`);
  await delivered(parlor, first);
  first.response.end();
  await next(parlor, 'connectionStateChanged');
  vi.runOnlyPendingTimers();
  const second = (await server.nextStream()).open().ready('1:0', [room(4)]);
  for (const seq of [1, 2, 3, 4]) second.event('roomMessageReceived', message(seq), `1:${seq}`);
  await delivered(parlor, second);
  expect(events.map((event) => event.seq)).toEqual([1, 2, 3, 4]);
});

test('attribute updates are delivered once and in order', async () => {
  const parlor = await login(server);
  const events = [record(parlor, 'roomAttributesUpdated'), record(parlor, 'roomMemberAttributesUpdated')];
  const stream = (await server.nextStream()).open().ready();
  const room1 = { roomID: 'r', generation: 1 };
  const infos = [{ action: 'set', roomAttributes: { topic: 'tea' } }];
  for (const seq of [1, 1]) stream.event('roomAttributesUpdated', { ...room1, seq, infos }, `1:${seq}`);
  const ofMembers = [{ userID: 'bob', attributes: { hand: 'up' } }];
  for (const seq of [2, 1]) stream.event('roomMemberAttributesUpdated', { ...room1, seq, infos: ofMembers }, `1:${seq}`);
  await delivered(parlor, stream);
  expect(events).toEqual([[{ ...room1, seq: 1, infos }], [{ ...room1, seq: 2, infos: ofMembers }]]);
});

test('a recall is delivered once', async () => {
  const parlor = await login(server);
  const events = record(parlor, 'messageRecalled');
  const stream = (await server.nextStream()).open().ready();
  const recalled = { roomID: 'r', generation: 1, seq: 2, messageID: 'm', recalledSeq: 1, operatedInfo: { userID: 'bob' } };
  for (let times = 0; times < 2; times++) stream.event('messageRecalled', recalled, '1:2');
  await delivered(parlor, stream);
  expect(events).toEqual([recalled]);
});

test('a recall between users is delivered once', async () => {
  const parlor = await login(server);
  const events = record(parlor, 'peerMessageRecalled');
  const stream = (await server.nextStream()).open().ready();
  const recalled = { userID: 'bob', seq: 2, messageID: 'm', recalledSeq: 1, operatedInfo: { userID: 'bob' } };
  for (let times = 0; times < 2; times++) stream.event('peerMessageRecalled', recalled, '1:0,2:2');
  await delivered(parlor, stream);
  expect(events).toEqual([recalled]);
});

test('an event for other members advances the log and the cursor, and is not emitted', async () => {
  const parlor = await login(server);
  const events = record(parlor, 'roomMessageReceived');
  const hidden = record(parlor, 'roomSeqAdvanced' as 'roomUpdated');
  const first = (await server.nextStream()).open().ready('1:0', [room(0)]);
  first.event('roomMessageReceived', message(1), '1:1');
  first.event('roomSeqAdvanced', { roomID: 'r', generation: 1, seq: 2 }, '1:2');
  await delivered(parlor, first);
  expect(parlor.resumeState()).toMatchObject({ cursor: '1:2', seen: [[1, 2]] });
  for (const seq of [2, 3]) first.event('roomMessageReceived', message(seq), `1:${seq}`);
  await delivered(parlor, first);
  expect(events.map((event) => event.seq)).toEqual([1, 3]);
  expect(hidden).toEqual([]);
});

test('each generation of a room has its own seq', async () => {
  const parlor = await login(server);
  const events = record(parlor, 'roomMessageReceived');
  const stream = (await server.nextStream()).open().ready();
  stream.event('roomMessageReceived', message(7, 'old', 1)).event('roomMessageReceived', message(1, 'new', 2));
  await delivered(parlor, stream);
  expect(events.map((event) => event.messageList[0])).toMatchObject([{ text: 'old' }, { text: 'new' }]);
});

test('after a reset, the room continues after its snapshot', async () => {
  const parlor = await login(server);
  const seqs = record(parlor, 'roomMessageReceived');
  const resets = record(parlor, 'roomReset');
  const stream = (await server.nextStream()).open().ready().event('roomMessageReceived', message(9));
  stream.event('roomReset', { roomID: 'r', generation: 1, reason: 'cursorAhead', room: room(5), oldestSeq: 1 }, '1:5');
  for (const seq of [5, 6]) stream.event('roomMessageReceived', message(seq));
  await delivered(parlor, stream);
  expect(resets).toHaveLength(1);
  expect(seqs.map((event) => event.seq)).toEqual([9, 6]);
});

test('the inbox has its own seq', async () => {
  const parlor = await login(server);
  const peers = record(parlor, 'peerMessageReceived');
  const events = record(parlor, 'roomMessageReceived');
  const resets = record(parlor, 'inboxReset');
  const messageList = [{ ...message(1).messageList[0], userID: 'bob' }];
  const first = (await server.nextStream()).open().ready('1:0,2:0', [room(0)]);
  for (const seq of [1, 2, 2, 1]) first.event('peerMessageReceived', { seq, messageList }, `1:0,2:${seq}`);
  first.event('peerMessageReceived', { messageList }).event('roomMessageReceived', message(1), '1:1,2:2');
  await delivered(parlor, first);
  first.response.end();
  await next(parlor, 'connectionStateChanged');
  vi.runOnlyPendingTimers();
  const second = (await server.nextStream()).open().ready('1:1,2:0', [room(1)]);
  second.event('peerMessageReceived', { seq: 2, messageList }, '1:1,2:2');
  second.event('inboxReset', { reason: 'cursorAhead', oldestSeq: 2 }, '1:1,2:1');
  for (const seq of [2, 3]) second.event('peerMessageReceived', { seq, messageList }, `1:1,2:${seq}`);
  await delivered(parlor, second);
  expect(peers.map((event) => event.seq)).toEqual([1, 2, undefined, 2, 3]);
  expect(events).toHaveLength(1);
  expect(resets).toEqual([{ reason: 'cursorAhead', oldestSeq: 2 }]);
});

test('if a listener throws, the others are still called', async () => {
  const shown = vi.spyOn(console, 'error').mockImplementation(() => {});
  const parlor = await login(server);
  parlor.on('roomMessageReceived', () => {
    throw new Error('a fault in the application');
  });
  const events = record(parlor, 'roomMessageReceived');
  const stream = (await server.nextStream()).open().ready();
  stream.event('roomMessageReceived', message(1)).event('roomMessageReceived', message(2));
  await delivered(parlor, stream);
  expect(events).toHaveLength(2);
  expect(shown).toHaveBeenCalledTimes(2);
});

test('a removed listener is not called', async () => {
  const parlor = await login(server);
  const stream = (await server.nextStream()).open().ready();
  let calls = 0;
  const off = parlor.on('roomMessageReceived', () => calls++);
  stream.event('roomMessageReceived', message(1));
  await delivered(parlor, stream);
  off();
  stream.event('roomMessageReceived', message(2));
  await delivered(parlor, stream);
  expect(calls).toBe(1);
});

test('an event whose data is not JSON is reported and skipped', async () => {
  const shown = vi.spyOn(console, 'error').mockImplementation(() => {});
  const parlor = await login(server);
  const events = record(parlor, 'roomMessageReceived');
  const stream = (await server.nextStream()).open().ready();
  stream.write('event: roomMessageReceived\ndata: {"roomID":\n\n').event('roomMessageReceived', message(1));
  await delivered(parlor, stream);
  expect(events).toHaveLength(1);
  expect(shown).toHaveBeenCalledOnce();
});

test('a resumed session continues at its cursor and skips delivered events', async () => {
  const parlor = await login(server);
  const first = (await server.nextStream()).open().ready('1:0').event('roomMessageReceived', message(1), '1:1');
  await delivered(parlor, first);
  const state = JSON.parse(JSON.stringify(parlor.resumeState()));
  parlor.close();

  const resumed = Parlor.resume(state);
  expect(resumed.userID).toBe('alice');
  vi.advanceTimersByTime(0);
  const events = record(resumed, 'roomMessageReceived');
  const second = await server.nextStream();
  expect(second.header('Last-Event-ID')).toBe('1:1');
  expect(second.header('Authorization')).toBe('Bearer sk_test');
  second.open().ready('1:1', [room(2)]);
  for (const seq of [1, 2]) second.event('roomMessageReceived', message(seq), `1:${seq}`);
  await delivered(resumed, second);
  expect(events.map((event) => event.seq)).toEqual([2]);
  resumed.close();
});

test('resumeState includes the event that a listener is called for', async () => {
  const parlor = await login(server);
  let cursor: string | undefined;
  parlor.on('roomMessageReceived', () => {
    cursor = parlor.resumeState().cursor;
  });
  const stream = (await server.nextStream()).open().ready('1:0').event('roomMessageReceived', message(1), '1:1');
  await delivered(parlor, stream);
  expect(cursor).toBe('1:1');
});

test('resume rejects an invalid state', () => {
  expect(() => Parlor.resume({} as never)).toThrow(TypeError);
});
