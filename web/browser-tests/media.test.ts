import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { accessibilityViolations } from './accessibility.ts';
import { expect, test as base, type User } from './user.ts';

const sample = (name: string) => fileURLToPath(new URL(`../../media/testdata/${name}`, import.meta.url));

interface LargeFile {
  path: string;
  bytes: Buffer;
}

const test = base.extend<{ largeFile: LargeFile }>({
  /** A file of random bytes that is uploaded in four requests. The browser reads it from the disk. */
  largeFile: async ({}, use) => {
    const folder = await mkdtemp(join(tmpdir(), 'parlor-upload-'));
    const file = { path: join(folder, 'large.bin'), bytes: randomBytes(25 * 1024 * 1024) };
    await writeFile(file.path, file.bytes);
    await use(file);
    await rm(folder, { recursive: true });
  },
});

/** Downloads a file from the log, and expects it to have these bytes. */
async function expectDownload(user: User, name: string, bytes: Buffer, timeout = 60_000): Promise<void> {
  const link = user.page.locator('#messages').getByRole('link', { name });
  await expect(link).toHaveAttribute('href', /signature=/, { timeout });
  const [download] = await Promise.all([user.page.waitForEvent('download'), link.click()]);
  expect(download.suggestedFilename()).toBe(name);
  const hash = (content: Buffer) => createHash('sha256').update(content).digest('hex');
  expect(hash(await readFile(await download.path()))).toBe(hash(bytes));
}

/** Expects an image to be loaded. */
async function expectImage(user: User, name: string): Promise<void> {
  const image = user.image(name);
  await expect.poll(() => image.evaluate((element: HTMLImageElement) => element.naturalWidth)).toBeGreaterThan(0);
}

/** Expects an audio or video player to have loaded its file. */
async function expectPlayer(user: User, player: 'audio' | 'video'): Promise<void> {
  const element = user.page.locator(`#messages ${player}`);
  await expect.poll(() => element.evaluate((media: HTMLMediaElement) => media.duration)).toBeGreaterThan(0);
}

/** Sends a file, and waits until another user sees it as the nth message. */
async function sendFile(from: User, to: User, nth: number, file: Parameters<User['attach']>[0]): Promise<void> {
  await from.attach(file);
  await expect(to.page.locator('#messages .bubble')).toHaveCount(nth);
}

/** Records the offset of each request of an upload. */
function recordOffsets(user: User): number[] {
  const offsets: number[] = [];
  user.page.on('request', (request) => {
    if (request.method() === 'PATCH') offsets.push(Number(request.headers()['upload-offset']));
  });
  return offsets;
}

/** Does something once, when the third request of an upload is about to be sent. */
async function beforeThirdRequest(user: User, offsets: number[], action: () => void | Promise<void>): Promise<void> {
  let done = false;
  await user.page.route('**/v1/media/uploads/*', async (route) => {
    if (!done && offsets.length === 3) {
      done = true;
      await action();
    }
    await route.continue();
  });
}

test('files are sent as images, audio, video and downloads', async ({ openPage, room }) => {
  const alice = await openPage({ name: 'Alice' });
  const bob = await openPage({ name: 'Bob', transport: 'eventSource' });
  await alice.enter(room);
  await bob.enter(room);
  const html = Buffer.from('<script>alert(1)</script>');
  await sendFile(alice, bob, 1, sample('baseline.jpg'));
  await sendFile(alice, bob, 2, sample('cbr.mp3'));
  await sendFile(alice, bob, 3, sample('moov_first.mp4'));
  await sendFile(alice, bob, 4, { name: 'é notes.html', mimeType: 'text/html', buffer: html });

  for (const user of [alice, bob]) {
    await expectImage(user, 'baseline.jpg');
    await expectPlayer(user, 'audio');
    await expectPlayer(user, 'video');
    await expect(user.page.locator('#pending li')).toHaveCount(0);
    expect(await accessibilityViolations(user.page)).toEqual([]);
  }
  await expectDownload(bob, 'é notes.html', html);

  await bob.page.reload(); // now from the history
  await bob.expectConnected();
  await expectImage(bob, 'baseline.jpg');
});

test('files keep their names, and fit', async ({ openPage, room }) => {
  const alice = await openPage({ name: 'Alice' });
  await alice.enter(room);
  const long = '猫'.repeat(85); // 255 bytes, with which the ending no longer fits
  const names = [
    ['猫 é 👍🏽 #1; 100%22.txt', '猫 é 👍🏽 #1; 100%22.txt'],
    [`${long}.txt`, `${'猫'.repeat(83)}.txt`],
    ['cat\u202etxt.exe', 'cattxt.exe'],
  ] as const;
  for (const [given, name] of names) {
    await alice.attach({ name: given, mimeType: '', buffer: Buffer.from(name) });
    await expectDownload(alice, name, Buffer.from(name));
  }
});

