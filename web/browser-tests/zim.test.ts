// The API of the ZIM SDK on a real server. A process has one ZIM client, so the other users have
// Parlor clients. Only the last tests need a browser.
import { Parlor } from 'parlor-sdk';
import { type ZIMMessage, type ZIMTextMessage, ZIM } from 'parlor-zim';
import { importProgram, readPrograms, serveApplication } from './documents.ts';
import { expect, test as base } from './user.ts';

interface LoggedIn {
  zim: ZIM;
  /** What the client emitted: `connection state/event`, `room state/event`, or `event …`. */
  log: string[];
  /** The messages that it received. */
  messages: ZIMMessage[];
}

interface Fixtures {
  /** The users of the test, whom no other test has. */
  alice: string;
  bob: string;
  /** Logs the user `alice` in with the ZIM client. */
  login: (options?: { server?: string; seconds?: number }) => Promise<LoggedIn>;
  /** Logs a user in with a Parlor client, into the room of the test. */
  join: (userID: string, roomID?: string) => Promise<Parlor>;
}

const test = base.extend<Fixtures>({
  alice: async ({ room }, use) => use(`alice@${room}`),
  bob: async ({ room }, use) => use(`bob@${room}`),

  login: async ({ server: worker, alice }, use) => {
    await use(async ({ server = worker.url, seconds = 3600 } = {}) => {
      const zim = ZIM.create({ appID: 1, server })!;
      const log: string[] = [];
      const messages: ZIMMessage[] = [];
      zim.on('connectionStateChanged', (_, { state, event }) => log.push(`connection ${state}/${event}`));
      zim.on('roomStateChanged', (_, { roomID, state, event }) => log.push(`${roomID} ${state}/${event}`));
      for (const event of ['roomMemberJoined', 'roomMemberLeft'] as const) {
        zim.on(event, (_, { memberList }) => log.push(`${event} ${memberList.map(({ userName }) => userName)}`));
      }
      for (const event of ['roomAttributesUpdated', 'roomAttributesBatchUpdated'] as const) {
        zim.on(event, (_, { infos }) => {
          log.push(`${event} ${infos.map(({ action, roomAttributes }) => `${action} ${JSON.stringify(roomAttributes)}`).join(' ')}`);
        });
      }
      for (const event of ['roomMessageReceived', 'peerMessageReceived'] as const) {
        zim.on(event, (_, { messageList, info }) => {
          messages.push(...messageList);
          log.push(`${event} ${messageList.map((message) => (message as ZIMTextMessage).message)}${info.isOfflineMessage ? ' offline' : ''}`);
        });
      }
      zim.on('messageRevokeReceived', (_, { messageList }) => log.push(`messageRevokeReceived ${messageList[0]!.messageSeq}`));
      await zim.login(alice, { userName: 'Alice', token: worker.userToken(alice, seconds) });
      return { zim, log, messages };
    });
    ZIM.getInstance()?.logout();
    ZIM.getInstance()?.destroy();
  },

  join: async ({ room, server }, use) => {
    const others: Parlor[] = [];
    await use(async (userID, roomID = room) => {
      const token = server.userToken(userID, 3600);
      const parlor = await Parlor.login({ baseURL: server.url, token, userName: userID.split('@')[0]! });
      others.push(parlor);
      await new Promise<void>((resolve) => parlor.on('sessionReady', () => resolve()));
      await parlor.enterRoom(roomID);
      return parlor;
    });
    for (const parlor of others) await parlor.endSession();
  },
});

const text = (message: string) => ({ type: 1, message }) as ZIMTextMessage;
const expectLog = (log: string[], ...lines: string[]) => expect.poll(() => log.slice(-lines.length)).toEqual(lines);

