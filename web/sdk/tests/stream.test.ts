import { beforeEach, describe, expect, test, vi } from 'vitest';
import type { ParlorEvents } from '../src/index.ts';
import { login, message, next, pausedAfter, record, stopTime, until } from './harness.ts';
import { TestServer } from './server.ts';

let server: TestServer;

beforeEach(async () => {
  stopTime();
  server = await TestServer.start();
});

test('opens the stream with the session key in a header', async () => {
  const parlor = await login(server);
  expect(parlor.connectionState).toBe('connecting');
  const changed = next(parlor, 'connectionStateChanged');
  const stream = await server.nextStream();
  expect(stream.header('Authorization')).toBe('Bearer sk_test');
  expect(stream.header('Last-Event-ID')).toBeUndefined();
  expect(stream.url.search).toBe('');
  stream.open().ready();
  expect(await changed).toEqual({ state: 'connected', event: 'success' });
  expect(parlor.connectionState).toBe('connected');
});

test('puts together what the network takes apart', async () => {
  const parlor = await login(server);
  const received = next(parlor, 'roomMessageReceived');
  const stream = (await server.nextStream()).open().ready();
  const data = JSON.stringify(message(2, '你好 👋'));
  const frame = Buffer.from(`id: 1:2\nevent: roomMessageReceived\ndata: ${data}\n\n`);
  for (const byte of frame) stream.write(Buffer.of(byte));
  expect((await received).messageList[0]!.text).toBe('你好 👋');
});

test('takes nothing from an answer that is no stream', async () => {
  const parlor = await login(server);
  const changes = record(parlor, 'connectionStateChanged');
  const stream = await server.nextStream();
  await pausedAfter(() => {
    stream.response.writeHead(200, { 'Content-Type': 'text/html' });
    stream.ready().response.end('<h1>Welcome to our hotel</h1>');
  });
  expect(changes).toEqual([{ state: 'reconnecting', event: 'networkInterrupted' }]);
  expect(parlor.resumeState().cursor).toBeUndefined();
});

test('continues at the cursor after a loss, live-only events left out of it', async () => {
  const parlor = await login(server);
  const lost = lossOf(parlor);
  const first = (await server.nextStream()).open().ready('1:0').event('roomMessageReceived', message(1), '1:1');
  const state = next(parlor, 'roomStateChanged');
  first.event('roomStateChanged', { roomID: 'r', state: 'connected', event: 'success' });
  await state;
  first.response.end();
  expect(await lost).toEqual({ state: 'reconnecting', event: 'networkInterrupted' });
  vi.runOnlyPendingTimers();
  expect((await server.nextStream()).header('Last-Event-ID')).toBe('1:1');
});

describe('the pause before reconnecting', () => {
  beforeEach(() => {
    vi.spyOn(Math, 'random').mockReturnValue(0.5);
  });

  test('doubles with every failure up to its cap, and never ends', async () => {
    const changes = record(await login(server), 'connectionStateChanged');
    for (const pause of [250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000, 15_000]) {
      const stream = await server.nextStream();
      const attempts = await lose(() => stream.cut());
      vi.advanceTimersByTime(pause - 1);
      expect(attempts()).toBe(0);
      vi.advanceTimersByTime(1);
      expect(attempts()).toBe(1);
    }
    // One word about it is enough.
    expect(changes).toEqual([{ state: 'reconnecting', event: 'networkInterrupted' }]);
  });

  test('starts small again once the server has spoken', async () => {
    await login(server);
    for (let failure = 0; failure < 5; failure++) {
      const stream = await server.nextStream();
      await lose(() => stream.refuse(500, 'internal'));
      vi.runOnlyPendingTimers();
    }
    const stream = (await server.nextStream()).open().ready();
    const attempts = await lose(() => stream.response.end());
    vi.advanceTimersByTime(250);
    expect(attempts()).toBe(1);
  });

  test.each([
    ['retry:', 1_873 + 250, (call: Call) => call.open(1_873).response.end()],
    ['Retry-After', 7_000 + 250, (call: Call) => call.refuse(503, 'unavailable', { 'Retry-After': '7' })],
  ])('honours %s', async (_, pause, answer) => {
    await login(server);
    const stream = await server.nextStream();
    const attempts = await lose(() => answer(stream));
    vi.advanceTimersByTime(pause - 1);
    expect(attempts()).toBe(0);
    vi.advanceTimersByTime(1);
    expect(attempts()).toBe(1);
  });

  test('is exactly what a reconnect event asks for', async () => {
    const parlor = await login(server);
    const changed = lossOf(parlor);
    (await server.nextStream()).open().ready().event('reconnect', { afterMs: 4_321 });
    expect(await changed).toEqual({ state: 'reconnecting', event: 'serverGoingAway' });
    const attempts = countFetches();
    vi.advanceTimersByTime(4_320);
    expect(attempts()).toBe(0);
    vi.advanceTimersByTime(1);
    expect(attempts()).toBe(1);
  });

  type Call = Awaited<ReturnType<TestServer['nextStream']>>;
});