test('an expired URL is requested again', async ({ openPage, room }) => {
  const alice = await openPage({ name: 'Alice' });
  const bob = await openPage({ name: 'Bob', allowFailedRequests: true });
  await alice.enter(room);
  await bob.enter(room);
  // The first URL of each file has expired, as after an hour.
  const expired = new Set<string>();
  await bob.page.route('**/v1/media/*', async (route) => {
    const response = await route.fetch();
    const reply = await response.json();
    if (!expired.has(reply.media.mediaID)) {
      expired.add(reply.media.mediaID);
      reply.signedURL = reply.signedURL.replace(/expires=\d+/, 'expires=1');
    }
    await route.fulfill({ response, json: reply });
  });
  await sendFile(alice, bob, 1, sample('baseline.jpg'));
  await sendFile(alice, bob, 2, sample('moov_first.mp4'));
  await expectImage(bob, 'baseline.jpg');
  await expectPlayer(bob, 'video');
  await expect(bob.page.locator('#messages .error').filter({ hasText: /./ })).toHaveCount(0);

  // If no URL works, the page shows an error and stops requesting.
  let requests = 0;
  await bob.page.route(/\/v1\/media\/[^/]+\/.+signature=/, (route) => {
    requests++;
    return route.fulfill({ status: 404 });
  });
  await alice.attach(sample('alpha.png'));
  await expect(bob.page.locator('#messages .error').filter({ hasText: 'could not be loaded' })).toHaveCount(1);
  expect(requests).toBeLessThanOrEqual(2);
});

test('an upload shows its progress and continues after the connection broke', async ({
  largeFile,
  openPage,
  tcpProxy,
  room,
}) => {
  const alice = await openPage({ name: 'Alice', tcpProxy });
  const bob = await openPage({ name: 'Bob' });
  await alice.enter(room);
  await bob.enter(room);
  const offsets = recordOffsets(alice);
  const bar = alice.page.getByRole('progressbar', { name: 'Uploading large.bin' });
  const progress = () => bar.evaluate((element: HTMLProgressElement) => element.value);

  await beforeThirdRequest(alice, offsets, () => tcpProxy.interrupt());
  await alice.attach(largeFile.path);
  await alice.expectReconnecting();
  await expect.poll(progress).toBeGreaterThan(0.3);
  expect(await progress()).toBeLessThan(1);
  await expect(alice.page.locator('#pending .state')).toContainText('of 26 MB');
  tcpProxy.restore();

  await expectDownload(bob, 'large.bin', largeFile.bytes);
  expect(offsets.filter((offset) => offset === 0)).toHaveLength(1); // the upload did not start over
  await expect(alice.page.locator('#pending li')).toHaveCount(0);
});

test('an upload continues after the server was killed', async ({ largeFile, openPage, room, server }) => {
  const alice = await openPage({ name: 'Alice', allowFailedRequests: true });
  await alice.enter(room);
  const offsets = recordOffsets(alice);
  await beforeThirdRequest(alice, offsets, () => server.kill());
  await alice.attach(largeFile.path);
  await alice.expectReconnecting();
  await server.start();
  await expectDownload(alice, 'large.bin', largeFile.bytes);
  expect(offsets.filter((offset) => offset === 0)).toHaveLength(1);
});

test('files wait for a server that is away for long, and are sent in their order', async ({
  largeFile,
  openPage,
  room,
  server,
}) => {
  const alice = await openPage({ name: 'Alice', allowFailedRequests: true });
  const bob = await openPage({ name: 'Bob', allowFailedRequests: true });
  await alice.enter(room);
  await bob.enter(room);
  await alice.page.clock.install();
  const offsets = recordOffsets(alice);
  await beforeThirdRequest(alice, offsets, () => server.kill());
  await alice.attach([largeFile.path, sample('baseline.jpg')]);
  await alice.expectReconnecting();
  await alice.send('text');
  const states = alice.page.locator('#pending .state');
  const waiting = [/^Waiting for the connection… .* of 26 MB Cancel$/, 'Waiting… Cancel'];
  await expect(states.filter({ hasText: 'Cancel' })).toHaveText(waiting);
  await alice.page.clock.fastForward('10:00');
  await expect(states.filter({ hasText: 'Cancel' })).toHaveText(waiting);

  await server.start();
  await alice.reconnectNow();
  await expect(alice.page.locator('#pending li')).toHaveCount(0);
  await bob.reconnectNow();
  for (const user of [alice, bob]) {
    const messages = user.page.locator('#messages .bubble');
    await expect(messages).toHaveCount(3);
    await expect(messages.locator('img, .file-name')).toHaveCount(2);
    await expect(user.page.locator('#messages li:has(a[download="large.bin"]) ~ li img')).toHaveCount(1);
  }
  await expectDownload(bob, 'large.bin', largeFile.bytes);
  expect(offsets.filter((offset) => offset === 0)).toHaveLength(2); // one for each file
});

