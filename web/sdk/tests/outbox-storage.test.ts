import { IDBFactory, IDBObjectStore } from 'fake-indexeddb';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { Parlor } from '../src/index.ts';
import { StoredOutbox, type StoredOutboxOptions } from '../src/outbox-storage.ts';
import { login, message } from './harness.ts';
import { Locks } from './locks.ts';
import { type Call, TestServer } from './server.ts';

// Time is not faked: IndexedDB does not follow fake timers.

let server: TestServer;
let locks: Locks;
let errors: string[];
const options: StoredOutboxOptions = { onStorageError: ({ name, cause }) => errors.push(`${name}: ${(cause as Error).message}`) };

beforeEach(async () => {
  vi.stubGlobal('indexedDB', new IDBFactory());
  locks = Locks.install();
  errors = [];
  server = await TestServer.start();
});

const path = '/v1/rooms/r/messages';
const store = (call: Call, seq = 1) => call.reply(201, { message: message(seq).messageList[0] });

/** Opens a page, whose session is a new one of the same user. */
async function openPage(): Promise<[StoredOutbox, Parlor]> {
  const parlor = await login(server);
  const outbox = await StoredOutbox.open(parlor, options);
  for (const { sent } of outbox.restored) sent.catch(() => {}); // when the test ends
  return [outbox, parlor];
}

/** The page goes away while messages wait: nothing of it runs any more. */
function leavePage(parlor: Parlor): void {
  parlor.close();
  locks.releaseAll();
}

/** Sends texts, and collects the codes of those that fail. */
function send(outbox: StoredOutbox, ...texts: string[]): string[] {
  const failed: string[] = [];
  for (const text of texts) outbox.sendRoomMessage('r', { text }).catch(({ code }) => failed.push(`${text}: ${code}`));
  return failed;
}

/** Replies to the next calls, and returns their texts and IDs. */
async function receive(count: number): Promise<[text: string, id: string][]> {
  const received: [string, string][] = [];
  while (received.length < count) {
    const call = await server.next('POST', path);
    received.push([call.body.text, call.body.clientMessageID]);
    store(call, received.length);
  }
  return received;
}

async function stored(): Promise<string[]> {
  const database = await new Promise<IDBDatabase>((resolve) => {
    const opening = indexedDB.open('parlor-outbox');
    opening.onsuccess = () => resolve(opening.result);
  });
  const reading = database.transaction('messages').objectStore('messages').getAll();
  return new Promise((resolve) => (reading.onsuccess = () => resolve(reading.result.map((entry) => entry.message.text))));
}

test('messages that wait when the page goes away are sent by the next page, in their order and with their IDs', async () => {
  const [first, parlor] = await openPage();
  const failed = send(first, 'a', 'b', 'c');
  const lost = await server.next('POST', path);
  await vi.waitUntil(async () => (await stored()).length === 3);
  leavePage(parlor);
  lost.cut(); // whether a was stored is not known
  await vi.waitUntil(() => failed.length === 3);

  const [second] = await openPage();
  expect(second.restored.map(({ to, message }) => [to, message.kind])).toEqual(Array(3).fill([{ roomID: 'r' }, 'text']));
  send(second, 'd');
  const received = await receive(4);
  expect(received.map(([text]) => text)).toEqual(['a', 'b', 'c', 'd']);
  expect(received[0]![1]).toBe(lost.body.clientMessageID);
  expect(await second.restored[0]!.sent).toMatchObject({ message: { seq: 1 } });
  await vi.waitUntil(async () => (await stored()).length === 0);
  expect(errors).toEqual([]);
});

test('messages of a page that is open are its own', async () => {
  const [first] = await openPage();
  send(first, 'a');
  const waiting = await server.next('POST', path);
  const [second] = await openPage();
  expect(second.restored).toEqual([]);
  store(waiting);
});

test('a message that the server refuses, and one that is discarded, is removed', async () => {
  const [first, parlor] = await openPage();
  send(first, 'a', 'b');
  const lost = await server.next('POST', path);
  await vi.waitUntil(async () => (await stored()).length === 2);
  leavePage(parlor);
  lost.cut();
  const [second] = await openPage();
  const [a, b] = second.restored;
  const refused = expect(a!.sent).rejects.toMatchObject({ code: 'not_in_room' });
  const discarded = expect(b!.sent).rejects.toMatchObject({ name: 'AbortError' });
  b!.discard();
  (await server.next('POST', path)).refuse(409, 'not_in_room');
  await Promise.all([refused, discarded]);
  await vi.waitUntil(async () => (await stored()).length === 0);
});

test('after a logout that clears the outbox, nothing is sent', async () => {
  const [first, parlor] = await openPage();
  send(first, 'a', 'b');
  await server.next('POST', path);
  await vi.waitUntil(async () => (await stored()).length === 2);
  await first.clear();
  leavePage(parlor);
  const [second] = await openPage();
  expect(second.restored).toEqual([]);
});

test('the stored messages are limited', async () => {
  const [outbox] = await openPage();
  const failed = send(outbox, ...Array.from({ length: 5 }, () => 'x'.repeat(1 << 20)));
  await vi.waitUntil(() => failed.length > 0);
  expect(failed).toHaveLength(2); // IDs and kinds have characters too
  expect(failed[0]).toMatch(/: too_many_unsent$/);
});

describe('storage that fails is reported, and messages are sent without it:', () => {
  test.each([
    ['forbidden', () => vi.stubGlobal('indexedDB', undefined)],
    ['corrupt', () => vi.spyOn(IDBFactory.prototype, 'open').mockImplementation(() => { throw new DOMException('corrupt', 'UnknownError'); })],
    ['full', () => vi.spyOn(IDBObjectStore.prototype, 'add').mockImplementation(() => { throw new DOMException('full', 'QuotaExceededError'); })],
  ])('%s', async (_, fail) => {
    fail();
    const [outbox] = await openPage();
    send(outbox, 'a', 'b');
    expect((await receive(2)).map(([text]) => text)).toEqual(['a', 'b']);
    expect(errors.length).toBeGreaterThan(0);
    for (const error of errors) expect(error).toMatch(/^StorageError: /);
  });

  test('a stored message that is corrupt', async () => {
    const [first, parlor] = await openPage();
    send(first, 'a');
    const lost = await server.next('POST', path);
    leavePage(parlor);
    lost.cut();
    const put = IDBObjectStore.prototype.add;
    const spy = vi.spyOn(IDBObjectStore.prototype, 'add').mockImplementation(function (this: IDBObjectStore, entry: any) {
      return put.call(this, { ...entry, message: { kind: 7 } });
    });
    const [second, other] = await openPage();
    send(second, 'b');
    await vi.waitUntil(async () => (await stored()).includes(undefined as never));
    leavePage(other);
    spy.mockRestore();
    const [third] = await openPage();
    expect(third.restored.map(({ message }) => (message as { text: string }).text)).toEqual(['a']);
    expect(errors).toEqual(['StorageError: a stored message is corrupt']);
  });
});
