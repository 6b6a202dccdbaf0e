// The API of the QNRTC SDK on a real server. Only the last test needs a browser.
import QNRTC, { type QNClientConfig, type QNRTCClient } from 'parlor-qnrtc';
import { importProgram, readPrograms, serveApplication } from './documents.ts';
import type { Server } from './server.ts';
import { expect, test as base } from './user.ts';

interface Joined {
  client: QNRTCClient;
  /** What the client emitted: `STATE reason errorCode`, `event user`, or `message sender text`. */
  log: string[];
}

interface Fixtures {
  /** Joins the room of the test with a client of a user. */
  join: (userID: string, options?: QNClientConfig & { userData?: string; seconds?: number }) => Promise<Joined>;
}

const test = base.extend<Fixtures>({
  join: async ({ server, room }, use) => {
    const clients: QNRTCClient[] = [];
    await use(async (userID, { userData, seconds = 3600, ...config } = {}) => {
      const client = QNRTC.createClient({ server: server.url, ...config });
      clients.push(client);
      const log: string[] = [];
      client.on('connection-state-changed', (state, info) => log.push([state, info?.reason, info?.errorCode].filter(Boolean).join(' ')));
      for (const event of ['user-joined', 'user-left', 'user-reconnecting', 'user-reconnected'] as const) {
        client.on(event, (user: string) => log.push(`${event} ${user}`));
      }
      client.on('message-received', ({ userID: sender, content }) => log.push(`message ${sender} ${content}`));
      await client.join(roomToken(server, room, userID, seconds), userData);
      return { client, log };
    });
    for (const client of clients) await client.removeAllListeners().leave();
  },
});

function roomToken(server: Server, room: string, userID: string, seconds: number): string {
  return server.userToken(userID, seconds, `create,join,send:${room}`);
}

test('users meet, talk and leave', async ({ join }) => {
  const alice = await join('alice', { userData: '{"name":"Alice"}' });
  const bob = await join('bob');
  expect(alice.log.slice(0, 2)).toEqual(['CONNECTING', 'CONNECTED']);
  expect(bob.log).toEqual(['CONNECTING', 'CONNECTED', 'user-joined alice']);
  expect(bob.client.getRemoteUser('alice')).toMatchObject({ userID: 'alice', userData: '{"name":"Alice"}' });
  await expect.poll(() => alice.log.at(-1)).toBe('user-joined bob');

  const carol = await join('carol');
  await alice.client.sendMessage('1', 'to everybody');
  await alice.client.sendMessage('2', 'to bob', [alice.client.getRemoteUser('bob')!]);
  await alice.client.sendMessage('3', 'to everybody again');
  await expect.poll(() => bob.log.slice(-3)).toEqual(['message alice to everybody', 'message alice to bob', 'message alice to everybody again']);
  await expect.poll(() => carol.log.slice(-2)).toEqual(['message alice to everybody', 'message alice to everybody again']);
  expect(alice.log.filter((line) => line.startsWith('message'))).toEqual([]);

  await bob.client.leave();
  expect(bob.log.at(-1)).toBe('DISCONNECTED LEAVE');
  await expect.poll(() => alice.log.at(-1)).toBe('user-left bob');
});

test('a client is kicked by a message, as the page of the vendor shows it, and by the server', async ({ join, room, server }) => {
  const alice = await join('alice');
  const bob = await join('bob');
  const carol = await join('carol');
  bob.client.on('onMessageReceived', (info) => {
    if (info.message === 'kickOut') void bob.client.leave();
  });
  await alice.client.sendMessage('kickOut', ['bob'], 'message1');
  await expect.poll(() => bob.log.at(-1)).toBe('DISCONNECTED LEAVE');
  await expect.poll(() => carol.log.at(-1)).toBe('user-left bob');

  await server.admin('POST', `/rooms/${room}/kick`, { userIDs: ['carol'], reason: 'spam' });
  await expect.poll(() => carol.log.at(-1)).toBe('DISCONNECTED KICKED_OUT');
  await expect.poll(() => alice.log.at(-1)).toBe('user-left carol');
});

test('a lost connection is restored within memberTimeout', async ({ join, room, server, tcpProxy }) => {
  await server.createRoom(room, { memberTimeout: 120, memberStates: true }); // long enough for a busy machine
  const alice = await join('alice');
  const bobID = `bob-${room}`; // other tests may have left sessions of bob
  const bob = await join(bobID, { server: tcpProxy.url });
  await expect.poll(() => alice.log.at(-1)).toBe(`user-joined ${bobID}`);
  await expect.poll(() => server.sessionStates(bobID)).toEqual(['online']);
  tcpProxy.interrupt();
  await expect.poll(() => bob.log.at(-1)).toBe('RECONNECTING');
  await expect.poll(() => alice.log.at(-1)).toBe(`user-reconnecting ${bobID}`);
  await alice.client.sendMessage('1', 'meanwhile');
  tcpProxy.restore();
  await expect.poll(() => alice.log.at(-1)).toBe(`user-reconnected ${bobID}`);
  await expect.poll(() => bob.log.slice(-3).toSorted()).toEqual(['RECONNECTED', 'RECONNECTING', 'message alice meanwhile']);
  expect(bob.client.connectionState).toBe('RECONNECTED');
  expect(await server.sessionStates(bobID)).toEqual(['online']);
});