test('the states of rooms that are created, joined, switched and left', async ({ login, room }) => {
  const { zim, log } = await login();
  expect(log).toEqual(['connection 1/1', 'connection 2/0']);
  log.length = 0;
  const rooms = ['a', 'b', 'c'].map((name) => `${name}#${room}?%`);
  const [a, b, c] = rooms as [string, string, string];

  await expect(zim.joinRoom(a)).rejects.toMatchObject({ code: 6000322 });
  expect(await zim.createRoom({ roomID: a, roomName: 'A' })).toEqual({ roomInfo: { baseInfo: { roomID: a, roomName: 'A' } } });
  await expect(zim.switchRoom(a, { roomID: b, roomName: 'B' }, false)).rejects.toMatchObject({ code: 6000322 });
  await zim.switchRoom(a, { roomID: b, roomName: 'B' }, true, { roomAttributes: { key: 'value' }, roomDestroyDelayTime: 90 });
  await zim.enterRoom({ roomID: c, roomName: '' });
  await zim.leaveRoom(c);
  await expect(zim.leaveRoom(c)).rejects.toMatchObject({ code: expect.any(Number) });
  await zim.enterRoom({ roomID: c, roomName: '' });
  const { roomIDs } = await zim.leaveAllRoom();
  expect(roomIDs.toSorted()).toEqual([b, c]);
  await zim.joinRoom(b); // the delay of its destruction
  expect(log).toEqual([
    `${a} 1/6`, `${a} 0/7`, `${a} 1/4`, `${a} 2/0`, `${b} 1/11`, `${b} 0/12`, `${b} 1/11`, `${b} 2/0`, `${a} 0/0`,
    `${c} 1/6`, `${c} 2/0`, `${c} 0/0`, `${c} 1/6`, `${c} 2/0`, `${b} 0/0`, `${c} 0/0`, `${b} 1/6`, `${b} 2/0`,
  ]);
});

test('members, attributes and messages of others', async ({ login, join, room, alice, bob }) => {
  const other = await join(bob);
  await other.updateRoomAttributes(room, { set: { topic: 'x' } });
  const { zim, log, messages } = await login();
  log.length = 0;
  await zim.enterRoom({ roomID: room, roomName: 'R' });
  expect(log).toEqual([`${room} 1/6`, `${room} 2/0`, 'roomAttributesUpdated 0 {"topic":"x"}']);
  log.length = 0;

  expect(await zim.queryRoomOnlineMemberCount(room)).toEqual({ roomID: room, count: 2 });
  const { memberList, nextFlag } = await zim.queryRoomMemberList(room, { nextFlag: '', count: 1 });
  expect(memberList).toEqual([{ userID: bob, userName: 'bob', userAvatarUrl: '', userExtendedData: '' }]);
  expect((await zim.queryRoomMemberList(room, { nextFlag, count: 1 })).memberList[0]!.userID).toBe(alice);
  expect(await zim.queryRoomMembers([bob, 'nobody'], room)).toMatchObject({ memberList: [{ userID: bob }], errorUserList: [{ userID: 'nobody' }] });

  await expect(zim.setRoomAttributes({ topic: 'y' }, room, {})).rejects.toMatchObject({ code: 6000331 });
  expect(await zim.setRoomAttributes({ topic: 'y', mine: '1' }, room, { isForce: false })).toEqual({ roomID: room, errorKeys: ['topic'] });
  zim.beginRoomAttributesBatchOperation(room, { isForce: true });
  await zim.setRoomAttributes({ topic: 'z' }, room, {});
  await zim.deleteRoomAttributes(['mine'], room, {});
  await zim.endRoomAttributesBatchOperation(room);
  expect((await zim.queryRoomAllAttributes(room)).roomAttributes).toEqual({ topic: 'z' });
  await zim.setRoomMembersAttributes({ hand: 'up' }, [alice, bob], room, { isDeleteAfterOwnerLeft: true });
  expect(await zim.queryRoomMembersAttributes([bob], room)).toEqual({ roomID: room, infos: [{ userID: bob, attributes: { hand: 'up' } }] });
  expect((await zim.queryRoomMemberAttributesList(room, { nextFlag: '', count: 10 })).infos).toHaveLength(2);
  await other.updateRoomAttributes(room, { set: { a: '1' }, delete: ['topic'], force: true });
  await other.sendRoomMessage(room, { text: 'Hello' });
  await other.sendRoomMessage(room, { kind: 'command', data: 'AP8Q' });
  await other.leaveRoom(room);
  await expectLog(log, 'roomMemberLeft bob');
  expect(log).toEqual([
    'roomAttributesBatchUpdated 0 {"a":"1"} 1 {"topic":"z"}', 'roomMessageReceived Hello', 'roomMessageReceived 0,255,16', 'roomMemberLeft bob',
  ]);
  expect(messages[0]).toMatchObject({ senderUserID: bob, direction: 1, conversationID: room, conversationType: 1, sentStatus: 1 });
});

