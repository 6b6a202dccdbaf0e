import { onTestFinished, vi } from 'vitest';
import { type LoginOptions, Parlor, type ParlorEvents } from '../src/index.ts';
import { session, type TestServer } from './server.ts';

/** Fakes the timers and the date until the end of the test. The network does not use them. */
export function fakeTime(): void {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] });
  onTestFinished(() => {
    vi.useRealTimers();
  });
}

/** Logs in to the test server. The client has then requested its stream. */
export async function login(
  server: TestServer,
  options: Partial<LoginOptions> = {},
  reply: object = session,
): Promise<Parlor> {
  const [parlor] = await Promise.all([
    Parlor.login({ baseURL: server.url, token: 'user-token', ...options } as LoginOptions),
    server.next('POST', '/v1/sessions').then((call) => call.reply(201, reply)),
  ]);
  onTestFinished(() => parlor.close());
  if (vi.isFakeTimers()) vi.advanceTimersByTime(0); // the stream opens in the next task
  return parlor;
}

/** Waits for a condition that depends on the network. The test's timeout limits it. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}

/** Makes an attempt fail, and waits until the client has chosen the delay before the next one. */
export async function failAttempt(cause: () => void): Promise<void> {
  const random = vi.spyOn(Math, 'random');
  const before = random.mock.calls.length;
  cause();
  await until(() => random.mock.calls.length > before);
}

/** Returns the next event of a name. */
export function next<E extends keyof ParlorEvents>(parlor: Parlor, event: E): Promise<ParlorEvents[E]> {
  return new Promise((resolve) => {
    const off = parlor.on(event, (data) => {
      off();
      resolve(data);
    });
  });
}

/** Records all events of a name. */
export function record<E extends keyof ParlorEvents>(parlor: Parlor, event: E): ParlorEvents[E][] {
  const events: ParlorEvents[E][] = [];
  parlor.on(event, (data) => events.push(data));
  return events;
}

/** Makes the data of a roomMessageReceived event. */
export function message(seq: number, text = `message ${seq}`, generation = 1) {
  const sender = { userID: 'bob', userName: 'Bob' };
  const sentAt = '2026-11-21T15:00:00Z';
  const content = { kind: 'text', sender, text, priority: 'medium', sentAt };
  return { roomID: 'r', generation, seq, messageList: [{ messageID: crypto.randomUUID(), roomID: 'r', seq, ...content }] };
}

export function room(lastSeq: number, generation = 1) {
  const config = { memberTimeout: 30, maxMembers: 500 };
  const state = { memberCount: 1, lastSeq, memberEvents: 'names', roomAttributes: {}, attributesVersion: 0 };
  return { roomID: 'r', generation, roomName: 'R', config, createdAt: '2026-11-21T15:00:00Z', ...state };
}
