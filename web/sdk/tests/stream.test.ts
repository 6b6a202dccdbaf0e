import { EventSource } from 'eventsource';
import { beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { Parlor, type ParlorEvents } from '../src/index.ts';
import { login, message, next, failAttempt, record, room, fakeTime, until } from './harness.ts';
import { session, TestServer } from './server.ts';

let server: TestServer;

beforeEach(async () => {
  fakeTime();
  server = await TestServer.start();
});

test('the session key is in a header of the stream request', async () => {
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

test('events that arrive in fragments are assembled', async () => {
  const parlor = await login(server);
  const received = next(parlor, 'roomMessageReceived');
  const stream = (await server.nextStream()).open().ready();
  const data = JSON.stringify(message(2, '你好 👋'));
  const frame = Buffer.from(`id: 1:2\nevent: roomMessageReceived\ndata: ${data}\n\n`);
  for (const byte of frame) stream.write(Buffer.of(byte));
  expect((await received).messageList[0]).toMatchObject({ text: '你好 👋' });
});

test.each([
  ['inside a character', 1],
  ['inside a frame', 20],
  ['before the end of a frame', 33],
])('a stream that is cut %s continues before that frame', async (_, kept) => {
  const parlor = await login(server);
  const events = record(parlor, 'roomMessageReceived');
  const changes = record(parlor, 'connectionStateChanged');
  const text = '好';
  const frame = Buffer.from(`id: 1:2\nevent: roomMessageReceived\ndata: ${JSON.stringify(message(2, text))}\n\n`);
  const end = kept === 1 ? frame.indexOf(text) + 1 : kept === 33 ? frame.length - 1 : kept;
  const stream = (await server.nextStream()).open().ready('1:1');
  await until(() => changes.length === 1);
  await failAttempt(() => void stream.write(frame.subarray(0, end)).response.end());
  vi.runOnlyPendingTimers();
  const second = await server.nextStream();
  expect(second.header('Last-Event-ID')).toBe('1:1');
  second.open().ready('1:1', [room(2)]).write(frame);
  await until(() => events.length > 0);
  expect(events.map(({ seq, messageList: [first] }) => [seq, first])).toEqual([[2, expect.objectContaining({ text })]]);
});

test.each(['null', '7', '{}', '{"rooms":7}'])('a stream whose sessionReady is %s is opened again', async (data) => {
  const parlor = await login(server);
  const changes = record(parlor, 'connectionStateChanged');
  const stream = (await server.nextStream()).open();
  await failAttempt(() => void stream.write(`event: sessionReady\ndata: ${data}\n\n`));
  vi.runOnlyPendingTimers();
  (await server.nextStream()).open().ready();
  await until(() => changes.length === 2);
  expect(changes.map(({ state }) => state)).toEqual(['reconnecting', 'connected']);
});

test('a reply that is not an event stream is ignored', async () => {
  const parlor = await login(server);
  const changes = record(parlor, 'connectionStateChanged');
  const stream = await server.nextStream();
  await failAttempt(() => {
    stream.response.writeHead(200, { 'Content-Type': 'text/html' });
    stream.ready().response.end('<h1>Please sign in</h1>');
  });
  expect(changes).toEqual([{ state: 'reconnecting', event: 'networkInterrupted' }]);
  expect(parlor.resumeState().cursor).toBeUndefined();
});

test('the stream continues at the cursor, which events without an id do not change', async () => {
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

describe('the delay before reconnecting', () => {
  beforeEach(() => {
    vi.spyOn(Math, 'random').mockReturnValue(0.5);
  });

  test('doubles with every failure up to its limit, without an end', async () => {
    const changes = record(await login(server), 'connectionStateChanged');
    for (const delay of [250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000, 15_000]) {
      const stream = await server.nextStream();
      const attempts = await lose(() => stream.cut());
      vi.advanceTimersByTime(delay - 1);
      expect(attempts()).toBe(0);
      vi.advanceTimersByTime(1);
      expect(attempts()).toBe(1);
    }
    // Only the first loss is emitted.
    expect(changes).toEqual([{ state: 'reconnecting', event: 'networkInterrupted' }]);
  });

  test('starts over after an event of the server', async () => {
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
  ])('honours %s', async (_, delay, reply) => {
    await login(server);
    const stream = await server.nextStream();
    const attempts = await lose(() => reply(stream));
    vi.advanceTimersByTime(delay - 1);
    expect(attempts()).toBe(0);
    vi.advanceTimersByTime(1);
    expect(attempts()).toBe(1);
  });

  test('is exactly what a reconnect event requests', async () => {
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
  test.each([
    ['three heartbeats', 10, 30_000],
    ['three heartbeats of an interval that an operator chose', 60, 180_000],
    ['at least 15 s', 1, 15_000],
    ['45 s if the server does not send its interval', undefined, 45_000],
  ])('of %s closes the connection', async (_, heartbeatSeconds, limit) => {
    const parlor = await login(server);
    const ready = next(parlor, 'sessionReady');
    (await server.nextStream()).open().event('sessionReady', { sessionID: session.sessionID, rooms: [], heartbeatSeconds });
    await ready;
    const changes = record(parlor, 'connectionStateChanged');
    vi.advanceTimersByTime(limit - 1);
    expect(changes).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(changes).toEqual([{ state: 'reconnecting', event: 'networkTimeout' }]);
  });

  test('is ended by comments', async () => {
    const parlor = await login(server);
    const ready = next(parlor, 'sessionReady');
    const stream = (await server.nextStream()).open().ready();
    await ready;
    const changes = record(parlor, 'connectionStateChanged');
    for (let heartbeat = 0; heartbeat < 10; heartbeat++) {
      vi.advanceTimersByTime(15_000);
      // When the event after the comment is delivered, the comment was read too.
      const read = next(parlor, 'roomStateChanged');
      stream.write(': hb\n\n').event('roomStateChanged', { roomID: 'r', state: 'connected', event: 'success' });
      await read;
    }
    expect(changes).toEqual([]);
  });

  test('is as long as the server of a resumed session says', async () => {
    const parlor = Parlor.resume({ version: 1, baseURL: server.url, seen: [], ...session }); // from a login with 10 s
    onTestFinished(() => parlor.close());
    vi.advanceTimersByTime(0);
    const ready = next(parlor, 'sessionReady');
    (await server.nextStream()).open().ready('1:0', [], 60);
    await ready;
    const changes = record(parlor, 'connectionStateChanged');
    vi.advanceTimersByTime(179_999);
    expect(changes).toEqual([]);
  });

  test('behind a proxy that holds the stream back is detected', async () => {
    const parlor = await login(server);
    const changes = record(parlor, 'connectionStateChanged');
    const stream = await server.nextStream();
    const opened = vi.spyOn(TextDecoderStream.prototype, 'readable', 'get');
    stream.response.writeHead(200, { 'Content-Type': 'text/event-stream' }).flushHeaders();
    await until(() => opened.mock.calls.length > 0);
    await new Promise((resolve) => setImmediate(resolve));
    vi.advanceTimersByTime(45_000); // it has not said what its heartbeat is
    expect(changes).toEqual([{ state: 'reconnecting', event: 'networkTimeout' }]);
  });

  test.each([-3_600_000, 3_600_000])('is detected when the clock is set by %i ms', async (jump) => {
    const parlor = await login(server);
    const ready = next(parlor, 'sessionReady');
    (await server.nextStream()).open().ready('1:0', [], 10);
    await ready;
    const changes = record(parlor, 'connectionStateChanged');
    vi.setSystemTime(Date.now() + jump);
    vi.advanceTimersByTime(60_000); // at most twice as long
    expect(changes).toEqual([{ state: 'reconnecting', event: 'networkTimeout' }]);
  });

  test('of a server that never replies is detected too, whatever its heartbeat is', async () => {
    const parlor = await login(server);
    const ready = next(parlor, 'sessionReady');
    const stream = (await server.nextStream()).open().ready('1:0', [], 120);
    await ready;
    await lose(() => stream.cut());
    vi.runOnlyPendingTimers();
    await server.nextStream();
    const attempts = countFetches();
    vi.advanceTimersByTime(15_000);
    vi.runOnlyPendingTimers();
    expect(attempts()).toBe(1);
  });
});

describe('after a call without a reply', () => {
  const expectLoss = (changes: unknown[]) =>
    expect(changes).toEqual([{ state: 'reconnecting', event: 'networkTimeout' }]);

  /** Opens the stream of a server that sends a heartbeat every minute. */
  async function openStream() {
    const parlor = await login(server);
    const ready = next(parlor, 'sessionReady');
    const stream = (await server.nextStream()).open().ready('1:0', [], 60);
    await ready;
    return { parlor, stream, changes: record(parlor, 'connectionStateChanged') };
  }

  async function callWithoutReply(parlor: Parlor): Promise<void> {
    const failure = expect(parlor.createRoom('r')).rejects.toMatchObject({ code: 'network_error' });
    (await server.next('POST', '/v1/rooms')).cut();
    await failure;
  }

  test('a stream that missed its heartbeat reconnects at once', async () => {
    const { parlor, changes } = await openStream();
    vi.advanceTimersByTime(100_000);
    await callWithoutReply(parlor);
    vi.advanceTimersByTime(0);
    expectLoss(changes);
  });

  test('a stream that was silent since the call began reconnects at once', async () => {
    const { parlor, changes } = await openStream();
    vi.advanceTimersByTime(5_000);
    const failure = expect(parlor.createRoom('r')).rejects.toMatchObject({ code: 'network_error' });
    await server.next('POST', '/v1/rooms');
    vi.advanceTimersByTime(10_000); // the call times out
    await failure;
    vi.advanceTimersByTime(0);
    expectLoss(changes);
  });

  test('a stream reconnects 10 s after a call that failed at once', async () => {
    const { parlor, changes } = await openStream();
    vi.advanceTimersByTime(5_000);
    await callWithoutReply(parlor);
    vi.advanceTimersByTime(9_999);
    expect(changes).toEqual([]);
    vi.advanceTimersByTime(1);
    expectLoss(changes);
  });

  test('a stream on which something arrived during the call stays open', async () => {
    const { parlor, stream, changes } = await openStream();
    const failure = expect(parlor.createRoom('r')).rejects.toMatchObject({ code: 'network_error' });
    await server.next('POST', '/v1/rooms');
    vi.advanceTimersByTime(5_000);
    const read = next(parlor, 'roomStateChanged');
    stream.write(':\n\n').event('roomStateChanged', { roomID: 'r', state: 'connected', event: 'success' });
    await read;
    vi.advanceTimersByTime(5_000);
    await failure;
    vi.advanceTimersByTime(174_999);
    expect(changes).toEqual([]);
  });

  test('a stream on which the heartbeat arrives stays open', async () => {
    const { parlor, stream, changes } = await openStream();
    vi.advanceTimersByTime(50_000);
    await callWithoutReply(parlor);
    vi.advanceTimersByTime(5_000);
    const read = next(parlor, 'roomStateChanged');
    stream.write(':\n\n').event('roomStateChanged', { roomID: 'r', state: 'connected', event: 'success' });
    await read;
    vi.advanceTimersByTime(179_999);
    expect(changes).toEqual([]);
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
  const offline = () => window.dispatchEvent(new Event('offline'));
  const freeze = () => document.dispatchEvent(new Event('freeze'));
  const unfreeze = () => document.dispatchEvent(new Event('resume'));
  const show = () => {
    document.visibilityState = 'visible';
    document.dispatchEvent(new Event('visibilitychange'));
  };

  test.each([
    ['comes online', online],
    ['becomes visible', show],
  ])('reconnects at once when the page %s', async (_, wake) => {
    await login(server);
    const stream = await server.nextStream();
    const attempts = await lose(() => stream.refuse(503, 'unavailable', { 'Retry-After': '60' }));
    wake();
    expect(attempts()).toBe(1);
    (await server.nextStream()).open();
  });

  test('does not reconnect a stream that is alive', async () => {
    const parlor = await login(server);
    const ready = next(parlor, 'sessionReady');
    (await server.nextStream()).open().ready();
    await ready;
    const attempts = countFetches();
    online();
    show();
    expect(attempts()).toBe(0);
  });

  test('reconnects a stale stream after a sleep, during which timers do not run', async () => {
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

  const turnPage = (name: 'pagehide' | 'pageshow', persisted: boolean) =>
    window.dispatchEvent(Object.assign(new Event(name), { persisted }));

  // Chromium dispatches all of these events when it restores a page from the cache.
  const restore = () => {
    unfreeze();
    turnPage('pageshow', true);
    show();
  };

  test.each([
    ['in the back/forward cache', 'fetch', () => turnPage('pagehide', true), restore],
    ['in the back/forward cache', 'eventSource', () => turnPage('pagehide', true), restore],
    ['frozen', 'fetch', freeze, unfreeze],
    ['frozen', 'eventSource', freeze, unfreeze],
  ] as const)(
    'has no stream while it is %s (%s)',
    async (_, transport, suspend, resume) => {
      vi.stubGlobal('EventSource', EventSource);
      const parlor = await login(server, { transport });
      const ready = next(parlor, 'sessionReady');
      const stream = (await server.nextStream()).open().ready('1:7');
      const closed = new Promise((resolve) => stream.request.socket.on('close', resolve));
      await ready;
      suspend();
      await closed;
      expect(parlor.connectionState).toBe('reconnecting');
      const attempts = countFetches();
      vi.advanceTimersByTime(600_000);
      expect(attempts()).toBe(0);
      resume();
      const again = await server.nextStream();
      if (transport === 'fetch') expect(attempts()).toBe(1);
      expect(again.header('Last-Event-ID') ?? again.url.searchParams.get('last_event_id')).toBe('1:7');
    },
  );

  test('lost its stream when the browser is offline, and reconnects at once when it is online', async () => {
    const parlor = await login(server);
    const ready = next(parlor, 'sessionReady');
    const stream = (await server.nextStream()).open().ready('1:7');
    const closed = new Promise((resolve) => stream.request.socket.on('close', resolve));
    await ready;
    const changes = record(parlor, 'connectionStateChanged');
    offline();
    await closed;
    expect(changes).toEqual([{ state: 'reconnecting', event: 'networkInterrupted' }]);
    online();
    expect((await server.nextStream()).header('Last-Event-ID')).toBe('1:7');
  });

  test('keeps its stream when it is hidden or shown otherwise', async () => {
    const parlor = await login(server);
    const ready = next(parlor, 'sessionReady');
    (await server.nextStream()).open().ready();
    await ready;
    const attempts = countFetches();
    turnPage('pageshow', false);
    turnPage('pagehide', false);
    expect(parlor.connectionState).toBe('connected');
    expect(attempts()).toBe(0);
  });

  test('does not reconnect after close', async () => {
    const parlor = await login(server);
    (await server.nextStream()).open();
    parlor.close();
    const attempts = countFetches();
    online();
    show();
    expect(attempts()).toBe(0);
  });
});

describe('the client disconnects', () => {
  test.each([
    ['session_ended', 'sessionEnded'],
    ['unauthenticated', 'sessionEnded'],
    ['token_expired', 'tokenExpired'],
  ])('after a 401 with %s', async (code, event) => {
    const parlor = await login(server);
    const changed = next(parlor, 'connectionStateChanged');
    (await server.nextStream()).refuse(401, code);
    expect(await changed).toEqual({ state: 'disconnected', event });
    expectNoMore();
  });

  test('with the reason that an admin gave', async () => {
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

  test.each(['loggedOut', 'tokenExpired', 'kickedOut', 'superseded'])('after the event %s', async (event) => {
    const parlor = await login(server);
    const changes = record(parlor, 'connectionStateChanged');
    const stream = (await server.nextStream()).open().ready();
    const closed = new Promise((resolve) => stream.request.socket.on('close', resolve));
    stream.event('connectionStateChanged', { state: 'disconnected', event });
    await closed;
    expect(changes.at(-1)).toEqual({ state: 'disconnected', event });
    expectNoMore();
  });

  test('but not after slowConsumer', async () => {
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

/** Counts the attempts from now on. A timer makes its attempt before it returns. */
function countFetches(): () => number {
  const fetches = vi.spyOn(globalThis, 'fetch');
  const before = fetches.mock.calls.length;
  return () => fetches.mock.calls.length - before;
}

/** Makes the stream fail, waits until the client notices, and counts its attempts after that. */
async function lose(cause: () => void): Promise<() => number> {
  await failAttempt(cause);
  return countFetches();
}

function expectNoMore(): void {
  const attempts = countFetches();
  vi.advanceTimersByTime(600_000);
  expect(attempts()).toBe(0);
}

/** Returns the next change to another state than `connected`. */
function lossOf(parlor: Awaited<ReturnType<typeof login>>): Promise<ParlorEvents['connectionStateChanged']> {
  return new Promise((resolve) => {
    parlor.on('connectionStateChanged', (change) => {
      if (change.state !== 'connected') resolve(change);
    });
  });
}
