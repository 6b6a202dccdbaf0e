import { readFileSync } from 'node:fs';
import { fireEvent, render, screen, waitFor } from '@testing-library/react';
import { ParlorProvider, useAttributes, useConnection, useMembers, useMessages, useParlor, useRoom } from 'parlor-react';
import { Parlor } from 'parlor-sdk';
import { type ReactNode, StrictMode } from 'react';
import { beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { type Call, session, TestServer } from '../../sdk/tests/server.ts';
import { App } from './example.tsx';

let server: TestServer;
let parlor: Parlor;
let stream: Call;

beforeEach(async () => {
  server = await TestServer.start();
  const [loggedIn] = await Promise.all([
    Parlor.login({ baseURL: server.url, token: 'token' }),
    server.next('POST', '/v1/sessions').then((call) => call.reply(201, session)),
  ]);
  parlor = loggedIn;
  onTestFinished(() => parlor.close());
  stream = (await server.nextStream()).open();
});

const roomID = 'class#1';
const path = '/v1/rooms/class%231';
const config = {};
const data = (generation = 1) => {
  const state = { memberCount: 1, lastSeq: 1, memberEvents: 'names', roomAttributes: { topic: 'one' }, attributesVersion: 1 };
  return { roomID, generation, roomName: 'First class', config, createdAt: '2026-11-21T15:00:00Z', settingsVersion: 0, ...state };
};
const message = (seq: number) => {
  const content = { kind: 'text', text: `message ${seq}`, sender: { userID: 'bob', userName: 'Bob' }, sentAt: '2026-11-21T15:00:00Z' };
  return { messageID: `m${seq}`, roomID, seq, priority: 'medium', ...content };
};
const member = (userID: string) => ({ userID, userName: userID, joinedAt: '2026-11-21T15:00:00Z' });

/** Answers the calls of a path until the test is finished, and counts them. */
function answer(method: string, at: string, reply: (call: Call) => unknown): () => number {
  let calls = 0;
  void (async () => {
    for (;;) {
      const call = await server.next(method, at);
      calls++;
      call.reply(200, reply(call));
    }
  })();
  return () => calls;
}

function answerRoom(): { entered: () => number; left: () => number } {
  const entered = answer('POST', `${path}/enter`, () => {
    stream.event('roomStateChanged', { roomID, generation: 1, state: 'connected', event: 'success' });
    return { room: data(), created: false };
  });
  const left = answer('POST', `${path}/leave`, () => {
    stream.event('roomStateChanged', { roomID, generation: 1, state: 'disconnected', event: 'success' });
    return { roomID };
  });
  answer('GET', path, () => ({ room: data() }));
  answer('GET', `${path}/members`, () => ({ generation: 1, seq: 1, memberList: [member('alice')] }));
  answer('GET', `${path}/messages`, ({ url }) =>
    url.searchParams.has('before') ? { messageList: [message(1)] } : { messageList: [message(2)], nextCursor: 2 },
  );
  return { entered, left };
}

const strict = (children: ReactNode) => (
  <StrictMode>
    <ParlorProvider parlor={parlor}>{children}</ParlorProvider>
  </StrictMode>
);

function Room({ id = 'state', ...props }: { id?: string }) {
  const { room, state, event, error, enter } = useRoom(roomID, { userData: id });
  const { members, count } = useMembers(room);
  const { messages, error: failed } = useMessages(room);
  const { attributes } = useAttributes(room);
  const { userID } = useParlor();
  return (
    <button data-testid={id} onClick={enter} {...props}>
      {[userID, state, event, error?.code, failed?.code, members.length, count, messages.length, attributes['topic']].filter((one) => one !== undefined).join(' ')}
    </button>
  );
}

const text = (id = 'state') => screen.getByTestId(id).textContent;
const expectText = (expected: string, id?: string) => waitFor(() => expect(text(id)).toBe(expected));

test('the README has the example, which shows a room', async () => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const example = readFileSync(new URL('example.tsx', import.meta.url), 'utf8');
  expect(readme).toContain(`\`\`\`tsx\n${example}\`\`\``);

  answerRoom();
  stream.ready('1:1');
  render(<StrictMode><App parlor={parlor} /></StrictMode>);
  await screen.findByText('message 2');
  await screen.findByText('First class');
  await screen.findByText('1 members: alice');
  fireEvent.click(screen.getByText('Earlier'));
  await screen.findByText('message 1');
  expect(screen.queryByText('Earlier')).toBeNull();
  fireEvent.click(screen.getByText('Greet'));
  (await server.next('POST', `${path}/messages`)).reply(201, { message: { ...message(3), text: 'mine' } });
  await screen.findByText('mine');
  stream.event('messageRecalled', { roomID, generation: 1, seq: 4, messageID: 'm3', recalledSeq: 3 }, '1:4');
  await screen.findByText('recalled');
  stream.event('roomStateChanged', { roomID, generation: 1, state: 'disconnected', event: 'kickedOut', reason: 'spam' });
  await screen.findByText('Enter again spam');
});