test('every type of message, its history and its recall', async ({ login, join, room, alice, bob }) => {
  const { zim, log, messages } = await login();
  await zim.enterRoom({ roomID: room, roomName: '' });
  const other = await join(bob);
  const tab = await join(alice); // another session of the same user
  await expectLog(log, 'roomMemberJoined bob');
  log.length = 0;
  const seen: string[] = [];
  other.on('roomMessageReceived', ({ messageList }) => messageList.forEach(({ kind }) => seen.push(kind)));

  const png = Buffer.from('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==', 'base64');
  const { message: hello } = await zim.sendMessage(text('Hello'), room, 1, { priority: 1 });
  await zim.sendMessage({ type: 2, message: Uint8Array.of(1, 2) } as ZIMMessage, room, 1, { priority: 2 });
  await zim.sendMessage({ type: 20, message: 'bullet' } as ZIMMessage, room, 1, { priority: 3 });
  await zim.sendMessage({ type: 200, message: '{}' } as ZIMMessage, room, 1);
  const progress: number[] = [];
  const { message: image } = await zim.sendMediaMessage(
    { type: 11, fileLocalPath: new File([png], 'dot.png', { type: 'image/png' }) }, room, 1, {},
    { onMediaUploadingProgress: (_message, sent, total) => progress.push(sent / total) },
  );
  await zim.sendMessage({ type: 12, fileLocalPath: new File(['x'], 'x.txt') } as ZIMMessage, room, 1);
  await zim.sendMessage({ type: 100, title: 'Two', summary: 'two', messageList: [hello, image] } as ZIMMessage, room, 1);
  await expect(zim.sendMessage({ type: 13, fileLocalPath: new File(['x'], 'x.mp3') } as ZIMMessage, room, 1)).rejects.toMatchObject({ code: 6000213 });
  await expect.poll(() => seen).toEqual(['text', 'command', 'barrage', 'custom', 'image', 'file', 'combine']);
  expect(progress.at(-1)).toBe(1);
  expect(image).toMatchObject({ fileName: 'dot.png', originalImageWidth: 1, sentStatus: 1 });
  const { fileDownloadUrl } = image as { fileDownloadUrl?: string };
  expect(Buffer.from(await (await fetch(fileDownloadUrl!)).arrayBuffer())).toEqual(png);
  expect(messages).toEqual([]); // no echo

  await tab.sendRoomMessage(room, { text: 'from my phone' });
  await expectLog(log, 'roomMessageReceived from my phone');
  expect(messages[0]).toMatchObject({ senderUserID: alice, direction: 0 });

  const { messageList: newest } = await zim.queryHistoryMessage(room, 1, { count: 2, reverse: true });
  expect(newest.map(({ type }) => type)).toEqual([100, 1]);
  expect((newest[0] as unknown as { messageList: ZIMMessage[] }).messageList.map(({ type }) => type)).toEqual([1, 11]);
  const { messageList: older } = await zim.queryHistoryMessage(room, 1, { nextMessage: newest[0]!, count: 100, reverse: true });
  expect(older.map(({ type }) => type)).toEqual([1, 200, 11, 12]);
  const { messageList: oldest } = await zim.queryHistoryMessage(room, 1, { count: 1, reverse: false });
  expect(oldest[0]!.messageID).toBe(hello.messageID);
  expect((await zim.queryMessages([hello.messageSeq!], room, 1)).messageList).toMatchObject([{ messageID: hello.messageID }]);

  const { message: theirs } = await other.sendRoomMessage(room, { text: 'oops' });
  await other.recallMessage(room, theirs.messageID);
  await expectLog(log, 'roomMessageReceived oops', `messageRevokeReceived ${theirs.seq}`);
  expect((await zim.revokeMessage(hello)).message.type).toBe(31);
  expect((await zim.queryHistoryMessage(room, 1, { count: 1, reverse: false })).messageList[0]).toMatchObject({ type: 31, originalMessageType: 1 });
});

