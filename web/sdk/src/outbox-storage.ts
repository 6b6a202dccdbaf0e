import { report } from './listeners.ts';
import { newMessageID as newID, type PeerMessageDraft, type RoomMessageDraft, withDefaults } from './message.ts';
import type { SendOptions } from './outbox.ts';
import type { Parlor } from './parlor.ts';
import { ParlorError } from './problem.ts';
import type { MessageReply, SendMessageRequest } from './schemas.gen.ts';

/** The most messages that are stored for a user. */
const MOST_STORED = 1_000;
/** The most characters that the stored messages of a user have together, as JSON. */
const MOST_CHARACTERS = 4 << 20;
/** How long the storage may take, in milliseconds: browsers have had faults in which it never replies. */
const STORAGE_TIMEOUT = 3_000;

/** StorageError says that messages could not be stored or read; `cause` is the error of the browser. */
export class StorageError extends Error {
  override readonly name = 'StorageError';
}

export interface StoredOutboxOptions {
  /**
   * Called when messages cannot be stored, or stored ones cannot be read: storage is full, forbidden
   * or corrupt. They are then sent as without storage, and do not survive a reload. The default
   * reports the error like an uncaught one.
   */
  onStorageError?: (error: StorageError) => void;
}

/** A message of an earlier page, which is sent now. */
export interface RestoredMessage {
  /** The room or the user to whom it is sent. */
  readonly to: { roomID: string } | { userID: string };
  readonly message: SendMessageRequest;
  /** The result, as of sendRoomMessage or sendPeerMessage. Handle its rejection. */
  readonly sent: Promise<MessageReply>;
  /** Removes the message. If a call was in progress, it may have been stored on the server. */
  discard(): void;
}

/** A message in the database. */
interface Entry {
  id: number;
  user: string;
  /** The page that sends the message, while its lock is held. */
  page: string;
  to: { roomID: string } | { userID: string };
  message: SendMessageRequest;
}

/**
 * StoredOutbox sends messages as Parlor does, and stores those that wait in IndexedDB, so that they
 * survive a reload of the page: the next page sends them in their order, each once. A message stays
 * stored until it is sent, refused by the server or discarded. It is not removed by the end of the
 * session: a later session of the user sends it.
 */
export class StoredOutbox {
  /** The messages of earlier pages, in their order. */
  readonly restored: readonly RestoredMessage[];
  readonly #parlor: Parlor;
  readonly #storage: Storage;
  /** Ends when the message before is stored, so that they are sent in the order of the calls. */
  #last: Promise<unknown> = Promise.resolve();

  /**
   * Opens the outbox of a user, and begins to send the messages of earlier pages. Call it once, when
   * the session is in its rooms, and before other messages are sent.
   */
  static async open(parlor: Parlor, { onStorageError = report }: StoredOutboxOptions = {}): Promise<StoredOutbox> {
    const { baseURL, userID } = parlor.resumeState();
    const storage = new Storage(JSON.stringify([baseURL, userID]), onStorageError);
    return new StoredOutbox(parlor, storage, await storage.open());
  }

  private constructor(parlor: Parlor, storage: Storage, entries: Entry[]) {
    this.#parlor = parlor;
    this.#storage = storage;
    this.restored = entries.map(({ id, to, message }) => {
      const discarding = new AbortController();
      const sent = this.#send(id, to, message, { signal: discarding.signal });
      return { to, message, sent, discard: () => discarding.abort() };
    });
  }

  /** Sends a message to a room: Parlor.sendRoomMessage. A `barrage` is not stored. */
  async sendRoomMessage(roomID: string, draft: RoomMessageDraft, options?: SendOptions): Promise<MessageReply> {
    const message = withDefaults(draft);
    return message.kind === 'barrage' ? this.#parlor.sendRoomMessage(roomID, message) : this.#add({ roomID }, message, options);
  }

  /** Sends a message to a user: Parlor.sendPeerMessage. */
  async sendPeerMessage(userID: string, draft: PeerMessageDraft, options?: SendOptions): Promise<MessageReply> {
    return this.#add({ userID }, withDefaults(draft), options);
  }

  /**
   * Removes the stored messages of this page and of those before it, for a logout: what still waits
   * is not sent by a later session.
   */
  async clear(): Promise<void> {
    await this.#last;
    await this.#storage.clear();
  }

