import { developmentToken, Parlor, ParlorError } from 'parlor-sdk';
import { byID } from './element.ts';
import { Entrance, type Entry } from './entrance.ts';
import { userIDOf } from './identity.ts';
import { RoomView } from './room-view.ts';
import { forget, load, type RoomChoice, type Saved, save, tabSuffix } from './saved.ts';
import { serverURL } from './server-url.ts';
import { wordsForError } from './words.ts';

const parameters = new URLSearchParams(location.search);
const transport = parameters.get('transport') === 'eventSource' ? 'eventSource' : 'fetch';

/** What is open, if any. */
let current: { parlor: Parlor; view: RoomView; development: boolean } | undefined;
const entrance = new Entrance(enter);
const membersButton = byID('members-button', HTMLButtonElement);

async function enter({ name, room, token: pasted }: Entry): Promise<void> {
  const userID = userIDOf(name, tabSuffix());
  const token = pasted || (await developmentToken(serverURL, userID, name));
  if (token === undefined) {
    entrance.askForToken();
    return;
  }
  const development = pasted === '';
  const source = development ? { getToken: () => newToken(userID, name) } : {};
  const parlor = await Parlor.login({ baseURL: serverURL, token, ...source, userName: name, device: 'page', transport });
  const view = open(parlor, room, development);
  try {
    await view.enter();
  } catch (error) {
    close();
    void parlor.logout().catch(() => {}); // it would end by itself
    throw error;
  }
  entrance.hide();
  history.replaceState(null, '', addressOf(room));
  keep();
}

/** Goes on with the session that the tab had before it was reloaded. */
async function resume(): Promise<boolean> {
  const saved = load();
  if (saved === undefined) return false;
  const { session, development } = saved;
  const source = development ? { getToken: () => newToken(session.userID, session.userName) } : {};
  const parlor = Parlor.resume(session, { ...source, transport });
  await show(parlor, open(parlor, saved.room, development), saved);
  return true;
}

async function show(parlor: Parlor, view: RoomView, saved: Saved): Promise<void> {
  try {
    await view.resume(saved);
  } catch (error) {
    parlor.close();
    close();
    const over = error instanceof ParlorError && error.status === 401;
    if (over) forget();
    entrance.show(prefilled());
    entrance.say(wordsForError(error));
  }
}

function open(parlor: Parlor, room: RoomChoice, development: boolean): RoomView {
  const view = new RoomView(parlor, room, { leave, reclaim });
  current = { parlor, view, development };
  return view;
}

function close(): void {
  current?.view.close();
  current = undefined;
  membersButton.setAttribute('aria-expanded', 'false');
}

function leave(): void {
  if (current === undefined) return;
  const { parlor, view } = current;
  close();
  forget();
  entrance.show({ name: parlor.userName, room: view.room.roomName || view.room.roomID });
  // Nobody waits for it: where the server is away, it finds out by the stream that is gone.
  void leaveAndLogOut(parlor, view);
}

async function leaveAndLogOut(parlor: Parlor, { room, inside, ended }: RoomView): Promise<void> {
  if (ended) return;
  try {
    if (inside) await parlor.leaveRoom(room.roomID).catch(() => {});
    await parlor.logout();
  } catch {
    // The session's time runs out.
  }
}

/** Opens the stream again that another tab took over. */
function reclaim(): void {
  if (current === undefined) return;
  keep();
  close();
  void resume();
}

function keep(): void {
  if (current === undefined) return;
  const { parlor, view, development } = current;
  const { room, out, unsent } = view;
  save({ session: parlor.resumeState(), development, room, unsent, ...(out !== undefined && { out }) });
}

async function newToken(userID: string, userName: string): Promise<string> {
  const token = await developmentToken(serverURL, userID, userName);
  if (token === undefined) throw new Error('the server makes no more tokens');
  return token;
}

function prefilled(): { name: string | undefined; room: string | undefined } {
  const { name, room } = Object.fromEntries(parameters);
  return { name, room };
}

/** The page's address with the room in it, for others to be invited with. */
function addressOf({ roomID, roomName }: RoomChoice): string {
  const address = new URLSearchParams({ room: roomName || roomID });
  if (transport !== 'fetch') address.set('transport', transport);
  return `?${address}`;
}

// A tab that is hidden may be gone without another word.
window.addEventListener('pagehide', keep);
document.addEventListener('visibilitychange', () => {
  if (document.visibilityState === 'hidden') keep();
});

membersButton.onclick = () => {
  const open = membersButton.getAttribute('aria-expanded') !== 'true';
  membersButton.setAttribute('aria-expanded', String(open));
};

if (!(await resume())) entrance.show(prefilled());