test('a connection that is lost for longer ends', async ({ join, room, server, tcpProxy }) => {
  await server.createRoom(room, { memberTimeout: 5 });
  const alice = await join('alice');
  const bobID = `bob-${room}`; // other tests may have left sessions of bob
  const bob = await join(bobID, { server: tcpProxy.url });
  tcpProxy.interrupt();
  await expect.poll(() => bob.log.at(-1)).toBe('RECONNECTING');
  await expect.poll(() => alice.log.at(-1)).toBe(`user-left ${bobID}`);
  expect(bob.log.at(-1)).toBe('RECONNECTING');
  tcpProxy.restore();
  await expect.poll(() => bob.log.at(-1)).toBe('DISCONNECTED ERROR 21003');
  expect(bob.client.remoteUsers).toEqual([]);
  await expect.poll(() => server.sessionStates(bobID)).toEqual([]);
});

test('a restart of the server is a short loss', async ({ join, server }) => {
  const alice = await join('alice');
  const bob = await join('bob');
  await server.kill();
  const sent = bob.client.sendMessage('1', 'still here');
  await expect.poll(() => bob.log.at(-1)).toBe('RECONNECTING');
  await server.start();
  await sent;
  for (const { log } of [alice, bob]) await expect.poll(() => log).toContain('RECONNECTED');
  await expect.poll(() => alice.log.at(-1)).toBe('message bob still here');
  expect(alice.log.filter((line) => line === 'user-left bob')).toEqual([]);
});

test('a token expires, unless the application renews it', async ({ join, room, server }) => {
  const alice = await join('alice', { seconds: 6, getToken: () => roomToken(server, room, 'alice', 3600) });
  const bob = await join('bob', { seconds: 6 });
  await expect.poll(() => bob.log.at(-1)).toBe('DISCONNECTED ERROR 10002');
  await expect.poll(() => alice.log.at(-1)).toBe('user-left bob');
  await alice.client.sendMessage('1', 'still here');
  expect(alice.client.connectionState).toBe('CONNECTED');
});

test('another client of the same user takes the place', async ({ join, room, server }) => {
  const alice = await join('alice');
  const phone = await join('bob');
  const laptop = await join('bob');
  await expect.poll(() => phone.log.at(-1)).toBe('DISCONNECTED KICKED_OUT');
  await laptop.client.sendMessage('1', 'from my laptop');
  await expect.poll(() => alice.log.at(-1)).toBe('message bob from my laptop');
  expect(alice.log.filter((line) => line.includes('user-'))).toEqual(['user-joined bob']);

  await server.admin('DELETE', `/rooms/${room}`);
  for (const { log } of [alice, laptop]) await expect.poll(() => log.at(-1)).toBe('DISCONNECTED ERROR 21003');
});

test('other sessions of the same user receive what one sends', async ({ join, room, server }) => {
  await server.createRoom(room, {});
  const phone = await join('alice');
  const laptop = await join('alice');
  await phone.client.sendMessage('1', 'from my phone');
  await expect.poll(() => laptop.log.at(-1)).toBe('message alice from my phone');
  expect(phone.log).toEqual(['CONNECTING', 'CONNECTED']);
});

test('tokens without rights, or of another server, are refused', async ({ room, server }) => {
  const client = QNRTC.createClient({ server: server.url });
  const log: unknown[] = [];
  client.on('connection-state-changed', (state, info) => log.push([state, info?.errorCode]));
  await expect(client.join(server.userToken('alice', 60, `join:${room}`))).rejects.toMatchObject({ code: 21001 });
  const token = roomToken(server, room, 'alice', 60);
  await expect(client.join(`${token.slice(0, -4)}AAAA`)).rejects.toMatchObject({ code: 10001 });
  expect(log).toEqual([['CONNECTING', undefined], ['DISCONNECTED', 21001], ['CONNECTING', undefined], ['DISCONNECTED', 10001]]);
});

test('the classic script sets QNRTC', async ({ join, page, room, server }) => {
  const bob = await join('bob');
  await page.goto(server.url);
  await page.addScriptTag({ url: '/sdk/compat/qnrtc.global.js' });
  const states = await page.evaluate(async (token) => {
    const { QNRTC } = globalThis as unknown as { QNRTC: typeof import('parlor-qnrtc').default & typeof import('parlor-qnrtc') };
    const client = QNRTC.createClient(); // at the origin of the page
    const log: unknown[] = [];
    client.on('connection-state-changed', (state) => log.push(state === QNRTC.QNConnectionState.CONNECTED, state));
    await client.join(token, 'from a browser');
    await client.sendMessage('1', 'hello', client.remoteUsers);
    await client.leave();
    return [...log, client.remoteUsers.length];
  }, roomToken(server, room, 'alice', 60));
  expect(states).toEqual([false, 'CONNECTING', true, 'CONNECTED', false, 'DISCONNECTED', 0]);
  await expect.poll(() => bob.log.slice(-3)).toEqual(['user-joined alice', 'message alice hello', 'user-left alice']);
});

test('the page of docs/migrating/qnrtc.md, with the tokens of its backend', async ({ join, page, room, server }) => {
  const [script, backend] = await readPrograms('migrating/qnrtc.md');
  const { roomToken: sign } = await importProgram(backend!, { PARLOR_SECRET: server.secret });
  const bob = await join('bob', { userData: 'data' });
  await serveApplication(page, server, script!, { '/room-token': () => sign(room, 'alice', Date.now() / 1000 + 60) });
  await expect(page.locator('body')).toContainText('In the room.bob joined: data');
  await expect.poll(() => bob.log.slice(-2)).toEqual(['user-joined alice', 'message alice Hello']);
  await bob.client.sendMessage('chat', 'Hi Alice');
  await expect(page.locator('body')).toContainText('bob: Hi Alice');
  await bob.client.sendMessage('kickOut', 'please leave');
  await expect(page.locator('body')).toContainText('Out of the room: LEAVE');
  await expect.poll(() => bob.log.at(-1)).toBe('user-left alice');
});
