import {
  type Member,
  type Message,
  newMessageID,
  Parlor,
  ParlorError,
  type ParlorEvents,
  type Room,
  type RoomConfigRequest,
  type RoomMessageDraft,
  type RoomStateChange,
  type StreamEvents,
} from 'parlor-sdk';
import { MemberList } from 'parlor-sdk/member-list';

export interface RoomSessionOptions {
  /** The address of the server. The default is the origin of the web page. */
  baseURL?: string | undefined;
  token: string;
  /** Called when the token is about to expire. */
  getToken?: (() => string | Promise<string>) | undefined;
  roomID: string;
  /** The user whom the token must be for. The default is any user. */
  userID?: string | undefined;
  userName?: string | undefined;
  userData?: string | undefined;
  /** The settings with which a missing room is created. */
  config: RoomConfigRequest;
  /** How long the connection may be lost before the session gives up, in milliseconds. */
  retryWindow: (room: Room) => number;
  /** Whether the members are read and followed. */
  members: boolean;
  /** Whether the user enters the room again if the connection was lost for longer than the room allows. */
  reenters: boolean;
}

/** Why the session in the room ended. */
export type Ending = Pick<RoomStateChange, 'event' | 'reason'>;

export interface AttributesChange {
  set: Record<string, string>;
  deleted: string[];
  /** The user who changed them; undefined if the change was made before or by no user. */
  userID?: string | undefined;
}

/** What a RoomSession calls, in the order in which things happened, from `entered` to `ended`. */
export interface RoomSessionHandler {
  entered(): void;
  /** Users other than this one joined, or were there already. */
  joined(members: Member[]): void;
  left(members: Member[]): void;
  /** What a member says of itself, such as its userData, may have changed. */
  memberChanged(member: Member): void;
  /** The number of members, this user included, may have changed. */
  counted(memberCount: number): void;
  memberStateChanged(userID: string, state: 'online' | 'reconnecting'): void;
  /** A message that was not sent by this session. */
  received(message: Message): void;
  /** The attributes at the beginning, and then the changes of others. */
  attributesChanged(change: AttributesChange): void;
  tokenWillExpire(secondsLeft: number): void;
  reconnecting(): void;
  reconnected(): void;
  /** The last call. It is not made after leave(). */
  ended(ending: Ending): void;
}

/** The most members that are read: more rooms than that do not show everybody. */
const MOST_MEMBERS = 1_000;
/** How long leave() waits for the server, in milliseconds. */
const LEAVE_TIMEOUT = 3_000;
/**
 * RoomSession is a session that is in one room from its beginning to its end, as the SDKs for audio
 * and video know it: they have no login besides that to a room.
 */
