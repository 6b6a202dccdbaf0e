import type { Server } from './server.ts';
import { expect, test, type User } from './user.ts';

/** Returns the path of a user's membership in the admin API. */
async function memberPath(room: string, user: User): Promise<string> {
  return `/rooms/${room}/members/${encodeURIComponent(await user.userID())}`;
}

/** Removes a user from the room through the admin API. */
async function kick(server: Server, room: string, user: User, query: string): Promise<void> {
  await server.admin('DELETE', `${await memberPath(room, user)}?${query}`);
}

for (const transport of ['fetch', 'eventSource'] as const) {
  test(`a kicked user and the others see the reason (${transport})`, async ({ openPage, room, server }) => {
    const alice = await openPage({ name: 'Alice' });
    const bob = await openPage({ name: 'Bob', transport });
    await alice.enter(room);
    await bob.enter(room);
    await bob.send('buy my things');
    await alice.expectMessages('buy my things');

    await kick(server, room, bob, `reason=${encodeURIComponent('No <b>advertising</b>, please')}`);
    const notice = 'You were removed from the room: No <b>advertising</b>, please';
    await bob.expectNotice(notice, 'Back to the start page');
    await bob.expectOutOfRoom();
    await alice.expectEvents('Bob joined', 'Bob left: removed');
    await expect(alice.page.locator('[data-reason=kicked]')).toHaveCount(1);
    await alice.expectMembers('Alice');

    await bob.press('Back to the start page');
    await bob.enter(room); // kicked, but not banned
    await alice.expectMembers('Alice', 'Bob');
    await bob.send('sorry');
    await alice.expectMessages('buy my things', 'sorry');
  });

  test(`a user kicked while offline stays out (${transport})`, async ({ openPage, tcpProxy, room, server }) => {
    const alice = await openPage({ name: 'Alice' });
    const bob = await openPage({ name: 'Bob', transport, tcpProxy });
    await alice.enter(room);
    await bob.enter(room);
    await bob.expectMembers('Alice', 'Bob');

    tcpProxy.interrupt();
    await bob.expectReconnecting();
    await kick(server, room, bob, 'reason=spam');
    await alice.expectEvents('Bob joined', 'Bob left: removed');
    tcpProxy.restore();
    await bob.reconnectNow();
    const notice = 'You were removed from the room: spam';
    await bob.expectNotice(notice, 'Back to the start page');
    await bob.expectOutOfRoom();

    // The server sends the reason once, and the page saves it.
    for (let reloads = 0; reloads < 2; reloads++) {
      await bob.page.reload();
      await bob.expectConnected();
      await bob.expectNotice(notice, 'Back to the start page');
      await bob.expectOutOfRoom();
    }
    await alice.expectEvents('Bob joined', 'Bob left: removed');
    await alice.expectMembers('Alice');
  });

  test(`a user kicked during a reload stays out (${transport})`, async ({ openPage, room, server }) => {
    const alice = await openPage({ name: 'Alice' });
    const bob = await openPage({ name: 'Bob', transport, allowFailedRequests: true }); // getRoom fails
    await alice.enter(room);
    await bob.enter(room);
    await bob.expectMembers('Alice', 'Bob');

    // The page's script is loaded only after Bob was kicked.
    let release = () => {};
    const kicked = new Promise<void>((resolve) => (release = resolve));
    await bob.page.route('**/assets/**', async (route) => {
      await kicked;
      await route.continue();
    });
    const member = await memberPath(room, bob);
    await bob.page.reload({ waitUntil: 'commit' });
    await server.admin('DELETE', `${member}?reason=spam`);
    await alice.expectEvents('Bob joined', 'Bob left: removed');
    release();
    await bob.expectNotice('You were removed from the room: spam', 'Back to the start page');
    await bob.expectOutOfRoom();
    await alice.expectEvents('Bob joined', 'Bob left: removed');
    await alice.expectMembers('Alice');
  });
}

test('a banned user cannot enter again', async ({ openPage, room, server }) => {
  const alice = await openPage({ name: 'Alice' });
  const bob = await openPage({ name: 'Bob', allowFailedRequests: true });
  await alice.enter(room);
  await bob.enter(room);
  await kick(server, room, bob, 'banSeconds=600');
  await bob.expectNotice('You were removed from the room.', 'Back to the start page');
  await bob.press('Back to the start page');
  await expect(bob.page.getByLabel('Your name')).toHaveValue('Bob');
  await bob.press('Enter room');
  const error = 'You were removed from this room and cannot enter it yet.';
  await expect(bob.page.getByRole('alert').filter({ hasText: error })).toBeVisible();
  await alice.expectEvents('Bob joined', 'Bob left: removed');
});

test('a room that an admin destroyed can be entered again', async ({ openPage, room, server }) => {
  const alice = await openPage({ name: 'Alice' });
  const bob = await openPage({ name: 'Bob', transport: 'eventSource' });
  await alice.enter(room);
  await bob.enter(room);
  await alice.send('before');
  await bob.expectMessages('before');

  await server.admin('DELETE', `/rooms/${room}?reason=Closing+time`);
  for (const user of [alice, bob]) {
    await user.expectNotice('The room was closed: Closing time', 'Enter again');
    await user.expectOutOfRoom();
  }
  await alice.press('Enter again');
  await alice.expectMembers('Alice');
  await alice.expectMessages();
  await expect(alice.page.getByLabel('Message', { exact: true })).toBeFocused();
  await bob.press('Enter again');
  await alice.expectMembers('Alice', 'Bob');
  await bob.expectMembers('Alice', 'Bob');
  for (const user of [alice, bob]) {
    await expect(user.page.locator('#notice')).toBeHidden();
    await user.send(`${user.name} is back`);
    await bob.page.getByText(`${user.name} is back`).waitFor();
  }
  await alice.expectMessages('Alice is back', 'Bob is back');
  await bob.expectMessages('Alice is back', 'Bob is back');
});

test('a user whose session an admin ended sees the reason', async ({ openPage, room, server }) => {
  const alice = await openPage({ name: 'Alice' });
  const bob = await openPage({ name: 'Bob' });
  await alice.enter(room);
  await bob.enter(room);
  const path = `/users/${encodeURIComponent(await bob.userID())}/sessions`;
  const { sessions } = await server.admin('GET', path);
  expect(sessions).toHaveLength(1);
  await server.admin('DELETE', `${path}/${sessions[0].sessionID}?reason=Your+account+was+locked`);
  await bob.expectNotice('You were logged out: Your account was locked', 'Back to the start page');
  await bob.expectOutOfRoom();
  await alice.expectEvents('Bob joined', 'Bob left: removed');
  await bob.press('Back to the start page');
  await expect(bob.page.getByRole('button', { name: 'Enter room' })).toBeVisible();
});