test('messages between users: live, offline, and in conversations', async ({ login, join, alice, bob, server }) => {
  await server.createRoom(`before-${alice}`);
  await fetch(`${server.url}/v1/sessions`, {
    method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ token: server.userToken(alice, 60) }),
  });
  const other = await join(bob);
  await other.sendPeerMessage(alice, { text: 'while you were away' });
  const { zim, log } = await login();
  await expectLog(log, 'peerMessageReceived while you were away offline');
  const changes: unknown[] = [];
  zim.on('conversationChanged', (_, { infoList }) => changes.push(infoList[0]!.conversation.unreadMessageCount));
  zim.on('conversationTotalUnreadMessageCountUpdated', (_, { totalUnreadMessageCount }) => changes.push(`total ${totalUnreadMessageCount}`));
  await other.sendPeerMessage(alice, { text: 'are you there?' });
  await expectLog(log, 'peerMessageReceived are you there?');
  await expect.poll(() => changes).toEqual([2, 'total 2']);
  await zim.sendPeerMessage(text('yes'), bob);
  await expect.poll(async () => (await other.listPeerMessages(alice)).messageList.length).toBe(3);

  const { conversationList } = await zim.queryConversationList({ count: 10 });
  expect(conversationList).toMatchObject([{ conversationID: bob, type: 0, conversationName: 'bob', unreadMessageCount: 2, lastMessage: { message: 'yes' } }]);
  await zim.clearConversationUnreadMessageCount(bob, 0);
  await expect.poll(() => changes.slice(-2)).toEqual([0, 'total 0']);
  await zim.deleteConversation(bob, 0, { isAlsoDeleteServerConversation: true });
  expect((await zim.queryConversationList({ count: 10 })).conversationList).toEqual([]);

  await zim.addUsersToBlacklist([bob]);
  expect(await zim.checkUserIsInBlacklist(bob)).toEqual({ isUserInBlacklist: true });
  expect((await zim.queryBlacklist({ nextFlag: 0, count: 10 })).blacklist).toMatchObject([{ userID: bob, userName: 'bob' }]);
  await expect(other.sendPeerMessage(alice, { text: 'hello?' })).rejects.toMatchObject({ code: 'blocked' });
  await zim.removeUsersFromBlacklist([bob]);
  await other.blockUser(alice);
  await expect(zim.sendMessage(text('please'), bob, 0, { priority: 1 })).rejects.toMatchObject({ code: 6000284 });
  await expect(zim.sendMessage(text('x'), 'nobody', 0, { priority: 1 })).rejects.toMatchObject({ code: 6000204 });
  await expect(zim.sendMessage(text('x'), alice, 0, { priority: 1 })).rejects.toMatchObject({ code: 6000001 });
});

