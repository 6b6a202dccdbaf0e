import { Live } from './live.ts';
import { ParlorError } from './problem.ts';
import type { RoomHandle } from './room.ts';
import type { Message, MessageListReply } from './schemas.gen.ts';

const PAGE = 50;
/** The number of messages that are kept, besides those that loadEarlier was asked for. */
const KEPT = 1_000;

/**
 * The stored messages of a room: a page of the newest, the new ones as they arrive, and earlier pages
 * on demand. Each message is in it once, whether it comes from the history, from the stream or from
 * the reply to RoomHandle.send, and in whichever order.
 *
 * A listener of onChange gets the messages that are new or were recalled; none if all are loaded
 * again, after a roomReset.
 */
export class LiveHistory extends Live<readonly Message[]> {
  #messages: readonly Message[] = [];
  #kept = KEPT;
  /** The seq before which messages are not loaded; undefined if there are none. */
  #before: number | undefined;
  /** Counts the times that all messages were discarded, so that a page of an earlier time is not used. */
  #time = 0;
  #reading = 0;
  /** The messages that were recalled while a page is read, which may still have their content. */
  readonly #recalled = new Set<string>();
  #earlier: Promise<void> | undefined;

  /** @internal */
  static async open(room: RoomHandle): Promise<LiveHistory> {
    const history = new LiveHistory(room);
    await history.read();
    return history;
  }

  private constructor(room: RoomHandle) {
    super(room);
    room.on('roomMessageReceived', ({ messageList }) => this.#merge(messageList));
    room.on('messageRecalled', ({ messageID }) => this.#recall(messageID));
  }

  /** The messages in ascending order of `seq`. It is another array after each change. */
  get messages(): readonly Message[] {
    return this.#messages;
  }

  /** Whether loadEarlier has more messages. */
  get hasEarlier(): boolean {
    return this.#before !== undefined;
  }

  /** Loads earlier messages. Calls at the same time load one page. */
  loadEarlier(): Promise<void> {
    this.#earlier ??= this.#loadEarlier().finally(() => (this.#earlier = undefined));
    return this.#earlier;
  }

  /** @internal Adds a message of the reply to a call. */
  add(message: Message): void {
    this.#merge([message]);
  }

  protected override async read(): Promise<readonly Message[]> {
    const time = this.#time;
    const page = await this.#page(undefined);
    if (time !== this.#time) return []; // the page after that is being read
    this.#before = page.nextCursor;
    return this.#insert(page.messageList);
  }

  protected override discard(): void {
    this.#time++;
    this.#messages = [];
    this.#before = undefined;
    this.#kept = KEPT;
    this.changed([]);
  }

  async #loadEarlier(): Promise<void> {
    // All messages of a page may be to other members.
    for (let found = false; !found && this.#before !== undefined; ) {
      const before = this.#before;
      const { messageList, nextCursor } = await this.#page(before);
      if (before !== this.#before) continue; // messages were discarded meanwhile
      this.#before = nextCursor;
      this.#kept += messageList.length;
      found = messageList.length > 0;
      this.#merge(messageList);
    }
  }

  async #page(before: number | undefined): Promise<MessageListReply> {
    this.#reading++;
    try {
      const { parlor, roomID } = this.room;
      const page = await parlor.listRoomMessages(roomID, { limit: PAGE, ...(before !== undefined && { before }) });
      const messageList = page.messageList.map((one) => (this.#recalled.has(one.messageID) ? recalled(one) : one));
      return { ...page, messageList };
    } catch (error) {
      if (error instanceof ParlorError && error.code === 'no_history') return { messageList: [] };
      throw error;
    } finally {
      if (--this.#reading === 0) this.#recalled.clear();
    }
  }

  #merge(messages: readonly Message[]): void {
    const added = this.#insert(messages);
    if (added.length > 0) this.changed(added);
  }

  /** Inserts the messages that are not there yet, and returns them. */
  #insert(messages: readonly Message[]): readonly Message[] {
    // A message that is not stored has no seq. Two messages never have the same.
    const last = this.#messages.at(-1)?.seq ?? 0;
    const known = new Set(messages.every(({ seq = 0 }) => seq > last) ? [] : this.#messages.map(({ seq }) => seq));
    const added = messages.filter(({ seq }) => seq !== undefined && !known.has(seq));
    if (added.length === 0) return added;
    const all = [...this.#messages, ...added].sort((a, b) => a.seq! - b.seq!);
    this.#messages = all.slice(-this.#kept);
    if (all.length > this.#kept) this.#before = this.#messages[0]!.seq;
    return added;
  }

  #recall(messageID: string): void {
    if (this.#reading > 0) this.#recalled.add(messageID);
    const index = this.#messages.findIndex((message) => message.messageID === messageID);
    if (index < 0) return;
    const message = recalled(this.#messages[index]!);
    this.#messages = this.#messages.map((one, at) => (at === index ? message : one));
    this.changed([message]);
  }
}

/** Returns a message as it is after its recall: without content. */
function recalled({ messageID, roomID, seq, kind, sender, to, priority, clientMessageID, sentAt }: Message): Message {
  const message = { messageID, roomID, seq, kind, sender, to, priority, clientMessageID, sentAt, recalled: true };
  return Object.fromEntries(Object.entries(message).filter(([, value]) => value !== undefined)) as unknown as Message;
}
