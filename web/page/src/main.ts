import { Parlor, ParlorError } from 'parlor-sdk';
import { createDevelopmentToken } from 'parlor-sdk/development';
import type { UnfinishedUpload } from './attachments.ts';
import { byID } from './element.ts';
import { EntryForm, type EntryFormValues } from './entry-form.ts';
import { userIDOf } from './identity.ts';
import { RoomView } from './room-view.ts';
import { clearSaved, loadSaved, type RoomChoice, type Saved, save, tabSuffix, type Unsent } from './saved.ts';
import { serverURL } from './server-url.ts';
import { textForError } from './texts.ts';

const parameters = new URLSearchParams(location.search);
const transport = parameters.get('transport') === 'eventSource' ? 'eventSource' : 'fetch';

/** The open room, if any. */
let current: { parlor: Parlor; view: RoomView; development: boolean } | undefined;
const entryForm = new EntryForm(enter);
const membersButton = byID('members-button', HTMLButtonElement);

async function enter({ name, room, token: pasted }: EntryFormValues): Promise<void> {
  const userID = userIDOf(name, tabSuffix());
  const token = pasted || (await createDevelopmentToken(serverURL, userID, name));
  if (token === undefined) {
    entryForm.askForToken();
    return;
  }
  const development = pasted === '';
  const parlor = await logIn(token, userID, name, development);
  await enterRoom(parlor, room, development);
  entryForm.hide();
  history.replaceState(null, '', addressOf(room));
}

function logIn(token: string, userID: string, userName: string, development: boolean): Promise<Parlor> {
  const source = development ? { getToken: () => newToken(userID, userName) } : {};
  return Parlor.login({ baseURL: serverURL, token, ...source, userName, device: 'page', transport });
}

async function enterRoom(
  parlor: Parlor,
  room: RoomChoice,
  development: boolean,
  unsent: Unsent[] = [],
  uploads: UnfinishedUpload[] = [],
): Promise<void> {
  const view = open(parlor, room, development);
  try {
    await view.enter(unsent, uploads);
  } catch (error) {
    close();
    void parlor.endSession().catch(() => {}); // without a stream, the session ends by itself
    throw error;
  }
  saveState();
}

/**
 * Starts a new session in the same room, because the token expired before it was renewed, such as
 * while the computer slept.
 */
async function logInAgain(): Promise<void> {
  if (current === undefined) return;
  const { parlor: expired, view } = current;
  const { userID, userName } = expired;
  try {
    const parlor = await logIn(await newToken(userID, userName), userID, userName, true);
    if (current?.view !== view) {
      void parlor.endSession().catch(() => {}); // the user has left meanwhile
      return;
    }
    const { room, unsent } = view;
    const uploads = view.takeUploads();
    close();
    await enterRoom(parlor, room, true, unsent, uploads);
  } catch (error) {
    if (current?.view === view) return; // the view offers to try again
    clearSaved();
    entryForm.show({ name: userName, room: view.room.roomName || view.room.roomID });
    entryForm.showError(textForError(error));
  }
}

/** Continues the session that the tab had before a reload. Reports whether there was one. */
async function resume(unfinished: UnfinishedUpload[] = []): Promise<boolean> {
  const saved = loadSaved();
  if (saved === undefined) return false;
  const { session, development } = saved;
  const source = development ? { getToken: () => newToken(session.userID, session.userName) } : {};
  const parlor = Parlor.resume(session, { ...source, transport });
  await resumeView(parlor, open(parlor, saved.room, development), saved, unfinished);
  return true;
}

async function resumeView(parlor: Parlor, view: RoomView, saved: Saved, unfinished: UnfinishedUpload[]): Promise<void> {
  try {
    await view.resume(saved, unfinished);
  } catch (error) {
    const ended = error instanceof ParlorError && error.status === 401;
    const expired = ended && (error.code === 'token_expired' || parlor.tokenExpiresAt <= new Date());
    if (expired && saved.development) return; // the stream is rejected too, and the view logs in again
    parlor.close();
    close();
    if (ended) clearSaved();
    entryForm.show(prefilled());
    entryForm.showError(textForError(error));
  }
}

function open(parlor: Parlor, room: RoomChoice, development: boolean): RoomView {
  const view = new RoomView(parlor, room, { leave, reclaim, ...(development && { logInAgain }) });
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
  clearSaved();
  entryForm.show({ name: parlor.userName, room: view.room.roomName || view.room.roomID });
  // In the background. If the server cannot be reached, the session times out there.
  void leaveAndLogOut(parlor, view);
}

async function leaveAndLogOut(parlor: Parlor, { room, inside, ended }: RoomView): Promise<void> {
  if (ended) return;
  try {
    if (inside) await parlor.leaveRoom(room.roomID).catch(() => {});
    await parlor.endSession();
  } catch {
    // The session times out on the server.
  }
}

/** Reopens the stream in this tab after another tab superseded it. */
function reclaim(): void {
  if (current === undefined) return;
  const unfinished = current.view.takeUploads();
  saveState();
  close();
  void resume(unfinished);
}

function saveState(): void {
  if (current === undefined) return;
  const { parlor, view, development } = current;
  const { room, out, unsent, uploads } = view;
  save({ session: parlor.resumeState(), development, room, unsent, uploads, ...(out !== undefined && { out }) });
}

async function newToken(userID: string, userName: string): Promise<string> {
  const token = await createDevelopmentToken(serverURL, userID, userName);
  if (token === undefined) throw new Error('the server no longer issues development tokens');
  return token;
}

function prefilled(): { name: string | undefined; room: string | undefined } {
  const { name, room } = Object.fromEntries(parameters);
  return { name, room };
}

/** Returns the query of the page's address with the room in it, to invite others. */
function addressOf({ roomID, roomName }: RoomChoice): string {
  const address = new URLSearchParams({ room: roomName || roomID });
  if (transport !== 'fetch') address.set('transport', transport);
  return `?${address}`;
}

// A browser may close a hidden tab without another event.
window.addEventListener('pagehide', saveState);
document.addEventListener('visibilitychange', () => {
  if (document.visibilityState === 'hidden') saveState();
});

membersButton.onclick = () => {
  const open = membersButton.getAttribute('aria-expanded') !== 'true';
  membersButton.setAttribute('aria-expanded', String(open));
};

if (!(await resume())) entryForm.show(prefilled());
