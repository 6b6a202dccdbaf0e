// Messages that survive a reload (parlor-sdk/outbox-storage), with the IndexedDB of a browser.
import type * as SDK from 'parlor-sdk';
import type * as OutboxModule from 'parlor-sdk/outbox-storage';
import { expect, test } from './user.ts';

declare global {
  interface Window {
    outbox: OutboxModule.StoredOutbox;
  }
}

test('messages that wait when the page is reloaded while the server is away are sent once and in order', async ({
  page,
  room,
  server,
  tcpProxy,
}) => {
  const url = `${tcpProxy.url}/application`;
  // The page and the SDK are the browser's own, as with a service worker: only the API is away.
  await page.route(url, (route) => route.fulfill({ contentType: 'text/html', body: '<!doctype html><title>Page</title>' }));
  await page.route('**/sdk/**', async (route) => {
    const { pathname } = new URL(route.request().url());
    await route.fulfill({ response: await route.fetch({ url: server.url + pathname }) });
  });
  await page.goto(url);
  const token = server.userToken('alice', 3600, 'create,join,send:*');
  await page.evaluate(
    async ([room, token]) => {
      const [sdk, storage] = ['/sdk/parlor.js', '/sdk/outbox-storage.js'];
      const { Parlor }: typeof SDK = await import(sdk);
      const { StoredOutbox }: typeof OutboxModule = await import(storage);
      const parlor = await Parlor.login({ token });
      await parlor.enterRoom(room);
      window.outbox = await StoredOutbox.open(parlor);
      await window.outbox.sendRoomMessage(room, { text: '1' });
      sessionStorage['session'] = JSON.stringify(parlor.resumeState());
    },
    [room, token] as const,
  );

  tcpProxy.interrupt();
  await page.evaluate(async (room) => {
    const waiting: Promise<unknown>[] = [];
    for (const text of ['2', '3', '4']) {
      waiting.push(new Promise<void>((onWaiting) => {
        void window.outbox.sendRoomMessage(room, { text }, { onWaiting: () => onWaiting() });
      }));
    }
    await Promise.all(waiting); // they are stored before they are sent
  }, room);
  await page.reload();
  const restored = await page.evaluate(async (room) => {
    const [sdk, storage] = ['/sdk/parlor.js', '/sdk/outbox-storage.js'];
    const { Parlor }: typeof SDK = await import(sdk);
    const { StoredOutbox }: typeof OutboxModule = await import(storage);
    window.outbox = await StoredOutbox.open(Parlor.resume(JSON.parse(sessionStorage['session'])));
    void window.outbox.sendRoomMessage(room, { text: '5' });
    return window.outbox.restored.length;
  }, room);
  expect(restored).toBe(3);

  tcpProxy.restore();
  await page.evaluate(() => Promise.all(window.outbox.restored.map(({ sent }) => sent)));
  const texts = async () => {
    const { messageList } = await server.admin('GET', `/rooms/${room}/messages`);
    return messageList.map(({ text }: { text: string }) => text);
  };
  await expect.poll(texts).toEqual(['1', '2', '3', '4', '5']);
});
