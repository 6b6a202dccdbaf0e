import { test as base, expect, type Locator, type Page } from '@playwright/test';
import { type LoginReply, Server } from './server.ts';
import { Tab } from './tab.ts';
import { TCPProxy } from './tcp-proxy.ts';

/** User is a user of the room page, in a browser context of their own. */
export class User {
  readonly page: Page;
  readonly name: string;
  /** The reply to the first login. */
  session!: LoginReply;

  constructor(page: Page, name: string) {
    this.page = page;
    this.name = name;
  }

  /** Opens the page in a tab. */
  static async inTab({ page }: Tab, name: string, server: Server, query = ''): Promise<User> {
    await page.goto(`${server.url}/${query}`);
    return new User(page, name);
  }

  async enter(room: string): Promise<void> {
    await this.page.getByLabel('Your name').fill(this.name);
    await this.page.getByLabel('Room', { exact: true }).fill(room);
    const [session] = await Promise.all([
      this.#loggedIn(),
      this.page.getByRole('button', { name: 'Enter room' }).click(),
    ]);
    this.session = session;
    await expect(this.page.locator('#entry')).toBeHidden(); // the room is loaded
    await this.expectConnected();
  }

  async send(text: string): Promise<void> {
    await this.page.getByLabel('Message', { exact: true }).fill(text);
    await this.page.getByLabel('Message', { exact: true }).press('Enter');
  }

  /** Attaches a file, as from the dialog that the button opens. */
  async attach(file: string | string[] | { name: string; mimeType: string; buffer: Buffer }): Promise<void> {
    const [chooser] = await Promise.all([
      this.page.waitForEvent('filechooser'),
      this.page.getByRole('button', { name: 'Attach files' }).click(),
    ]);
    await chooser.setFiles(file);
  }

  async press(button: string): Promise<void> {
    await this.page.getByRole('button', { name: button }).click();
  }

  /** Makes the page reconnect at once, as the browser does when the network is back. */
  async reconnectNow(): Promise<void> {
    await this.page.evaluate(() => window.dispatchEvent(new Event('online')));
  }

  /**
   * Makes the token of the session expire without a renewal, and waits until the page has logged in
   * again. If the new session enters the room before the server has ended the old one, nobody sees
   * the user leave.
   */
  async expireSession(server: Server): Promise<void> {
    await this.page.route('**/dev/token', async (route) => {
      const states = await server.sessionStates(this.session.userID);
      if (!states.includes('online')) await route.continue();
    });
    const login = this.#loggedIn();
    await server.expireSoon(this.session);
    this.session = await login;
  }

  async #loggedIn(): Promise<LoginReply> {
    const reply = await this.page.waitForResponse((reply) => new URL(reply.url()).pathname.endsWith('/v1/sessions'));
    return reply.json();
  }

  async expectConnected(): Promise<void> {
    await expect(this.page.locator('#connection')).toHaveText('Connected');
  }

  async expectReconnecting(): Promise<void> {
    await expect(this.page.locator('#connection')).toHaveText('Reconnecting…');
  }

  /** Expects exactly these messages, in this order, and no others that are being sent. */
  async expectMessages(...messages: string[]): Promise<void> {
    await expect(this.page.locator('#messages .bubble')).toHaveText(messages);
    await expect(this.page.locator('#pending li')).toHaveCount(0);
  }

  async expectMembers(...names: string[]): Promise<void> {
    await expect(this.page.locator('#member-list .name')).toHaveText(names);
  }

  /** Expects the joins and leaves that the room shows. */
  async expectEvents(...events: string[]): Promise<void> {
    await expect(this.page.locator('#messages .line > span')).toHaveText(events);
  }

  async expectNotice(text: string, button: string): Promise<void> {
    await expect(this.page.locator('#notice-text')).toHaveText(text);
    await expect(this.page.locator('#notice-button')).toHaveText(button);
  }

  /** Expects the page to hide the members and to disable the composer. */
  async expectOutOfRoom(): Promise<void> {
    await expect(this.page.locator('#member-list')).toBeHidden();
    await expect(this.page.getByLabel('Message', { exact: true })).toBeDisabled();
    await expect(this.page.getByRole('button', { name: 'Send' })).toBeDisabled();
  }

  async userID(): Promise<string> {
    const own = this.page.locator('#member-list li', { has: this.page.locator('.you') });
    return (await own.getAttribute('title'))!;
  }

  image(name: string): Locator {
    return this.page.getByRole('img', { name });
  }
}

export interface UserOptions {
  name: string;
  transport?: 'fetch' | 'eventSource';
  /** The server, if it is not the one of the worker. */
  server?: Server;
  /** The proxy between the browser and the server, if any. */
  tcpProxy?: TCPProxy;
  /** Whether the browser may report failed requests. The default is true with a proxy. */
  allowFailedRequests?: boolean;
}

interface Fixtures {
  /** Opens the page in a new browser context. An error that it logs fails the test. */
  openPage: (options: UserOptions) => Promise<User>;
  /** A tab that can be hidden and frozen. */
  tab: Tab;
  /** A proxy to the server that the test can interrupt. */
  tcpProxy: TCPProxy;
  /** The ID and name of a room that no other test uses. */
  room: string;
}

/** Each worker has a server of its own, which a test may kill. */
export const test = base.extend<Fixtures, { server: Server }>({
  server: [
    async ({}, use) => {
      const server = await Server.create();
      await use(server);
      await server.stop();
    },
    { scope: 'worker', timeout: 120_000 },
  ],

  room: async ({}, use, { testId }) => {
    await use(`room-${testId}`);
  },

  tcpProxy: async ({ server }, use) => {
    const tcpProxy = await TCPProxy.start(server.url);
    await use(tcpProxy);
    tcpProxy.close();
  },

  tab: async ({}, use, { project }) => {
    const tab = await Tab.open(project.use.launchOptions!);
    await use(tab);
    await tab.close();
  },

  openPage: async ({ browser, server: worker }, use) => {
    const errors: string[] = [];
    const contexts: { close(): Promise<void> }[] = [];
    await use(async ({ name, transport = 'fetch', tcpProxy, server = worker, allowFailedRequests = tcpProxy !== undefined }) => {
      const context = await browser.newContext();
      contexts.push(context);
      const page = await context.newPage();
      page.on('pageerror', (error) => errors.push(`${name}: ${error}`));
      page.on('console', (message) => {
        const allowed = allowFailedRequests && message.text().startsWith('Failed to load resource');
        if (message.type() === 'error' && !allowed) errors.push(`${name}: ${message.text()}`);
      });
      await page.goto(`${(tcpProxy ?? server).url}/${transport === 'fetch' ? '' : `?transport=${transport}`}`);
      return new User(page, name);
    });
    for (const context of contexts) await context.close();
    expect(errors).toEqual([]);
  },
});

export { expect };
