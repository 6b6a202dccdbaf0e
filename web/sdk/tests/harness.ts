import { onTestFinished, vi } from 'vitest';
import { type LoginOptions, Parlor, type ParlorEvents } from '../src/index.ts';
import { session, type TestServer } from './server.ts';

/** Time stands still until a test moves it. The network goes on: it uses none of these. */
export function stopTime(): void {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] });
  onTestFinished(() => {
    vi.useRealTimers();
  });
}

/** Logs in at the test's server; its stream has then been asked for. */
export async function login(server: TestServer, options: Partial<LoginOptions> = {}): Promise<Parlor> {
  const [parlor] = await Promise.all([
    Parlor.login({ baseURL: server.url, token: 'user-token', ...options } as LoginOptions),
    server.next('POST', '/v1/sessions').then((call) => call.reply(201, session)),
  ]);
  onTestFinished(() => parlor.close());
  if (vi.isFakeTimers()) vi.advanceTimersByTime(0); // the stream opens in the next task
  return parlor;
}

/** Waits for what the network brings about; the test's own limit ends a wait in vain. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}

/** Does what makes a try fail, and waits until the client has chosen the pause before the next one. */
export async function pausedAfter(cause: () => void): Promise<void> {
  const random = vi.spyOn(Math, 'random');
  const before = random.mock.calls.length;
  cause();
  await until(() => random.mock.calls.length > before);
}

/** The next such event. */
export function next<E extends keyof ParlorEvents>(parlor: Parlor, event: E): Promise<ParlorEvents[E]> {
  return new Promise((resolve) => {
    const off = parlor.on(event, (data) => {
      off();
      resolve(data);
    });
  });
}

/** All such events, as they come. */
export function record<E extends keyof ParlorEvents>(parlor: Parlor, event: E): ParlorEvents[E][] {
  const events: ParlorEvents[E][] = [];
  parlor.on(event, (data) => events.push(data));
  return events;
}

/** The data of a roomMessageReceived event. */
export function message(seq: number, text = `message ${seq}`, generation = 1) {
  const sender = { userID: 'bob', userName: 'Bob' };
  const sentAt = '2026-11-21T15:00:00Z';
  const said = { kind: 'text', sender, text, priority: 'medium', sentAt };
  return { roomID: 'r', generation, seq, messageList: [{ messageID: crypto.randomUUID(), roomID: 'r', seq, ...said }] };
}

export function room(lastSeq: number, generation = 1) {
  const config = { memberTimeout: 30, maxMembers: 500 };
  return { roomID: 'r', generation, roomName: 'R', config, memberCount: 1, createdAt: '2026-11-21T15:00:00Z', lastSeq, roomAttributes: {}, attributesVersion: 0 };
}
