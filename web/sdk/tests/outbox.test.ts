import { beforeEach, describe, expect, test, vi } from 'vitest';
import type { Parlor } from '../src/index.ts';
import { failAttempt, fakeTime, login, message, next } from './harness.ts';
import { type Call, TestServer } from './server.ts';

let server: TestServer;
let parlor: Parlor;

beforeEach(async () => {
  fakeTime();
  vi.spyOn(Math, 'random').mockReturnValue(0.5);
  server = await TestServer.start();
  parlor = await login(server);
});

const path = '/v1/rooms/r/messages';
const nextSend = (at = path) => server.next('POST', at);
const store = (call: Call, seq = 1) => call.reply(201, { message: message(seq).messageList[0] });

/** Sends texts at once, and collects those that were stored or failed. */
function sendAll(...texts: string[]): string[] {
  const settled: string[] = [];
  for (const text of texts) {
    parlor.sendRoomMessage('r', { text }).then(
      () => settled.push(text),
      (error) => settled.push(`${text}: ${error.code}`),
    );
  }
  return settled;
}

test('messages are sent one after another, and a refusal fails only its own', async () => {
  const settled = sendAll('a', 'b', 'c');
  const fetches = vi.spyOn(globalThis, 'fetch');
  const first = await nextSend();
  expect(first.body).toMatchObject({ kind: 'text', text: 'a', clientMessageID: expect.stringMatching(/^[0-9a-f]{32}$/) });
  await vi.advanceTimersByTimeAsync(1_000);
  expect(fetches).not.toHaveBeenCalled();
  store(first);
  const second = await nextSend();
  expect(second.body.text).toBe('b');
  second.refuse(403, 'not_granted');
  const third = await nextSend();
  expect(third.body.text).toBe('c');
  store(third);
  await vi.waitUntil(() => settled.length === 3);
  expect(settled).toEqual(['a', 'b: not_granted', 'c']);
});

test('each room and each user has a queue of its own', async () => {
  const sending = [
    parlor.sendRoomMessage('r', { text: 'a' }),
    parlor.sendRoomMessage('s', { text: 'b' }),
    parlor.sendPeerMessage('r', { text: 'c' }),
  ];
  const calls = await Promise.all([nextSend(), nextSend('/v1/rooms/s/messages'), nextSend('/v1/users/r/messages')]);
  calls.forEach((call) => store(call));
  await Promise.all(sending);
});

test('a message waits as long as the server cannot be reached, and is sent with the same ID', async () => {
  const settled = sendAll('a', 'b');
  let ID: string | undefined;
  const causes: ((call: Call) => void)[] = [
    (call) => call.cut(),
    (call) => call.refuse(503, 'unavailable'),
    () => vi.advanceTimersByTime(10_000), // no reply
    (call) => call.response.writeHead(200, { 'Content-Type': 'text/html' }).end('<h1>Please sign in</h1>'),
  ];
  for (let attempt = 0; attempt < 40; attempt++) {
    const call = await nextSend();
    expect(call.body.text).toBe('a');
    ID ??= call.body.clientMessageID;
    expect(call.body.clientMessageID).toBe(ID);
    await failAttempt(() => causes[attempt % 4]!(call));
    vi.runOnlyPendingTimers();
  }
  expect(settled).toEqual([]);
  store(await nextSend());
  const second = await nextSend();
  expect(second.body.text).toBe('b');
  store(second);
  await vi.waitUntil(() => settled.length === 2);
});

test('the queue waits as long as the server asks, even if the stream is back meanwhile', async () => {
  const settled = sendAll('a', 'b');
  const stream = await server.nextStream();
  const first = await nextSend();
  await failAttempt(() => first.refuse(429, 'too_many_messages', { 'Retry-After': '7' }));
  const fetches = vi.spyOn(globalThis, 'fetch');
  const changed = next(parlor, 'connectionStateChanged');
  stream.open().ready();
  await changed;
  await vi.advanceTimersByTimeAsync(7_249);
  expect(fetches).not.toHaveBeenCalled();
  await vi.advanceTimersByTimeAsync(1);
  store(await nextSend());
  store(await nextSend());
  await vi.waitUntil(() => settled.length === 2);
  expect(settled).toEqual(['a', 'b']);
});

test('a stream that is back ends the pause', async () => {
  const settled = sendAll('a');
  const stream = await server.nextStream();
  const first = await nextSend();
  await failAttempt(() => first.cut());
  stream.open().ready();
  store(await nextSend());
  await vi.waitUntil(() => settled.length === 1);
});

describe('onWaiting', () => {
  test('is called for all messages of the queue, also for later ones, and may throw', async () => {
    const shown = vi.spyOn(console, 'error').mockImplementation(() => {});
    const waiting: string[] = [];
    const send = (text: string) =>
      parlor.sendRoomMessage('r', { text }, {
        onWaiting: ({ code }) => {
          waiting.push(`${text} ${code}`);
          throw new Error('a fault in the application');
        },
      });
    const sending = [send('a'), send('b')];
    const first = await nextSend();
    await failAttempt(() => first.cut());
    sending.push(send('c'));
    expect(waiting).toEqual(['a network_error', 'b network_error', 'c network_error']);
    expect(shown).toHaveBeenCalledTimes(3);
    vi.runOnlyPendingTimers();
    for (const _ of sending) store(await nextSend());
    await Promise.all(sending);
  });
});

test('the signal removes a message, and the queue goes on after the call in progress', async () => {
  const abort = new AbortController();
  const first = parlor.sendRoomMessage('r', { text: 'a' }, { signal: abort.signal });
  const second = parlor.sendRoomMessage('r', { text: 'b' }, { signal: abort.signal });
  const settled = sendAll('c');
  const call = await nextSend();
  abort.abort(new Error('discarded'));
  await expect(first).rejects.toThrow('discarded');
  await expect(second).rejects.toThrow('discarded');
  store(call);
  const third = await nextSend();
  expect(third.body.text).toBe('c');
  store(third);
  await vi.waitUntil(() => settled.length === 1);
  await expect(parlor.sendRoomMessage('r', { text: 'd' }, { signal: abort.signal })).rejects.toThrow('discarded');
});

test('the end of the session fails what waits, but not the call in progress', async () => {
  const settled = sendAll('a', 'b');
  const call = await nextSend();
  parlor.close();
  store(call);
  await vi.waitUntil(() => settled.length === 2);
  expect(settled).toEqual(['a', 'b: session_ended']);
  await expect(parlor.sendRoomMessage('r', { text: 'c' })).rejects.toMatchObject({ code: 'session_ended' });
});

test('a barrage neither waits nor is repeated', async () => {
  sendAll('a');
  const failed = expect(parlor.sendRoomMessage('r', { kind: 'barrage', text: 'z' })).rejects.toMatchObject({
    code: 'network_error',
  });
  const calls = [await nextSend(), await nextSend()];
  calls.find(({ body }) => body.kind === 'barrage')!.cut();
  await failed;
});

test('at most 1,000 messages wait', async () => {
  const settled = sendAll(...Array.from({ length: 1_001 }, (_, index) => String(index)));
  await vi.waitUntil(() => settled.length === 1);
  expect(settled).toEqual(['1000: too_many_unsent']);
});

test('the draft may be changed after the call', async () => {
  const draft = { text: 'a' };
  sendAll('first');
  const sending = parlor.sendRoomMessage('r', draft);
  draft.text = 'changed';
  store(await nextSend());
  const second = await nextSend();
  expect(second.body.text).toBe('a');
  store(second);
  await sending;
});
