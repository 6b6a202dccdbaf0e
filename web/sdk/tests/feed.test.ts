import { beforeEach, expect, test, vi } from 'vitest';
import { type FeedEvent, type FeedOptions, ParlorAdmin } from '../src/admin.ts';
import { until } from './harness.ts';
import { type Call, TestServer } from './server.ts';

let server: TestServer;

beforeEach(async () => {
  vi.spyOn(Math, 'random').mockReturnValue(0); // no delays
  server = await TestServer.start();
});

const nextFeed = () => server.next('GET', '/v1/admin/events');
const created = (n: number) => ['roomCreated', { room: { roomID: `r${n}` } }, `c${n}`] as const;

/** Collects the events of a feed in the background, and how it ended. */
function collect(options: FeedOptions = {}, getToken: () => string = () => 'admin') {
  const ids: string[] = [];
  const feed = new ParlorAdmin({ baseURL: server.url, getToken }).streamAdminEvents(options);
  const ended = (async () => {
    for await (const event of feed) ids.push(event.id);
  })();
  ended.catch(() => {});
  return { feed, ids, ended };
}

test('the feed continues after the last event when the connection breaks or the server asks for it', async () => {
  const { feed, ids } = collect({ lastEventID: 'c0' });
  const first = await nextFeed();
  expect(first.header('Authorization')).toBe('Bearer admin');
  expect(first.header('Last-Event-ID')).toBe('c0');
  const [name, data, id] = created(1);
  first.open().event('feedReady', { resumed: true }, 'c0').event(name, data, id);
  first.write('id: c9\nevent: roomCreated\ndata: {"room":'); // cut in a frame
  await until(() => ids.length === 2);
  first.cut();
  const second = await nextFeed();
  expect(second.header('Last-Event-ID')).toBe('c1');
  second.open().event(...created(2)).event('reconnect', { afterMs: 0 }).response.end();
  const third = await nextFeed();
  expect(third.header('Last-Event-ID')).toBe('c2');
  third.open().event('connectionStateChanged', { state: 'disconnected', event: 'tokenExpired' }).response.end();
  const fourth = await nextFeed();
  fourth.refuse(503, 'unavailable');
  (await nextFeed()).open().event(...created(3));
  await until(() => ids.length === 4);
  expect(ids).toEqual(['c0', 'c1', 'c2', 'c3']);
  void feed.return();
});

test('an event that the consumer failed to process is not skipped', async () => {
  const admin = new ParlorAdmin({ baseURL: server.url, getToken: () => 'admin' });
  let last = 'c0';
  const process = async () => {
    for await (const event of admin.streamAdminEvents({ lastEventID: last })) {
      if (event.id === 'c2') throw new Error('the consumer failed');
      last = event.id;
    }
  };
  const failed = expect(process()).rejects.toThrow('the consumer failed');
  const first = (await nextFeed()).open().event(...created(1)).event(...created(2));
  const closed = new Promise((resolve) => first.request.socket.on('close', resolve));
  await failed;
  await closed;
  expect(last).toBe('c1');
});

test('a feed can include more than the events of rooms', async () => {
  const { feed, ids } = collect({ include: ['sessions', 'commands'] });
  const first = await nextFeed();
  expect(first.url.search).toBe('?include=sessions&include=commands');
  first.open().event('feedReady', { resumed: false }, 'c0').event('roomMessageReceived', { messages: [] });
  await until(() => ids.length === 2);
  expect(ids).toEqual(['c0', 'c0']); // a command has no position of its own
  first.cut();
  const second = await nextFeed();
  expect(second.url.search).toBe(first.url.search);
  expect(second.header('Last-Event-ID')).toBe('c0');
  second.open();
  void feed.return();
});

test('a token that expired is replaced once', async () => {
  let tokens = 0;
  const { ended } = collect({}, () => `admin-${++tokens}`);
  (await nextFeed()).refuse(401, 'token_expired');
  const second = await nextFeed();
  expect(second.header('Authorization')).toBe('Bearer admin-2');
  second.refuse(401, 'token_expired');
  await expect(ended).rejects.toMatchObject({ name: 'ParlorError', code: 'token_expired' });
});

test.each([
  [403, 'not_admin'],
  [401, 'token_invalid'],
])('a refusal ends the feed: %d %s', async (status, code) => {
  const { ended } = collect();
  (await nextFeed()).refuse(status, code);
  await expect(ended).rejects.toMatchObject({ code });
});

test('an error of getToken ends the feed', async () => {
  const { ended } = collect({}, () => {
    throw new RangeError('no key');
  });
  await expect(ended).rejects.toThrow('no key');
});

test('the signal and leaving the loop close the connection', async () => {
  const abort = new AbortController();
  const { ended } = collect({ signal: abort.signal });
  const closed = ({ request }: Call) => new Promise((resolve) => request.socket.on('close', resolve));
  const first = (await nextFeed()).open().event(...created(1));
  const firstClosed = closed(first);
  abort.abort();
  await ended;
  await firstClosed;

  const admin = new ParlorAdmin({ baseURL: server.url, getToken: () => 'admin' });
  let received: FeedEvent | undefined;
  const reading = (async () => {
    for await (const event of admin.streamAdminEvents()) {
      received = event;
      break;
    }
  })();
  const second = (await nextFeed()).open().event(...created(7));
  const secondClosed = closed(second);
  await reading;
  await secondClosed;
  expect(received?.event === 'roomCreated' && received.data.room.roomID).toBe('r7');
});

test('a silent connection is replaced', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  const { ids, feed } = collect();
  const first = (await nextFeed()).open().event(...created(1));
  await until(() => ids.length === 1);
  const closed = new Promise((resolve) => first.request.socket.on('close', resolve));
  vi.advanceTimersByTime(90_000);
  await closed;
  await until(() => vi.getTimerCount() > 0);
  vi.runOnlyPendingTimers();
  const second = await nextFeed();
  expect(second.header('Last-Event-ID')).toBe('c1');
  vi.useRealTimers();
  second.open();
  void feed.return();
});
