import { barriers } from './barriers.ts';
import { Folder } from './folder.ts';
import { expect, Person, test } from './person.ts';

test('an address with a room and a name fills the form', async ({ page, server }) => {
  await page.goto(`${server.url}/?room=class%231&name=Ann`);
  await expect(page.getByLabel('Your name')).toHaveValue('Ann');
  await expect(page.getByLabel('Room', { exact: true })).toHaveValue('class#1');
  await page.getByRole('button', { name: 'Enter room' }).click();
  await expect(page.getByRole('heading', { name: 'class#1' })).toBeVisible();
});

test('where the server makes no tokens, one can be pasted', async ({ page, request, room, server }) => {
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

test('says what is missing', async ({ page, server }) => {
  await page.goto(server.url);
  await page.getByRole('button', { name: 'Enter room' }).click();
  await expect(page.getByRole('alert').filter({ hasText: 'Say who you are' })).toBeVisible();
  await expect(page.getByLabel('Your name')).toBeFocused();
});

test('everything fits a screen of 360 pixels', async ({ arrive, room }) => {
  const alice = await arrive({ name: 'Alice with a rather long name that has to end somewhere' });
  await alice.page.setViewportSize({ width: 360, height: 640 });
  const overflow = () => alice.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  expect(await overflow()).toBeLessThanOrEqual(0);
  await alice.enter(`${room} with a long name of its own`);
  await alice.say('a'.repeat(300));
  await alice.say('b');
  await expect(alice.page.locator('#messages .bubble')).toHaveCount(2);
  expect(await overflow()).toBeLessThanOrEqual(0);
  await alice.page.getByRole('button', { name: 'Members: 1' }).click();
  await expect(alice.page.getByRole('complementary', { name: 'Members' })).toBeVisible();
});

for (const colorScheme of ['light', 'dark'] as const) {
  test(`the page is accessible in ${colorScheme}`, async ({ arrive, room }) => {
    const alice = await arrive({ name: 'Alice' });
    await alice.page.emulateMedia({ colorScheme });
    expect(await barriers(alice.page)).toEqual([]);
    await alice.enter(room);
    const bob = await arrive({ name: 'Bob' });
    await bob.enter(room);
    await bob.say('good morning');
    await alice.sees('good morning');
    await alice.say('hello');
    await alice.sees('good morning', 'hello');
    expect(await barriers(alice.page)).toEqual([]);
  });
}

test('the API reference shows the contract, from this host alone', async ({ page, server }) => {
  const complaints: string[] = [];
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('request', (request) => {
    const { protocol, origin } = new URL(request.url());
    if (protocol !== 'data:' && origin !== server.url) complaints.push(`a request to ${origin}`);
  });
  await page.goto(`${server.url}/docs`);
  await page.getByRole('button', { name: 'get /v1/events', exact: false }).first().click();
  await expect(page.getByRole('cell', { name: 'RoomMessageReceivedEvent, with an id' })).toBeVisible();
  await expect(page.getByText('sendRoomMessage', { exact: true })).toBeVisible();
  expect(complaints).toEqual([]);
});

test('the pages work below a path', async ({ page, room, server }) => {
  const complaints: string[] = [];
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  const folder = await Folder.of(server.url, '/teams/parlor');
  try {
    await page.goto(`${folder.url}/`);
    const alice = new Person(page, 'Alice');
    await alice.enter(room);
    await alice.say('hello');
    await alice.sees('hello');
    await page.reload();
    await alice.isConnected();
    await alice.sees('hello');
    await page.goto(`${folder.url}/docs`);
    await expect(page.getByText('sendRoomMessage', { exact: true })).toBeVisible();
    expect(complaints).toEqual([]);
  } finally {
    await page.close();
    folder.close();
  }
});
