import { accessibilityViolations } from './accessibility.ts';
import { PathProxy } from './path-proxy.ts';
import { expect, test, User } from './user.ts';

test('the query of the address fills the form', async ({ page, server }) => {
  await page.goto(`${server.url}/?room=class%231&name=Ann`);
  await expect(page.getByLabel('Your name')).toHaveValue('Ann');
  await expect(page.getByLabel('Room', { exact: true })).toHaveValue('class#1');
  await page.getByRole('button', { name: 'Enter room' }).click();
  await expect(page.getByRole('heading', { name: 'class#1' })).toBeVisible();
});

test('without development tokens, a user token can be pasted', async ({ page, request, room, server }) => {
  const reply = await request.post(`${server.url}/dev/token`, { data: { userID: 'pasted-user', userName: 'Pia' } });
  const { token } = await reply.json();
  await page.route('**/dev/token', (route) => route.fulfill({ status: 404 }));
  await page.goto(`${server.url}/?room=${room}&name=Pia`);
  await page.getByRole('button', { name: 'Enter room' }).click();
  await expect(page.getByLabel('User token')).toBeFocused();
  await page.getByLabel('User token').fill('nonsense');
  await page.getByRole('button', { name: 'Enter room' }).click();
  await expect(page.getByRole('alert').filter({ hasText: 'does not accept this token' })).toBeVisible();
  await page.getByLabel('User token').fill(token);
  await page.getByRole('button', { name: 'Enter room' }).click();
  await expect(page.locator('#member-list li')).toHaveAttribute('title', 'pasted-user');
});

test('the form shows which field is missing', async ({ page, server }) => {
  await page.goto(server.url);
  await page.getByRole('button', { name: 'Enter room' }).click();
  await expect(page.getByRole('alert').filter({ hasText: 'Please enter your name.' })).toBeVisible();
  await expect(page.getByLabel('Your name')).toBeFocused();
});

test('the page fits a screen of 360 pixels', async ({ openPage, room }) => {
  const alice = await openPage({ name: 'Alice with a rather long name that has to end somewhere' });
  await alice.page.setViewportSize({ width: 360, height: 640 });
  const overflow = () => alice.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  expect(await overflow()).toBeLessThanOrEqual(0);
  await alice.enter(`${room} with a long name of its own`);
  await alice.send('a'.repeat(300));
  await alice.send('b');
  await expect(alice.page.locator('#messages .bubble')).toHaveCount(2);
  expect(await overflow()).toBeLessThanOrEqual(0);
  await alice.page.getByRole('button', { name: 'Members: 1' }).click();
  await expect(alice.page.getByRole('complementary', { name: 'Members' })).toBeVisible();
});

for (const colorScheme of ['light', 'dark'] as const) {
  test(`the page is accessible in ${colorScheme} mode`, async ({ openPage, room }) => {
    const alice = await openPage({ name: 'Alice' });
    await alice.page.emulateMedia({ colorScheme });
    expect(await accessibilityViolations(alice.page)).toEqual([]);
    await alice.enter(room);
    const bob = await openPage({ name: 'Bob' });
    await bob.enter(room);
    await bob.send('good morning');
    await alice.expectMessages('good morning');
    await alice.send('hello');
    await alice.expectMessages('good morning', 'hello');
    expect(await accessibilityViolations(alice.page)).toEqual([]);
  });
}

test('the API reference shows the API without requests to other hosts', async ({ page, server }) => {
  const errors: string[] = [];
  page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
  page.on('pageerror', (error) => errors.push(String(error)));
  page.on('request', (request) => {
    const { protocol, origin } = new URL(request.url());
    if (protocol !== 'data:' && origin !== server.url) errors.push(`a request to ${origin}`);
  });
  await page.goto(`${server.url}/docs`);
  await page.getByRole('button', { name: 'get /v1/events', exact: false }).first().click();
  await expect(page.getByRole('cell', { name: 'RoomMessageReceivedEvent, with an id if it is stored' })).toBeVisible();
  await expect(page.getByText('sendRoomMessage', { exact: true })).toBeVisible();
  await page.getByRole('button', { name: 'post /v1/sessions', exact: false }).first().click();
  const name = page.locator('.microlight span', { hasText: '"Alice"' }).first();
  await expect(name).toHaveCSS('unicode-bidi', 'isolate');
  expect(errors).toEqual([]);
});

test('the reference puts IDs into paths encoded', async ({ page, server }) => {
  const roomID = '/a\\b %2F?#&+\',*;=|"[]{}^`<>~!$()@:';
  await page.goto(`${server.url}/docs#/rooms/getRoom`);
  await page.getByRole('button', { name: 'Try it out' }).click();
  await page.getByPlaceholder('roomID').fill(roomID);
  const [request] = await Promise.all([
    page.waitForRequest((request) => request.url().includes('/v1/rooms/')),
    page.getByRole('button', { name: 'Execute' }).click(),
  ]);
  const { pathname } = new URL(request.url());
  const [, , , segment, ...more] = pathname.split('/');
  expect([decodeURIComponent(segment!), more]).toEqual([roomID, []]);
  expect((await request.response())!.status()).toBe(401); // not 404: it is the path of a room
});

test('a room whose name is a valid ID is entered under it', async ({ page, server }) => {
  const alice = new User(page, 'Alice');
  const roomID = "a/b c's*";
  const entering = page.waitForRequest((request) => request.url().endsWith('/enter'));
  await page.goto(`${server.url}/?name=Alice&room=${encodeURIComponent(roomID)}`);
  await page.getByRole('button', { name: 'Enter room' }).click();
  expect(new URL((await entering).url()).pathname).toBe(`/v1/rooms/${encodeURIComponent(roomID)}/enter`);
  await alice.send('hello');
  await alice.expectMessages('hello');
});

test('the pages work below a path', async ({ page, room, server }) => {
  const errors: string[] = [];
  page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
  const proxy = await PathProxy.start(server.url, '/teams/parlor');
  try {
    await page.goto(`${proxy.url}/`);
    const alice = new User(page, 'Alice');
    await alice.enter(room);
    await alice.send('hello');
    await alice.expectMessages('hello');
    await page.reload();
    await alice.expectConnected();
    await alice.expectMessages('hello');
    await page.goto(`${proxy.url}/docs`);
    await expect(page.getByText('sendRoomMessage', { exact: true })).toBeVisible();
    expect(errors).toEqual([]);
  } finally {
    await page.close();
    proxy.close();
  }
});
