import { expect, type Person, test } from './person.ts';
import type { Server } from './server.ts';

/** Where the operator finds the room that a person is in. */
async function roomOf(server: Server, person: Person): Promise<string> {
  const { rooms } = await server.operate('GET', `/users/${encodeURIComponent(await person.userID())}/rooms`);
  return `/rooms/${encodeURIComponent(rooms[0].roomID)}`;
}

/** Where the operator finds a person in the room. */
async function memberOf(server: Server, person: Person): Promise<string> {
  return `${await roomOf(server, person)}/members/${encodeURIComponent(await person.userID())}`;
}

for (const transport of ['fetch', 'eventSource'] as const) {
  test(`who is taken out is told why, and so are the others (${transport})`, async ({ arrive, room, server }) => {
    const alice = await arrive({ name: 'Alice' });
    const bob = await arrive({ name: 'Bob', transport });
    await alice.enter(room);
    await bob.enter(room);
    await bob.say('buy my things');
    await alice.sees('buy my things');

    const reason = encodeURIComponent('No <b>advertising</b>, please');
    await server.operate('DELETE', `${await memberOf(server, bob)}?reason=${reason}`);
    await bob.isTold('You were taken out of the room: No <b>advertising</b>, please', 'Back to the entrance');
    await bob.isOut();
    await expect(alice.lines).toHaveText(['Bob joined', 'Bob left: taken out']);
    await expect(alice.page.locator('[data-reason=kicked]')).toHaveCount(1);
    await alice.seesMembers('Alice');

    await bob.press('Back to the entrance');
    await bob.enter(room); // taken out and not banned
    await alice.seesMembers('Alice', 'Bob');
    await bob.say('sorry');
    await alice.sees('buy my things', 'sorry');
  });

  test(`who is taken out while offline stays out (${transport})`, async ({ arrive, line, room, server }) => {
    const alice = await arrive({ name: 'Alice' });
    const bob = await arrive({ name: 'Bob', transport, line });
    await alice.enter(room);
    await bob.enter(room);
    await bob.seesMembers('Alice', 'Bob');
    const member = await memberOf(server, bob);

    line.cut();
    await bob.isReconnecting();
    await server.operate('DELETE', `${member}?reason=spam`);
    await expect(alice.lines).toHaveText(['Bob joined', 'Bob left: taken out']);
    line.mend();
    await bob.page.evaluate(() => window.dispatchEvent(new Event('online')));
    await bob.isTold('You were taken out of the room: spam', 'Back to the entrance');
    await bob.isOut();

    // The server told that once. The page remembers.
    for (let again = 0; again < 2; again++) {
      await bob.page.reload();
      await bob.isConnected();
      await bob.isTold('You were taken out of the room: spam', 'Back to the entrance');
      await bob.isOut();
    }
    await expect(alice.lines).toHaveText(['Bob joined', 'Bob left: taken out']);
    await alice.seesMembers('Alice');
  });

  test(`who is taken out while the page reloads stays out (${transport})`, async ({ arrive, room, server }) => {
    const alice = await arrive({ name: 'Alice' });
    const bob = await arrive({ name: 'Bob', transport, losses: true }); // the page asks for the room
    await alice.enter(room);
    await bob.enter(room);
    await bob.seesMembers('Alice', 'Bob');

    // The program of the page comes when Bob is out.
    let release = () => {};
    const out = new Promise<void>((resolve) => (release = resolve));
    await bob.page.route('**/assets/**', async (route) => {
      await out;
      await route.continue();
    });
    const member = await memberOf(server, bob);
    await bob.page.reload({ waitUntil: 'commit' });
    await server.operate('DELETE', `${member}?reason=spam`);
    await expect(alice.lines).toHaveText(['Bob joined', 'Bob left: taken out']);
    release();
    await bob.isTold('You were taken out of the room: spam', 'Back to the entrance');
    await bob.isOut();
    await expect(alice.lines).toHaveText(['Bob joined', 'Bob left: taken out']);
    await alice.seesMembers('Alice');
  });
}

test('who is banned cannot come back', async ({ arrive, room, server }) => {
  const alice = await arrive({ name: 'Alice' });
  const bob = await arrive({ name: 'Bob', losses: true });
  await alice.enter(room);
  await bob.enter(room);
  await server.operate('DELETE', `${await memberOf(server, bob)}?banSeconds=600`);
  await bob.isTold('You were taken out of the room.', 'Back to the entrance');
  await bob.press('Back to the entrance');
  await expect(bob.page.getByLabel('Your name')).toHaveValue('Bob');
  await bob.press('Enter room');
  const words = 'You were taken out of this room and may not come back yet.';
  await expect(bob.page.getByRole('alert').filter({ hasText: words })).toBeVisible();
  await expect(alice.lines).toHaveText(['Bob joined', 'Bob left: taken out']);
});

test('a room that the operator closed can be entered anew', async ({ arrive, room, server }) => {
  const alice = await arrive({ name: 'Alice' });
  const bob = await arrive({ name: 'Bob', transport: 'eventSource' });
  await alice.enter(room);
  await bob.enter(room);
  await alice.say('before');
  await bob.sees('before');

  await server.operate('DELETE', `${await roomOf(server, alice)}?reason=Closing+time`);
  for (const person of [alice, bob]) {
    await person.isTold('The room was closed: Closing time', 'Enter again');
    await person.isOut();
  }
  await alice.press('Enter again');
  await alice.seesMembers('Alice');
  await alice.sees();
  await expect(alice.page.getByLabel('Message', { exact: true })).toBeFocused();
  await bob.press('Enter again');
  await alice.seesMembers('Alice', 'Bob');
  await bob.seesMembers('Alice', 'Bob');
  for (const person of [alice, bob]) {
    await expect(person.page.locator('#notice')).toBeHidden();
    await person.say(`${person.name} is back`);
    await bob.page.getByText(`${person.name} is back`).waitFor();
  }
  await alice.sees('Alice is back', 'Bob is back');
  await bob.sees('Alice is back', 'Bob is back');
});

test('a session that the operator ended is over', async ({ arrive, room, server }) => {
  const alice = await arrive({ name: 'Alice' });
  const bob = await arrive({ name: 'Bob' });
  await alice.enter(room);
  await bob.enter(room);
  const sessions = `/users/${encodeURIComponent(await bob.userID())}/sessions`;
  const listed = await server.operate('GET', sessions);
  expect(listed.sessions).toHaveLength(1);
  await server.operate('DELETE', `${sessions}/${listed.sessions[0].sessionID}?reason=Your+account+was+locked`);
  await bob.isTold('You were logged out: Your account was locked', 'Back to the entrance');
  await bob.isOut();
  await expect(alice.lines).toHaveText(['Bob joined', 'Bob left: taken out']);
  await bob.press('Back to the entrance');
  await expect(bob.page.getByRole('button', { name: 'Enter room' })).toBeVisible();
});