export class RoomSession {
  readonly #options: RoomSessionOptions;
  readonly #handler: RoomSessionHandler;
  /** Begins the clientMessageID of each message that this session sends. */
  readonly #instance = newMessageID();
  #sent = 0;
  #parlor: Parlor | undefined;
  #room: Room | undefined;
  #list: MemberList | undefined;
  /** The other members, as the handler knows them. */
  readonly #members = new Map<string, Member>();
  #attributes: Record<string, string> = {};
  /** The version of #attributes. */
  #version = 0;
  /** The changes of attributes by this session, with the version of each whose reply has arrived. */
  #ownChanges: OwnChange[] = [];
  #reconnecting = false;
  #done = false;
  /** What happened while the state of the room is being read, and is therefore later. */
  #later: (() => void)[] | undefined;
  #retryTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(options: RoomSessionOptions, handler: RoomSessionHandler) {
    this.#options = options;
    this.#handler = handler;
  }

  /** The other members, in the order in which they joined. */
  get members(): ReadonlyMap<string, Member> {
    return this.#members;
  }

  get userID(): string | undefined {
    return this.#parlor?.userID;
  }

  /** Logs in and enters the room. @throws {ParlorError | TypeError} also if leave() is called meanwhile. */
  async enter(): Promise<void> {
    const { baseURL, token, getToken, userID, userName } = this.#options;
    this.#later = [];
    const parlor = await Parlor.login({
      token,
      ...(getToken !== undefined && { getToken }),
      ...(baseURL !== undefined && { baseURL }),
      ...(userName !== undefined && { userName }),
    });
    this.#parlor = parlor;
    try {
      this.#checkNotDone();
      if (userID !== undefined && userID !== parlor.userID) {
        throw new ParlorError('token_user_mismatch', `The token is for the user "${parlor.userID}", not for "${userID}".`);
      }
      this.#listen(parlor);
      await this.#attend();
    } catch (error) {
      this.#discard();
      throw error;
    }
    this.#handler.entered();
    this.#catchUp();
  }

  /** Leaves the room and logs out. Resolves also if the server cannot be reached. */
  async leave(): Promise<void> {
    if (this.#done) return;
    this.#finish();
    const parlor = this.#parlor;
    if (parlor === undefined) return; // enter() logs out
    const left = parlor.leaveRoom(this.#options.roomID).catch(() => {});
    void left.then(() => this.#discard());
    if (parlor.connectionState === 'reconnecting') return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    await Promise.race([left, new Promise((resolve) => (timer = setTimeout(resolve, LEAVE_TIMEOUT)))]);
    clearTimeout(timer);
  }

  async send(draft: RoomMessageDraft): Promise<Message> {
    const clientMessageID = `${this.#instance}:${++this.#sent}`;
    const { message } = await this.#entered.sendRoomMessage(this.#options.roomID, { ...draft, clientMessageID });
    return message;
  }

  /** Sets an attribute of the room, whoever owns it. */
  async setAttribute(key: string, value: string): Promise<void> {
    const change: OwnChange = { key, value };
    this.#ownChanges.push(change);
    try {
      const { roomID } = this.#options;
      ({ version: change.version } = await this.#entered.updateRoomAttributes(roomID, { set: { [key]: value }, force: true }));
    } catch (error) {
      change.version = 0;
      throw error;
    } finally {
      this.#dropOwnChanges();
    }
  }

  async renewToken(token: string): Promise<void> {
    await this.#entered.renewToken(token);
  }

  get #entered(): Parlor {
    if (this.#parlor === undefined || this.#room === undefined || this.#done) throw ended();
    return this.#parlor;
  }

  #checkNotDone(): void {
    if (this.#done) throw ended();
  }

  #listen(parlor: Parlor): void {
    /** Events of the room, after it was entered and in its present generation. */
    const on = <E extends RoomEvent>(event: E, listener: (data: ParlorEvents[E]) => void) =>
      parlor.on(event, (data: ParlorEvents[E]) =>
        this.#run(() => {
          if (data.roomID === this.#room!.roomID && data.generation === this.#room!.generation) listener(data);
        }),
      );
    on('roomMemberJoined', (event) => this.#followMembers(event));
    on('roomMemberLeft', (event) => this.#followMembers(event));
    on('roomMemberCountUpdated', (event) => this.#followCount(event));
    on('roomMemberAttributesUpdated', (event) => {
      this.#list?.apply(event);
      this.#followUsers(event.infos.map(({ userID }) => userID));
    });
    on('memberReconnecting', (event) => this.#followStates(event, 'reconnecting'));
    on('memberReconnected', (event) => this.#followStates(event, 'online'));
    on('roomMessageReceived', ({ messageList }) => messageList.forEach((message) => this.#receive(message)));
    on('roomAttributesUpdated', (event) => this.#followAttributes(event));
    on('userInfoUpdated', (event) => {
      this.#list?.apply(event);
      this.#followUsers(event.userList.map(({ userID }) => userID));
    });
    parlor.on('roomReset', ({ roomID, room }) => {
      if (roomID === this.#options.roomID) this.#run(() => void this.#restart(() => Promise.resolve(room)));
    });
    parlor.on('tokenWillExpire', ({ secondsLeft }) => this.#run(() => this.#handler.tokenWillExpire(secondsLeft)));
  }

  /** Runs what an event causes, after the state of the room that is being read. */
  #run(effect: () => void): void {
    if (this.#done) return;
    if (this.#later !== undefined) this.#later.push(effect);
    else effect();
  }

  /** Enters the room and reads its members. What happens in the meantime waits for #catchUp. */
  async #attend(getRoom = () => this.#enterRoom()): Promise<void> {
    this.#later ??= [];
    const room = await getRoom();
    this.#checkNotDone();
    this.#room = room;
    if (!this.#options.members) return;
    this.#list = new MemberList(this.#parlor!, room.roomID, room.memberEvents);
    await this.#list.load(MOST_MEMBERS);
    this.#checkNotDone();
  }

  async #enterRoom(): Promise<Room> {
    const { roomID, userData, config } = this.#options;
    const request = { config, ...(userData !== undefined && userData !== '' && { userData }) };
    const entered = await this.#parlor!.enterRoom(roomID, request);
    const follow = (change: RoomStateChange) => this.#run(() => this.#followState(change));
    entered.on('stateChanged', follow);
    if (entered.state !== 'connected') follow(entered.lastChange); // it changed before the reply
    return entered.room;
  }

  /** Reports how the room differs from what the handler knows, and then what happened meanwhile. */
  #catchUp(): void {
    const room = this.#room!;
    this.#followAll();
    this.#handler.counted(room.memberCount);
    const deleted = Object.keys(this.#attributes).filter((key) => !Object.hasOwn(room.roomAttributes, key));
    const changed = Object.entries(room.roomAttributes).filter(([key, value]) => this.#attributes[key] !== value);
    this.#attributes = { ...room.roomAttributes };
    this.#version = room.attributesVersion;
    if (changed.length + deleted.length > 0) this.#handler.attributesChanged({ set: Object.fromEntries(changed), deleted });
    const later = this.#later ?? [];
    this.#later = undefined;
    for (const effect of later) this.#run(effect);
  }

  /** Begins again with a room that was entered again, or whose events could not be continued. */
  async #restart(getRoom: () => Promise<Room>, reentered = false): Promise<void> {
    try {
      await this.#attend(getRoom);
    } catch {
      this.#end({ event: 'networkTimeout' });
      return;
    }
    if (reentered) this.#recover();
    this.#catchUp();
  }

  #followState(change: RoomStateChange): void {
    if (change.state === 'connected') this.#recover();
    else if (change.state === 'reconnecting') this.#lose();
    else if (change.event === 'networkTimeout' && this.#options.reenters) void this.#restart(() => this.#enterRoom(), true);
    else this.#end(change);
  }

  #followMembers(event: StreamEvents['roomMemberJoined'] | StreamEvents['roomMemberLeft']): void {
    this.#list?.apply(event);
    this.#followUsers(event.memberList.map(({ userID }) => userID));
    if (event.memberCount !== undefined) this.#handler.counted(event.memberCount);
  }

  #followCount(event: StreamEvents['roomMemberCountUpdated']): void {
    this.#list?.apply(event);
    this.#handler.counted(event.memberCount);
    if (event.memberEvents !== 'names') return;
    this.#list?.load(MOST_MEMBERS).then(
      () => this.#run(() => this.#followAll()),
      () => {}, // the names stay as they were
    );
  }

  #followAll(): void {
    this.#followUsers([...this.#members.keys(), ...(this.#list?.members.keys() ?? [])]);
  }

  /** Reports which of the users joined or left. */
  #followUsers(userIDs: string[]): void {
    const joined: Member[] = [];
    const left: Member[] = [];
    for (const userID of new Set(userIDs)) {
      const now = this.#list?.members.get(userID);
      const before = this.#members.get(userID);
      if (userID === this.#parlor!.userID) continue;
      if (now !== undefined) {
        this.#members.set(userID, now);
        if (before === undefined) joined.push(now);
        else this.#handler.memberChanged(now);
      } else if (before !== undefined) {
        this.#members.delete(userID);
        left.push(before);
      }
    }
    if (left.length > 0) this.#handler.left(left);
    if (joined.length > 0) this.#handler.joined(joined);
  }

  #followStates(event: StreamEvents['memberReconnecting'], state: 'online' | 'reconnecting'): void {
    this.#list?.setState(state, event);
    for (const { userID } of event.memberList) {
      if (this.#members.has(userID)) this.#handler.memberStateChanged(userID, state);
    }
  }

  #receive(message: Message): void {
    const own = message.sender.userID === this.#parlor!.userID;
    if (own && message.clientMessageID?.startsWith(`${this.#instance}:`)) return;
    this.#handler.received(message);
  }

  #followAttributes({ seq, infos, operatedInfo }: StreamEvents['roomAttributesUpdated']): void {
    if (seq <= this.#version) return; // the room was read after the change
    const set: Record<string, string> = {};
    const deleted: string[] = [];
    for (const { action, roomAttributes } of infos) {
      if (action === 'set') Object.assign(set, roomAttributes);
      else deleted.push(...Object.keys(roomAttributes));
    }
    for (const key of deleted) delete this.#attributes[key];
    Object.assign(this.#attributes, set);
    this.#version = seq;
    const own = operatedInfo?.userID === this.#parlor!.userID && this.#isOwnChange(seq, set, deleted);
    this.#dropOwnChanges();
    if (!own) this.#handler.attributesChanged({ set, deleted, userID: operatedInfo?.userID });
  }

  /** Reports whether a change of this user was made by this session, and not by another. */
  #isOwnChange(version: number, set: Record<string, string>, deleted: string[]): boolean {
    const keys = Object.keys(set);
    if (deleted.length > 0 || keys.length !== 1) return false;
    const matches = ({ key, value, version: known }: OwnChange) =>
      key === keys[0] && value === set[key] && (known === undefined || known === version);
    const index = this.#ownChanges.findIndex(matches);
    if (index < 0) return false;
    this.#ownChanges[index]!.version = version;
    return true;
  }

  /** Forgets the changes whose events, if there are any, have arrived. */
  #dropOwnChanges(): void {
    this.#ownChanges = this.#ownChanges.filter(({ version }) => version === undefined || version > this.#version);
  }

  #lose(): void {
    if (this.#reconnecting) return;
    this.#reconnecting = true;
    this.#retryTimer = setTimeout(() => this.#end({ event: 'networkTimeout' }), this.#options.retryWindow(this.#room!));
    this.#handler.reconnecting();
  }

  #recover(): void {
    clearTimeout(this.#retryTimer);
    if (!this.#reconnecting) return;
    this.#reconnecting = false;
    this.#handler.reconnected();
  }

  #end(ending: Ending): void {
    if (this.#done) return;
    this.#finish();
    this.#discard(ending.event);
    this.#handler.ended(ending);
  }

  #finish(): void {
    this.#done = true;
    clearTimeout(this.#retryTimer);
  }

  /** Ends the session, if it has not ended. Without the network, it ends with its token. */
  #discard(event?: Ending['event']): void {
    this.#done = true;
    if (this.#parlor === undefined || this.#parlor.connectionState === 'disconnected') return;
    // The server has ended it, and is about to say so on the stream.
    if (event === 'tokenExpired' || event === 'loggedOut') this.#parlor.close();
    else this.#parlor.endSession().catch(() => {});
  }
}

interface OwnChange {
  key: string;
  value: string;
  version?: number;
}

type RoomEvent = {
  [E in keyof ParlorEvents]: ParlorEvents[E] extends { roomID: string; generation: number } ? E : never;
}[keyof ParlorEvents];

function ended(): ParlorError {
  return new ParlorError('session_ended', 'The room was left.');
}
