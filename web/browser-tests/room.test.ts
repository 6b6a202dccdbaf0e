import { expect, test } from './person.ts';

test('two people meet and talk, whichever way their browsers read the stream', async ({ arrive, room }) => {
  const alice = await arrive({ name: 'Alice' });
  const bob = await arrive({ name: '李明', transport: 'eventSource' });
  await alice.enter(room);
  await bob.enter(room);
  await alice.seesMembers('Alice', '李明');
  await bob.seesMembers('Alice', '李明');
  await expect(alice.lines).toHaveText(['李明 joined']);

  await alice.say('one');
  await bob.sees('one');
  await bob.say('two');
  await alice.sees('one', 'two');
  for (const text of ['three', 'four', 'five']) await alice.say(text);
  const talk = ['one', 'two', 'three', 'four', 'five'];
  await alice.sees(...talk);
  await bob.sees(...talk);

  await bob.page.getByRole('button', { name: 'Leave' }).click();
  await expect(alice.lines).toHaveText(['李明 joined', '李明 left']);
  await alice.seesMembers('Alice');
  await expect(bob.page.getByRole('button', { name: 'Enter room' })).toBeVisible();
});

for (const transport of ['fetch', 'eventSource'] as const) {
  test(`a reload is invisible to others and loses nothing (${transport})`, async ({ arrive, room }) => {
    const alice = await arrive({ name: 'Alice' });
    const bob = await arrive({ name: 'Bob', transport });
    const carol = await arrive({ name: 'Carol' });
    for (const person of [alice, bob, carol]) await person.enter(room);
    await alice.say('before');
    await bob.sees('before');

    // Carol closes her window first: when she has timed out, Bob would have too.
    await carol.page.close();
    await bob.page.reload({ waitUntil: 'commit' });
    await alice.say('meanwhile');
    await bob.isConnected();
    await alice.say('after');
    await bob.sees('before', 'meanwhile', 'after');
    await bob.say('here again');
    await alice.sees('before', 'meanwhile', 'after', 'here again');

    await expect(alice.lines).toHaveText(['Bob joined', 'Carol joined', 'Carol left: timed out']);
    await expect(alice.page.locator('[data-reason=timedOut]')).toHaveCount(1);
    await alice.seesMembers('Alice', 'Bob');
    await bob.seesMembers('Alice', 'Bob');
  });
}

test('a server that was killed is found again, and every message arrives once and in order', async ({
  arrive,
  room,
  server,
}) => {
  const alice = await arrive({ name: 'Alice', losses: true });
  const bob = await arrive({ name: 'Bob', transport: 'eventSource', losses: true });
  await alice.enter(room);
  await bob.enter(room);
  await alice.say('before');
  await bob.sees('before');

  await server.kill();
  await alice.isReconnecting();
  await bob.isReconnecting();
  await alice.say('meanwhile');
  await expect(alice.page.locator('#pending')).toContainText('Sending…');

  await server.start();
  await alice.isConnected();
  await bob.isConnected();
  await bob.sees('before', 'meanwhile');
  await bob.say('after');
  await alice.say('and on');
  await expect(bob.page.locator('#messages .bubble')).toHaveCount(4);
  const talk = await bob.page.locator('#messages .bubble').allTextContents();
  expect(talk.toSorted()).toEqual(['after', 'and on', 'before', 'meanwhile']);
  expect(talk.slice(0, 2)).toEqual(['before', 'meanwhile']);
  await alice.sees(...talk);
  await bob.sees(...talk);
});

for (const transport of ['fetch', 'eventSource'] as const) {
  test(`who was away for too long comes back in, and reads what was missed (${transport})`, async ({
    arrive,
    line,
    room,
  }) => {
    const alice = await arrive({ name: 'Alice' });
    const bob = await arrive({ name: 'Bob', transport, line });
    await alice.enter(room);
    await bob.enter(room);
    await alice.say('before');
    await bob.sees('before');

    line.cut();
    await bob.isReconnecting();
    await alice.say('meanwhile');
    await expect(alice.lines).toHaveText(['Bob joined', 'Bob left: timed out']);
    line.mend();
    await bob.page.evaluate(() => window.dispatchEvent(new Event('online'))); // no need to wait out the pause
    await bob.isConnected();
    await expect(alice.lines).toHaveText(['Bob joined', 'Bob left: timed out', 'Bob joined']);
    await bob.say('after');
    for (const person of [alice, bob]) {
      await person.sees('before', 'meanwhile', 'after');
      await person.seesMembers('Alice', 'Bob');
    }
  });
}

test('a message that was refused can be sent again', async ({ arrive, room }) => {
  const alice = await arrive({ name: 'Alice', losses: true });
  await alice.enter(room);
  const problem = { type: '', title: 'Forbidden', status: 403, code: 'not_granted', detail: 'No.' };
  const messages = '**/messages';
  await alice.page.route(messages, (route) =>
    route.fulfill({ status: 403, contentType: 'application/problem+json', body: JSON.stringify(problem) }),
  );
  await alice.say('hello');
  await expect(alice.page.locator('#pending')).toContainText('Not sent. Your token does not allow that.');
  await alice.page.unroute(messages);
  await alice.page.getByRole('button', { name: 'Try again' }).click();
  await alice.sees('hello');
});

test('what people write stays text', async ({ arrive, room }) => {
  const html = '<img src=x onerror="document.title=1"> & <b>bold</b>';
  const alice = await arrive({ name: html });
  await alice.enter(`${room} ${'<i>'}`);
  await alice.say(html);
  await alice.sees(html);
  await alice.seesMembers(html);
  await expect(alice.page.locator('#room img, #room b, #room i')).toHaveCount(0);
});

test('older messages come while scrolling up', async ({ arrive, room }) => {
  const alice = await arrive({ name: 'Alice' });
  await alice.enter(room);
  const talk = Array.from({ length: 120 }, (_, index) => `message ${index + 1}`);
  for (const text of talk) await alice.say(text);
  await alice.sees(...talk);

  const bob = await arrive({ name: 'Bob' });
  await bob.enter(room);
  await bob.sees(...talk.slice(-50));
  const log = bob.page.getByRole('log');
  await log.evaluate((element) => element.scrollTo(0, 0));
  await bob.sees(...talk.slice(-100));
  // The reader is still where the older messages came in.
  await expect(bob.page.getByText('message 71', { exact: true })).toBeInViewport();
  await log.evaluate((element) => element.scrollTo(0, 0));
  await bob.sees(...talk);
  await expect(bob.page.getByRole('button', { name: 'Load earlier messages' })).toBeHidden();
});

test('a session that went on in another tab can be taken back', async ({ arrive, room }) => {
  const alice = await arrive({ name: 'Alice' });
  await alice.enter(room);
  await alice.say('hello');
  // Duplicating a tab copies its sessionStorage, as opening one from the page does.
  const [copy] = await Promise.all([
    alice.page.waitForEvent('popup'),
    alice.page.evaluate(() => {
      document.dispatchEvent(new Event('visibilitychange'));
      window.dispatchEvent(new PageTransitionEvent('pagehide'));
      window.open(location.href);
    }),
  ]);
  await expect(copy.locator('#messages .bubble')).toHaveText(['hello']);
  await expect(copy.locator('#connection')).toHaveText('Connected');
  await expect(alice.page.getByRole('alert').filter({ hasText: 'another tab' })).toBeVisible();
  await alice.page.getByRole('button', { name: 'Continue here' }).click();
  await alice.isConnected();
  await alice.sees('hello');
  await expect(copy.getByRole('alert').filter({ hasText: 'another tab' })).toBeVisible();
});