test('users and their statuses', async ({ login, join, alice, bob }) => {
  const other = await join(bob);
  const { zim } = await login();
  const events: unknown[] = [];
  zim.on('userInfoUpdated', (_, { info }) => events.push(info.baseInfo.userName));
  zim.on('userStatusUpdated', (_, { userStatusList: [status] }) => events.push([status!.onlineStatus, status!.customStatus]));
  expect(await zim.queryUsersInfo([bob, 'nobody'], { isQueryFromServer: true })).toMatchObject({
    userList: [{ baseInfo: { userID: bob, userName: 'bob' } }], errorUserList: [{ userID: 'nobody', reason: 6000011 }],
  });
  expect(await zim.updateUserName('Al')).toEqual({ userName: 'Al' });
  await zim.updateUserAvatarUrl('https://example.com/al.png');
  await zim.updateUserExtendedData('{"level":7}');
  expect((await zim.querySelfUserInfo()).selfUserInfo).toMatchObject({
    userFullInfo: { baseInfo: { userID: alice, userName: 'Al' }, userAvatarUrl: 'https://example.com/al.png', extendedData: '{"level":7}' },
    userStatus: { onlineStatus: 0 },
  });
  await expect.poll(() => events).toEqual(['Al', 'Al', 'Al']);
  expect(await zim.subscribeUsersStatus([bob], { subscriptionDuration: 1 })).toEqual({ errorUserList: [] });
  expect((await zim.querySubscribedUserStatusList({ userIDs: [] })).userStatusSubscriptionList).toMatchObject([{ userStatus: { userID: bob } }]);
  await other.updateStatus({ customStatus: 'busy' });
  await expect.poll(() => events.at(-1)).toEqual([0, 'busy']);
  await other.endSession();
  await expect.poll(() => events.at(-1)).toEqual([2, 'busy']);
  await zim.unsubscribeUsersStatus([bob]);
});

test('a room that is destroyed, a kick, and another device', async ({ login, join, room, server, alice }) => {
  const { zim } = await login();
  const ends: string[] = [];
  zim.on('roomStateChanged', (_, { roomID, state, event, extendedData }) => {
    if (state === 0) ends.push(`${roomID} ${event} ${extendedData}`);
  });
  const rooms = ['a', 'b', 'c'].map((name) => `${name}-${room}`);
  const [a, b, c] = rooms as [string, string, string];
  await server.admin('POST', '/rooms', { roomID: c, config: { sameUser: 'replace' } });
  for (const roomID of rooms) await zim.enterRoom({ roomID, roomName: '' });
  await server.admin('DELETE', `/rooms/${a}`);
  await server.admin('POST', `/rooms/${b}/kick`, { userIDs: [alice], reason: 'spam' });
  await join(alice, c);
  await expect.poll(() => ends).toEqual([`${a} 3 {}`, `${b} 8 {"reason":"spam"}`, `${c} 10 {}`]);
  await zim.enterRoom({ roomID: b, roomName: '' }); // the kick had no ban
});

test('a connection that is lost for less than memberTimeout, and for more', async ({ login, join, room, tcpProxy, server, bob }) => {
  await server.createRoom(room, { memberTimeout: 5 });
  const other = await join(bob);
  const left: string[] = [];
  other.on('roomMemberLeft', ({ memberList }) => left.push(memberList[0]!.reason));
  const { zim, log } = await login({ server: tcpProxy.url });
  const gone = `gone-${room}`;
  await server.createRoom(gone, { memberTimeout: 300 });
  await zim.joinRoom(room);
  await zim.joinRoom(gone);
  log.length = 0;
  tcpProxy.interrupt();
  await expectLog(log, 'connection 3/3', `${room} 1/1`, `${gone} 1/1`);
  const sent = zim.sendMessage(text('from a tunnel'), room, 1, { priority: 1 });
  await other.sendRoomMessage(room, { text: 'meanwhile' });
  tcpProxy.restore();
  await sent;
  await expect.poll(() => log.length).toBe(7);
  expect(log.slice(3, 6)).toEqual(['connection 2/0', `${room} 2/0`, `${gone} 2/0`]);
  expect(log[6]).toBe('roomMessageReceived meanwhile');
  expect(left).toEqual([]);

  log.length = 0;
  tcpProxy.interrupt();
  await expect.poll(() => left).toEqual(['timedOut']);
  await server.admin('DELETE', `/rooms/${gone}`);
  tcpProxy.restore();
  await expect.poll(() => log.length).toBe(6);
  expect(log.slice(0, 4)).toEqual(['connection 3/3', `${room} 1/1`, `${gone} 1/1`, 'connection 2/0']);
  expect(log.slice(4).toSorted()).toEqual([`${gone} 0/3`, `${room} 0/9`].toSorted());
  await zim.joinRoom(room);
});

