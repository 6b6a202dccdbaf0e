import { createHash, randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { barriers } from './barriers.ts';
import { expect, type Person, test } from './person.ts';

const sample = (name: string) => fileURLToPath(new URL(`../../media/testdata/${name}`, import.meta.url));

/** A file of random bytes, so that a piece in the wrong place shows. */
function large(name: string, megabytes: number) {
  return { name, mimeType: 'application/octet-stream', buffer: randomBytes(megabytes * 1024 * 1024) };
}

/** Requires that whoever downloads a file from the log gets these bytes. */
async function downloads(person: Person, name: string, bytes: Buffer): Promise<void> {
  const link = person.page.locator('#messages').getByRole('link', { name });
  await expect(link).toHaveAttribute('href', /signature=/);
  const [download] = await Promise.all([person.page.waitForEvent('download'), link.click()]);
  expect(download.suggestedFilename()).toBe(name);
  const got = await readFile(await download.path());
  expect(createHash('sha256').update(got).digest('hex')).toBe(createHash('sha256').update(bytes).digest('hex'));
}

test('files are sent as what they are, and everybody sees, hears and saves them', async ({ arrive, room }) => {
  const alice = await arrive({ name: 'Alice' });
  const bob = await arrive({ name: 'Bob', transport: 'eventSource' });
  await alice.enter(room);
  await bob.enter(room);
  await alice.attach(sample('baseline.jpg'));
  await expect(bob.page.locator('#messages .bubble')).toHaveCount(1);
  await alice.attach(sample('cbr.mp3'));
  await expect(bob.page.locator('#messages .bubble')).toHaveCount(2);
  await alice.attach(sample('moov_first.mp4'));
  await expect(bob.page.locator('#messages .bubble')).toHaveCount(3);
  await alice.attach({ name: 'é notes.html', mimeType: 'text/html', buffer: Buffer.from('<script>alert(1)</script>') });
  await expect(bob.page.locator('#messages .bubble')).toHaveCount(4);

  for (const { page } of [alice, bob]) {
    const picture = page.getByRole('img', { name: 'baseline.jpg' });
    await expect.poll(() => picture.evaluate((image: HTMLImageElement) => image.naturalWidth)).toBeGreaterThan(0);
    for (const player of ['audio', 'video']) {
      const plays = page.locator(`#messages ${player}`);
      await expect.poll(() => plays.evaluate((media: HTMLMediaElement) => media.duration)).toBeGreaterThan(0);
    }
    await expect(page.locator('#pending li')).toHaveCount(0);
    expect(await barriers(page)).toEqual([]);
  }
  await downloads(bob, 'é notes.html', Buffer.from('<script>alert(1)</script>'));

  await bob.page.reload(); // from the history, and the pictures from the cache
  await bob.isConnected();
  const picture = bob.page.getByRole('img', { name: 'baseline.jpg' });
  await expect.poll(() => picture.evaluate((image: HTMLImageElement) => image.naturalWidth)).toBeGreaterThan(0);
});

test('a URL that has expired is asked for again, and no picture is left broken', async ({ arrive, room }) => {
  const alice = await arrive({ name: 'Alice' });
  const bob = await arrive({ name: 'Bob', losses: true });
  await alice.enter(room);
  await bob.enter(room);
  // The first URL of each file is one that has expired, as after an hour in which nobody looked.
  const old = new Set<string>();
  await bob.page.route('**/v1/media/*', async (route) => {
    const answer = await route.fetch();
    const reply = await answer.json();
    if (!old.has(reply.media.mediaID)) {
      old.add(reply.media.mediaID);
      reply.signedURL = reply.signedURL.replace(/expires=\d+/, 'expires=1');
    }
    await route.fulfill({ response: answer, json: reply });
  });
  await alice.attach(sample('baseline.jpg'));
  await expect(bob.page.locator('#messages .bubble')).toHaveCount(1);
  await alice.attach(sample('moov_first.mp4'));
  await expect(bob.page.locator('#messages .bubble')).toHaveCount(2);
  const picture = bob.page.getByRole('img', { name: 'baseline.jpg' });
  await expect.poll(() => picture.evaluate((image: HTMLImageElement) => image.naturalWidth)).toBeGreaterThan(0);
  const film = bob.page.locator('#messages video');
  await expect.poll(() => film.evaluate((media: HTMLMediaElement) => media.duration)).toBeGreaterThan(0);
  await expect(bob.page.locator('#messages .error').filter({ hasText: /./ })).toHaveCount(0);

  // Where no URL helps, it is said, and nobody asks for ever.
  let asked = 0;
  await bob.page.route(/\/v1\/media\/[^/]+\/.+signature=/, (route) => {
    asked++;
    return route.fulfill({ status: 404 });
  });
  await alice.attach(sample('alpha.png'));
  await expect(bob.page.locator('#messages .error').filter({ hasText: 'could not be loaded' })).toHaveCount(1);
  expect(asked).toBeLessThanOrEqual(2);
});

test('an upload shows how far it is, and goes on where the connection broke', async ({ arrive, line, room }) => {
  const alice = await arrive({ name: 'Alice', line });
  const bob = await arrive({ name: 'Bob' });
  await alice.enter(room);
  await bob.enter(room);
  const offsets: number[] = [];
  alice.page.on('request', (request) => {
    if (request.method() === 'PATCH') offsets.push(Number(request.headers()['upload-offset']));
  });
  const file = large('large.bin', 40);
  const bar = alice.page.getByRole('progressbar', { name: 'Uploading large.bin' });
  const progress = () => bar.evaluate((element: HTMLProgressElement) => element.value);

  // The line breaks before the third request is through.
  let broken = false;
  await alice.page.route('**/v1/media/uploads/*', async (route) => {
    if (!broken && offsets.length === 3) {
      broken = true;
      line.cut();
    }
    await route.continue();
  });
  await alice.attach(file);
  await alice.isReconnecting();
  await expect.poll(progress).toBeGreaterThan(0.3);
  expect(await progress()).toBeLessThan(1);
  await expect(alice.page.locator('#pending .state')).toContainText('of 42 MB');
  line.mend();

  await downloads(bob, 'large.bin', file.buffer);
  expect(offsets.filter((offset) => offset === 0)).toHaveLength(1); // nothing was begun anew
  await expect(alice.page.locator('#pending li')).toHaveCount(0);
});

test('an upload outlives a server that is killed', async ({ arrive, room, server }) => {
  const alice = await arrive({ name: 'Alice', losses: true });
  await alice.enter(room);
  const offsets: number[] = [];
  alice.page.on('request', (request) => {
    if (request.method() === 'PATCH') offsets.push(Number(request.headers()['upload-offset']));
  });
  const file = large('large.bin', 40);
  let killed = false;
  await alice.page.route('**/v1/media/uploads/*', async (route) => {
    if (!killed && offsets.length === 3) {
      killed = true;
      await server.kill();
    }
    await route.continue();
  });
  await alice.attach(file);
  await alice.isReconnecting();
  await server.start();
  await downloads(alice, 'large.bin', file.buffer);
  expect(offsets.filter((offset) => offset === 0)).toHaveLength(1);
});

test('an upload can be cancelled, tried again and discarded', async ({ arrive, room }) => {
  const alice = await arrive({ name: 'Alice', losses: true });
  await alice.enter(room);
  const ended: string[] = [];
  alice.page.on('request', (request) => request.method() === 'DELETE' && ended.push(request.url()));

  let hold = true;
  await alice.page.route('**/v1/media/uploads/*', (route) => {
    if (!hold || route.request().method() !== 'PATCH') return route.continue();
    return undefined; // for ever
  });
  await alice.attach(sample('baseline.jpg'));
  await expect(alice.page.locator('#pending .state')).toContainText('of 732 B');
  await alice.press('Cancel baseline.jpg');
  await expect(alice.page.locator('#pending li')).toHaveCount(0);
  await expect.poll(() => ended).toHaveLength(1);
  hold = false;

  const problem = { type: '', title: 'Too Many Requests', status: 429, code: 'media_quota', detail: 'No.' };
  await alice.page.route('**/v1/media/uploads', (route) =>
    route.fulfill({ status: 429, contentType: 'application/problem+json', body: JSON.stringify(problem) }),
  );
  await alice.attach(sample('baseline.jpg'));
  await expect(alice.page.locator('#pending')).toContainText('Not uploaded. There is no place for more files of yours');
  await alice.press('Discard');
  await expect(alice.page.locator('#pending li')).toHaveCount(0);
  await alice.attach(sample('baseline.jpg'));
  await expect(alice.page.locator('#pending')).toContainText('Not uploaded.');
  await alice.page.unroute('**/v1/media/uploads');
  await alice.press('Try again');
  await expect(alice.page.getByRole('img', { name: 'baseline.jpg' })).toBeVisible();
});

test('what was just said can be taken back, and is gone for everybody', async ({ arrive, room }) => {
  const alice = await arrive({ name: 'Alice' });
  const bob = await arrive({ name: 'Bob', transport: 'eventSource' });
  await alice.enter(room);
  await bob.enter(room);
  await bob.say('mine');
  await alice.sees('mine');
  await alice.say('a slip');
  await bob.sees('mine', 'a slip');
  await alice.attach(sample('baseline.jpg'));
  await expect(bob.page.getByRole('img', { name: 'baseline.jpg' })).toBeVisible();
  await expect(bob.page.getByRole('button', { name: 'Recall: a slip' })).toHaveCount(0); // it is not his

  await alice.page.getByRole('button', { name: 'Recall: a slip' }).press('Enter');
  await alice.press('Recall: baseline.jpg');
  for (const person of [alice, bob]) {
    await person.sees('mine', 'Message recalled', 'Message recalled');
    await expect(person.page.locator('#messages img')).toHaveCount(0);
  }
  await expect(alice.page.getByRole('button', { name: 'Recall' })).toHaveCount(0);
  await bob.page.reload();
  await bob.isConnected();
  await bob.sees('mine', 'Message recalled', 'Message recalled');
});

test('what was said a while ago cannot be taken back', async ({ arrive, room }) => {
  const alice = await arrive({ name: 'Alice' });
  await alice.page.clock.install();
  await alice.enter(room);
  await alice.say('hello');
  await expect(alice.page.getByRole('button', { name: 'Recall: hello' })).toBeVisible();
  await alice.page.clock.fastForward('02:01');
  await expect(alice.page.getByRole('button', { name: 'Recall: hello' })).toHaveCount(0);
  await alice.sees('hello');
});

for (const colorScheme of ['light', 'dark'] as const) {
  test(`files fit a screen of 360 pixels in ${colorScheme}`, async ({ arrive, room }, info) => {
    const alice = await arrive({ name: 'Alice' });
    await alice.page.setViewportSize({ width: 360, height: 640 });
    await alice.page.emulateMedia({ colorScheme });
    await alice.enter(room);
    await alice.attach(sample('moov_first.mp4'));
    await expect(alice.page.locator('#messages .bubble')).toHaveCount(1);
    await alice.attach(sample('cbr.mp3'));
    await expect(alice.page.locator('#messages .bubble')).toHaveCount(2);
    await alice.attach({ name: `${'a'.repeat(120)}.txt`, mimeType: 'text/plain', buffer: Buffer.from('a') });
    await expect(alice.page.locator('#messages .bubble')).toHaveCount(3);
    await alice.attach(sample('baseline.jpg'));
    await expect(alice.page.locator('#messages .bubble')).toHaveCount(4);
    await expect(alice.page.locator('#pending li')).toHaveCount(0);
    const overflow = await alice.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    expect(overflow).toBeLessThanOrEqual(0);
    expect(await barriers(alice.page)).toEqual([]);
    await alice.page.screenshot({ path: info.outputPath('files.png') });
  });
}
