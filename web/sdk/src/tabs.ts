import type { ConnectionEvent } from './connection.ts';
import type { HTTP } from './http.ts';
import { newMessageID as newID } from './message.ts';
import type { ResumeState, Tabs } from './parlor.ts';
import type { ParlorError } from './problem.ts';
import type { CreateSessionReply, SessionReadyEvent } from './schemas.gen.ts';
import type { Connection, ConnectionHandler, Transport } from './stream.ts';

/** How long the leader may take to answer, in milliseconds. One that does not is replaced. */
const ANSWER_TIMEOUT = 2_000;
/** How long to wait for the logins of other tabs, in milliseconds: a call is retried for 30 s. */
const LOGIN_TIMEOUT = 45_000;
/** How long a leader whose stream was superseded waits for the note of the tab that did it, in milliseconds. */
const SUPERSEDED_BY_TAB = 1_000;
/** How long the server may need to send what a leader has missed, in milliseconds. */
const CATCH_UP = 3_000;
/** The least time between two signs of life for the other tabs, in milliseconds. */
const ALIVE_INTERVAL = 1_000;
/** The most frames that are kept for a connection that is not live. A tab with more reads them again. */
const MOST_KEPT = 1_000;

/** What tabs tell each other. `leader` is the tab that leads, and says so. */
type Note =
  /** A tab that logs in asks for the state of the session. */
  | { type: 'ask'; nonce: string }
  | { type: 'state'; nonce: string; state: ResumeState }
  /** A tab asks what it shall do. `follows` is the tab that it follows already. */
  | { type: 'join'; nonce: string; cursor: string | undefined; follows: string | undefined }
  /** The answer of the leader. The tab follows, or leads because it lacks events, or waits. */
  | ({ type: 'joined'; nonce: string; leader: string; cursor: string | undefined } & Answer)
  /** A tab leads from now on. */
  | { type: 'leads'; leader: string }
  /** The leader has received all that it had missed. */
  | { type: 'synced'; leader: string }
  | { type: 'alive'; leader: string }
  | { type: 'frame'; leader: string; frame: Frame }
  /** The leader's connection is lost. It reconnects. */
  | { type: 'lost'; leader: string }
  /** The session has ended; `change` is the data of connectionStateChanged. */
  | { type: 'ended'; change: string };

type Answer =
  /** `ready` is the data of the sessionReady of the leader's connection. */
  { shall: 'follow'; synced: boolean; ready: string } | { shall: 'lead' } | { shall: 'wait' };

interface Frame {
  name: string;
  data: string;
  id?: string;
}

/**
 * Lets the tabs of a browser that have this origin share the session of a user and its stream: one
 * tab leads and reads the stream, and the others receive its events. When the leader is closed,
 * crashes or freezes, another tab leads and continues. Pass the ID of the user of the token.
 *
 * Returns undefined if the browser cannot do this: it needs Web Locks, which pages have on https and
 * localhost only, and BroadcastChannel. Each tab then has a session of its own.
 */
export function shareTabs(userID: string): Tabs | undefined {
  const able = globalThis.navigator?.locks !== undefined && typeof BroadcastChannel === 'function';
  return able ? new SharedTabs(userID) : undefined;
}

class SharedTabs implements Tabs {
  readonly #userID: string;
  /** Lets the next tab log in, which then finds the session of this one. */
  #loggedIn = () => {};

  constructor(userID: string) {
    this.#userID = userID;
  }

