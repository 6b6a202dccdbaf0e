import { beforeEach, expect, test, vi } from 'vitest';
import { Parlor } from '../src/index.ts';
import { login, next, fakeTime, until } from './harness.ts';
import { session, TestServer } from './server.ts';

let server: TestServer;

beforeEach(async () => {
  fakeTime();
  server = await TestServer.start();
});

const renewed = { tokenExpiresAt: '2026-11-21T17:00:00Z' };

/** Logs in, and makes the server send tokenWillExpire. */
async function loginExpiring(getToken: () => string | Promise<string>): Promise<Parlor> {
  const parlor = await login(server, { token: 'first', getToken });
  const event = next(parlor, 'tokenWillExpire');
  (await server.nextStream()).open().ready().event('tokenWillExpire', { secondsLeft: 30 });
  await event;
  return parlor;
}

test('getToken provides the token for the login', async () => {
  const options = { baseURL: server.url, getToken: () => 'fetched', userName: 'Ann', device: 'test' };
  const parlor = Parlor.login(options);
  const call = await server.next('POST', '/v1/sessions');
  expect(call.body).toEqual({ token: 'fetched', userName: 'Ann', device: 'test' });
  call.reply(201, session);
  (await parlor).close();
});

test('a token that is about to expire is renewed', async () => {
  const parlor = await loginExpiring(async () => 'second');
  const call = await server.next('PUT', '/v1/sessions/current/token');
  expect(call.body).toEqual({ token: 'second' });
  call.reply(200, renewed);
  await until(() => parlor.tokenExpiresAt.getTime() === Date.parse(renewed.tokenExpiresAt));
  expect(parlor.resumeState().tokenExpiresAt).toBe(renewed.tokenExpiresAt);
});

test('a failed renewal is retried', async () => {
  let calls = 0;
  await loginExpiring(() => {
    if (calls++ === 0) throw new Error('the backend is unavailable');
    return 'second';
  });
  await vi.advanceTimersByTimeAsync(2_999);
  expect(calls).toBe(1);
  await vi.advanceTimersByTimeAsync(1);
  expect((await server.next('PUT', '/v1/sessions/current/token')).body).toEqual({ token: 'second' });
});

test('a renewal that fails until the token expires is reported', async () => {
  const shown = vi.spyOn(console, 'error').mockImplementation(() => {});
  let calls = 0;
  await loginExpiring(() => {
    calls++;
    throw new Error('the backend is unavailable');
  });
  await vi.advanceTimersByTimeAsync(30_000);
  expect(calls).toBe(10);
  expect(shown).toHaveBeenCalledOnce();
});

test('a renewal that fails after the token has expired is not reported', async () => {
  const shown = vi.spyOn(console, 'error').mockImplementation(() => {});
  let fail = (_: Error) => {};
  const token = new Promise<string>((_, reject) => (fail = reject));
  const parlor = await login(server, { token: 'first', getToken: () => token });
  const stream = (await server.nextStream()).open().ready().event('tokenWillExpire', { secondsLeft: 0 });
  await next(parlor, 'tokenWillExpire');
  const changed = next(parlor, 'connectionStateChanged');
  stream.event('connectionStateChanged', { state: 'disconnected', event: 'tokenExpired' });
  await changed;
  fail(new Error('the backend is unavailable'));
  await vi.advanceTimersByTimeAsync(0);
  expect(shown).not.toHaveBeenCalled();
});

test('without getToken, the token is not renewed', async () => {
  const parlor = await login(server);
  const event = next(parlor, 'tokenWillExpire');
  (await server.nextStream()).open().ready().event('tokenWillExpire', { secondsLeft: 30 });
  const fetches = vi.spyOn(globalThis, 'fetch');
  expect(await event).toEqual({ secondsLeft: 30 });
  expect(fetches).not.toHaveBeenCalled();
});
