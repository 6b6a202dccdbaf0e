// Tabs that share a session (parlor-sdk/tabs), in a browser that has six connections to the server.
import type { Page } from '@playwright/test';
import type * as SDK from 'parlor-sdk';
import type * as TabsModule from 'parlor-sdk/tabs';
import { expect, test as base } from './user.ts';

declare global {
  interface Window {
    parlor: SDK.Parlor;
    texts: string[];
    changes: string[];
  }
}

class SharingTab {
  /** The number of streams that this tab has opened. */
  streams = 0;

  constructor(readonly page: Page) {
    page.on('request', (request) => {
      if (request.url().endsWith('/v1/events')) this.streams++;
    });
  }

  async logIn(token: string): Promise<void> {
    await this.page.evaluate(async (token) => {
      const sdk = '/sdk/parlor.js';
      const tabs = '/sdk/tabs.js';
      const { Parlor }: typeof SDK = await import(sdk);
      const { shareTabs }: typeof TabsModule = await import(tabs);
      const parlor = await Parlor.login({ token, tabs: shareTabs('alice') });
      Object.assign(window, { parlor, texts: [], changes: [] });
      parlor.on('roomMessageReceived', ({ messageList }) => {
        for (const message of messageList) if (message.kind === 'text') window.texts.push(message.text!);
      });
      parlor.on('connectionStateChanged', ({ state, event }) => window.changes.push(`${state} ${event}`));
    }, token);
    await this.expectChanges('connected success');
  }

  async expectTexts(texts: string[]): Promise<void> {
    await expect.poll(() => this.page.evaluate(() => window.texts)).toEqual(texts);
  }

  async expectChanges(...changes: string[]): Promise<void> {
    await expect.poll(() => this.page.evaluate(() => window.changes)).toEqual(changes);
  }
}

interface Fixtures {
  /** Opens tabs of one browser, with a session of alice. */
  openTabs: (count: number) => Promise<SharingTab[]>;
}

const test = base.extend<Fixtures>({
  openTabs: async ({ context, server }, use) => {
    const url = `${server.url}/application`;
    await context.route(url, (route) => route.fulfill({ contentType: 'text/html', body: '<!doctype html><title>Tab</title>' }));
    const token = server.userToken('alice', 3600, 'create,join,send:*');
    await use(async (count) => {
      const tabs: SharingTab[] = [];
      for (let opened = 0; opened < count; opened++) {
        const tab = new SharingTab(await context.newPage());
        await tab.page.goto(url);
        await tab.logIn(token);
        tabs.push(tab);
      }
      return tabs;
    });
  },
});

const numbers = (first: number, last: number) => Array.from({ length: last - first + 1 }, (_, index) => String(first + index));

test('eight tabs have one stream, and continue when the tab that reads it closes, crashes or is frozen', async ({ openTabs, room }) => {
  const tabs = await openTabs(8);
  const last = tabs[7]!;
  await last.page.evaluate((room) => window.parlor.enterRoom(room), room);
  const send = (first: number, end: number) =>
    last.page.evaluate(
      async ([room, texts]) => {
        for (const text of texts) await window.parlor.sendRoomMessage(room, { text });
      },
      [room, numbers(first, end)] as const,
    );
  await send(1, 10);
  for (const tab of tabs) await tab.expectTexts(numbers(1, 10));
  expect(tabs.map(({ streams }) => streams)).toEqual([1, 0, 0, 0, 0, 0, 0, 0]);

  let sending = send(11, 30);
  await tabs[0]!.page.close();
  await sending;
  for (const tab of tabs.slice(1)) await tab.expectTexts(numbers(1, 30));
  expect(tabs.map(({ streams }) => streams)).toEqual([1, 1, 0, 0, 0, 0, 0, 0]);

  sending = send(31, 50);
  const crashed = tabs[1]!.page.waitForEvent('crash');
  const devtools = await tabs[1]!.page.context().newCDPSession(tabs[1]!.page);
  void devtools.send('Page.crash').catch(() => {});
  await crashed;
  await sending;
  for (const tab of tabs.slice(2)) await tab.expectTexts(numbers(1, 50));

  sending = send(51, 70);
  const frozen = await tabs[2]!.page.context().newCDPSession(tabs[2]!.page);
  await frozen.send('Page.setWebLifecycleState', { state: 'frozen' });
  await sending;
  for (const tab of tabs.slice(3)) await tab.expectTexts(numbers(1, 70));
  await frozen.send('Page.setWebLifecycleState', { state: 'active' });
  for (const tab of tabs.slice(2)) await tab.expectTexts(numbers(1, 70));
  await send(71, 80);
  for (const tab of tabs.slice(2)) await tab.expectTexts(numbers(1, 80));
  // The others have noticed nothing.
  for (const tab of tabs.slice(3)) await tab.expectChanges('connected success');

  await last.page.evaluate(() => window.parlor.endSession());
  for (const tab of tabs.slice(3)) await tab.expectChanges('connected success', 'disconnected loggedOut');
});
