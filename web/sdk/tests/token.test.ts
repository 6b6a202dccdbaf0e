import { beforeEach, expect, test, vi } from 'vitest';
import { Parlor } from '../src/index.ts';
import { login, next, stopTime, until } from './harness.ts';
import { session, TestServer } from './server.ts';

let server: TestServer;

beforeEach(async () => {
  stopTime();
  server = await TestServer.start();
});

const renewed = { tokenExpiresAt: '2026-11-21T17:00:00Z' };

/** Logs in and lets the server say that the token is running out. */
async function expiring(getToken: () => string | Promise<string>): Promise<Parlor> {
  const parlor = await login(server, { token: 'first', getToken });
  const told = next(parlor, 'tokenWillExpire');
  (await server.nextStream()).open().ready().event('tokenWillExpire', { secondsLeft: 30 });
  await told;
  return parlor;
}

test('a source of tokens is asked for the login itself', async () => {
  const options = { baseURL: server.url, getToken: () => 'fetched', userName: 'Ann', device: 'test' };
  const loggingIn = Parlor.login(options);
  const call = await server.next('POST', '/v1/sessions');
  expect(call.body).toEqual({ token: 'fetched', userName: 'Ann', device: 'test' });
  call.reply(201, session);
  (await loggingIn).close();
});

test('a token that will expire is renewed by itself', async () => {
  const parlor = await expiring(async () => 'second');
  const call = await server.next('PUT', '/v1/sessions/current/token');
  expect(call.body).toEqual({ token: 'second' });
  call.reply(200, renewed);
  await until(() => parlor.tokenExpiresAt.getTime() === Date.parse(renewed.tokenExpiresAt));
  expect(parlor.resumeState().tokenExpiresAt).toBe(renewed.tokenExpiresAt);
});

test('a renewal that failed is tried again while there is time', async () => {
  let asked = 0;
  await expiring(() => {
    if (asked++ === 0) throw new Error('the backend is away');
    return 'second';
  });
  await vi.advanceTimersByTimeAsync(2_999);
  expect(asked).toBe(1);
  await vi.advanceTimersByTimeAsync(1);
  expect((await server.next('PUT', '/v1/sessions/current/token')).body).toEqual({ token: 'second' });
});

test('a renewal that cannot succeed is reported when the time is up', async () => {
  const shown = vi.spyOn(console, 'error').mockImplementation(() => {});
  let asked = 0;
  await expiring(() => {
    asked++;
    throw new Error('the backend is away');
  });
  await vi.advanceTimersByTimeAsync(30_000);
  expect(asked).toBe(10);
  expect(shown).toHaveBeenCalledOnce();
});

test('without a source nothing is renewed', async () => {
  const parlor = await login(server);
  const told = next(parlor, 'tokenWillExpire');
  (await server.nextStream()).open().ready().event('tokenWillExpire', { secondsLeft: 30 });
  const fetches = vi.spyOn(globalThis, 'fetch');
  expect(await told).toEqual({ secondsLeft: 30 });
  expect(fetches).not.toHaveBeenCalled();
});
