// The API of the Express SDK on a real server. Only the last tests need a browser.
import { ZegoExpressEngine, type ZegoRoomConfig } from 'parlor-express';
import { importProgram, readPrograms, serveApplication } from './documents.ts';
import { expect, test as base } from './user.ts';

interface LoggedIn {
  engine: ZegoExpressEngine;
  /** What the engine emitted: `REASON code extendedData`, `ADD users`, `info key=value by user`, … */
  log: string[];
}

interface LoginOptions extends ZegoRoomConfig {
  userName?: string;
  /** The address of the server, if it is not that of the worker. */
  url?: string;
  seconds?: number;
  /** Called with the engine before it logs in. */
  prepare?: (engine: ZegoExpressEngine) => void;
}

const test = base.extend<{ login: (userID: string, options?: LoginOptions) => Promise<LoggedIn> }>({
  /** Logs in to the room of the test with an engine of its own, and listens to everything. */
  login: async ({ server, room }, use) => {
    const engines: ZegoExpressEngine[] = [];
    await use(async (userID, { userName = userID, url = server.url, seconds = 3600, prepare, ...config } = {}) => {
      const engine = new ZegoExpressEngine(1234567890, url);
      engines.push(engine);
      const log = listen(engine);
      prepare?.(engine);
      const user = { userID, userName };
      expect(await engine.loginRoom(room, server.userToken(userID, seconds), user, { userUpdate: true, ...config })).toBe(true);
      return { engine, log };
    });
    for (const engine of engines) engine.destroyEngine();
  },
});

function listen(engine: ZegoExpressEngine): string[] {
  const log: string[] = [];
  engine.on('roomStateChanged', (_, reason, code, extendedData) => log.push(`${reason} ${code} ${extendedData}`.trim()));
  engine.on('roomUserUpdate', (_, updateType, users) => log.push(`${updateType} ${users.map(({ userID }) => userID)}`));
  engine.on('roomOnlineUserCountUpdate', (_, count) => log.push(`count ${count}`));
  engine.on('IMRecvBroadcastMessage', (_, messages) => messages.forEach(({ fromUser, message }) => log.push(`text ${fromUser.userName}: ${message}`)));
  engine.on('IMRecvBarrageMessage', (_, messages) => messages.forEach(({ fromUser, message }) => log.push(`barrage ${fromUser.userName}: ${message}`)));
  engine.on('IMRecvCustomCommand', (_, { userName }, command) => log.push(`command ${userName}: ${command}`));
  engine.on('roomExtraInfoUpdate', (_, infos) => infos.forEach(({ key, value, updateUser }) => log.push(`info ${key}=${value} by ${updateUser.userID}`)));
  engine.on('tokenWillExpire', (roomID) => log.push(`tokenWillExpire ${roomID}`));
  return log;
}

const states = (log: string[]) => log.filter((line) => /^[A-Z_]+ \d/.test(line));
const users = (log: string[]) => log.filter((line) => /^(ADD|DELETE) /.test(line));

test('users meet, talk and log out', async ({ login, room }) => {
  const alice = await login('alice', { userName: 'Alice' });
  expect(states(alice.log)).toEqual(['LOGINING 0', 'LOGINED 0']);
  expect(await alice.engine.setRoomExtraInfo(room, 'notice', 'welcome')).toMatchObject({ errorCode: 0 });
  const bob = await login('bob');
  const carol = await login('carol', { userUpdate: false });
  expect(bob.log.slice(0, 5)).toEqual(['LOGINING 0', 'LOGINED 0', 'ADD alice', 'count 2', 'info notice=welcome by ']);
  await expect.poll(() => users(alice.log)).toEqual(['ADD bob', 'ADD carol']);
  await expect.poll(() => alice.log.at(-1)).toBe('count 3');

  expect(await alice.engine.sendBroadcastMessage(room, 'hello')).toEqual({ errorCode: 0, extendedData: '' });
  await alice.engine.sendCustomCommand(room, '举手', ['bob']);
  await alice.engine.sendBarrageMessage(room, 'fun');
  await alice.engine.setRoomExtraInfo(room, 'notice', 'quiet');
  const common = ['text Alice: hello', 'barrage Alice: fun', 'info notice=quiet by alice'];
  await expect.poll(() => bob.log.slice(-4).toSorted()).toEqual([...common, 'command Alice: 举手'].toSorted());
  await expect.poll(() => carol.log.slice(-3).toSorted()).toEqual(common.toSorted());
  await carol.engine.setRoomExtraInfo(room, 'notice', 'mine');
  await expect.poll(() => alice.log.at(-1)).toBe('info notice=mine by carol');
  expect(alice.log.filter((line) => /^(text|barrage|command)/.test(line))).toEqual([]);

  bob.engine.logoutRoom(room);
  expect(bob.log.at(-1)).toBe('LOGOUT 0');
  await expect.poll(() => users(alice.log).at(-1)).toBe('DELETE bob');
  expect(users(carol.log)).toEqual([]);
});