  login(baseURL: string, create: () => Promise<ResumeState>): Promise<ResumeState> {
    return new Promise((resolve, reject) => {
      const logIn = async () => {
        try {
          resolve((await find(sessionLock(baseURL, this.#userID, ''))) ?? (await create()));
        } catch (error) {
          reject(error);
          return;
        }
        await new Promise<void>((done) => {
          this.#loggedIn = done;
          setTimeout(done, ANSWER_TIMEOUT);
        });
      };
      navigator.locks
        .request(`${sessionLock(baseURL, this.#userID, '')} login`, { signal: AbortSignal.timeout(LOGIN_TIMEOUT) }, logIn)
        .catch(() => create().then(resolve, reject)); // the lock is not available
    });
  }

  share(transport: Transport, http: HTTP, session: CreateSessionReply): Transport {
    if (session.userID !== this.#userID) {
      throw new TypeError(`the session is of the user ${session.userID}, but shareTabs was called for ${this.#userID}`);
    }
    return new TabTransport(transport, http, session, () => this.#loggedIn());
  }
}

/** The name of the lock of a session, and of its channel. Without a sessionID, the prefix of all. */
function sessionLock(baseURL: string, userID: string, sessionID: string): string {
  return `parlor ${JSON.stringify([baseURL.replace(/\/+$/, ''), userID])} ${sessionID}`;
}

/** Returns the session that other tabs have, if there are any. */
async function find(prefix: string): Promise<ResumeState | undefined> {
  const { held = [] } = await navigator.locks.query();
  for (const { name } of held) {
    if (!name?.startsWith(prefix) || name === `${prefix} login`) continue;
    const state = await ask(name);
    if (state) return state;
  }
  return undefined;
}

function ask(session: string): Promise<ResumeState | undefined> {
  return new Promise((resolve) => {
    const channel = new BroadcastChannel(session);
    const nonce = newID();
    const timer = setTimeout(() => settle(undefined), ANSWER_TIMEOUT);
    const settle = (state: ResumeState | undefined) => {
      clearTimeout(timer);
      channel.close();
      resolve(state);
    };
    channel.onmessage = ({ data }: MessageEvent<Note>) => {
      if (data.type === 'state' && data.nonce === nonce) settle(data.state);
    };
    channel.postMessage({ type: 'ask', nonce } satisfies Note);
  });
}

/** A connection of this tab's EventStream. */
interface TabConnection {
  /** The id of the last frame that was delivered. */
  cursor: string | undefined;
  readonly handler: ConnectionHandler;
  /** Whether frames are delivered as they arrive. Before sessionReady, they are kept. */
  live: boolean;
}

/**
 * TabTransport reads the stream through another transport while this tab leads, and otherwise
 * delivers the frames that the leader has read. The leader is the tab that has the lock of the
 * session.
 *
 * A tab is synced if it has received everything that any tab has received. A tab that is not, such
 * as one that was frozen, takes the lock, and reads the stream from its own cursor: for the others,
 * that is older than theirs, and Seen discards what they have received before. A tab that was
 * replaced by such a leader before it was synced itself joins again.
 */
class TabTransport implements Transport {
  readonly reportsComments: boolean;
  readonly #transport: Transport;
  readonly #http: HTTP;
  readonly #session: CreateSessionReply;
  readonly #lockName: string;
  readonly #settled: () => void;
  readonly #id = newID();
  #connection: TabConnection | undefined;
  /** Open from the first connection until the release. */
  #channel: BroadcastChannel | undefined;
  /** Withdraws the request for the lock, or releases the lock. */
  #unlock = () => {};
  /** The tab that leads, if this tab follows it or is it. */
  #leader: string | undefined;
  #synced = false;
  /** The cursor with which this tab is synced, if it knows. */
  #target: string | undefined;
  /** The connection to the server, while this tab leads. */
  #inner: Connection | undefined;
  /** The data of the sessionReady of that connection. */
  #ready: string | undefined;
  /** The frames of the leader that were not delivered, because the connection is not live. */
  #kept: Frame[] = [];
  /** The question to the leader. */
  #nonce: string | undefined;
  /** Whether the leader has asked this tab to wait until its connection is open, or it is synced. */
  #waits = false;
  #answerTimer: ReturnType<typeof setTimeout> | undefined;
  #leaderTimer: ReturnType<typeof setTimeout> | undefined;
  /** Runs while a tab that shall lead may take the lock. */
  #successor: ReturnType<typeof setTimeout> | undefined;
  #toldAliveAt = 0;
  /** The last connectionStateChanged of the server, which may have a reason. */
  #change: string | undefined;
  /** The one with which another tab has ended the session. */
  #ended: string | undefined;

  constructor(transport: Transport, http: HTTP, session: CreateSessionReply, settled: () => void) {
    this.#transport = transport;
    this.reportsComments = transport.reportsComments;
    this.#http = http;
    this.#session = session;
    this.#settled = settled;
    this.#lockName = sessionLock(http.baseURL, session.userID, session.sessionID);
  }

  connect(cursor: string | undefined, handler: ConnectionHandler): Connection {
    const connection = { cursor, handler, live: false };
    this.#connection = connection;
    // The caller does not expect that its handler is called before it has the connection.
    queueMicrotask(() => {
      if (this.#connection !== connection) return;
      if (this.#ended) this.#deliverEnd(this.#ended);
      else if (this.#leads) this.#read();
      else this.#join();
    });
    return {
      close: () => {
        if (this.#connection !== connection) return;
        this.#connection = undefined;
        clearTimeout(this.#answerTimer);
        if (this.#leads) this.#lose();
      },
    };
  }

  release(event?: ConnectionEvent): void {
    if (this.#channel === undefined) return;
    // `closed` is about this tab only.
    if (event !== undefined && event !== 'closed' && this.#ended === undefined) {
      const change = JSON.stringify({ state: 'disconnected', event });
      this.#post({ type: 'ended', change: this.#change?.includes(`"${event}"`) ? this.#change : change });
    }
    this.#connection = undefined;
    this.#leave();
    this.#closeInner();
    this.#unlock();
    this.#channel.close();
    this.#channel = undefined;
    this.#settled();
  }

  get #leads(): boolean {
    return this.#leader === this.#id;
  }

  #post(note: Note): void {
    this.#channel?.postMessage(note);
  }

  #receive(note: Note): void {
    switch (note.type) {
      case 'ask':
        if (this.#leads) this.#post({ type: 'state', nonce: note.nonce, state: this.#state });
        break;
      case 'join':
        if (this.#leads) {
          const { cursor } = this.#connection ?? {};
          this.#post({ type: 'joined', nonce: note.nonce, leader: this.#id, cursor, ...this.#answer(note.cursor, note.follows) });
        }
        break;
      case 'joined':
        if (note.nonce === this.#nonce) this.#joined(note);
        break;
      case 'leads':
        this.#follow(note.leader);
        break;
      case 'ended':
        this.#ended = note.change;
        this.#deliverEnd(note.change);
        break;
      case 'state':
        break; // the tab that asked has a channel of its own
      default:
        if (note.leader === this.#leader) this.#receiveFromLeader(note);
        else if (this.#waits && (note.type === 'synced' || (note.type === 'frame' && note.frame.name === 'sessionReady'))) this.#join();
    }
  }

  get #state(): ResumeState {
    return { version: 1, baseURL: this.#http.baseURL, seen: [], ...this.#session };
  }

  // A tab that leads.

  /** Waits for the lock, or takes it from the tab that has it. */
  #requestLock(steal = false): void {
    this.#unlock();
    const channel = this.#channel;
    const withdrawn = new AbortController();
    const { signal } = withdrawn;
    let release = () => {};
    this.#unlock = () => {
      withdrawn.abort();
      release();
    };
    const granted = () => {
      if (signal.aborted) return undefined;
      this.#beginToLead();
      return new Promise<void>((resolve) => (release = resolve));
    };
    navigator.locks.request(this.#lockName, steal ? { steal } : { signal }, granted).catch((error: unknown) => {
      if (signal.aborted || this.#channel !== channel) return;
      if (error instanceof DOMException && error.name === 'AbortError') {
        // Another tab has taken it.
        if (this.#leads) this.#stepDown();
        this.#requestLock();
      } else {
        this.#beginToLead(); // the browser forbids locks to this page
      }
    });
  }

  #beginToLead(): void {
    clearTimeout(this.#answerTimer);
    this.#waits = false;
    this.#leader = this.#id;
    // They are read again: the next connection continues at the cursor of this tab.
    if (this.#kept.length > 0) this.#synced = false;
    this.#kept = [];
    this.#post({ type: 'leads', leader: this.#id });
    this.#settled();
    if (this.#connection) this.#read();
  }

  /** Reads the stream for all tabs. */
  #read(): void {
    const connection = this.#connection!;
    const { handler } = connection;
    this.#closeInner();
    const inner = this.#transport.connect(connection.cursor, {
      opened: () => handler.opened(),
      alive: () => {
        this.#tellAlive();
        handler.alive();
      },
      retry: (delay) => handler.retry(delay),
      event: (name, data, id) => {
        if (this.#inner !== inner) return; // a frame of the same bytes has closed it
        const frame: Frame = { name, data, ...(id !== undefined && { id }) };
        if (name === 'connectionStateChanged' && /"event":\s*"superseded"/.test(data)) this.#superseded(connection, frame);
        else this.#share(connection, frame);
      },
      interrupted: () => {
        this.#ready = undefined;
        this.#post({ type: 'lost', leader: this.#id });
        handler.interrupted();
      },
      closed: (retryAfter) => {
        if (this.#inner !== inner) return;
        this.#lose();
        handler.closed(retryAfter);
      },
      refused: (code) => handler.refused(code),
    });
    this.#inner = inner;
  }

  /** Delivers a frame of the server here and in the other tabs. */
  #share(connection: TabConnection, frame: Frame): void {
    // One tab is enough to renew the token.
    if (frame.name !== 'tokenWillExpire') this.#post({ type: 'frame', leader: this.#id, frame });
    if (frame.name === 'sessionReady') {
      this.#ready = frame.data;
      connection.live = true;
      // A session that has just been created has missed nothing.
      if (connection.cursor === undefined) this.#sync();
      else if (!this.#synced) this.#leaderTimer = setTimeout(() => this.#sync(), CATCH_UP);
    }
    this.#deliver(connection, frame);
    if (frame.id !== undefined && frame.id === this.#target) this.#sync();
  }

  /** This tab has received everything, and the next one that has not may lead. */
  #sync(): void {
    clearTimeout(this.#leaderTimer);
    this.#successor = undefined;
    this.#target = undefined;
    this.#synced = true;
    this.#post({ type: 'synced', leader: this.#id });
  }

  #superseded(connection: TabConnection, frame: Frame): void {
    this.#closeInner();
    // If another tab did it, its note is about to arrive. Otherwise a page that does not share did.
    this.#leaderTimer = setTimeout(() => this.#share(connection, frame), SUPERSEDED_BY_TAB);
  }

  #tellAlive(): void {
    const now = Date.now();
    if (Math.abs(now - this.#toldAliveAt) < ALIVE_INTERVAL) return;
    this.#toldAliveAt = now;
    this.#post({ type: 'alive', leader: this.#id });
  }

  /** Returns what a tab with this cursor shall do. */
  #answer(cursor: string | undefined, follows: string | undefined): Answer {
    const synced = this.#synced;
    if (this.#ready === undefined) return { shall: 'wait' };
    if (follows === this.#id || cursor === undefined || (synced && cursor === this.#connection?.cursor)) {
      return { shall: 'follow', synced, ready: this.#ready };
    }
    if (!synced || this.#successor) return { shall: 'wait' };
    this.#successor = setTimeout(() => this.#sync(), ANSWER_TIMEOUT); // if it does not take the lock
    return { shall: 'lead' };
  }

  /** The connection to the server is lost. */
  #lose(): void {
    this.#closeInner();
    this.#post({ type: 'lost', leader: this.#id });
  }

  #closeInner(): void {
    clearTimeout(this.#leaderTimer);
    clearTimeout(this.#successor);
    this.#successor = undefined;
    this.#ready = undefined;
    this.#inner?.close();
    this.#inner = undefined;
  }

  #stepDown(): void {
    this.#leader = undefined;
    this.#closeInner();
  }

  // A tab that follows.

  #join(): void {
    if (this.#channel === undefined) {
      this.#channel = new BroadcastChannel(this.#lockName);
      this.#channel.onmessage = ({ data }: MessageEvent<Note>) => this.#receive(data);
      this.#requestLock();
    }
    this.#waits = false;
    this.#nonce = newID();
    this.#post({ type: 'join', nonce: this.#nonce, cursor: this.#connection?.cursor, follows: this.#leader });
    clearTimeout(this.#answerTimer);
    this.#answerTimer = setTimeout(() => this.#requestLock(true), ANSWER_TIMEOUT);
  }

  #joined(answer: Extract<Note, { type: 'joined' }>): void {
    const { leader, cursor } = answer;
    this.#nonce = undefined;
    clearTimeout(this.#answerTimer);
    this.#settled();
    const connection = this.#connection;
    if (connection === undefined) return;
    if (answer.shall === 'follow') {
      // One that has followed has the frames up to this cursor, or keeps them.
      const id = this.#leader === leader ? undefined : cursor;
      this.#leader = leader;
      this.#synced = answer.synced;
      void this.#begin(connection, answer.ready, id);
    } else if (answer.shall === 'lead') {
      this.#target = cursor;
      this.#requestLock(true);
    } else {
      this.#waits = this.#leader !== leader; // one that follows receives the sessionReady
    }
  }

  /** Begins to deliver frames, after a sessionReady with the rooms of the session. */
  async #begin(connection: TabConnection, ready: string, id: string | undefined): Promise<void> {
    const outdated = () => this.#connection !== connection || connection.live || this.#leads;
    try {
      const { rooms } = await this.#http.call('get', '/v1/sessions/current/rooms', {}, { retry: false });
      if (outdated()) return;
      const data: SessionReadyEvent = { ...JSON.parse(ready), resumed: connection.cursor !== undefined, rooms };
      this.#goLive(connection, { name: 'sessionReady', data: JSON.stringify(data), ...(id !== undefined && { id }) });
    } catch (error) {
      if (outdated()) return;
      const { status, code, retryAfter } = error as ParlorError;
      if (status === 401) connection.handler.refused(code);
      else connection.handler.closed(retryAfter);
    }
  }

  #goLive(connection: TabConnection, ready: Frame): void {
    connection.live = true;
    connection.handler.opened();
    this.#deliver(connection, ready);
    // A listener may close the connection.
    while (this.#connection === connection && this.#kept.length > 0) this.#deliver(connection, this.#kept.shift()!);
  }

  #receiveFromLeader(note: Extract<Note, { type: 'synced' | 'alive' | 'frame' | 'lost' }>): void {
    const connection = this.#connection;
    if (note.type === 'synced') this.#synced = true;
    else if (note.type === 'frame') this.#receiveFrame(note.frame);
    else if (connection?.live) {
      if (note.type === 'alive') {
        connection.handler.alive();
      } else {
        connection.live = false;
        connection.handler.interrupted();
      }
    }
  }

  #receiveFrame(frame: Frame): void {
    const connection = this.#connection;
    if (connection?.live) {
      this.#deliver(connection, frame);
    } else if (connection && frame.name === 'sessionReady') {
      this.#kept.push(frame);
      this.#goLive(connection, this.#kept.shift()!);
    } else {
      this.#kept.push(frame);
      if (this.#kept.length > MOST_KEPT) this.#leave();
    }
  }

  /** Another tab leads. */
  #follow(leader: string): void {
    if (this.#leads) this.#stepDown();
    const connection = this.#connection;
    if (this.#synced) {
      this.#leader = leader;
    } else {
      this.#leave();
      if (connection?.live) connection.handler.closed(0);
      else if (connection) this.#join();
    }
  }

  /** Stops following: this tab will lack frames. */
  #leave(): void {
    clearTimeout(this.#answerTimer);
    this.#leader = undefined;
    this.#synced = false;
    this.#waits = false;
    this.#kept = [];
  }

  // Both.

  #deliver(connection: TabConnection, { name, data, id }: Frame): void {
    if (id !== undefined) connection.cursor = id;
    if (name === 'connectionStateChanged') this.#change = data;
    connection.handler.event(name, data, id);
  }

  #deliverEnd(change: string): void {
    this.#connection?.handler.event('connectionStateChanged', change, undefined);
  }
}
