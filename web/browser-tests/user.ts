import { test as base, expect, type Locator, type Page } from '@playwright/test';
import { Line } from './line.ts';
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
    await expect(this.page.locator('#entrance')).toBeHidden(); // the room has been loaded
    await this.isConnected();
  }

  async say(text: string): Promise<void> {
    await this.page.getByLabel('Message', { exact: true }).fill(text);
    await this.page.getByLabel('Message', { exact: true }).press('Enter');
  }

  /** Chooses files for the room, as from the dialog that the button opens. */
  async attach(...files: string[] | { name: string; mimeType: string; buffer: Buffer }[]): Promise<void> {
    const [chooser] = await Promise.all([
      this.page.waitForEvent('filechooser'),
      this.page.getByRole('button', { name: 'Attach files' }).click(),
    ]);
    await chooser.setFiles(files as string[]);
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

  /** Is told this, and has one button. */
  async isTold(words: string, button: string): Promise<void> {
    await expect(this.page.locator('#notice-words')).toHaveText(words);
    await expect(this.page.locator('#notice-button')).toHaveText(button);
  }

  /** Is out of the room: writes nothing, and does not see who is in it. */
  async isOut(): Promise<void> {
    await expect(this.page.locator('#member-list')).toBeHidden();
    await expect(this.page.getByLabel('Message', { exact: true })).toBeDisabled();
    await expect(this.page.getByRole('button', { name: 'Send' })).toBeDisabled();
  }

  async press(button: string): Promise<void> {
    await this.page.getByRole('button', { name: button }).click();
  }

  /** Who this is to the server. */
  async userID(): Promise<string> {
    const own = this.page.locator('#member-list li', { has: this.page.locator('.you') });
    return (await own.getAttribute('title'))!;
  }

  /** What the room said about who came and went. */
  get lines(): Locator {
    return this.page.locator('#messages .line > span');
  }
}

export interface Seat {
  name: string;
  transport?: 'fetch' | 'eventSource';
  /** How this browser reaches the server; straight unless given. */
  line?: Line;
  /** Requests fail in this test, and the browser may say so. They do where a line is given. */
  losses?: boolean;
}

interface Fixtures {
  /** Opens a browser window for somebody; what its page complains about fails the test. */
  arrive: (seat: Seat) => Promise<Person>;
  /** A line to the server that the test may cut. */
  line: Line;
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

  line: async ({ server }, use) => {
    const line = await Line.to(server.url);
    await use(line);
    line.close();
  },

  arrive: async ({ browser, server }, use) => {
    const complaints: string[] = [];
    const contexts: { close(): Promise<void> }[] = [];
    await use(async ({ name, transport = 'fetch', line, losses = line !== undefined }) => {
      const context = await browser.newContext();
      contexts.push(context);
      const page = await context.newPage();
      page.on('pageerror', (error) => complaints.push(`${name}: ${error}`));
      page.on('console', (message) => {
        const lost = losses && message.text().startsWith('Failed to load resource');
        if (message.type() === 'error' && !lost) complaints.push(`${name}: ${message.text()}`);
      });
      await page.goto(`${(line ?? server).url}/${transport === 'fetch' ? '' : `?transport=${transport}`}`);
      return new Person(page, name);
    });
    for (const context of contexts) await context.close();
    expect(complaints).toEqual([]);
  },
});

export { expect };
