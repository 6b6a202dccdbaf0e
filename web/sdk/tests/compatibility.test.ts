import { beforeEach, expect, test, vi } from 'vitest';
import { EventSource } from 'eventsource';
import { fakeTime, login, message, next, record } from './harness.ts';
import { session, TestServer } from './server.ts';

let server: TestServer;

beforeEach(async () => {
  fakeTime();
  vi.stubGlobal('EventSource', EventSource);
  server = await TestServer.start();
});

const transports = ['fetch', 'eventSource'] as const;

// A later server has fields, events, values and error codes that this client does not know.
test.each(transports)('a later server is understood over %s', async (transport) => {
  const errors = vi.fn();
  vi.stubGlobal('reportError', errors);
  const parlor = await login(server, { transport }, { ...session, region: 'x', limits: { ...session.limits, stars: 5 } });
  const states = record(parlor, 'connectionStateChanged');
  const rooms = record(parlor, 'roomStateChanged');
  const received = next(parlor, 'roomMessageReceived');
  const stream = (await server.nextStream()).open();
  stream.event('sessionReady', { sessionID: session.sessionID, resumed: false, rooms: [], serverTime: 1 }, '1:0');
  stream.event('roomWeatherChanged', { roomID: 'r', generation: 1, seq: 1, weather: null }, '1:1');
  stream.event('roomWeatherForecast', ['no object']);
  stream.event('roomStateChanged', { roomID: 'r', state: 'asleep', event: 'bored', since: '2026-11-21T15:00:00.000Z' }, '1:1');
  const sent = message(2);
  const later = { ...sent, shard: 2, messageList: [{ ...sent.messageList[0], kind: 'hologram', priority: 'urgent', mood: null }] };
  stream.event('roomMessageReceived', later, '1:2');
  expect(await received).toEqual(later);
  expect(rooms.map(({ state, event }) => `${state} ${event}`)).toEqual(['asleep bored']);
  expect(parlor.resumeState().cursor).toBe('1:2');
  expect(states).toEqual([{ state: 'connected', event: 'success' }]);
  expect(errors).not.toHaveBeenCalled();

  const listed = parlor.listRoomMessages('r');
  (await server.next('GET', '/v1/rooms/r/messages')).reply(200, { messageList: later.messageList, total: 1 });
  expect((await listed).messageList).toEqual(later.messageList);
  const refused = parlor.leaveRoom('r');
  (await server.next('POST', '/v1/rooms/r/leave')).refuse(409, 'room_asleep');
  await expect(refused).rejects.toMatchObject({ code: 'room_asleep', status: 409 });
});
