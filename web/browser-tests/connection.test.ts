import { accessibilityViolations } from './accessibility.ts';
import { expect, test } from './user.ts';

for (const transport of ['fetch', 'eventSource'] as const) {
  test(`a reload does not leave the room and loses no message (${transport})`, async ({ openPage, room, server }) => {
    await server.createRoom(room, { memberTimeout: 15 });
    const alice = await openPage({ name: 'Alice' });
    const bob = await openPage({ name: 'Bob', transport });
    const carol = await openPage({ name: 'Carol' });
    for (const user of [alice, bob, carol]) await user.enter(room);
    await alice.send('before');
    await bob.expectMessages('before');

    // Carol leaves just before Bob reloads. When she has timed out, he would have too.
    await carol.page.close();
    await bob.page.reload({ waitUntil: 'commit' });
    await alice.send('during');
    await bob.expectConnected();
    await alice.send('after');
    await bob.expectMessages('before', 'during', 'after');
    await bob.send('reply');
    await alice.expectMessages('before', 'during', 'after', 'reply');

    await alice.expectEvents('Bob joined', 'Carol joined', 'Carol left: timed out');
    await expect(alice.page.locator('[data-reason=timedOut]')).toHaveCount(1);
    await alice.expectMembers('Alice', 'Bob');
    await bob.expectMembers('Alice', 'Bob');
  });
}

for (const transport of ['fetch', 'eventSource'] as const) {
  test(`a member that timed out enters again and sees the missed messages (${transport})`, async ({
    openPage,
    tcpProxy,
    room,
    server,
  }) => {
    await server.createRoom(room, { memberTimeout: 5 });
    const alice = await openPage({ name: 'Alice' });
    const bob = await openPage({ name: 'Bob', transport, tcpProxy });
    await alice.enter(room);
    await bob.enter(room);
    await alice.send('before');
    await bob.expectMessages('before');

    tcpProxy.interrupt();
    await bob.expectReconnecting();
    await alice.send('during');
    await alice.expectEvents('Bob joined', 'Bob left: timed out');
    tcpProxy.restore();
    await bob.reconnectNow();
    await bob.expectConnected();
    await alice.expectEvents('Bob joined', 'Bob left: timed out', 'Bob joined');
    await bob.send('after');
    for (const user of [alice, bob]) {
      await user.expectMessages('before', 'during', 'after');
      await user.expectMembers('Alice', 'Bob');
    }
  });
}

test('messages that could not be sent are sent in their order when the connection is back', async ({
  openPage,
  tcpProxy,
  room,
}) => {
  const alice = await openPage({ name: 'Alice' });
  const bob = await openPage({ name: 'Bob', tcpProxy });
  await bob.page.setViewportSize({ width: 360, height: 400 });
  await alice.enter(room);
  await bob.enter(room);
  await bob.page.clock.install();
  tcpProxy.interrupt();
  await bob.expectReconnecting();
  for (const text of ['one', 'two', 'three']) await bob.send(text);
  const states = bob.page.locator('#pending .state');
  // The calls fail after 30 s.
  await expect(async () => {
    await bob.page.clock.fastForward(10_000);
    await expect(states).toContainText(Array(3).fill('Not sent yet.'), { timeout: 1_000 });
  }).toPass();
  await expect(states.last()).toBeInViewport({ ratio: 1 }); // the log follows its end
  expect(await accessibilityViolations(bob.page)).toEqual([]);
  await bob.page.locator('#pending li', { hasText: 'two' }).getByRole('button', { name: 'Discard' }).click();

  tcpProxy.restore();
  await bob.reconnectNow();
  await alice.expectMessages('one', 'three');
  await bob.expectMessages('one', 'three');
});

test('after a server was killed, every message arrives once and in order', async ({ openPage, room, server }) => {
  const alice = await openPage({ name: 'Alice', allowFailedRequests: true });
  const bob = await openPage({ name: 'Bob', transport: 'eventSource', allowFailedRequests: true });
  await alice.enter(room);
  await bob.enter(room);
  await alice.send('before');
  await bob.expectMessages('before');

  await server.kill();
  await alice.expectReconnecting();
  await bob.expectReconnecting();
  await alice.send('during');
  await expect(alice.page.locator('#pending')).toContainText('Sending…');

  await server.start();
  for (const user of [alice, bob]) await user.expectConnected();
  await bob.expectMessages('before', 'during');
  await bob.send('from Bob');
  await alice.send('from Alice');
  await expect(bob.page.locator('#messages .bubble')).toHaveCount(4);
  const messages = await bob.page.locator('#messages .bubble').allTextContents();
  expect(messages.toSorted()).toEqual(['before', 'during', 'from Alice', 'from Bob']);
  expect(messages.slice(0, 2)).toEqual(['before', 'during']);
  await alice.expectMessages(...messages);
  await bob.expectMessages(...messages);
});

test('a session that another tab superseded can be continued', async ({ openPage, room }) => {
  const alice = await openPage({ name: 'Alice' });
  await alice.enter(room);
  await alice.send('hello');
  await alice.expectMessages('hello');
  // Duplicating a tab copies its sessionStorage, and so does opening a tab from the page.
  const [copy] = await Promise.all([
    alice.page.waitForEvent('popup'),
    alice.page.evaluate(() => {
      window.dispatchEvent(new PageTransitionEvent('pagehide')); // saves the session
      window.open(location.href);
    }),
  ]);
  await expect(copy.locator('#messages .bubble')).toHaveText(['hello']);
  await expect(copy.locator('#connection')).toHaveText('Connected');
  await expect(alice.page.getByRole('alert').filter({ hasText: 'another tab' })).toBeVisible();
  await alice.press('Continue here');
  await alice.expectConnected();
  await alice.expectMessages('hello');
  await expect(copy.getByRole('alert').filter({ hasText: 'another tab' })).toBeVisible();
});

test('a session whose token could not be renewed is replaced by a new one', async ({ openPage, room, server }) => {
  const bob = await openPage({ name: 'Bob' });
  await bob.enter(room);
  const alice = await openPage({ name: 'Alice', allowFailedRequests: true });
  await alice.enter(room);
  await bob.send('before');
  await alice.expectMessages('before');
  await alice.page.getByLabel('Message', { exact: true }).fill('draft');
  await alice.expireSession(server);
  await alice.expectConnected();
  await expect(alice.page.locator('#notice')).toBeHidden();
  await alice.page.getByLabel('Message', { exact: true }).press('Enter');
  await bob.expectMessages('before', 'draft');
  await alice.expectMessages('before', 'draft');
});