describe('silence', () => {
  test('of 45 s means that the connection is dead', async () => {
    const parlor = await login(server);
    const ready = next(parlor, 'sessionReady');
    (await server.nextStream()).open().ready();
    await ready;
    const changes = record(parlor, 'connectionStateChanged');
    vi.advanceTimersByTime(44_999);
    expect(changes).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(changes).toEqual([{ state: 'reconnecting', event: 'networkTimeout' }]);
  });

  test('is broken by comments', async () => {
    const parlor = await login(server);
    const ready = next(parlor, 'sessionReady');
    const stream = (await server.nextStream()).open().ready();
    await ready;
    const changes = record(parlor, 'connectionStateChanged');
    for (let heartbeat = 0; heartbeat < 10; heartbeat++) {
      vi.advanceTimersByTime(15_000);
      // The event behind the comment shows when the comment has been read.
      const read = next(parlor, 'roomStateChanged');
      stream.write(': hb\n\n').event('roomStateChanged', { roomID: 'r', state: 'connected', event: 'success' });
      await read;
    }
    expect(changes).toEqual([]);
  });

  test('of a server that accepts and never answers is noticed too', async () => {
    const parlor = await login(server);
    await server.nextStream();
    const changes = record(parlor, 'connectionStateChanged');
    vi.advanceTimersByTime(45_000);
    expect(changes).toEqual([{ state: 'reconnecting', event: 'networkTimeout' }]);
  });
});

describe('in a browser', () => {
  let window: EventTarget;
  let document: EventTarget & { visibilityState: string };

  beforeEach(() => {
    window = new EventTarget();
    document = Object.assign(new EventTarget(), { visibilityState: 'hidden' });
    vi.stubGlobal('addEventListener', window.addEventListener.bind(window));
    vi.stubGlobal('document', document);
  });

  const online = () => window.dispatchEvent(new Event('online'));
  const show = () => {
    document.visibilityState = 'visible';
    document.dispatchEvent(new Event('visibilitychange'));
  };

  test.each([
    ['comes online', online],
    ['is looked at', show],
  ])('reconnects at once when the page %s', async (_, wake) => {
    await login(server);
    const stream = await server.nextStream();
    const attempts = await lose(() => stream.refuse(503, 'unavailable', { 'Retry-After': '60' }));
    wake();
    expect(attempts()).toBe(1);
    (await server.nextStream()).open();
  });

  test('leaves a stream alone that is alive', async () => {
    const parlor = await login(server);
    const ready = next(parlor, 'sessionReady');
    (await server.nextStream()).open().ready();
    await ready;
    const attempts = countFetches();
    online();
    show();
    expect(attempts()).toBe(0);
  });

  test('drops a stream that is old after a sleep, which stops the timers too', async () => {
    const parlor = await login(server);
    const ready = next(parlor, 'sessionReady');
    (await server.nextStream()).open().ready('1:7');
    await ready;
    const changes = record(parlor, 'connectionStateChanged');
    vi.setSystemTime(Date.now() + 3_600_000);
    show();
    expect(changes).toEqual([{ state: 'reconnecting', event: 'networkTimeout' }]);
    expect((await server.nextStream()).header('Last-Event-ID')).toBe('1:7');
  });

  test('does nothing any more after the end', async () => {
    const parlor = await login(server);
    (await server.nextStream()).open();
    parlor.close();
    const attempts = countFetches();
    online();
    show();
    expect(attempts()).toBe(0);
  });
});

