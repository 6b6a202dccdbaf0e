import { EventSource } from 'eventsource';
import { beforeEach, expect, test, vi } from 'vitest';
import { Parlor } from '../src/index.ts';
import { login, message, next, record, room } from './harness.ts';
import { TestServer } from './server.ts';

// Node.js 20 has no EventSource, so these tests use one in JavaScript. Time is not faked, because
// EventSource has its own reconnection delays, which are 0 ms here.

let server: TestServer;

beforeEach(async () => {
  vi.stubGlobal('EventSource', EventSource);
  vi.spyOn(Math, 'random').mockReturnValue(0);
  server = await TestServer.start();
});

test('opens the streamURL unchanged', async () => {
  const parlor = await login(server, { transport: 'eventSource' });
  const received = next(parlor, 'roomMessageReceived');
  const stream = await server.nextStream();
  expect(stream.url.search).toBe('?stream_key=ek_test');
  expect(stream.header('Authorization')).toBeUndefined();
  stream.open().ready().event('roomMessageReceived', message(1), '1:1');
  expect((await received).seq).toBe(1);
  expect(parlor.resumeState().cursor).toBe('1:1');
});

test('EventSource reconnects by itself', async () => {
  const parlor = await login(server, { transport: 'eventSource' });
  const states = record(parlor, 'connectionStateChanged');
  const first = (await server.nextStream()).open().ready('1:0').event('roomMessageReceived', message(1), '1:1');
  await next(parlor, 'roomMessageReceived');
  first.response.end();
  const second = await server.nextStream();
  expect(second.header('Last-Event-ID')).toBe('1:1');
  const ready = next(parlor, 'sessionReady');
  second.open().ready('1:1', [room(1)]);
  await ready;
  expect(states.map((change) => change.state)).toEqual(['connected', 'reconnecting', 'connected']);
});

test('a resumed session sends its cursor in the query', async () => {
  const parlor = await login(server);
  (await server.nextStream()).open().ready('1:5');
  await next(parlor, 'sessionReady');
  const state = parlor.resumeState();
  parlor.close();
  const resumed = Parlor.resume(state, { transport: 'eventSource' });
  const stream = await server.nextStream();
  expect(stream.url.searchParams.get('last_event_id')).toBe('1:5');
  stream.open();
  resumed.close();
});

test('reconnects after a status that closes an EventSource', async () => {
  const parlor = await login(server, { transport: 'eventSource' });
  (await server.nextStream()).refuse(502, 'unavailable');
  (await server.next('GET', '/v1/sessions/current')).reply(200, { session: {} });
  const ready = next(parlor, 'sessionReady');
  (await server.nextStream()).open().ready();
  await ready;
});

test('disconnects if the session has ended', async () => {
  const parlor = await login(server, { transport: 'eventSource' });
  const changed = next(parlor, 'connectionStateChanged');
  (await server.nextStream()).refuse(401, 'stream_key_refused');
  (await server.next('GET', '/v1/sessions/current')).refuse(401, 'session_ended');
  expect(await changed).toEqual({ state: 'disconnected', event: 'sessionEnded' });
});

test('does not reconnect after a newer stream superseded it', async () => {
  const parlor = await login(server, { transport: 'eventSource' });
  const changes = record(parlor, 'connectionStateChanged');
  const stream = (await server.nextStream()).open().ready();
  const closed = new Promise((resolve) => stream.request.socket.on('close', resolve));
  stream.event('connectionStateChanged', { state: 'disconnected', event: 'superseded' });
  await closed;
  expect(changes.at(-1)).toEqual({ state: 'disconnected', event: 'superseded' });
});

test('reconnects a silent stream after a call without a reply', async () => {
  const parlor = await login(server, { transport: 'eventSource' });
  const ready = next(parlor, 'sessionReady');
  const first = (await server.nextStream()).open().ready('1:7');
  const closed = new Promise((resolve) => first.request.socket.on('close', resolve));
  await ready;
  const changes = record(parlor, 'connectionStateChanged');
  vi.spyOn(Date, 'now').mockReturnValue(Date.now() + 60_000);
  const failure = expect(parlor.createRoom('r')).rejects.toMatchObject({ code: 'network_error' });
  (await server.next('POST', '/v1/rooms')).cut();
  await failure;
  await closed;
  expect(changes).toEqual([{ state: 'reconnecting', event: 'networkTimeout' }]);
  expect((await server.nextStream()).url.searchParams.get('last_event_id')).toBe('1:7');
});