test('a server that restarts', async ({ login, join, room, server, bob }) => {
  const { zim, log } = await login();
  await zim.enterRoom({ roomID: room, roomName: '' });
  const other = await join(bob);
  await expectLog(log, 'roomMemberJoined bob');
  await server.kill();
  await expectLog(log, 'connection 3/3', `${room} 1/1`);
  const sent = zim.sendMessage(text('still here'), room, 1, { priority: 1 });
  await server.start();
  await sent;
  await expectLog(log, 'connection 2/0', `${room} 2/0`);
  await other.sendRoomMessage(room, { text: 'me too' });
  await expectLog(log, 'roomMessageReceived me too');
});

test('a token that is renewed, one that expires, and a session that is ended', async ({ login, room, server, alice }) => {
  const { zim, log } = await login({ seconds: 8 });
  const renewed = new Promise<void>((resolve) => {
    zim.on('tokenWillExpire', (zim, { second }) => {
      expect(second).toBeLessThan(9);
      zim.renewToken(server.userToken(alice, 6)).then(({ token }) => {
        expect(token).toContain('.');
        zim.off('tokenWillExpire');
        resolve();
      });
    });
  });
  await renewed;
  await zim.enterRoom({ roomID: room, roomName: '' });
  log.length = 0;
  await expectLog(log, `${room} 0/2`, 'connection 0/5');
  await expect(zim.leaveRoom(room)).rejects.toMatchObject({ code: 6000121 });
  await expect(zim.login(alice, { token: `${server.userToken(alice, 60)}x` })).rejects.toMatchObject({ code: 6000103 });

  await zim.login({ userID: alice, userName: 'Alice' }, server.userToken(alice, 60));
  await zim.enterRoom({ roomID: room, roomName: '' });
  log.length = 0;
  await server.admin('DELETE', `/users/${encodeURIComponent(alice)}/sessions`);
  await expectLog(log, `${room} 0/8`, 'connection 0/4');
  await expect(zim.enterRoom({ roomID: room, roomName: '' })).rejects.toMatchObject({ code: 6000121 });
});

test('a client that is destroyed, and another one', async ({ login, join, room, server, alice, bob }) => {
  await server.createRoom(room, { memberTimeout: 5 });
  const other = await join(bob);
  const left = new Promise<string>((resolve) => other.on('roomMemberLeft', ({ memberList }) => resolve(memberList[0]!.reason)));
  const { zim, log } = await login();
  await zim.joinRoom(room);
  const before = log.length;
  zim.destroy();
  const again = await login(); // create() returns another client
  expect(ZIM.getInstance()).toBe(again.zim);
  expect(await left).toBe('timedOut');
  expect(log).toHaveLength(before);
  again.zim.logout();
  await expect.poll(() => server.sessionStates(alice)).toEqual(['detached']);
});

test('the pages of the vendor run with the classic script', async ({ join, page, room, server, alice, bob }) => {
  const other = await join(bob);
  const received: string[] = [];
  for (const event of ['roomMessageReceived', 'peerMessageReceived'] as const) {
    other.on(event, ({ messageList: [message] }) => received.push(`${message!.kind === 'text' && message!.text}`));
  }
  await page.goto(server.url);
  await page.addScriptTag({ url: '/sdk/compat/zim.global.js' });
  await page.evaluate(vendorPages, [alice, server.userToken(alice, 60), room, bob] as const);
  await expect.poll(() => received).toEqual(['文本消息内容', '文本消息内容']);
  await other.sendPeerMessage(alice, { text: 'to Alice' });
  await expect.poll(() => page.evaluate(() => (globalThis as unknown as { log: unknown[] }).log)).toEqual([
    ['connectionStateChanged', 1, 1], ['connectionStateChanged', 2, 0], ['roomStateChanged', `${room}-1`, 1, 4],
    ['roomStateChanged', `${room}-1`, 2, 0], ['created', `${room}-1`], ['roomStateChanged', room, 1, 11], ['roomStateChanged', room, 2, 0],
    ['roomStateChanged', `${room}-1`, 0, 0], ['switched', room], ['receivePeerMessage', bob, 'to Alice'],
  ]);
  await page.evaluate(() => (globalThis as unknown as { zim: ZIM }).zim.logout());
  await expect.poll(() => server.sessionStates(alice)).toEqual([]);
});

