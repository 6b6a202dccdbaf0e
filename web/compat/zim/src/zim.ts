import { Parlor, ParlorError, type RoomConfigRequest, type RoomHandle } from 'parlor-sdk';
import { ZIMConnectionEvent, ZIMConnectionState, ZIMConversationType, ZIMErrorCode, ZIMRoomEvent } from './enums.ts';
import { type Area, failure, invalid, isCode, lengthError, notLogged, zimError } from './errors.ts';
import { type EventName, Events, type PositionalListener, type UnusedEventName, type ZIMEventHandler } from './events.ts';
import { Session } from './session.ts';
import type * as T from './types.ts';
import { addUnsupported, type AlwaysEmpty, type Unsupported } from './unsupported.ts';
import { errorUsers, userFullInfo, userInfo, userStatus } from './users.ts';

/** How long a login waits for the stream to open, in milliseconds. */
const CONNECT_TIMEOUT = 10_000;
/** The most members, users or messages in a call. */
const PAGE = 100;
/** The number of cursors that are kept, for lists whose nextFlag is a number. */
const MOST_CURSORS = 100;

let instance: ZIM | null = null;

export interface ZIM extends Unsupported, AlwaysEmpty {}

/**
 * ZIM is a client with the API of the ZIM SDK. Calls that fail are rejected with a ZIMError. What
 * Parlor does not offer is rejected with CommonModuleUnsupportedRequest.
 */
export class ZIM {
  readonly #server: string | undefined;
  readonly #events = new Events(this);
  #session: Session | undefined;
  /** The login in progress. */
  #login: object | undefined;
  #destroyed = false;
  /** The attributes of rooms that are collected between begin and end. */
  readonly #batches = new Map<string, Batch>();
  readonly #cursors = new Map<number, string>();
  #lastFlag = 0;

  static getVersion(): string {
    return '2.29.0';
  }

  /** Creates the client, or returns null if there is one. After `destroy`, there may be another. */
  static create(appConfig: number | T.ZIMAppConfig): ZIM | null {
    if (instance !== null) return null;
    instance = new ZIM(typeof appConfig === 'object' ? appConfig.server : undefined);
    return instance;
  }

  static getInstance(): ZIM | null {
    return instance;
  }

  /** Does nothing: there are no such settings. */
  static setAdvancedConfig(_key: string, _value: string): void {}

  /** Does nothing: the server is where the application runs it. */
  static setGeofencingConfig(_areaList: number[], _type: number): boolean {
    return false;
  }

  private constructor(server: string | undefined) {
    this.#server = server;
  }

  /** Does nothing: the client writes no log. */
  setLogConfig(_config: T.ZIMLogConfig): void {}

  /** Does nothing: the client writes no log. */
  async uploadLog(): Promise<void> {}

  /**
   * Closes the client without a logout: the user stays in rooms for their `memberTimeout`. No event
   * follows.
   */
  destroy(): void {
    this.#destroyed = true;
    this.#login = undefined;
    this.#events.clear();
    const session = this.#session;
    this.#session = undefined;
    session?.close();
    session?.parlor.close();
    if (instance === this) instance = null;
  }