// The three cases of the vendor's page about lost connections.

test('case 1: a connection that is restored in time is noticed by nobody else', async ({ login, room, tcpProxy }) => {
  const bob = await login('bob');
  const alice = await login('alice', { url: tcpProxy.url });
  tcpProxy.interrupt();
  await expect.poll(() => states(alice.log).at(-1)).toBe('RECONNECTING 1000017');
  await bob.engine.sendBroadcastMessage(room, 'meanwhile');
  tcpProxy.restore();
  await expect.poll(() => states(alice.log).at(-1)).toBe('RECONNECTED 0');
  await expect.poll(() => alice.log).toContain('text bob: meanwhile');
  expect(users(bob.log)).toEqual(['ADD alice']);
});

test('case 2: a connection that is restored later is a new login', async ({ login, room, server, tcpProxy }) => {
  await server.createRoom(room, { memberTimeout: 5 });
  const bob = await login('bob');
  const alice = await login('alice', { url: tcpProxy.url });
  tcpProxy.interrupt();
  await expect.poll(() => users(bob.log)).toEqual(['ADD alice', 'DELETE alice']);
  tcpProxy.restore();
  await expect.poll(() => states(alice.log)).toEqual(['LOGINING 0', 'LOGINED 0', 'RECONNECTING 1000017', 'RECONNECTED 0']);
  await expect.poll(() => users(bob.log)).toEqual(['ADD alice', 'DELETE alice', 'ADD alice']);
  await bob.engine.sendBroadcastMessage(room, 'welcome back');
  await expect.poll(() => alice.log.at(-1)).toBe('text bob: welcome back');
  expect(users(alice.log)).toEqual(['ADD bob']);
});

test('case 3: a connection that is not restored ends the login', async ({ login, room, server, tcpProxy }) => {
  await server.createRoom(room, { memberTimeout: 5 });
  const bob = await login('bob');
  const alice = await login('alice', { url: tcpProxy.url, prepare: (engine) => engine.setEngineConfig({ roomRetryTime: 3 }) });
  tcpProxy.interrupt();
  await expect.poll(() => states(alice.log).slice(-2)).toEqual(['RECONNECTING 1000017', 'RECONNECT_FAILED 1002053']);
  await expect.poll(() => users(bob.log)).toEqual(['ADD alice', 'DELETE alice']);
  expect(await alice.engine.sendBroadcastMessage(room, 'hello?')).toMatchObject({ errorCode: 1002002 });
  tcpProxy.restore();
  await alice.engine.loginRoom(room, server.userToken('alice', 60), { userID: 'alice' });
  await expect.poll(() => users(bob.log).at(-1)).toBe('ADD alice');
});

test('a restart of the server is a short loss', async ({ login, room, server }) => {
  const alice = await login('alice');
  const bob = await login('bob');
  await server.kill();
  const sent = bob.engine.sendBroadcastMessage(room, 'still here');
  await expect.poll(() => states(bob.log).at(-1)).toBe('RECONNECTING 1000017');
  await server.start();
  expect(await sent).toMatchObject({ errorCode: 0 });
  for (const { log } of [alice, bob]) await expect.poll(() => states(log).at(-1)).toBe('RECONNECTED 0');
  await expect.poll(() => alice.log).toContain('text bob: still here');
  expect(users(alice.log)).toEqual(['ADD bob']);
});

test('a token expires, unless the application renews it', async ({ login, room, server }) => {
  const renew = (engine: ZegoExpressEngine) =>
    engine.on('tokenWillExpire', (roomID) => engine.renewToken(server.userToken('alice', 3600), roomID));
  const alice = await login('alice', { seconds: 6, prepare: renew });
  const bob = await login('bob', { seconds: 6 });
  await expect.poll(() => bob.log).toContain(`tokenWillExpire ${room}`);
  await expect.poll(() => states(bob.log).at(-1)).toBe('KICKOUT 1002078');
  await expect.poll(() => users(alice.log)).toEqual(['ADD bob', 'DELETE bob']);
  expect(await alice.engine.sendBroadcastMessage(room, 'still here')).toMatchObject({ errorCode: 0 });
});

test('the server removes a user, a second login replaces the first, and the room is destroyed', async ({ login, room, server }) => {
  const alice = await login('alice');
  const bob = await login('bob');
  await server.admin('POST', `/rooms/${room}/kick`, { userIDs: ['bob'], reason: 'spam' });
  await expect.poll(() => states(bob.log).at(-1)).toBe('KICKOUT 1002055 {"custom_kickout_message":"spam"}');
  await expect.poll(() => users(alice.log)).toEqual(['ADD bob', 'DELETE bob']);

  const phone = await login('alice');
  await expect.poll(() => states(alice.log).at(-1)).toBe('KICKOUT 1002050');
  await server.admin('DELETE', `/rooms/${room}`);
  await expect.poll(() => states(phone.log).at(-1)).toBe('KICKOUT 1002055');
});

