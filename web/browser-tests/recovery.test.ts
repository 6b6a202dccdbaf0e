import { Server } from './server.ts';
import { TCPProxy } from './tcp-proxy.ts';
import { expect, test as base, User } from './user.ts';

const transports = ['fetch', 'eventSource'] as const;

/** A server whose streams may be silent for a minute. */
const test = base.extend<{}, { quietServer: Server }>({
  quietServer: [
    async ({}, use) => {
      const server = await Server.create('--heartbeat', '60s', '--peer-timeout', '70s');
      await use(server);
      await server.stop();
    },
    { scope: 'worker', timeout: 120_000 },
  ],
});

for (const transport of transports) {
  // A heartbeat would flush what a decompressor holds back.
  test(`each event of a compressed stream is shown at once (${transport})`, async ({ openPage, quietServer: server, room }) => {
    const alice = await openPage({ name: 'Alice', server });
    await alice.enter(room);
    const bob = await openPage({ name: 'Bob', server, transport });
    const stream = bob.page.waitForResponse((response) => response.url().includes('/v1/events'));
    await bob.enter(room);
    expect((await stream).headers()['content-encoding']).toBe('gzip');
    const texts: string[] = [];
    for (const text of ['one', 'one', 'two', 'a longer text'.repeat(50), 'one']) {
      texts.push(text);
      await alice.send(text);
      await expect(bob.page.locator('#messages .bubble')).toHaveText(texts, { timeout: 20_000 });
    }
  });
}

for (const transport of transports) {
  test(`a call without a reply shows that a silent connection is lost (${transport})`, async ({ openPage, quietServer, room }) => {
    const proxy = await TCPProxy.start(quietServer.url);
    try {
      const alice = await openPage({ name: 'Alice', server: quietServer });
      const bob = await openPage({ name: 'Bob', transport, tcpProxy: proxy });
      await alice.enter(room);
      await bob.enter(room);
      await bob.send('before');
      await alice.expectMessages('before');

      proxy.silence();
      const began = Date.now();
      for (const text of ['one', 'two']) await bob.send(text);
      await bob.expectReconnecting();
      expect(Date.now() - began).toBeLessThan(60_000); // three heartbeats are 180 s
      await bob.send('three');
      await alice.send('from Alice');
      await expect(alice.page.getByText('from Alice', { exact: true })).toBeVisible();

      proxy.restore();
      await bob.expectConnected(); // by itself: the browser notices nothing
      for (const user of [alice, bob]) await user.expectMessages('before', 'from Alice', 'one', 'two', 'three');
    } finally {
      proxy.close();
    }
  });
}

test('a reloaded page waits for as long as the heartbeat of the server says', async ({ openPage, quietServer, room }) => {
  const alice = await openPage({ name: 'Alice', server: quietServer });
  await alice.enter(room);
  await alice.page.clock.install();
  const streams: string[] = [];
  alice.page.on('request', (request) => request.url().endsWith('/v1/events') && streams.push(request.url()));
  await alice.page.reload();
  await alice.expectConnected();
  await alice.page.clock.fastForward(170_000);
  await alice.send('hello');
  await alice.expectMessages('hello');
  await alice.expectConnected();
  expect(streams).toHaveLength(1);
});