test('an upload continues after its connection died in silence', async ({ largeFile, openPage, tcpProxy, room }) => {
  test.slow();
  const alice = await openPage({ name: 'Alice', tcpProxy });
  await alice.enter(room);
  await alice.page.clock.install();
  const offsets = recordOffsets(alice);
  await beforeThirdRequest(alice, offsets, () => tcpProxy.silence());
  await alice.attach(largeFile.path);
  await expect.poll(() => offsets.length).toBe(3);
  await alice.page.clock.fastForward(31_000); // three heartbeats
  await alice.expectReconnecting();
  await expect(alice.page.locator('#pending .state')).toContainText('Waiting for the connection… ');
  tcpProxy.restore();
  await alice.reconnectNow();
  // The browser may try dead connections again, one after the other, because they look idle.
  await expectDownload(alice, 'large.bin', largeFile.bytes, 180_000);
  expect(offsets.filter((offset) => offset === 0)).toHaveLength(1);
});

test('an upload makes no progress in the back/forward cache, and continues after it', async ({
  largeFile,
  openPage,
  room,
  server,
}) => {
  const alice = await openPage({ name: 'Alice', allowFailedRequests: true });
  await alice.enter(room);
  const offsets = recordOffsets(alice);
  // The third request is sent, but its first bytes never arrive.
  await alice.page.route('**/v1/media/uploads/*', (route) => (offsets.length === 3 ? undefined : route.continue()));
  await alice.attach(largeFile.path);
  await expect.poll(() => offsets.length).toBe(3);
  await alice.page.evaluate(() => {
    window.addEventListener('pageshow', ({ persisted }) => (document.body.dataset['persisted'] = String(persisted)));
  });
  await alice.page.goto(`${server.url}/docs`);
  await expect.poll(() => server.sessionStates(alice.session.userID)).toEqual(['detached']);
  await alice.page.unroute('**/v1/media/uploads/*');
  await alice.page.goBack({ waitUntil: 'commit' });
  await expect(alice.page.locator('body')).toHaveAttribute('data-persisted', 'true');
  await expectDownload(alice, 'large.bin', largeFile.bytes);
  expect(offsets.filter((offset) => offset === 0)).toHaveLength(1);
});

test('after a reload, an upload continues when the file is attached again', async ({ largeFile, openPage, room }) => {
  const alice = await openPage({ name: 'Alice', allowFailedRequests: true });
  await alice.enter(room);
  const offsets = recordOffsets(alice);
  await alice.page.route('**/v1/media/uploads/*', (route) => (offsets.length === 3 ? undefined : route.continue()));
  await alice.attach([largeFile.path, sample('baseline.jpg')]);
  await expect.poll(() => offsets.length).toBe(3);
  await alice.page.reload();
  await alice.page.unroute('**/v1/media/uploads/*');
  await alice.expectConnected();
  const pending = alice.page.locator('#pending li');
  expect(await accessibilityViolations(alice.page)).toEqual([]);
  await expect(pending).toContainText([/^large.binNot sent: the page was reloaded/, /^baseline.jpgNot sent: the page/]);
  await alice.press('Discard baseline.jpg');
  await alice.attach(largeFile.path);
  await expectDownload(alice, 'large.bin', largeFile.bytes);
  await expect(pending).toHaveCount(0);
  expect(offsets.filter((offset) => offset === 0)).toHaveLength(1);
});

test('an upload continues in the session that replaces an expired one', async ({ largeFile, openPage, room, server }) => {
  const alice = await openPage({ name: 'Alice', allowFailedRequests: true });
  const bob = await openPage({ name: 'Bob' });
  await bob.enter(room);
  await alice.enter(room);
  const offsets = recordOffsets(alice);
  let hold = true;
  await alice.page.route('**/v1/media/uploads/*', (route) => (hold && offsets.length === 3 ? undefined : route.continue()));
  await alice.attach(largeFile.path);
  await expect.poll(() => offsets.length).toBe(3);
  await alice.expireSession(server);
  hold = false;
  await expectDownload(bob, 'large.bin', largeFile.bytes);
  expect(offsets.filter((offset) => offset === 0)).toHaveLength(1);
});