test('one engine is in several rooms', async ({ login, room, server }) => {
  const other = `${room}-other`;
  const alice = await login('alice', { prepare: (engine) => engine.enableMultiRoom(true) });
  await alice.engine.loginRoom(other, server.userToken('alice', 60), { userID: 'alice' });
  const rooms: string[] = [];
  alice.engine.on('IMRecvBroadcastMessage', (roomID, [message]) => rooms.push(`${roomID} ${message!.message}`));
  const bob = await login('bob');
  await bob.engine.sendBroadcastMessage(room, 'one');
  await expect.poll(() => rooms).toEqual([`${room} one`]);
  expect(await bob.engine.switchRoom(room, other, { token: server.userToken('bob', 60) })).toBe(true);
  expect(states(bob.log)).toEqual(['LOGINING 0', 'LOGINED 0', 'LOGOUT 0', 'LOGINING 0', 'LOGINED 0']);
  await bob.engine.sendBroadcastMessage(other, 'two');
  await expect.poll(() => rooms).toEqual([`${room} one`, `${other} two`]);
  alice.engine.logoutRoom(other);
  expect(await alice.engine.sendBroadcastMessage(room, 'still in the first')).toMatchObject({ errorCode: 0 });
});

test('tokens without rights, of others and of another server are refused', async ({ room, server }) => {
  const engine = new ZegoExpressEngine(1, server.url);
  const log = listen(engine);
  const alice = { userID: 'alice', userName: 'Alice' };
  await expect(engine.loginRoom(room, server.userToken('alice', 60, 'join:elsewhere'), alice)).rejects.toMatchObject({ code: 1002033 });
  await expect(engine.loginRoom(room, server.userToken('bob', 60), alice)).rejects.toMatchObject({ code: 1002077 });
  await expect(engine.loginRoom(room, 'no token', alice)).rejects.toMatchObject({ code: 1002033 });
  expect(states(log)).toEqual([
    'LOGINING 0', 'LOGIN_FAILED 1002033', 'LOGINING 0', 'LOGIN_FAILED 1002077', 'LOGINING 0', 'LOGIN_FAILED 1002033',
  ]);
});

test('the classic script sets ZegoExpressEngine', async ({ login, page, room, server }) => {
  const bob = await login('bob');
  await page.goto(server.url);
  await page.addScriptTag({ url: '/sdk/compat/express.global.js' });
  // As the demos of the vendor do it.
  const older = await page.evaluate(
    async ({ roomID, token }) => {
      const zg = new (globalThis as unknown as { ZegoExpressEngine: typeof ZegoExpressEngine }).ZegoExpressEngine(1, '');
      zg.setLogConfig({ logLevel: 'error', remoteLogLevel: 'disable' });
      zg.setDebugVerbose(false);
      if (!(await zg.checkSystemRequirements()).webRTC) throw new Error('the browser does not support webrtc');
      const log: unknown[] = [];
      zg.on('roomStateUpdate', (_, state, errorCode) => log.push(`${state} ${errorCode}`));
      log.push(await zg.loginRoom(roomID, token, { userID: 'alice', userName: 'Alice' }, { userUpdate: true }));
      log.push((await zg.enumDevices()).cameras.length, (await zg.sendBroadcastMessage(roomID, 'hello')).errorCode);
      zg.logoutRoom(roomID);
      return log;
    },
    { roomID: room, token: server.userToken('alice', 60) },
  );
  expect(older).toEqual(['CONNECTING 0', 'CONNECTED 0', true, 0, 0, 'DISCONNECTED 0']);
  await expect.poll(() => bob.log.filter((line) => !line.startsWith('count')).slice(-3)).toEqual(['ADD alice', 'text Alice: hello', 'DELETE alice']);
});

test('the page of docs/migrating/express.md, with the tokens of its backend', async ({ login, page, room, server }) => {
  const [script, backend] = await readPrograms('migrating/express.md');
  const { roomToken: sign } = await importProgram(backend!, { PARLOR_SECRET: server.secret });
  const bob = await login('bob', { userName: 'Bob' });
  await serveApplication(page, server, script!.replaceAll("'class-7'", `'${room}'`), {
    '/room-token': () => sign(room, 'alice', 60),
  });
  const body = page.locator('body');
  await expect(body).toContainText('LOGINED 0');
  await expect(body).toContainText('ADD Bob');
  await expect.poll(() => bob.log).toContain('text Alice: Hello');
  await bob.engine.sendBroadcastMessage(room, 'Hi Alice');
  await bob.engine.setRoomExtraInfo(room, 'notice', 'quiet');
  await expect(body).toContainText('Bob: Hi Alice');
  await expect(body).toContainText('notice is quiet');
  await server.admin('POST', `/rooms/${room}/kick`, { userIDs: ['alice'], reason: 'spam' });
  await expect(body).toContainText('KICKOUT 1002055');
});
