import { beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { Parlor, type ResumeState } from '../src/index.ts';
import { shareTabs } from '../src/tabs.ts';
import { login, message, next, record, room, until } from './harness.ts';
import { Locks } from './locks.ts';
import { type Call, session, TestServer } from './server.ts';

// Time is not faked: the channels of Node.js and the locks do not follow fake timers.

let server: TestServer;

beforeEach(async () => {
  Locks.install();
  vi.spyOn(Math, 'random').mockReturnValue(0);
  server = await TestServer.start();
});

/** A tab, and what its listeners got. */
class Tab {
  readonly seqs: number[] = [];
  readonly changes: string[] = [];

  constructor(readonly parlor: Parlor) {
    onTestFinished(() => parlor.close());
    parlor.on('roomMessageReceived', ({ seq }) => this.seqs.push(seq!));
    parlor.on('connectionStateChanged', ({ state, event }) => this.changes.push(`${state} ${event}`));
  }
}

/** Opens the first tab, which leads, and its stream. */
async function lead(): Promise<[Tab, Call]> {
  const tab = new Tab(await login(server, { tabs: shareTabs('alice') }));
  const stream = (await server.nextStream()).open().ready('1:0', [room(0)]);
  await until(() => tab.changes.length > 0);
  return [tab, stream];
}

/** Opens another tab, which gets the session from the leader. */
async function follow(): Promise<Tab> {
  const tab = new Tab(await Parlor.login({ baseURL: server.url, getToken: noToken, tabs: shareTabs('alice') }));
  await listRooms();
  await until(() => tab.changes.length > 0);
  return tab;
}

/** Continues in a tab that was reloaded or woken. */
function resume(state: ResumeState): Tab {
  return new Tab(Parlor.resume(state, { tabs: shareTabs('alice') }));
}

const noToken = () => Promise.reject(new Error('the session of the other tab is enough'));

async function listRooms(): Promise<void> {
  (await server.next('GET', '/v1/sessions/current/rooms')).reply(200, { rooms: [room(0)] });
}

function send(stream: Call, ...seqs: number[]): void {
  for (const seq of seqs) stream.event('roomMessageReceived', message(seq), `1:${seq}`);
}

test('tabs share a session and a stream, and a tab that opens later has its rooms', async () => {
  const [first, stream] = await lead();
  send(stream, 1);
  await until(() => first.seqs.length === 1);
  const second = await follow();
  expect(second.parlor.sessionID).toBe(session.sessionID);
  expect(second.parlor.room('r')).toMatchObject({ state: 'connected' });
  expect(second.parlor.resumeState().cursor).toBe('1:1');
  send(stream, 2, 3);
  await until(() => first.seqs.length === 3 && second.seqs.length === 2);
  expect([first.seqs, second.seqs]).toEqual([[1, 2, 3], [2, 3]]);
  expect([first.changes, second.changes]).toEqual([['connected success'], ['connected success']]);
});

test('when the leader closes, the next tab continues, and nothing is lost or doubled', async () => {
  const [first, stream] = await lead();
  const [second, third] = [await follow(), await follow()];
  send(stream, 1);
  await until(() => second.seqs.length === 1 && third.seqs.length === 1);
  first.parlor.close();
  const continued = await server.nextStream();
  expect(continued.header('Last-Event-ID')).toBe('1:1');
  continued.open().ready('1:1', [room(2)]);
  send(continued, 1, 2, 3);
  await until(() => second.seqs.length === 3 && third.seqs.length === 3);
  for (const { seqs, changes } of [second, third]) {
    expect(seqs).toEqual([1, 2, 3]);
    expect(changes).toEqual(['connected success']); // its going was not noticed
  }
  expect(first.changes).toEqual(['connected success', 'disconnected closed']);
});

test('a loss of the connection is shown in all tabs, and its end', async () => {
  const [first, stream] = await lead();
  const second = await follow();
  stream.cut();
  const changes = ['connected success', 'reconnecting networkInterrupted'];
  await until(() => first.changes.length === 2 && second.changes.length === 2);
  expect([first.changes, second.changes]).toEqual([changes, changes]);
  send((await server.nextStream()).open().ready('1:0', [room(1)]), 1);
  await until(() => first.seqs.length === 1 && second.seqs.length === 1);
  expect([first.changes[2], second.changes[2]]).toEqual(['connected success', 'connected success']);
});

test('all tabs reconnect when the server asks for it', async () => {
  const [first, stream] = await lead();
  const second = await follow();
  stream.event('reconnect', { afterMs: 20 }).response.end();
  const continued = (await server.nextStream()).open().ready('1:0', [room(1)]);
  send(continued, 1);
  void listRooms(); // if the second was later than the stream
  await until(() => first.seqs.length === 1 && second.seqs.length === 1);
  const changes = ['connected success', 'reconnecting serverGoingAway', 'connected success'];
  expect([first.changes, second.changes]).toEqual([changes, changes]);
});

test('a tab that lacks events leads, and the others discard those that are sent again', async () => {
  const [first, stream] = await lead();
  send(stream, 1);
  await until(() => first.seqs.length === 1);
  const second = await follow();
  send(stream, 2);
  await until(() => second.seqs.length === 1);
  const state = second.parlor.resumeState();
  second.parlor.close();
  send(stream, 3, 4);
  await until(() => first.seqs.length === 4);

  const third = resume(state);
  const superseding = await server.nextStream();
  expect(superseding.header('Last-Event-ID')).toBe('1:2');
  stream.event('connectionStateChanged', { state: 'disconnected', event: 'superseded' }).response.end();
  superseding.open().ready('1:2', [room(4)]);
  send(superseding, 3, 4, 5);
  await until(() => first.seqs.length === 5 && third.seqs.length === 3);
  expect([first.seqs, third.seqs]).toEqual([[1, 2, 3, 4, 5], [3, 4, 5]]);
  expect(first.changes).toEqual(['connected success']);

  // The third is synced, so that the first follows it as before.
  third.parlor.close();
  send((await server.nextStream()).open().ready('1:5', [room(6)]), 6);
  await until(() => first.seqs.length === 6);
});

test('several tabs that lack events read them one after another', async () => {
  const [first, stream] = await lead();
  const states: ResumeState[] = [];
  for (const seq of [1, 2, 3]) {
    send(stream, seq);
    await until(() => first.seqs.length === seq);
    states.push(first.parlor.resumeState());
  }
  send(stream, 4);
  await until(() => first.seqs.length === 4);
  const behind = states.map(resume);
  for (let streams = 0; streams < behind.length; streams++) {
    const reading = await server.nextStream();
    const after = Number(reading.header('Last-Event-ID')!.split(':')[1]);
    reading.open().ready(`1:${after}`, [room(4)]);
    // In pieces, so that the next tab comes before the end.
    for (let seq = after + 1; seq <= 4; seq++) {
      send(reading, seq);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
  await until(() => behind.every(({ seqs }) => seqs.at(-1) === 4));
  expect(behind.map(({ seqs }) => seqs)).toEqual([[2, 3, 4], [3, 4], [4]]);
  expect(first.seqs).toEqual([1, 2, 3, 4]);
});

test('a leader that does not answer is replaced', async () => {
  const [first, stream] = await lead();
  const second = await follow();
  send(stream, 1);
  await until(() => second.seqs.length === 1);
  // The page of the first hangs: nothing of it runs.
  const state = second.parlor.resumeState();
  second.parlor.close();
  vi.spyOn(BroadcastChannel.prototype, 'postMessage').mockImplementationOnce(() => {}); // its question
  const third = resume(state);
  const superseding = await server.nextStream();
  superseding.open().ready('1:1', [room(1)]);
  send(superseding, 2);
  await until(() => first.seqs.length === 2 && third.seqs.length === 1);
});

test('the end of the session ends all tabs, for the same reason', async () => {
  const [first] = await lead();
  const second = await follow();
  const third = await follow();
  void second.parlor.endSession();
  (await server.next('DELETE', '/v1/sessions/current')).reply(204);
  await until(() => [first, second, third].every(({ changes }) => changes.length === 2));
  for (const { changes } of [first, second, third]) expect(changes[1]).toBe('disconnected loggedOut');
});

test('a session that an admin has ended ends in all tabs with the reason', async () => {
  const [first, stream] = await lead();
  const second = await follow();
  const ends = [next(first.parlor, 'connectionStateChanged'), next(second.parlor, 'connectionStateChanged')];
  const end = { state: 'disconnected', event: 'kickedOut', reason: 'spam' };
  stream.event('connectionStateChanged', end);
  expect(await Promise.all(ends)).toEqual([end, end]);
});

test('a page that does not share the session supersedes all tabs', async () => {
  const [first, stream] = await lead();
  const second = await follow();
  stream.event('connectionStateChanged', { state: 'disconnected', event: 'superseded' }).response.end();
  await until(() => first.changes.length === 2 && second.changes.length === 2);
  expect([first.changes[1], second.changes[1]]).toEqual(['disconnected superseded', 'disconnected superseded']);
});

test('only the leader renews the token', async () => {
  const getToken = vi.fn(async () => 'next-token');
  const first = await login(server, { token: 'user-token', getToken, tabs: shareTabs('alice') } as never);
  const stream = (await server.nextStream()).open().ready();
  await next(first, 'sessionReady');
  const second = await follow();
  const warnings = record(second.parlor, 'tokenWillExpire');
  stream.event('tokenWillExpire', { secondsLeft: 30 });
  (await server.next('PUT', '/v1/sessions/current/token')).reply(200, { tokenExpiresAt: '2026-11-21T17:00:00Z' });
  send(stream, 1);
  await until(() => second.seqs.length === 1);
  expect(getToken).toHaveBeenCalledOnce();
  expect(warnings).toEqual([]);
});

test('tabs that open at once create one session', async () => {
  const opening = [1, 2, 3].map(() => Parlor.login({ baseURL: server.url, token: 'user-token', tabs: shareTabs('alice') }));
  (await server.next('POST', '/v1/sessions')).reply(201, session);
  (await server.nextStream()).open().ready();
  const parlors = await Promise.all(opening);
  for (const parlor of parlors) new Tab(parlor);
  expect(parlors.map(({ sessionID }) => sessionID)).toEqual(Array(3).fill(session.sessionID));
});

test('the session of another user is not shared', async () => {
  const opening = Parlor.login({ baseURL: server.url, token: 'user-token', tabs: shareTabs('bob') });
  (await server.next('POST', '/v1/sessions')).reply(201, session);
  await expect(opening).rejects.toThrow(TypeError);
});

test('a browser without locks has a session for each tab', async () => {
  vi.stubGlobal('navigator', {});
  expect(shareTabs('alice')).toBeUndefined();
});