  /** Sets the listener of an event. An earlier listener of the same event is not called any more. */
  on<E extends EventName>(type: E, listener: ZIMEventHandler[E]): void;
  /** A listener with more than two parameters gets the fields of the data one by one, as in ZIM 1.x. */
  on(type: EventName | UnusedEventName, listener: PositionalListener): void;
  on(type: EventName | UnusedEventName, listener: PositionalListener): void {
    if (!this.#destroyed) this.#events.set(type, listener);
  }

  /** Removes the listener of an event; with a second argument, only if it is that one. */
  off(type: EventName | UnusedEventName, listener?: PositionalListener): void {
    this.#events.remove(type, listener);
  }

  // Login

  login(userID: string, config: T.ZIMLoginConfig): Promise<void>;
  /** The older form. */
  login(userInfo: Pick<T.ZIMUserInfo, 'userID'> & Partial<T.ZIMUserInfo>, token: string): Promise<void>;
  async login(user: string | (Pick<T.ZIMUserInfo, 'userID'> & Partial<T.ZIMUserInfo>), config: string | T.ZIMLoginConfig): Promise<void> {
    if (this.#destroyed) throw notCreated();
    const { userID = '', userName = '' } = typeof user === 'string' ? { userID: user } : (user ?? {});
    const options: Partial<T.ZIMLoginConfig> = typeof config === 'string' ? { token: config } : (config ?? {});
    const { token } = options;
    if (!userID || !token) throw invalid('The userID or the token is missing.');
    if (this.#session || this.#login) {
      throw failure(ZIMErrorCode.NetworkModuleUserHasAlreadyLogged, 'The user is logged in already.');
    }
    const login = {};
    this.#login = login;
    this.#connectionChanged(ZIMConnectionState.Connecting, ZIMConnectionEvent.ActiveLogin);
    let session: Session | undefined;
    try {
      const name = options.userName || userName;
      const parlor = await Parlor.login({
        token,
        ...(this.#server !== undefined && { baseURL: this.#server }),
        ...(name && { userName: name }),
      });
      if (this.#login !== login || parlor.userID !== userID) {
        void parlor.endSession().catch(() => {});
        if (this.#login !== login) throw notLogged(); // logged out or destroyed meanwhile
        throw failure(ZIMErrorCode.NetworkModuleUserIDError, `The token is that of the user ${parlor.userID}.`);
      }
      session = await this.#connect(parlor, login);
    } catch (error) {
      if (this.#login === login) {
        this.#login = undefined;
        this.#connectionChanged(ZIMConnectionState.Disconnected, loginFailure(error));
      }
      throw zimError(error, 'connection');
    }
    if (options.customStatus) {
      // Without it, the user is logged in nevertheless.
      await session.parlor.updateStatus({ customStatus: options.customStatus }).catch((error: unknown) => {
        this.#events.emit('error', zimError(error, 'user'));
      });
    }
  }

  /** Waits until the stream of a new session is open. */
  #connect(parlor: Parlor, login: object): Promise<Session> {
    return new Promise((resolve, reject) => {
      const fail = (error: T.ZIMError) => {
        clearTimeout(timer);
        session.close();
        void parlor.endSession().catch(() => {});
        reject(error);
      };
      const session = new Session(
        parlor,
        this.#events,
        () => {
          clearTimeout(timer);
          if (this.#login !== login) return fail(notLogged());
          this.#login = undefined;
          this.#session = session;
          resolve(session);
        },
        () => {
          if (this.#session === session) this.#session = undefined;
          else fail(notLogged());
        },
      );
      const timer = setTimeout(
        () => fail(failure(ZIMErrorCode.NetworkModuleRequestTimeout, 'The stream of events did not open.')),
        CONNECT_TIMEOUT,
      );
    });
  }

  /** Ends the session, which leaves all rooms. */
  logout(_config?: T.ZIMLogoutConfig): void {
    const session = this.#session;
    if (session !== undefined) {
      session.end(ZIMConnectionEvent.Success);
      // Without a reply, the session ends when its stream is lost for long, or with its token.
      void session.parlor.endSession().catch(() => {});
    } else if (this.#login !== undefined) {
      this.#login = undefined;
      this.#connectionChanged(ZIMConnectionState.Disconnected, ZIMConnectionEvent.Success);
    }
  }

  renewToken(token: string): Promise<T.ZIMTokenRenewedResult> {
    return this.#call('connection', async ({ parlor }) => {
      await parlor.renewToken(token);
      return { token };
    });
  }

  #connectionChanged(state: ZIMConnectionState, event: ZIMConnectionEvent): void {
    this.#events.emit('connectionStateChanged', { state, event, extendedData: '{}' });
  }

  // Rooms

  createRoom(roomInfo: RoomInfo, config?: T.ZIMRoomAdvancedConfig): Promise<T.ZIMRoomCreatedResult> {
    return this.#enter(roomInfo, ZIMRoomEvent.ActiveCreate, ZIMRoomEvent.CreateFailed, ({ parlor }, roomID) =>
      parlor.createRoom(roomID, { ...roomName(roomInfo), ...settings(config) }),
    );
  }

  joinRoom(roomID: string): Promise<T.ZIMRoomJoinedResult> {
    return this.#enter({ roomID }, ZIMRoomEvent.ActiveEnter, ZIMRoomEvent.EnterFailed, ({ parlor }) => parlor.joinRoom(roomID));
  }

  enterRoom(roomInfo: RoomInfo, config?: T.ZIMRoomAdvancedConfig): Promise<T.ZIMRoomEnteredResult> {
    return this.#enter(roomInfo, ZIMRoomEvent.ActiveEnter, ZIMRoomEvent.EnterFailed, ({ parlor }, roomID) =>
      parlor.enterRoom(roomID, { ...roomName(roomInfo), ...settings(config) }),
    );
  }

