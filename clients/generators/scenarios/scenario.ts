import assert from 'node:assert/strict';

export interface Reply {
  status: number;
  /** The decoded reply, or the problem. */
  body: any;
  headers: Headers;
}

interface Quoted {
  kind: 'text';
  text: string;
  sender: { userID: string; userName: string };
  sentAt: string;
}

export type Draft =
  | { kind: 'text'; text: string }
  | { kind: 'command'; data: string }
  | { kind: 'barrage'; text: string }
  | { kind: 'custom'; subType: number; text: string }
  | { kind: 'combine'; title: string; messageList: Quoted[] }
  | { kind: 'file'; mediaID: string };

const quoted: Quoted = { kind: 'text', text: 'Hi', sender: { userID: 'bob', userName: 'Bob' }, sentAt: '2026-11-21T15:00:00Z' };

/** A message of each kind that contains no file. */
const drafts: Draft[] = [
  { kind: 'text', text: 'Good morning' },
  { kind: 'command', data: 'AAH/' },
  { kind: 'barrage', text: '+1' },
  { kind: 'custom', subType: 7, text: '{}' },
  { kind: 'combine', title: 'Earlier', messageList: [quoted] },
];

/** What the scenario calls. The arguments must have the types that the generator has made. */
export interface Client {
  createSession(token: string): Promise<Reply>;
  /** Authenticates all later calls. */
  authenticate(sessionKey: string): void;
  createRoom(roomID: string): Promise<Reply>;
  enterRoom(roomID: string): Promise<Reply>;
  sendRoomMessage(roomID: string, draft: Draft): Promise<Reply>;
  listRoomMessages(roomID: string, query: { before?: number; limit: number }): Promise<Reply>;
  listMembers(roomID: string, query: { limit?: number; userID?: string[] }): Promise<Reply>;
  uploadMedia(fileName: string, file: File): Promise<Reply>;
  /** The body of the reply is an ArrayBuffer. */
  downloadMedia(mediaID: string, fileName: string): Promise<Reply>;
  /** Polls, so that a client without streams receives events, too. */
  streamEvents(query: { wait: number; last_event_id?: string }): Promise<Reply>;
}

export const baseURL = process.env['PARLOR_URL']!;

/** Drives one client against the server in PARLOR_URL. */
export async function drive(name: string, client: Client): Promise<void> {
  const roomID = 'gen#x?%';
  const userID = `gen/${name} 100%`;
  const succeed = async (call: Promise<Reply>, ...statuses: number[]) => {
    const { status, body } = await call;
    assert.ok(statuses.includes(status), `status ${status}: ${JSON.stringify(body)}`);
    return body;
  };

  const asked = await fetch(`${baseURL}/dev/token`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ userID }) });
  const session = await succeed(client.createSession((await asked.json()).token), 201);
  assert.equal(session.userID, userID);
  client.authenticate(session.sessionKey);
  assert.equal((await succeed(client.enterRoom(roomID), 201)).room.roomID, roomID);

  for (const draft of drafts) {
    const { message } = await succeed(client.sendRoomMessage(roomID, draft), 201, 202);
    for (const [field, value] of Object.entries(draft)) {
      if (field !== 'messageList') assert.deepEqual(message[field], value, `${draft.kind}: ${field}`);
    }
  }
  const bytes = Uint8Array.from({ length: 1000 }, (_, i) => i % 256);
  const { media } = await succeed(client.uploadMedia('a b.bin', new File([bytes], 'a b.bin')), 201);
  assert.deepEqual([media.size, media.fileName], [bytes.length, 'a b.bin']);
  await succeed(client.sendRoomMessage(roomID, { kind: 'file', mediaID: media.mediaID }), 201);
  assert.deepEqual(new Uint8Array(await succeed(client.downloadMedia(media.mediaID, media.fileName), 200)), bytes);

  const stored: string[] = [];
  for (let before: number | undefined, more = true; more; more = before !== undefined) {
    const page = await succeed(client.listRoomMessages(roomID, before === undefined ? { limit: 2 } : { before, limit: 2 }), 200);
    stored.unshift(...page.messageList.map(({ kind }: { kind: string }) => kind));
    before = page.nextCursor;
  }
  assert.deepEqual(stored.sort(), ['combine', 'custom', 'file', 'text']);

  for (const query of [{ limit: 5 }, { userID: [userID, 'nobody & 100%'] }]) {
    const { memberList } = await succeed(client.listMembers(roomID, query), 200);
    assert.deepEqual(memberList.map((member: { userID: string }) => member.userID), [userID]);
  }

  let received: any;
  for (let cursor: string | undefined; received === undefined; ) {
    const poll = await succeed(client.streamEvents(cursor === undefined ? { wait: 5 } : { wait: 5, last_event_id: cursor }), 200);
    assert.ok(poll.events.length > 0, 'no events arrive');
    received = poll.events.find(({ event }: { event: string }) => event === 'roomMessageReceived');
    cursor = poll.cursor;
  }
  assert.equal(received.data.messageList[0].text, 'Good morning');

  assert.equal((await succeed(client.createRoom(roomID), 409)).code, 'room_exists');
  const burst = await Promise.all(Array.from({ length: 40 }, (_, i) => client.sendRoomMessage(roomID, { kind: 'text', text: `${i}` })));
  const refused = burst.find(({ status }) => status === 429);
  assert.equal(refused?.body.code, 'too_many_messages');
  assert.ok(Number(refused?.headers.get('Retry-After')) > 0);

  await fetch(`${baseURL}/v1/sessions/current`, { method: 'DELETE', headers: { Authorization: `Bearer ${session.sessionKey}` } });
}