describe('the end', () => {
  test.each([
    ['session_ended', 'sessionEnded'],
    ['unauthenticated', 'sessionEnded'],
    ['token_expired', 'tokenExpired'],
  ])('is a 401 with %s', async (code, event) => {
    const parlor = await login(server);
    const changed = next(parlor, 'connectionStateChanged');
    (await server.nextStream()).refuse(401, code);
    expect(await changed).toEqual({ state: 'disconnected', event });
    expectNoMore();
  });

  test('is explained where the operator says why', async () => {
    const parlor = await login(server);
    const changes = record(parlor, 'connectionStateChanged');
    const stream = (await server.nextStream()).open().ready();
    await until(() => changes.length === 1);
    const reason = 'Maintenance, back at 6 😴';
    stream.event('connectionStateChanged', { state: 'disconnected', event: 'kickedOut', reason });
    await until(() => changes.length === 2);
    expect(changes.at(-1)).toEqual({ state: 'disconnected', event: 'kickedOut', reason });
    expect(parlor.connectionState).toBe('disconnected');
  });

  test.each(['loggedOut', 'tokenExpired', 'kickedOut', 'superseded'])('is what the server calls %s', async (event) => {
    const parlor = await login(server);
    const changes = record(parlor, 'connectionStateChanged');
    const stream = (await server.nextStream()).open().ready();
    const closed = new Promise((resolve) => stream.request.socket.on('close', resolve));
    stream.event('connectionStateChanged', { state: 'disconnected', event });
    await closed;
    expect(changes.at(-1)).toEqual({ state: 'disconnected', event });
    expectNoMore();
  });

  test('is not that this reader was slow', async () => {
    const parlor = await login(server);
    const lost = lossOf(parlor);
    const stream = (await server.nextStream()).open().ready('1:3');
    const attempts = await lose(() =>
      stream.event('connectionStateChanged', { state: 'disconnected', event: 'slowConsumer' }).response.end(),
    );
    expect(await lost).toEqual({ state: 'reconnecting', event: 'slowConsumer' });
    vi.runOnlyPendingTimers();
    expect(attempts()).toBe(1);
    expect((await server.nextStream()).header('Last-Event-ID')).toBe('1:3');
  });
});

/** Counts the attempts from here on. A timer that fires makes its attempt before it returns. */
function countFetches(): () => number {
  const fetches = vi.spyOn(globalThis, 'fetch');
  const before = fetches.mock.calls.length;
  return () => fetches.mock.calls.length - before;
}

/** Lets the stream be lost, waits until the client has noticed, and counts its attempts from there. */
async function lose(cause: () => void): Promise<() => number> {
  await pausedAfter(cause);
  return countFetches();
}

function expectNoMore(): void {
  const attempts = countFetches();
  vi.advanceTimersByTime(600_000);
  expect(attempts()).toBe(0);
}

/** The next change that is not the connection's success. */
function lossOf(parlor: Awaited<ReturnType<typeof login>>): Promise<ParlorEvents['connectionStateChanged']> {
  return new Promise((resolve) => {
    parlor.on('connectionStateChanged', (change) => {
      if (change.state !== 'connected') resolve(change);
    });
  });
}