  /** Enters a room and leaves another. If that fails, the user stays in the first. */
  switchRoom(
    fromRoomID: string,
    toRoomInfo: RoomInfo,
    isCreateWhenRoomNotExisted: boolean,
    config?: T.ZIMRoomAdvancedConfig,
  ): Promise<T.ZIMRoomSwitchedResult> {
    let from: ReturnType<Session['rooms']['get']>;
    return this.#enter(
      toRoomInfo,
      ZIMRoomEvent.ActiveSwitch,
      ZIMRoomEvent.SwitchFailed,
      ({ parlor, rooms }, roomID) => {
        from = rooms.get(fromRoomID);
        return parlor.switchRoom(fromRoomID, {
          toRoom: { roomID, ...roomName(toRoomInfo) },
          createIfNotExists: isCreateWhenRoomNotExisted === true,
          ...settings(config),
        });
      },
      ({ rooms }) => rooms.left(from),
    );
  }

  async #enter(
    roomInfo: RoomInfo,
    active: ZIMRoomEvent,
    failed: ZIMRoomEvent,
    call: (session: Session, roomID: string) => Promise<RoomHandle>,
    entered: (session: Session) => void = () => {},
  ): Promise<T.ZIMRoomEnteredResult> {
    return this.#call('room', async (session) => {
      const roomID = id(roomInfo?.roomID, 'roomID');
      const { room } = await session.rooms.enter(roomID, active, failed, () => call(session, roomID), ({ room, created }) => {
        entered(session);
        if (!created) session.showAttributes(room);
      });
      return { roomInfo: { baseInfo: { roomID, roomName: room.roomName } } };
    });
  }

  leaveRoom(roomID: string): Promise<T.ZIMRoomLeftResult> {
    return this.#call('room', ({ parlor, rooms }) => rooms.leave(id(roomID, 'roomID'), () => parlor.leaveRoom(roomID)));
  }

  /** Leaves the rooms that this client is in. */
  leaveAllRoom(): Promise<T.ZIMRoomAllLeftResult> {
    return this.#call('room', ({ parlor, rooms }) => rooms.leaveAll(() => parlor.leaveAllRooms()));
  }

  queryRoomMemberList(roomID: string, config: T.ZIMRoomMemberQueryConfig = {}): Promise<T.ZIMRoomMemberQueriedResult> {
    return this.#call('room', async ({ parlor }) => {
      const { memberList, nextCursor = '' } = await parlor.listMembers(roomID, page(config));
      return { roomID, memberList: memberList.map(userInfo), nextFlag: nextCursor };
    });
  }

  /** The name of queryRoomMemberList in ZIM 1.x. */
  queryRoomMember(roomID: string, config: T.ZIMRoomMemberQueryConfig = {}): Promise<T.ZIMRoomMemberQueriedResult> {
    return this.queryRoomMemberList(roomID, config);
  }

  queryRoomMembers(userIDs: string[], roomID: string): Promise<T.ZIMRoomMembersQueriedResult> {
    return this.#call('room', async ({ parlor }) => {
      const { memberList } = await parlor.listMembers(roomID, { userID: userIDs });
      const found = new Set(memberList.map(({ userID }) => userID));
      const others = userIDs.filter((userID) => !found.has(userID));
      const errorUserList = errorUsers(others, ZIMErrorCode.RoomModuleUserIsNotInTheRoom);
      return { roomID, memberList: memberList.map(userInfo), errorUserList };
    });
  }

  queryRoomOnlineMemberCount(roomID: string): Promise<T.ZIMRoomOnlineMemberCountQueriedResult> {
    return this.#call('room', async ({ parlor }) => ({ roomID, count: (await parlor.countMembers(roomID)).count }));
  }

  // Attributes

  /** Within a batch, the attributes are collected, and `errorKeys` is empty. */
  setRoomAttributes(
    roomAttributes: Record<string, string>,
    roomID: string,
    config: T.ZIMRoomAttributesSetConfig = {},
  ): Promise<T.ZIMRoomAttributesOperatedResult> {
    return this.#call('attributes', async (session) => {
      const batch = this.#batches.get(roomID);
      if (batch === undefined) return this.#updateAttributes(session, roomID, { set: roomAttributes, delete: [], ...changeOptions(config) });
      for (const [key, value] of Object.entries(roomAttributes)) batch.changes.set(key, value);
      return { roomID, errorKeys: [] };
    });
  }

  deleteRoomAttributes(
    keys: string[],
    roomID: string,
    config: T.ZIMRoomAttributesDeleteConfig = {},
  ): Promise<T.ZIMRoomAttributesOperatedResult> {
    return this.#call('attributes', async (session) => {
      const batch = this.#batches.get(roomID);
      if (batch === undefined) return this.#updateAttributes(session, roomID, { set: {}, delete: keys, ...changeOptions(config) });
      for (const key of keys) batch.changes.set(key, undefined);
      return { roomID, errorKeys: [] };
    });
  }

  /** Collects the changes until `endRoomAttributesBatchOperation`, which makes them in one step. */
  beginRoomAttributesBatchOperation(roomID: string, config: T.ZIMRoomAttributesBatchOperationConfig = {}): void {
    if (this.#session !== undefined) this.#batches.set(roomID, { config, changes: new Map() });
  }

  endRoomAttributesBatchOperation(roomID: string): Promise<T.ZIMRoomAttributesBatchOperatedResult> {
    return this.#call('attributes', async (session) => {
      const batch = this.#batches.get(roomID);
      if (batch === undefined) throw invalid('There is no batch of attributes for the room.');
      this.#batches.delete(roomID);
      const changes = [...batch.changes];
      await this.#updateAttributes(session, roomID, {
        set: Object.fromEntries(changes.filter((change): change is [string, string] => change[1] !== undefined)),
        delete: changes.filter(([, value]) => value === undefined).map(([key]) => key),
        ...changeOptions(batch.config),
      });
      return { roomID };
    });
  }

  async #updateAttributes(session: Session, roomID: string, change: AttributesChange): Promise<T.ZIMRoomAttributesOperatedResult> {
    const keys = [...Object.keys(change.set), ...change.delete];
    if (keys.length === 0) throw invalid('There are no attributes.');
    const { set, delete: deleted, ...options } = change;
    const call = () =>
      session.parlor.updateRoomAttributes(roomID, {
        ...(Object.keys(set).length > 0 && { set }),
        ...(deleted.length > 0 && { delete: deleted }),
        ...options,
      });
    const { errorKeys } = await (session.rooms.get(roomID)?.change(call) ?? call()).catch((error: unknown) => {
      throw lengthError(error, 'attributes', set);
    });
    if (errorKeys.length === keys.length) {
      const code = ZIMErrorCode.RoomModuleRoomAttributesOperationFailedCompletely;
      throw failure(code, 'The attributes belong to other users.');
    }
    return { roomID, errorKeys };
  }

  queryRoomAllAttributes(roomID: string): Promise<T.ZIMRoomAttributesQueriedResult> {
    return this.#call('attributes', async ({ parlor }) => {
      const { roomAttributes } = await parlor.getRoomAttributes(roomID);
      return { roomID, roomAttributes };
    });
  }

  setRoomMembersAttributes(
    attributes: Record<string, string>,
    userIDs: string[],
    roomID: string,
    config?: T.ZIMRoomMemberAttributesSetConfig,
  ): Promise<T.ZIMRoomMembersAttributesOperatedResult> {
    return this.#call('memberAttributes', async ({ parlor }) => {
      const { isDeleteAfterOwnerLeft: deleteAfterOwnerLeft } = config ?? {};
      const change = { userIDs, set: attributes, ...(deleteAfterOwnerLeft !== undefined && { deleteAfterOwnerLeft }) };
      const { infos, errorUserList } = await parlor.updateMemberAttributes(roomID, change).catch((error: unknown) => {
        throw lengthError(error, 'memberAttributes', attributes);
      });
      return {
        roomID,
        infos: infos.map(({ userID, attributes }) => ({ attributesInfo: { userID, attributes }, errorKeys: [] })),
        errorUserList,
      };
    });
  }

  queryRoomMembersAttributes(userIDs: string[], roomID: string): Promise<T.ZIMRoomMembersAttributesQueriedResult> {
    return this.#call('memberAttributes', async ({ parlor }) => {
      const { infos } = await parlor.listMemberAttributes(roomID, { userID: userIDs });
      return { roomID, infos: infos.map(({ userID, attributes }) => ({ userID, attributes })) };
    });
  }

  queryRoomMemberAttributesList(
    roomID: string,
    config: T.ZIMRoomMemberAttributesQueryConfig = {},
  ): Promise<T.ZIMRoomMemberAttributesListQueriedResult> {
    return this.#call('memberAttributes', async ({ parlor }) => {
      const { infos, nextCursor = '' } = await parlor.listMemberAttributes(roomID, page(config));
      return { roomID, infos: infos.map(({ userID, attributes }) => ({ userID, attributes })), nextFlag: nextCursor };
    });
  }

  // Messages

  /**
   * Sends a message to a room or a user. Messages are sent in the order of these calls, except those
   * with a file. While the server cannot be reached, they wait.
   */
  sendMessage(
    message: T.ZIMMessage,
    toConversationID: string,
    conversationType: ZIMConversationType,
    config?: T.ZIMMessageSendConfig,
    notification?: T.ZIMMessageSendNotification,
  ): Promise<T.ZIMMessageSentResult> {
    return this.#call('message', (session) =>
      session.send(message, id(toConversationID, 'toConversationID'), conversationType, config, notification),
    );
  }

  /** The older name of sendMessage for messages with a file. */
  sendMediaMessage(
    message: T.ZIMMediaMessage,
    toConversationID: string,
    conversationType: ZIMConversationType,
    config?: T.ZIMMessageSendConfig,
    notification?: T.ZIMMediaMessageSendNotification,
  ): Promise<T.ZIMMessageSentResult> {
    return this.sendMessage(message, toConversationID, conversationType, config, notification);
  }

  /** The name of sendMessage to a room in ZIM 1.x. */
  sendRoomMessage(message: T.ZIMMessage, toRoomID: string, config?: T.ZIMMessageSendConfig): Promise<T.ZIMMessageSentResult> {
    return this.sendMessage(message, toRoomID, ZIMConversationType.Room, config);
  }

  /** The name of sendMessage to a user in ZIM 1.x. */
  sendPeerMessage(message: T.ZIMMessage, toUserID: string, config?: T.ZIMMessageSendConfig): Promise<T.ZIMMessageSentResult> {
    return this.sendMessage(message, toUserID, ZIMConversationType.Peer, config);
  }

  /** Stops sending a message that was not sent yet. The call that sends it is rejected. */
  cancelSendingMessage(message: T.ZIMMessage, _config?: object): Promise<void> {
    return this.#call('message', (session) => session.cancel(message));
  }

  /**
   * Reads a page of stored messages. With `reverse`, it ends before `nextMessage`, or with the newest
   * message; otherwise it begins after `nextMessage`, or with the oldest one.
   */
  queryHistoryMessage(
    conversationID: string,
    conversationType: ZIMConversationType,
    config: T.ZIMMessageQueryConfig,
  ): Promise<T.ZIMMessageQueriedResult> {
    return this.#call('message', async (session) => {
      const { nextMessage, count, reverse = false } = config;
      const list = this.#lister(session, conversationID, conversationType);
      if (nextMessage && !nextMessage.messageSeq) throw invalid('nextMessage is not a stored message.');
      const most = count || PAGE;
      let next = nextMessage?.messageSeq ?? (reverse ? undefined : 0);
      let found: Awaited<ReturnType<typeof list>>['messageList'] = [];
      do {
        const limit = Math.min(most - found.length, PAGE);
        const reply = await list({ limit, ...(next !== undefined && (reverse ? { before: next } : { after: next })) });
        found = reverse ? [...reply.messageList, ...found] : [...found, ...reply.messageList];
        next = reply.nextCursor;
      } while (next !== undefined && found.length < most);
      return { conversationID, conversationType, messageList: await session.showAll(found) };
    });
  }

  /** Reads up to 100 stored messages by their messageSeq. */
  queryMessages(
    messageSeqs: number[],
    conversationID: string,
    conversationType: ZIMConversationType,
  ): Promise<T.ZIMMessageQueriedResult> {
    return this.#call('message', async (session) => {
      const list = this.#lister(session, conversationID, conversationType);
      const found =
        conversationType === ZIMConversationType.Room
          ? (await session.parlor.listRoomMessages(conversationID, { seq: messageSeqs })).messageList
          : (await Promise.all(messageSeqs.slice(0, PAGE).map((seq) => list({ before: seq + 1, limit: 1 }))))
              .flatMap(({ messageList }) => messageList)
              .filter(({ seq = 0 }) => messageSeqs.includes(seq));
      return { conversationID, conversationType, messageList: await session.showAll(found) };
    });
  }

  #lister({ parlor }: Session, conversationID: string, type: ZIMConversationType) {
    if (type === ZIMConversationType.Room) return (query: MessagesQuery) => parlor.listRoomMessages(conversationID, query);
    if (type === ZIMConversationType.Peer) return (query: MessagesQuery) => parlor.listPeerMessages(conversationID, query);
    throw invalid(`There are no conversations of type ${type}.`);
  }

  /** Recalls a message of this user, within two minutes, in rooms too. */
  revokeMessage(message: T.ZIMMessage, _config?: T.ZIMMessageRevokeConfig): Promise<T.ZIMMessageRevokedResult> {
    return this.#call('message', (session) => session.revoke(message));
  }

  /** Deletes all messages with another user, for this user. */
  deleteAllMessage(
    conversationID: string,
    conversationType: ZIMConversationType,
    _config?: T.ZIMMessageDeleteConfig,
  ): Promise<T.ZIMMessageDeletedResult> {
    return this.deleteConversation(conversationID, conversationType);
  }

  /** Deletes all messages with other users, for this user. */
  deleteAllConversationMessages(_config?: T.ZIMMessageDeleteConfig): Promise<void> {
    return this.deleteAllConversations();
  }

  /** Returns the message: it contains those that it combines. */
  async queryCombineMessageDetail(message: T.ZIMCombineMessage): Promise<T.ZIMCombineMessageDetailQueriedResult> {
    return { message };
  }

  /** Changes the message that is given. The server does not store it. */
  updateMessageLocalExtendedData(
    localExtendedData: string,
    message: T.ZIMMessage,
  ): Promise<T.ZIMMessageLocalExtendedDataUpdatedResult> {
    return this.#call('message', () => ({ message: Object.assign(message, { localExtendedData }) }));
  }

  /** Does nothing: senders do not learn who has read their messages. */
  async sendMessageReceiptsRead(
    _messageList: T.ZIMMessage[],
    conversationID: string,
    conversationType: ZIMConversationType,
  ): Promise<T.ZIMMessageReceiptsReadSentResult> {
    return { conversationID, conversationType, errorMessageIDs: [] };
  }

  /** Returns nothing: senders do not learn who has read their messages. */
  async queryMessageReceiptsInfo(
    _messageList: T.ZIMMessage[],
    _conversationID: string,
    _conversationType: ZIMConversationType,
  ): Promise<T.ZIMMessageReceiptsInfoQueriedResult> {
    return { infos: [], errorMessageIDs: [] };
  }

  // Conversations with other users

  queryConversationList(
    config: T.ZIMConversationQueryConfig,
    option?: T.ZIMConversationFilterOption,
  ): Promise<T.ZIMConversationListQueriedResult> {
    return this.#call('message', async ({ conversations }) => ({ conversationList: await conversations.list(config, option) }));
  }

  queryConversation(conversationID: string, conversationType: ZIMConversationType): Promise<T.ZIMConversationQueriedResult> {
    return this.#call('message', async ({ conversations }) => ({
      conversation: await conversations.get(conversationID, conversationType),
    }));
  }

  queryConversationTotalUnreadMessageCount(_config?: object): Promise<T.ZIMConversationTotalUnreadMessageCountQueriedResult> {
    return this.#call('message', async ({ conversations }) => ({ unreadMessageCount: await conversations.totalUnread() }));
  }

  /** Deletes all messages with another user, for this user. The next message begins it again. */
  deleteConversation(
    conversationID: string,
    conversationType: ZIMConversationType,
    _config?: T.ZIMConversationDeleteConfig,
  ): Promise<T.ZIMConversationDeletedResult> {
    return this.#call('message', async ({ conversations }) => {
      await conversations.delete(conversationID, conversationType);
      return { conversationID, conversationType };
    });
  }

  deleteAllConversations(_config?: T.ZIMConversationDeleteConfig): Promise<void> {
    return this.#call('message', ({ conversations }) => conversations.deleteAll());
  }

  clearConversationUnreadMessageCount(
    conversationID: string,
    conversationType: ZIMConversationType,
  ): Promise<T.ZIMConversationUnreadMessageCountClearedResult> {
    return this.#call('message', async ({ conversations }) => {
      await conversations.read(conversationID, conversationType);
      return { conversationID, conversationType };
    });
  }

  clearConversationTotalUnreadMessageCount(): Promise<void> {
    return this.#call('message', async ({ parlor }) => void (await parlor.readAllConversations()));
  }

  /** Does nothing: senders do not learn who has read their messages. */
  async sendConversationMessageReceiptRead(
    conversationID: string,
    conversationType: ZIMConversationType,
  ): Promise<T.ZIMConversationMessageReceiptReadSentResult> {
    return { conversationID, conversationType };
  }

  // Users

  updateUserName(userName: string): Promise<{ userName: string }> {
    return this.#call('user', async ({ parlor }) => {
      const { profile } = await parlor.updateProfile({ userName });
      return { userName: profile.userName };
    });
  }

  updateUserAvatarUrl(userAvatarUrl: string): Promise<{ userAvatarUrl: string }> {
    return this.#call('user', async ({ parlor }) => {
      await parlor.updateProfile({ avatarURL: userAvatarUrl });
      return { userAvatarUrl };
    });
  }

  updateUserExtendedData(extendedData: string): Promise<{ extendedData: string }> {
    return this.#call('user', async ({ parlor }) => {
      await parlor.updateProfile({ userExtendedData: extendedData });
      return { extendedData };
    });
  }

  queryUsersInfo(userIDs: string[], _config?: T.ZIMUsersInfoQueryConfig): Promise<T.ZIMUsersInfoQueriedResult> {
    return this.#call('user', async ({ parlor }) => {
      const { userList, errorUserList } = await parlor.queryUsers({ userID: userIDs });
      return { userList: userList.map(userFullInfo), errorUserList: errorUsers(errorUserList) };
    });
  }

  querySelfUserInfo(): Promise<T.ZIMSelfUserInfoQueriedResult> {
    return this.#call('user', async ({ parlor }) => {
      const userID = [parlor.userID];
      const [{ userList }, { statusList }] = await Promise.all([parlor.queryUsers({ userID }), parlor.listStatuses({ userID })]);
      return {
        selfUserInfo: {
          userFullInfo: userFullInfo(userList[0]!),
          userRule: { offlinePushRule: { onlinePlatforms: [], notToReceiveOfflinePushPlatforms: [] } },
          userStatus: userStatus(statusList[0]!),
        },
      };
    });
  }

  /** Sets the custom status, until it is set again: it does not expire. */
  updateUserCustomStatus(customStatus: string, _config?: T.ZIMUserCustomStatusUpdateConfig): Promise<{ customStatus: string }> {
    return this.#call('user', async ({ parlor }) => {
      await parlor.updateStatus({ customStatus });
      return { customStatus };
    });
  }

  queryUsersStatus(userIDs: string[]): Promise<T.ZIMUsersStatusQueriedResult> {
    return this.#call('user', async ({ parlor }) => {
      const { statusList } = await parlor.listStatuses({ userID: userIDs });
      const known = statusList.filter(({ state }) => state !== 'unknown');
      const unknown = statusList.filter(({ state }) => state === 'unknown').map(({ userID }) => userID);
      return { userStatusList: known.map(userStatus), errorUserList: errorUsers(unknown) };
    });
  }

  subscribeUsersStatus(userIDs: string[], config: T.ZIMUserStatusSubscribeConfig): Promise<T.ZIMErrorUserList> {
    return this.#call('user', async ({ parlor }) => {
      const durationSeconds = config.subscriptionDuration * 60;
      const { errorUserList, statusList } = await parlor.subscribeStatuses({ userIDs, durationSeconds });
      this.#events.emit('userStatusUpdated', { userStatusList: statusList.map(userStatus) });
      return { errorUserList: errorUsers(errorUserList) };
    });
  }

  unsubscribeUsersStatus(userIDs: string[]): Promise<T.ZIMErrorUserList> {
    return this.#call('user', async ({ parlor }) => {
      await parlor.unsubscribeStatuses({ userID: userIDs });
      return { errorUserList: [] };
    });
  }

  querySubscribedUserStatusList(
    config?: T.ZIMSubscribedUserStatusQueryConfig,
  ): Promise<T.ZIMSubscribedUserStatusListQueriedResult> {
    return this.#call('user', async ({ parlor }) => {
      const userIDs = config?.userIDs ?? [];
      const userStatusSubscriptionList: T.ZIMUserStatusSubscription[] = [];
      let cursor: string | undefined;
      do {
        const query = userIDs.length > 0 ? { userID: userIDs } : { limit: 500, ...(cursor !== undefined && { cursor }) };
        const { subscriptionList, nextCursor } = await parlor.listStatusSubscriptions(query);
        for (const subscription of subscriptionList) {
          const subscribeExpiredTime = Date.parse(subscription.expiresAt);
          userStatusSubscriptionList.push({ userStatus: userStatus(subscription), subscribeExpiredTime });
        }
        cursor = nextCursor;
      } while (cursor !== undefined);
      return { userStatusSubscriptionList };
    });
  }

  addUsersToBlacklist(userIDs: string[]): Promise<T.ZIMErrorUserList> {
    return this.#forEach(userIDs, ({ parlor }, userID) => parlor.blockUser(userID));
  }

  removeUsersFromBlacklist(userIDs: string[]): Promise<T.ZIMErrorUserList> {
    return this.#forEach(userIDs, ({ parlor }, userID) => parlor.unblockUser(userID));
  }

  queryBlacklist(config: T.ZIMBlacklistQueryConfig): Promise<T.ZIMBlacklistQueriedResult> {
    return this.#call('user', async ({ parlor }) => {
      const { nextFlag = 0, count } = config;
      const cursor = this.#cursors.get(nextFlag);
      if (nextFlag !== 0 && cursor === undefined) throw invalid('nextFlag is not that of a page before.');
      const { blockList, nextCursor } = await parlor.listBlocks({ limit: limit(count), ...(cursor !== undefined && { cursor }) });
      const userID = blockList.map((block) => block.userID);
      const { userList } = userID.length > 0 ? await parlor.queryUsers({ userID }) : { userList: [] };
      return { blacklist: userList.map(userInfo), nextFlag: this.#flagOf(nextCursor) };
    });
  }

  checkUserIsInBlacklist(userID: string): Promise<{ isUserInBlacklist: boolean }> {
    return this.#call('user', async ({ parlor }) => {
      const { blockList } = await parlor.listBlocks({ userID: [userID] });
      return { isUserInBlacklist: blockList.length > 0 };
    });
  }

  /** Returns the number that stands for a cursor, because the nextFlag of some lists is a number. */
  #flagOf(cursor: string | undefined): number {
    if (cursor === undefined) return 0;
    this.#cursors.set(++this.#lastFlag, cursor);
    this.#cursors.delete(this.#lastFlag - MOST_CURSORS);
    return this.#lastFlag;
  }

  /** Makes a call for each user. Returns the users for whom it failed; fails if none could succeed. */
  #forEach(userIDs: string[], call: (session: Session, userID: string) => Promise<unknown>): Promise<T.ZIMErrorUserList> {
    return this.#call('user', async (session) => {
      const errorUserList: T.ZIMErrorUserInfo[] = [];
      for (const userID of userIDs) {
        try {
          await call(session, userID);
        } catch (error) {
          if (isCode(error, 'network_error') || isCode(error, 'session_ended')) throw error;
          errorUserList.push({ userID, reason: zimError(error, 'user').code });
        }
      }
      return { errorUserList };
    });
  }

  /** Makes a call of the session, and rejects with a ZIMError if it fails. */
  async #call<Result>(area: Area, call: (session: Session) => Result | Promise<Result>): Promise<Result> {
    if (this.#destroyed) throw notCreated();
    if (this.#session === undefined) throw notLogged();
    try {
      return await call(this.#session);
    } catch (error) {
      throw zimError(error, area);
    }
  }
}

addUnsupported(ZIM.prototype);

type RoomInfo = Pick<T.ZIMRoomInfo, 'roomID'> & Partial<T.ZIMRoomInfo>;
type MessagesQuery = { limit: number; before?: number; after?: number };

interface Batch {
  config: T.ZIMRoomAttributesBatchOperationConfig;
  /** The new values by key; undefined if the attribute is deleted. */
  changes: Map<string, string | undefined>;
}

interface AttributesChange extends ReturnType<typeof changeOptions> {
  set: Record<string, string>;
  delete: string[];
}

// Applications pass null, too, for what they do not need.

function changeOptions(config: T.ZIMRoomAttributesSetConfig | null) {
  const { isForce, isDeleteAfterOwnerLeft, isUpdateOwner } = config ?? {};
  return {
    ...(isForce !== undefined && { force: isForce }),
    ...(isDeleteAfterOwnerLeft !== undefined && { deleteAfterOwnerLeft: isDeleteAfterOwnerLeft }),
    ...(isUpdateOwner !== undefined && { updateOwner: isUpdateOwner }),
  };
}

function roomName({ roomName }: RoomInfo): { roomName?: string } {
  return roomName ? { roomName } : {};
}

/** The settings of a room that is created. */
function settings(advanced?: T.ZIMRoomAdvancedConfig | null) {
  const { roomAttributes, roomDestroyDelayTime } = advanced ?? {};
  const config: RoomConfigRequest = roomDestroyDelayTime === undefined ? {} : { destroyDelay: roomDestroyDelayTime };
  return { ...(roomAttributes && { roomAttributes }), ...(roomDestroyDelayTime !== undefined && { config }) };
}

function page(config: T.ZIMRoomMemberQueryConfig | null) {
  const { nextFlag, count } = config ?? {};
  return { limit: limit(count), ...(nextFlag && { cursor: nextFlag }) };
}

function limit(count: number | undefined): number {
  return Math.min(count || PAGE, PAGE);
}

function id(value: unknown, name: string): string {
  if (typeof value !== 'string' || value === '') throw invalid(`The ${name} is missing.`);
  return value;
}

function notCreated(): T.ZIMError {
  return failure(ZIMErrorCode.CommonModuleNotInit, 'The client was destroyed.');
}

/**
 * What happened to the connection when a login failed. Applications log in again after a
 * LoginTimeout, so it means that the same login may succeed later; Success, as after a logout, that
 * it cannot.
 */
function loginFailure(error: unknown): ZIMConnectionEvent {
  const { code } = zimError(error, 'connection');
  const temporary = error instanceof ParlorError ? error.temporary : code === ZIMErrorCode.NetworkModuleRequestTimeout;
  return temporary ? ZIMConnectionEvent.LoginTimeout : ZIMConnectionEvent.Success;
}
