import { test as base, expect, type Locator, type Page } from '@playwright/test';
import { Server } from './server.ts';

/** Somebody at a browser of their own. */
export class Person {
  readonly page: Page;
  readonly name: string;

  constructor(page: Page, name: string) {
    this.page = page;
    this.name = name;
  }

  async enter(room: string): Promise<void> {
    await this.page.getByLabel('Your name').fill(this.name);
    await this.page.getByLabel('Room', { exact: true }).fill(room);
    await this.page.getByRole('button', { name: 'Enter room' }).click();
    await this.isConnected();
  }

  async say(text: string): Promise<void> {
    await this.page.getByLabel('Message', { exact: true }).fill(text);
    await this.page.getByLabel('Message', { exact: true }).press('Enter');
  }

  async isConnected(): Promise<void> {
    await expect(this.page.locator('#connection')).toHaveText('Connected');
  }

  async isReconnecting(): Promise<void> {
    await expect(this.page.locator('#connection')).toHaveText('Reconnecting…');
  }

  /** Sees exactly these messages, each once and in this order, and nothing under way. */
  async sees(...messages: string[]): Promise<void> {
    await expect(this.page.locator('#messages .bubble')).toHaveText(messages);
    await expect(this.page.locator('#pending li')).toHaveCount(0);
  }

  async seesMembers(...names: string[]): Promise<void> {
    await expect(this.page.locator('#member-list .name')).toHaveText(names);
  }

  /** What the room said about who came and went. */
  get lines(): Locator {
    return this.page.locator('#messages .line > span');
  }
}

export interface Seat {
  name: string;
  transport?: 'fetch' | 'eventSource';
  /** The server goes away in this test: failed requests are no surprise. */
  expectLosses?: boolean;
}

interface Fixtures {
  /** Opens a browser window for somebody; what its page complains about fails the test. */
  arrive: (seat: Seat) => Promise<Person>;
  /** A room that no other test uses. */
  room: string;
}

export const test = base.extend<Fixtures, { server: Server }>({
  server: [
    async ({}, use) => {
      const server = await Server.create();
      await use(server);
      await server.stop();
    },
    { scope: 'worker' },
  ],

  room: async ({}, use, { testId }) => {
    await use(`Room ${testId}`);
  },

  arrive: async ({ browser, server }, use) => {
    const complaints: string[] = [];
    const contexts: { close(): Promise<void> }[] = [];
    await use(async ({ name, transport = 'fetch', expectLosses = false }) => {
      const context = await browser.newContext();
      contexts.push(context);
      const page = await context.newPage();
      page.on('pageerror', (error) => complaints.push(`${name}: ${error}`));
      page.on('console', (message) => {
        const lost = expectLosses && message.text().startsWith('Failed to load resource');
        if (message.type() === 'error' && !lost) complaints.push(`${name}: ${message.text()}`);
      });
      await page.goto(`${server.url}/${transport === 'fetch' ? '' : `?transport=${transport}`}`);
      return new Person(page, name);
    });
    for (const context of contexts) await context.close();
    expect(complaints).toEqual([]);
  },
});

export { expect };
