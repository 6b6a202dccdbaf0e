import { onTestFinished } from 'vitest';
import { session, TestServer } from '../../../sdk/tests/server.ts';
import { type ZIMEventHandler, ZIM } from '../src/index.ts';

export const generation = 1;

/** The names of all events, in the order in which they were received, with the data. */
export type Log = [event: string, data: any][];

const EVENTS: (keyof ZIMEventHandler)[] = [
  'error', 'tokenWillExpire', 'connectionStateChanged', 'userInfoUpdated', 'userStatusUpdated', 'blacklistChanged',
  'receivePeerMessage', 'receiveRoomMessage', 'peerMessageReceived', 'roomMessageReceived', 'messageRevokeReceived',
  'messageDeleted', 'roomStateChanged', 'roomMemberJoined', 'roomMemberLeft', 'roomAttributesUpdated',
  'roomAttributesBatchUpdated', 'roomMemberAttributesUpdated',
];

export function create(server: TestServer): { zim: ZIM; log: Log } {
  const zim = ZIM.create({ appID: 1, server: server.url })!;
  onTestFinished(() => zim.destroy());
  const log: Log = [];
  for (const event of EVENTS) zim.on(event, (_: ZIM, data: unknown) => log.push([event, data]));
  return { zim, log };
}

/** Logs in as alice, and forgets the events of that. */
export async function login(server: TestServer) {
  const { zim, log } = create(server);
  const done = zim.login('alice', { userName: 'Alice', token: 'token' });
  (await server.next('POST', '/v1/sessions')).reply(201, session);
  const stream = (await server.nextStream()).open().ready();
  await done;
  log.length = 0;
  return { zim, log, stream };
}

/** Logs in and enters the room `r`, and forgets the events of that. */
export async function inRoom(server: TestServer, room: object = roomReply()) {
  const client = await login(server);
  const done = client.zim.enterRoom({ roomID: 'r', roomName: 'R' });
  (await server.next('POST', '/v1/rooms/r/enter')).reply(200, { room, created: false });
  await done;
  client.log.length = 0;
  return client;
}

export function roomReply(more: object = {}) {
  const config = { memberTimeout: 30, maxMembers: 500 };
  const attributes = { roomAttributes: {}, attributesVersion: 0, settingsVersion: 0 };
  return { roomID: 'r', generation, roomName: 'R', config, memberCount: 1, createdAt: '2026-11-21T15:00:00.000Z', lastSeq: 1, ...attributes, ...more };
}

/** Makes a message as in an event of a room or, without a roomID, between users. */
export function message(seq: number, more: object = {}) {
  return {
    messageID: `m${seq}`, seq, roomID: 'r', kind: 'text', text: `message ${seq}`, sender: { userID: 'bob', userName: 'Bob' },
    priority: 'medium', sentAt: '2026-11-21T15:00:00.000Z', ...more,
  };
}

export function roomMessage(seq: number, more: object = {}) {
  return { roomID: 'r', generation, seq, messageList: [message(seq, more)] };
}

/** Waits until an event was received; the test's timeout limits it. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}

export async function received(log: Log, event: string): Promise<any> {
  await until(() => log.some(([name]) => name === event));
  return log.find(([name]) => name === event)![1];
}

/** The state and event numbers of the connection (c) and of rooms, in their order. */
export function states(log: Log): string[] {
  return log.flatMap(([event, data]) => {
    if (event === 'connectionStateChanged') return [`c ${data.state}/${data.event}`];
    if (event === 'roomStateChanged') return [`${data.roomID} ${data.state}/${data.event}`];
    return [];
  });
}