test('two components share a room, which is entered once and left once', async () => {
  const { entered, left } = answerRoom();
  stream.ready('1:1');
  const shown = render(strict([<Room key="a" id="a" />, <Room key="b" id="b" />]));
  await expectText('alice connected success 1 1 1 one', 'a');
  await expectText('alice connected success 1 1 1 one', 'b');
  const room = parlor.room(roomID)!;
  shown.rerender(strict([<Room key="b" id="b" />]));
  shown.rerender(strict([<Room key="c" id="c" />])); // unmounts one and mounts another
  await expectText('alice connected success 1 1 1 one', 'c');
  expect([entered(), left()]).toEqual([1, 0]);
  shown.unmount();
  await waitFor(() => expect(room.state).toBe('disconnected'));
  expect([entered(), left()]).toEqual([1, 1]);

  render(strict(<Room />)); // again
  await expectText('alice connected success 1 1 1 one');
  expect([entered(), left()]).toEqual([2, 1]);
  expect(parlor.room(roomID)).not.toBe(room);
});

test('a component that is unmounted while it enters the room leaves it', async () => {
  stream.ready('1:1');
  const shown = render(strict(<Room />));
  const call = await server.next('POST', `${path}/enter`);
  expect(call.body).toEqual({ userData: 'state' });
  shown.unmount();
  const again = render(strict(<Room />));
  again.unmount();
  call.reply(200, { room: data(), created: true });
  (await server.next('POST', `${path}/leave`)).reply(200, { roomID });
  await waitFor(() => expect(parlor.room(roomID)).toBeUndefined());
});

/** Counts the listeners that are added by a method, and not removed. */
function countListeners<Name extends string>(owner: { [name in Name]: (...args: any[]) => () => void }, name: Name): () => number {
  let count = 0;
  const add = owner[name].bind(owner);
  owner[name] = (...args) => {
    count++;
    const remove = add(...args);
    return () => {
      count--;
      remove();
    };
  };
  return () => count;
}

test('no listener is left when the components are unmounted', async () => {
  answerRoom();
  stream.ready('1:1');
  const ofParlor = countListeners(parlor, 'on');
  const Connection = () => <p>{useConnection().state}</p>;
  const Holder = () => <p>{useRoom(roomID).state}</p>;
  const shown = render(strict([<Connection key="a" />, <Connection key="b" />, <Holder key="c" />]));
  await waitFor(() => expect(screen.getAllByText('connected')).toHaveLength(3));
  expect(ofParlor()).toBe(1);
  const room = parlor.room(roomID)!;
  const ofRoom = countListeners(room, 'on');
  const ofMembers = countListeners(await room.members(), 'onChange');
  shown.rerender(strict([<Holder key="c" />, <Room key="d" />]));
  await expectText('alice connected success 1 1 1 one');
  expect(ofParlor()).toBe(0);
  expect(ofMembers()).toBe(1);
  const during = ofRoom();
  shown.rerender(strict([<Holder key="c" />]));
  expect(ofMembers()).toBe(0);
  expect(during - ofRoom()).toBe(3); // for members, messages and attributes
});

test('a room is entered again after a timeout, and otherwise on demand', async () => {
  const { entered } = answerRoom();
  stream.ready('1:1');
  render(strict(<Room />));
  await expectText('alice connected success 1 1 1 one');
  stream.event('roomStateChanged', { roomID, generation: 1, state: 'disconnected', event: 'networkTimeout' });
  await waitFor(() => expect(entered()).toBe(2));
  await expectText('alice connected success 1 1 1 one');
  stream.event('roomStateChanged', { roomID, generation: 1, state: 'disconnected', event: 'kickedOut' });
  await waitFor(() => expect(text()).toContain('alice disconnected kickedOut'));
  fireEvent.click(screen.getByTestId('state'));
  await expectText('alice connected success 1 1 1 one');
  expect(entered()).toBe(3);
});

test('the errors of a room are shown', async () => {
  stream.ready('1:1');
  render(strict(<Room />));
  (await server.next('POST', `${path}/enter`)).refuse(409, 'room_full');
  await expectText('alice disconnected room_full 0 0 0');
  fireEvent.click(screen.getByTestId('state'));
  (await server.next('POST', `${path}/enter`)).reply(200, { room: data(), created: false });
  (await server.next('GET', `${path}/messages`)).refuse(500, 'internal');
  await waitFor(() => expect(text()).toContain('internal'));
});

test('useConnection follows the connection', async () => {
  const Connection = () => {
    const { state, event } = useConnection();
    return <p data-testid="state">{[state, event].join(' ')}</p>;
  };
  const first = render(strict(<Connection />));
  expect(text()).toBe('connecting ');
  stream.ready('1:1');
  await expectText('connected success');
  first.unmount();
  parlor.close(); // while no component shows it
  render(strict(<Connection />));
  await expectText('disconnected closed');
});

test('a hook outside of a ParlorProvider fails', () => {
  vi.spyOn(console, 'error').mockImplementation(() => {});
  expect(() => render(<Room />)).toThrow('useParlor is called outside of a ParlorProvider');
});
