import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { type AddressInfo } from 'node:net';
import type { Page } from '@playwright/test';
import { Server } from './server.ts';
import { TCPProxy } from './tcp-proxy.ts';
import { expect, test as base } from './user.ts';

/** A user who writes without a page. */
class Writer {
  readonly #server: Server;
  readonly #room: string;
  readonly #key: string;
  #sent = 0;

  private constructor(server: Server, room: string, key: string) {
    this.#server = server;
    this.#room = room;
    this.#key = key;
  }

  /** Logs a writer in and enters a room, which then exists as long as the test. */
  static async enter(server: Server, room: string): Promise<Writer> {
    const body = JSON.stringify({ token: server.userToken('writer', 3600) });
    const login = await fetch(`${server.url}/v1/sessions`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body });
    const writer = new Writer(server, room, (await login.json()).sessionKey);
    await writer.call('POST', '/enter', { config: { memberTimeout: 300 } });
    return writer;
  }

  async call(method: string, path: string, body?: object): Promise<any> {
    const headers = { Authorization: `Bearer ${this.#key}`, 'Content-Type': 'application/json' };
    const init = body === undefined ? { method, headers } : { method, headers, body: JSON.stringify(body) };
    const reply = await fetch(`${this.#server.url}/v1/rooms/${encodeURIComponent(this.#room)}${path}`, init);
    if (!reply.ok) throw new Error(`${method} ${path}: ${reply.status} ${await reply.text()}`);
    return reply.status === 204 ? undefined : reply.json();
  }

  /** Sends the next messages, whose texts are numbers, one after another. It returns their IDs. */
  async write(count: number): Promise<string[]> {
    const ids: string[] = [];
    for (let i = 0; i < count; i++) {
      const { message } = await this.call('POST', '/messages', { kind: 'text', text: String(this.#sent++) });
      ids.push(message.messageID);
    }
    return ids;
  }
}

interface Fixtures {
  /** Opens the page of examples/page, by the name of its user. */
  openExample: (user: string, server?: { url: string }, prepare?: (page: Page) => Promise<void>) => Promise<Page>;
}

interface WorkerFixtures {
  /** The address of the page, whose origin is not that of the server. */
  origin: string;
}

const test = base.extend<Fixtures, WorkerFixtures>({
  origin: [
    async ({}, use) => {
      const html = readFileSync(new URL('../../examples/page/index.html', import.meta.url));
      const pages = createServer((_, response) => response.writeHead(200, { 'Content-Type': 'text/html' }).end(html));
      pages.listen(0, '127.0.0.1');
      await once(pages, 'listening');
      await use(`http://127.0.0.1:${(pages.address() as AddressInfo).port}`);
      pages.close();
    },
    { scope: 'worker' },
  ],
  server: [
    async ({ origin }, use) => {
      const server = await Server.create('--allowed-origins', origin);
      await use(server);
      await server.stop();
    },
    { scope: 'worker', timeout: 120_000 },
  ],
  openExample: async ({ browser, origin, server: worker, room }, use) => {
    const context = await browser.newContext();
    const errors: string[] = [];
    await use(async (user, server = worker, prepare = async () => {}) => {
      const page = await context.newPage();
      page.on('pageerror', (error) => errors.push(`${user}: ${error}`));
      await prepare(page);
      await page.goto(`${origin}/?${new URLSearchParams({ server: server.url, room, user })}`);
      return page;
    });
    await context.close();
    expect(errors).toEqual([]);
  },
});

const numbers = (count: number) => Array.from({ length: count }, (_, i) => `writer: ${i}`);
const lines = (page: Page) => page.locator('#messages li');

/**
 * The replies to enterRoom and listRoomMessages are held back until the page has shown messages, or
 * until they have been sent. Whichever comes first, no message is lost or doubled.
 */
for (const [first, held] of [
  ['the history', []],
  ['a message, before the history is read', ['before']],
  ['a message, while the history is read', ['after']],
  ['all messages', ['before', 'after']],
] as const) {
  test(`the example merges ${first} with what follows`, async ({ openExample, room, server }) => {
    const writer = await Writer.enter(server, room);
    const [recalled] = await writer.write(20);
    let writing = Promise.resolve();
    const page = await openExample('alice', server, async (page) => {
      await page.route('**/enter', async (route) => {
        const reply = await route.fetch(); // from now on, alice's stream has the messages
        writing = (async () => {
          await writer.write(20);
          await writer.call('DELETE', `/messages/${recalled}`);
          await writer.write(20);
        })();
        await route.fulfill({ response: reply });
      });
      await page.route('**/messages?*', async (route) => {
        if ((held as readonly string[]).includes('before')) await expect(lines(page).filter({ hasText: ': 30' })).toHaveCount(1);
        const reply = await route.fetch();
        if ((held as readonly string[]).includes('after')) await expect(lines(page).filter({ hasText: ': 59' })).toHaveCount(1);
        await route.fulfill({ response: reply });
      });
    });
    const all = numbers(60);
    all[0] = 'writer: recalled';
    await expect(lines(page)).toHaveText(all);
    await writing;
    await writer.write(1);
    await expect(lines(page)).toHaveText([...all, 'writer: 60']);
  });
}

test('the example shows and sends each message once while connections break', async ({ openExample, room, server }) => {
  const writer = await Writer.enter(server, room);
  const proxy = await TCPProxy.start(server.url);
  const page = await openExample('alice', proxy);
  const state = page.getByRole('status');
  await expect(state).toHaveText('connected');
  const say = async (text: string) => {
    await page.getByLabel('Message').fill(text);
    await page.getByRole('button', { name: 'Send' }).click();
  };
  await say('a');
  await say('b');
  await expect(lines(page)).toHaveText(['alice: a', 'alice: b']);

  proxy.interrupt();
  await expect(state).toHaveText('reconnecting');
  await writer.write(2);
  await say('c');
  await say('d');
  proxy.restore();
  const shown = ['alice: a', 'alice: b', ...numbers(2), 'alice: c', 'alice: d'];
  await expect(lines(page)).toHaveText(shown);

  // The server replies with an error, after which an EventSource gives up.
  await page.route('**/v1/events?*', (route) => route.fulfill({ status: 500 }));
  proxy.interrupt();
  await expect(state).toHaveText('reconnecting');
  proxy.restore();
  await writer.write(2);
  await page.waitForResponse((reply) => reply.url().endsWith('/v1/sessions/current'));
  await page.unroute('**/v1/events?*');
  shown.push('writer: 2', 'writer: 3');
  await expect(lines(page)).toHaveText(shown);
  await expect(state).toHaveText('connected');

  await server.admin('DELETE', `/users/alice/sessions?reason=Closing+time`);
  await expect(state).toHaveText('the session has ended: Closing time');
  proxy.close();
});

test('the example says why it is not in the room', async ({ openExample, room, server }) => {
  const writer = await Writer.enter(server, room);
  await writer.write(2);
  const page = await openExample('alice');
  await expect(lines(page)).toHaveText(numbers(2));
  await server.admin('DELETE', `/rooms/${room}/members/alice?reason=spam`);
  await expect(page.getByRole('status')).toHaveText('not in the room: spam');
  await page.reload();
  await expect(lines(page)).toHaveText(numbers(2));
});