/** The code of the vendor's pages about messages and rooms, in their older style. */
async function vendorPages([userID, token, roomID, peer]: readonly [string, string, string, string]): Promise<void> {
  const global = globalThis as any;
  const log: unknown[] = (global.log = []);
  const appID = 1;
  global.ZIM.create({ appID });
  var zim = (global.zim = global.ZIM.getInstance());
  zim.on('error', function (_zim: unknown, errorInfo: any) {
    log.push(['error', errorInfo.code, errorInfo.message]);
  });
  zim.on('connectionStateChanged', function (zim: any, { state, event }: any) {
    log.push(['connectionStateChanged', state, event]);
    if (state == 0 && event != 0 && event != 4) {
      zim.login(userID, config);
    }
  });
  zim.on('roomStateChanged', function (_zim: unknown, { roomID, state, event }: any) {
    log.push(['roomStateChanged', roomID, state, event]);
  });
  zim.on('receivePeerMessage', function (_zim: unknown, { messageList, fromConversationID }: any) {
    log.push(['receivePeerMessage', fromConversationID, messageList[0].message]);
  });
  var config = { userName: 'Alice', token };
  await zim.login(userID, config);
  await zim
    .createRoom({ roomID: `${roomID}-1`, roomName: 'One' })
    .then(function ({ roomInfo }: any) {
      log.push(['created', roomInfo.baseInfo.roomID]);
    })
    .catch(function (err: any) {
      log.push(['failed', err.code]);
    });
  const toRoomInfo = { roomID, roomName: 'toRoomName' };
  const advanced = { roomAttributes: { key1: 'value1', key2: 'value2' }, roomDestroyDelayTime: 90 };
  await zim.switchRoom(`${roomID}-1`, toRoomInfo, true, advanced).then(function (res: any) {
    log.push(['switched', res.roomInfo.baseInfo.roomID]);
  });
  var messageTextObj = { type: 1, message: '文本消息内容', extendedData: '消息的扩展信息(可选)' };
  var notification = { onMessageAttached: function (_message: unknown) {} };
  for (const [toConversationID, conversationType] of [[roomID, global.ZIMConversationType.Room], [peer, 0]]) {
    await zim.sendMessage(messageTextObj, toConversationID, conversationType, { priority: 1 }, notification).then(function ({ message }: any) {
      if (message.sentStatus !== 1) log.push(['not sent']);
    });
  }
}

test('the page of docs/migrating/zim.md, with the tokens of its backend', async ({ join, page, server, alice, bob }) => {
  const [script, backend] = await readPrograms('migrating/zim.md');
  const { generateToken } = await importProgram(backend!, { PARLOR_SECRET: server.secret });
  const roomID = `class#${alice}`;
  const other = await join(bob, roomID);
  const received: string[] = [];
  other.on('roomMessageReceived', ({ messageList: [message] }) => received.push(`${message!.kind === 'text' && message!.text}`));
  const config = () => JSON.stringify({ userID: alice, userName: 'Alice', token: generateToken(alice, 60) });
  await serveApplication(page, server, script!.replaceAll('class#1', roomID), { '/zim-token': config });
  await expect(page.locator('body')).toContainText(`In ${roomID}.`);
  await expect.poll(() => received).toEqual(['Hello']);
  await other.sendRoomMessage(roomID, { text: 'Hi Alice' });
  await expect(page.locator('body')).toContainText(`${bob}: Hi Alice`);
  await join(`carol@${alice}`, roomID);
  await expect(page.locator('body')).toContainText('carol joined');
});
