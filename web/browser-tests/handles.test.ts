import { Parlor, type RoomHandle } from 'parlor-sdk';
import type { Server } from './server.ts';
import { expect, test } from './user.ts';

/** Logs a user in, outside a browser. */
function logIn(server: Server, userID: string, baseURL = server.url): Promise<Parlor> {
  return Parlor.login({ baseURL, token: server.userToken(userID, 3600) });
}

/** Waits until the last change of a handle is this one. */
async function expectChange(room: RoomHandle, state: string, event: string, reason?: string): Promise<void> {
  await expect.poll(() => room.lastChange).toEqual({ state, event, ...(reason && { reason }) });
}

test('a handle shows the room as another user changes it', async ({ server, tcpProxy, room: roomID }) => {
  const bob = await logIn(server, 'bob');
  await bob.enterRoom(roomID, { roomName: 'First', roomAttributes: { topic: 'one' } });
  for (let number = 1; number <= 70; number++) await bob.sendRoomMessage(roomID, { text: `${number}` });

  const alice = await logIn(server, 'alice', tcpProxy.url);
  // Bob sends while Alice enters, so messages arrive on both ways.
  const sending = Promise.all(Array.from({ length: 30 }, (_, index) => bob.sendRoomMessage(roomID, { text: `${71 + index}` })));
  const room = await alice.enterRoom(roomID, { userData: 'seat 1' });
  expect(room).toMatchObject({ state: 'connected', created: false, room: { roomName: 'First' } });
  const [history, members, attributes] = await Promise.all([room.history(), room.members(), room.attributes()]);
  await sending;
  const texts = () => history.messages.map((message) => (message.recalled ? 'recalled' : 'text' in message && message.text));
  const sent = (count: number) => Array.from({ length: count }, (_, index) => `${index + 1}`);
  await expect.poll(() => texts().at(-1)).toBe('100');
  while (history.hasEarlier) await history.loadEarlier();
  expect(texts()).toEqual(sent(100));
  expect(members.members.map(({ userID }) => userID)).toEqual(['bob', 'alice']);
  expect(attributes.values).toEqual({ topic: 'one' });

  tcpProxy.interrupt();
  await expectChange(room, 'reconnecting', 'networkInterrupted');
  const carol = await logIn(server, 'carol');
  await carol.joinRoom(roomID);
  const { messageList } = await bob.listRoomMessages(roomID, { limit: 1 });
  await bob.recallMessage(roomID, messageList[0]!.messageID);
  await bob.sendRoomMessage(roomID, { text: '101' });
  await bob.updateProfile({ userName: 'Bob', avatarURL: 'https://example.com/b.png' });
  await bob.updateMemberAttributes(roomID, { userIDs: ['bob'], userData: 'seat 2' });
  await bob.updateRoomAttributes(roomID, { set: { topic: 'two', link: 'x' } });
  tcpProxy.restore();
  await expectChange(room, 'connected', 'success');
  await room.send({ text: '102' });
  await expect.poll(texts).toEqual([...sent(99), 'recalled', '101', '102']);
  await expect.poll(() => attributes.values).toEqual({ topic: 'two', link: 'x' });
  await expect.poll(() => members.get('bob')).toMatchObject({ userName: 'Bob', avatarURL: 'https://example.com/b.png', userData: 'seat 2' });
  expect(members.members.map(({ userID }) => userID)).toEqual(['bob', 'alice', 'carol']);
  await carol.leaveRoom(roomID);
  await expect.poll(() => members.count).toBe(2);

  await server.admin('DELETE', `/rooms/${roomID}/members/alice?reason=spam`);
  await expectChange(room, 'disconnected', 'kickedOut', 'spam');
  const again = await alice.enterRoom(roomID);
  expect(again).not.toBe(room);
  const left = again.leave(); // and enters at once, before the stream may say that it left
  await left;
  const third = await alice.enterRoom(roomID);
  expect(third.state).toBe('connected');
  expect(again.lastChange).toEqual({ state: 'disconnected', event: 'success' });
  const other = await alice.switchRoom(roomID, { toRoom: { roomID: `${roomID}-2` }, createIfNotExists: true });
  expect(third.lastChange).toEqual({ state: 'disconnected', event: 'success' });
  expect(other).toMatchObject({ created: true, state: 'connected' });
  const changes: string[] = [];
  other.on('stateChanged', ({ state, event }) => changes.push(`${state} ${event}`));
  await server.admin('DELETE', `/rooms/${roomID}-2?reason=Closing`);
  await expectChange(other, 'disconnected', 'roomNotExist', 'Closing');
  expect(changes).toEqual(['disconnected roomNotExist']); // nothing of the earlier times

  const last = await alice.enterRoom(roomID);
  const state = alice.resumeState();
  alice.close();
  await expectChange(last, 'disconnected', 'closed');
  const resumed = Parlor.resume(state);
  await expect.poll(() => resumed.connectionState).toBe('connected');
  expect(resumed.room(roomID)?.state).toBe('connected');
  await server.admin('DELETE', `/users/alice/sessions/${resumed.sessionID}?reason=locked`);
  await expectChange(resumed.room(roomID)!, 'disconnected', 'kickedOut', 'locked');
  for (const parlor of [bob, carol]) await parlor.endSession();
});

test('a handle ends when its session came back too late, or its token expired', async ({ server, tcpProxy, room: roomID }) => {
  await server.createRoom(roomID, { memberTimeout: 5 });
  const bob = await logIn(server, 'bob');
  const others = await (await bob.enterRoom(roomID)).members();
  const alice = await logIn(server, 'alice', tcpProxy.url);
  const room = await alice.enterRoom(roomID);
  await expect.poll(() => others.count).toBe(2);
  tcpProxy.interrupt();
  await expect.poll(() => others.count).toBe(1);
  tcpProxy.restore();
  await expectChange(room, 'disconnected', 'networkTimeout');
  const again = await alice.enterRoom(roomID);
  const { sessionKey } = alice.resumeState();
  await server.expireSoon({ userID: 'alice', sessionKey });
  await expectChange(again, 'disconnected', 'tokenExpired');
  await bob.endSession();
});

test('a page that loads the SDK from the server has handles', async ({ page, server, room: roomID }) => {
  const bob = await logIn(server, 'bob');
  await bob.enterRoom(roomID);
  await bob.sendRoomMessage(roomID, { text: 'hello' });
  await page.goto(`${server.url}/`); // whose policy allows scripts of the server
  const shown = await page.evaluate(
    async ([path, token, roomID]) => {
      const { Parlor } = (await import(path!)) as typeof import('parlor-sdk');
      const parlor = await Parlor.login({ token: token! });
      const room = await parlor.enterRoom(roomID!);
      const [history, members] = await Promise.all([room.history(), room.members()]);
      await room.leave();
      await parlor.endSession();
      return [history.messages.map((message) => 'text' in message && message.text), members.members.map(({ userID }) => userID), room.state];
    },
    ['/sdk/parlor.js', server.userToken('alice', 3600), roomID],
  );
  expect(shown).toEqual([['hello'], ['bob', 'alice'], 'disconnected']);
  await bob.endSession();
});
