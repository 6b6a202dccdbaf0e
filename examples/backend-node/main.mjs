// What the backend of an application does for Parlor: it signs the tokens of its users, and follows
// the feed of all rooms.
import { createHmac } from 'node:crypto';
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { ParlorAdmin } from 'parlor-sdk/admin';

const {
  PARLOR_URL = 'http://127.0.0.1:8080',
  PARLOR_SECRET,
  PARLOR_ADMIN_SECRET = PARLOR_SECRET,
  LISTEN_PORT = '3000',
  CURSOR_FILE = 'feed-cursor',
} = process.env;

if (!PARLOR_SECRET) throw new Error('PARLOR_SECRET is not set');

// The passwords of the users. Your backend has a login of its own.
const passwords = new Map([
  ['alice', 'alice-demo'],
  ['bob', 'bob-demo'],
  ['bot', 'bot-demo'],
]);

// Returns a JWT. The claims are described in docs/tokens.md.
function sign(secret, claims) {
  const encode = (part) => Buffer.from(JSON.stringify(part)).toString('base64url');
  const text = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode(claims)}`;
  return `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`;
}

const inSeconds = (seconds) => Math.floor(Date.now() / 1000) + seconds;

// Returns the user who has logged in, if any.
function loggedIn({ headers: { authorization = '' } }) {
  const [user, password] = Buffer.from(authorization.replace(/^Basic /, ''), 'base64').toString().split(':');
  return password !== undefined && passwords.get(user) === password ? user : undefined;
}

createServer((request, response) => {
  const user = loggedIn(request);
  if (request.method !== 'POST' || request.url !== '/token') {
    response.writeHead(404).end();
  } else if (user === undefined) {
    response.writeHead(401, { 'WWW-Authenticate': 'Basic' }).end('Log in first.');
  } else {
    const rooms = [{ roomID: 'class-*', create: true, join: true, send: true }];
    const token = sign(PARLOR_SECRET, { sub: user, exp: inSeconds(3600), rooms });
    response.writeHead(201, { 'Content-Type': 'application/json' }).end(JSON.stringify({ token }));
  }
}).listen(Number(LISTEN_PORT), '127.0.0.1');

// Prints who joins, leaves and writes.
function handle({ event, data }) {
  if (event === 'feedReady' && data.reason !== undefined) {
    console.log(`events are missing: ${data.reason}`); // read the rooms again, with adminListRooms
  } else if (event === 'roomMemberJoined') {
    for (const { userID } of data.memberList) console.log(`${data.roomID}: ${userID} joined`);
  } else if (event === 'roomMemberLeft') {
    for (const { userID, reason } of data.memberList) console.log(`${data.roomID}: ${userID} left: ${reason}`);
  } else if (event === 'roomMessageReceived') {
    for (const { kind, sender, text } of data.messageList) {
      // A message that was recalled has no text.
      if (kind === 'text' && text !== undefined) console.log(`${data.roomID}: ${sender.userID}: ${text}`);
    }
  }
}

const admin = new ParlorAdmin({
  baseURL: PARLOR_URL,
  getToken: () => sign(PARLOR_ADMIN_SECRET, { sub: 'backend-node', scope: 'admin', exp: inSeconds(600) }),
});
const lastEventID = existsSync(CURSOR_FILE) ? readFileSync(CURSOR_FILE, 'utf8') : undefined;
for await (const event of admin.streamAdminEvents({ lastEventID })) {
  handle(event);
  // After a crash before the next line, the event arrives again. A handler that writes to a database
  // stores the ID in the same transaction, and so handles each event once.
  writeFileSync(`${CURSOR_FILE}.new`, event.id);
  renameSync(`${CURSOR_FILE}.new`, CURSOR_FILE); // the file is never half written
}
