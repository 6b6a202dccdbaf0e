import { expect, test } from './user.ts';

test('two users talk, one with each transport', async ({ openPage, room }) => {
  const alice = await openPage({ name: 'Alice' });
  const bob = await openPage({ name: '李明', transport: 'eventSource' });
  await alice.enter(room);
  await bob.enter(room);
  await alice.expectMembers('Alice', '李明');
  await bob.expectMembers('Alice', '李明');
  await alice.expectEvents('李明 joined');

  await alice.send('one');
  await bob.expectMessages('one');
  await bob.send('two');
  await alice.expectMessages('one', 'two');
  for (const text of ['three', 'four', 'five']) await alice.send(text);
  const messages = ['one', 'two', 'three', 'four', 'five'];
  await alice.expectMessages(...messages);
  await bob.expectMessages(...messages);

  await bob.press('Leave');
  await alice.expectEvents('李明 joined', '李明 left');
  await alice.expectMembers('Alice');
  await expect(bob.page.getByRole('button', { name: 'Enter room' })).toBeVisible();
});

test('a rejected message can be sent again', async ({ openPage, room }) => {
  const alice = await openPage({ name: 'Alice', allowFailedRequests: true });
  await alice.enter(room);
  const problem = { type: '', title: 'Forbidden', status: 403, code: 'not_granted', detail: 'No.' };
  const messages = '**/messages';
  await alice.page.route(messages, (route) =>
    route.fulfill({ status: 403, contentType: 'application/problem+json', body: JSON.stringify(problem) }),
  );
  await alice.send('hello');
  await expect(alice.page.locator('#pending')).toContainText('Not sent. Your token does not allow that.');
  await alice.page.unroute(messages);
  await alice.press('Try again');
  await alice.expectMessages('hello');
});

test('HTML in names and messages is shown as text', async ({ openPage, room }) => {
  const html = '<img src=x onerror="document.title=1"> & <b>bold</b>';
  const alice = await openPage({ name: html });
  await alice.enter(`${room} <i>`);
  await alice.send(html);
  await alice.expectMessages(html);
  await alice.expectMembers(html);
  await expect(alice.page.locator('#room img, #room b, #room i')).toHaveCount(0);
});

test('scrolling up loads older messages', async ({ openPage, room, server }) => {
  await server.createRoom(room);
  const messages = Array.from({ length: 120 }, (_, index) => `message ${index + 1}`);
  const sender = { userID: 'alice', userName: 'Alice' };
  for (const text of messages) {
    await server.admin('POST', `/rooms/${room}/messages`, { sender, message: { kind: 'text', text } });
  }

  const bob = await openPage({ name: 'Bob' });
  await bob.enter(room);
  await bob.expectMessages(...messages.slice(-50));
  const log = bob.page.getByRole('log');
  await log.evaluate((element) => element.scrollTo(0, 0));
  await bob.expectMessages(...messages.slice(-100));
  // The scroll position is still where the older messages were inserted.
  await expect(bob.page.getByText('message 71', { exact: true })).toBeInViewport();
  await log.evaluate((element) => element.scrollTo(0, 0));
  await bob.expectMessages(...messages);
  await expect(bob.page.getByRole('button', { name: 'Load earlier messages' })).toBeHidden();
});

test('the Enter that ends a composition does not send the text', async ({ openPage, room }) => {
  const alice = await openPage({ name: 'Alice' });
  await alice.enter(room);
  const field = alice.page.getByLabel('Message', { exact: true });
  await field.fill('你好');
  // Chrome and Firefox dispatch keydown before compositionend, Safari after it.
  for (const safari of [false, true]) {
    await field.evaluate((element, safari) => {
      element.dispatchEvent(new CompositionEvent('compositionstart', { bubbles: true }));
      const enter = { key: 'Enter', keyCode: 229, isComposing: !safari, bubbles: true, cancelable: true };
      const events = [new KeyboardEvent('keydown', enter), new CompositionEvent('compositionend', { bubbles: true })];
      for (const event of safari ? events.reverse() : events) element.dispatchEvent(event);
    }, safari);
    await expect(field).toHaveValue('你好');
  }
  await field.press('Enter');
  await alice.expectMessages('你好');
});

test('names are shown in isolation, and cleaned', async ({ openPage, room }) => {
  const mallory = await openPage({ name: '\u202eecilA\u200b' });
  await mallory.enter(room);
  const sarah = await openPage({ name: 'שרה!' });
  await sarah.enter(room);
  await mallory.expectMembers('ecilA', 'שרה!');
  await mallory.expectEvents('שרה! joined');
  await sarah.send('שלום');
  await mallory.expectMessages('שלום');
  // In a name that begins in Hebrew, the mark is on the left, although the page is in English.
  for (const place of ['#member-list .name', '#messages .line bdi', '#messages .sender']) {
    const name = mallory.page.locator(place, { hasText: 'שרה!' });
    await expect(name).toHaveCSS('unicode-bidi', 'isolate');
    const [letters, mark] = await name.evaluate((element) =>
      [[0, 3], [3, 4]].map(([start, end]) => {
        const range = document.createRange();
        range.setStart(element.firstChild!, start!);
        range.setEnd(element.firstChild!, end!);
        return range.getBoundingClientRect().left;
      }),
    );
    expect(mark).toBeLessThan(letters!);
  }
  await expect(mallory.page.locator('#room-title bdi')).toHaveText(room);

  const bob = await openPage({ name: 'Bo\tb', allowFailedRequests: true });
  await bob.page.getByLabel('Your name').fill(bob.name);
  await bob.page.getByLabel('Room', { exact: true }).fill(room);
  await bob.press('Enter room');
  await expect(bob.page.locator('#entry-error')).toHaveText('Your name contains a tab (U+0009) at character 3: remove it.');
});