test('an upload can be cancelled, retried and discarded', async ({ openPage, room }) => {
  const alice = await openPage({ name: 'Alice', allowFailedRequests: true });
  await alice.enter(room);
  const deletes: string[] = [];
  alice.page.on('request', (request) => request.method() === 'DELETE' && deletes.push(request.url()));

  let hold = true;
  await alice.page.route('**/v1/media/uploads/*', (route) => {
    if (!hold || route.request().method() !== 'PATCH') return route.continue();
    return undefined; // the request is never sent
  });
  await alice.attach(sample('baseline.jpg'));
  await expect(alice.page.locator('#pending .state')).toContainText('of 732 B');
  await alice.press('Cancel baseline.jpg');
  await expect(alice.page.locator('#pending li')).toHaveCount(0);
  await expect.poll(() => deletes).toHaveLength(1);
  hold = false;

  const problem = { type: '', title: 'Too Many Requests', status: 429, code: 'media_quota', detail: 'No.' };
  await alice.page.route('**/v1/media/uploads', (route) =>
    route.fulfill({ status: 429, contentType: 'application/problem+json', body: JSON.stringify(problem) }),
  );
  await alice.attach(sample('baseline.jpg'));
  await expect(alice.page.locator('#pending')).toContainText('Upload failed. Upload quota exceeded.');
  await alice.press('Discard');
  await expect(alice.page.locator('#pending li')).toHaveCount(0);
  await alice.attach(sample('baseline.jpg'));
  await expect(alice.page.locator('#pending')).toContainText('Upload failed.');
  await alice.page.unroute('**/v1/media/uploads');
  await alice.press('Try again');
  await expect(alice.image('baseline.jpg')).toBeVisible();
});

test('a recalled message disappears for everyone', async ({ openPage, room }) => {
  const alice = await openPage({ name: 'Alice' });
  const bob = await openPage({ name: 'Bob', transport: 'eventSource' });
  await alice.enter(room);
  await bob.enter(room);
  await bob.send('from Bob');
  await alice.expectMessages('from Bob');
  await alice.send('a slip');
  await bob.expectMessages('from Bob', 'a slip');
  await alice.attach(sample('baseline.jpg'));
  await expect(bob.image('baseline.jpg')).toBeVisible();
  await expect(bob.page.getByRole('button', { name: 'Recall: a slip' })).toHaveCount(0); // it is Alice's

  await alice.page.getByRole('button', { name: 'Recall: a slip' }).press('Enter');
  await alice.press('Recall: baseline.jpg');
  for (const user of [alice, bob]) {
    await user.expectMessages('from Bob', 'Message recalled', 'Message recalled');
    await expect(user.page.locator('#messages img')).toHaveCount(0);
    expect(await accessibilityViolations(user.page)).toEqual([]);
  }
  await expect(alice.page.getByRole('button', { name: 'Recall' })).toHaveCount(0);
  await bob.page.reload();
  await bob.expectConnected();
  await bob.expectMessages('from Bob', 'Message recalled', 'Message recalled');
});

test('a message cannot be recalled after two minutes', async ({ openPage, room }) => {
  const alice = await openPage({ name: 'Alice' });
  await alice.page.clock.install();
  await alice.enter(room);
  await alice.send('hello');
  await expect(alice.page.getByRole('button', { name: 'Recall: hello' })).toBeVisible();
  await alice.page.clock.fastForward('02:01');
  await expect(alice.page.getByRole('button', { name: 'Recall: hello' })).toHaveCount(0);
  await alice.expectMessages('hello');
});

for (const colorScheme of ['light', 'dark'] as const) {
  test(`files fit a screen of 360 pixels in ${colorScheme} mode`, async ({ openPage, room }, info) => {
    const alice = await openPage({ name: 'Alice' });
    await alice.page.setViewportSize({ width: 360, height: 640 });
    await alice.page.emulateMedia({ colorScheme });
    await alice.enter(room);
    await sendFile(alice, alice, 1, sample('moov_first.mp4'));
    await sendFile(alice, alice, 2, sample('cbr.mp3'));
    const longName = `${'a'.repeat(120)}.txt`;
    await sendFile(alice, alice, 3, { name: longName, mimeType: 'text/plain', buffer: Buffer.from('a') });
    await sendFile(alice, alice, 4, sample('baseline.jpg'));
    await expect(alice.page.locator('#pending li')).toHaveCount(0);
    const overflow = await alice.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    expect(overflow).toBeLessThanOrEqual(0);
    expect(await accessibilityViolations(alice.page)).toEqual([]);
    await alice.page.screenshot({ path: info.outputPath('files.png') });
  });
}