for (const transport of transports) {
  test(`a page in the back/forward cache has no stream (${transport})`, async ({ openPage, room, server }) => {
    const bob = await openPage({ name: 'Bob' });
    await bob.enter(room);
    const alice = await openPage({ name: 'Alice', transport });
    await alice.enter(room);
    await alice.send('before');
    await bob.expectMessages('before');
    await alice.page.getByLabel('Message', { exact: true }).fill('draft');
    await alice.page.evaluate(() => {
      window.addEventListener('pageshow', ({ persisted }) => (document.body.dataset['persisted'] = String(persisted)));
    });

    await alice.page.goto(`${server.url}/docs`);
    await expect.poll(() => server.sessionStates(alice.session.userID)).toEqual(['detached']);
    await bob.send('during');
    await bob.expectMessages('before', 'during');
    await alice.page.goBack({ waitUntil: 'commit' }); // a restored page is not loaded
    await expect(alice.page.locator('body')).toHaveAttribute('data-persisted', 'true');
    const reasons = await alice.page.evaluate(() => {
      const [navigation] = performance.getEntriesByType('navigation');
      return (navigation as PerformanceNavigationTiming & { notRestoredReasons: unknown }).notRestoredReasons;
    });
    expect(reasons).toBeNull();

    await alice.expectConnected();
    await alice.expectMessages('before', 'during');
    await expect.poll(() => server.sessionStates(alice.session.userID)).toEqual(['online']);
    await alice.page.getByLabel('Message', { exact: true }).press('Enter');
    await bob.expectMessages('before', 'during', 'draft');
    await alice.expectMessages('before', 'during', 'draft');
    await bob.expectEvents('Alice joined');
  });

  test(`a frozen page has no stream, and continues (${transport})`, async ({ openPage, room, server, tab }) => {
    const alice = await User.inTab(tab, 'Alice', server, `?transport=${transport}`);
    const bob = await openPage({ name: 'Bob' });
    await alice.enter(room);
    await bob.enter(room);
    await tab.freeze();
    await expect.poll(() => server.sessionStates(alice.session.userID)).toEqual(['detached']);
    await bob.send('during');
    await bob.expectMessages('during');
    await tab.unfreeze();
    await alice.expectConnected();
    await alice.expectMessages('during');
    await alice.send('after');
    await bob.expectMessages('during', 'after');
    await bob.expectEvents(); // Alice did not leave
  });
}

test('a page whose token expired while it was frozen starts a new session', async ({ openPage, room, server, tab }) => {
  const alice = await User.inTab(tab, 'Alice', server);
  const bob = await openPage({ name: 'Bob' });
  await bob.enter(room);
  await alice.enter(room);
  await tab.freeze();
  await server.expireSoon(alice.session);
  await bob.expectEvents('Alice joined', 'Alice left: token expired');
  await bob.send('during');
  await bob.expectMessages('during');
  await tab.unfreeze();
  await bob.expectEvents('Alice joined', 'Alice left: token expired', 'Alice joined');
  await alice.expectConnected();
  await alice.expectMessages('during');
  await alice.send('after');
  await bob.expectMessages('during', 'after');
});

for (const transport of transports) {
  test(`a browser that is offline reconnects when it is online (${transport})`, async ({ openPage, room, server }) => {
    const alice = await openPage({ name: 'Alice', transport, allowFailedRequests: true });
    const bob = await openPage({ name: 'Bob' });
    await alice.enter(room);
    await bob.enter(room);
    await alice.page.context().setOffline(true);
    await alice.expectReconnecting();
    await alice.send('from Alice');
    await bob.send('from Bob');
    await bob.expectMessages('from Bob');
    await alice.page.context().setOffline(false);
    await alice.expectConnected();
    await alice.expectMessages('from Bob', 'from Alice');
    await bob.expectMessages('from Bob', 'from Alice');
    await expect.poll(() => server.sessionStates(alice.session.userID)).toEqual(['online']);
  });
}

test('timers that a browser delays for long cost no message', async ({ openPage, room }) => {
  const alice = await openPage({ name: 'Alice' });
  const bob = await openPage({ name: 'Bob' });
  await alice.enter(room);
  await bob.enter(room);
  await alice.page.clock.install();
  await alice.page.clock.pauseAt(new Date(Date.now() + 60_000));
  const texts = ['one', 'two', 'three'];
  for (const text of texts) await bob.send(text);
  await alice.expectMessages(...texts); // without timers
  await alice.page.clock.fastForward('30:00');
  await alice.page.clock.resume();
  await alice.send('four');
  await bob.expectMessages(...texts, 'four');
  await alice.expectMessages(...texts, 'four');
  await alice.expectConnected();
});