  #add(to: Entry['to'], message: SendMessageRequest, options: SendOptions = {}): Promise<MessageReply> {
    const stored = this.#last.then(() => this.#storage.add(to, message));
    const sent = stored.then((id) => ({ reply: this.#send(id, to, message, options) }));
    this.#last = sent.catch(() => {});
    return sent.then(({ reply }) => reply);
  }

  async #send(id: number | undefined, to: Entry['to'], message: SendMessageRequest, options: SendOptions): Promise<MessageReply> {
    let ended = false;
    try {
      return await ('roomID' in to
        ? this.#parlor.sendRoomMessage(to.roomID, message, options)
        : this.#parlor.sendPeerMessage(to.userID, message as PeerMessageDraft, options));
    } catch (error) {
      ended = endsSession(error);
      throw error;
    } finally {
      if (id !== undefined && !ended) void this.#storage.remove(id);
    }
  }
}

/** Reports whether a message was not sent because the session has ended. */
function endsSession(error: unknown): boolean {
  const { code, status } = error as Partial<ParlorError>;
  return code === 'session_ended' || status === 401;
}

/** Storage is the part of the database that belongs to a user. */
class Storage {
  readonly #user: string;
  readonly #onError: (error: StorageError) => void;
  readonly #page = newID();
  readonly #sizes = new Map<number, number>();
  #size = 0;
  #database: IDBDatabase | undefined;

  constructor(user: string, onError: (error: StorageError) => void) {
    this.#user = user;
    this.#onError = onError;
  }

  /** Opens the database, and returns the messages of pages that are gone. */
  async open(): Promise<Entry[]> {
    try {
      const opening = indexedDB.open('parlor-outbox', 1);
      opening.onupgradeneeded = () => {
        opening.result.createObjectStore('messages', { keyPath: 'id', autoIncrement: true }).createIndex('user', 'user');
      };
      this.#database = await result(opening);
      const entries: Entry[] = await result(this.#store('readonly').index('user').getAll(this.#user));
      const living = await livingPages(this.#page);
      return entries.filter((entry) => !living.has(entry.page) && this.#accept(entry));
    } catch (error) {
      this.#fail(error);
      return [];
    }
  }

  /** Stores a message, and returns its ID; undefined if it could not be stored. */
  async add(to: Entry['to'], message: SendMessageRequest): Promise<number | undefined> {
    const size = JSON.stringify(message).length;
    if (this.#sizes.size >= MOST_STORED || this.#size + size > MOST_CHARACTERS) {
      throw new ParlorError('too_many_unsent', 'Too many messages are waiting to be sent.');
    }
    if (this.#database === undefined) return undefined;
    try {
      const entry: Omit<Entry, 'id'> = { user: this.#user, page: this.#page, to, message };
      const id = (await committed(this.#store('readwrite').add(entry))) as number;
      this.#count(id, size);
      return id;
    } catch (error) {
      this.#fail(error);
      return undefined;
    }
  }

  async clear(): Promise<void> {
    await Promise.all([...this.#sizes.keys()].map((id) => this.remove(id)));
  }

  async remove(id: number): Promise<void> {
    this.#size -= this.#sizes.get(id) ?? 0;
    this.#sizes.delete(id);
    try {
      await committed(this.#store('readwrite').delete(id));
    } catch (error) {
      this.#fail(error); // the next page sends the message again, and the server recognizes it
    }
  }

  #store(mode: IDBTransactionMode): IDBObjectStore {
    return this.#database!.transaction('messages', mode).objectStore('messages');
  }

  #count(id: number, size: number): void {
    this.#sizes.set(id, size);
    this.#size += size;
  }

  /** Reports whether a stored message can be sent. Other programs can write into the database. */
  #accept({ id, to, message }: Entry): boolean {
    const name = to && ('roomID' in to ? to.roomID : to.userID);
    if (typeof name === 'string' && typeof message?.kind === 'string' && typeof message.clientMessageID === 'string') {
      this.#count(id, JSON.stringify(message).length);
      return true;
    }
    this.#fail(new Error('a stored message is corrupt'));
    void this.remove(id);
    return false;
  }

  #fail(cause: unknown): void {
    const error = new StorageError('Messages that wait could not be stored or read.', { cause });
    try {
      this.#onError(error);
    } catch (thrown) {
      report(thrown);
    }
  }
}

/** Returns the pages that send their own messages, and adds this one until it is gone. */
async function livingPages(page: string): Promise<Set<string>> {
  const prefix = 'parlor outbox ';
  const locks = globalThis.navigator?.locks;
  // Without locks, messages of other tabs are sent by both. The server stores each once.
  if (locks === undefined) return new Set();
  await new Promise<void>((resolve, reject) => {
    locks.request(prefix + page, () => (resolve(), new Promise(() => {}))).catch(reject);
  });
  const { held = [] } = await locks.query();
  return new Set(held.flatMap(({ name }) => (name?.startsWith(prefix) ? [name.slice(prefix.length)] : [])));
}

function result<T>(request: IDBRequest<T>): Promise<T> {
  return inTime((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** Waits until the change of a request is stored: a full disk is noticed at the end. */
function committed<T>(request: IDBRequest<T>): Promise<T> {
  return inTime((resolve, reject) => {
    const transaction = request.transaction!;
    transaction.oncomplete = () => resolve(request.result);
    transaction.onabort = () => reject(transaction.error ?? request.error);
  });
}

function inTime<T>(start: (resolve: (value: T) => void, reject: (reason: unknown) => void) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('the storage does not reply')), STORAGE_TIMEOUT);
    start(
      (value) => (clearTimeout(timer), resolve(value)),
      (reason) => (clearTimeout(timer), reject(reason)),
    );
  });
}
