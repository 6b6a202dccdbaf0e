import { type ConnectionStateChange, type Media, type Message, newMessageID, type Parlor, type QuotedMessage } from 'parlor-sdk';
import { Conversations } from './conversations.ts';
import { Deliveries } from './deliveries.ts';
import {
  ZIMBlacklistChangeAction,
  ZIMConnectionEvent,
  ZIMConnectionState,
  ZIMConversationType,
  ZIMErrorCode,
  ZIMMessageSentStatus,
  ZIMMessageType,
  ZIMRoomAttributesUpdateAction,
  ZIMRoomEvent,
} from './enums.ts';
import { failure, invalid, notLogged, notSupported, zimError } from './errors.ts';
import { type Events, guarded } from './events.ts';
import { draftOf, emptyMessage, isMedia, mediaIn, received, revocation } from './messages.ts';
import { type Room, Rooms } from './rooms.ts';
import type * as T from './types.ts';
import { userFullInfo, userInfo, userStatus } from './users.ts';

/** The number of received messages that are remembered, for the events that recall them. */
const MOST_REMEMBERED = 1_000;
/** The number of URLs of files that are kept. */
const MOST_URLS = 500;
/** The number of calls that get URLs of files at once. */
const CALLS_AT_ONCE = 4;

const CONNECTION_EVENTS: Partial<Record<ConnectionStateChange['event'], ZIMConnectionEvent>> = {
  loggedOut: ZIMConnectionEvent.Success,
  tokenExpired: ZIMConnectionEvent.TokenExpired,
};

/** Session is a login: it turns the events of Parlor into those of ZIM, and sends messages. */
export class Session {
  readonly parlor: Parlor;
  readonly rooms: Rooms;
  readonly conversations: Conversations;
  readonly #events: Events;
  /** Called when the session is connected for the first time, and when it has ended. */
  readonly #connected: () => void;
  readonly #ended: () => void;
  readonly #peers = new Deliveries();
  /** Begins the clientMessageID of each message that this client sends: they are not echoed. */
  readonly #prefix = newMessageID().slice(0, 24);
  readonly #began: number;
  #sent = 0;
  #wasConnected = false;
  #closed = false;
  readonly #remembered = new Map<string, T.ZIMMessage>();
  /** The messages that this client recalls. */
  readonly #revoking = new Set<string>();
  readonly #urls = new Map<string, { url: string; expiresAt: number }>();
  /** The messages that are being sent, by their localMessageID. */
  readonly #sending = new Map<string, AbortController>();

  constructor(parlor: Parlor, events: Events, connected: () => void, ended: () => void) {
    this.parlor = parlor;
    this.#began = beginning(parlor.sessionID);
    this.#events = events;
    this.#connected = connected;
    this.#ended = ended;
    this.conversations = new Conversations(this, events);
    this.rooms = new Rooms(
      (roomID, state, event, why = {}) =>
        events.emit('roomStateChanged', { roomID, state, event, extendedData: JSON.stringify(why) }),
      async ({ roomID, generation }) => {
        const { rooms } = await parlor.listSessionRooms();
        return rooms.some((room) => room.roomID === roomID && room.generation === generation);
      },
    );
    this.#listen();
  }

  /** Stops without an event. */
  close(): void {
    this.#closed = true;
    this.rooms.close();
    this.#peers.close();
    this.conversations.close();
    for (const sending of this.#sending.values()) sending.abort();
  }

  /** Ends with the events of a logout, or of another end. */
  end(event: ZIMConnectionEvent, why: object = {}): void {
    if (this.#closed) return;
    this.#ended(); // a listener may log in again
    this.rooms.end(ZIMRoomEvent.NetworkDisconnected);
    this.close();
    this.#events.emit('connectionStateChanged', {
      state: ZIMConnectionState.Disconnected,
      event,
      extendedData: JSON.stringify(why),
    });
  }

  #listen(): void {
    const { parlor } = this;
    const events = this.#events;
    const on: Parlor['on'] = (name, listener) => parlor.on(name, (data) => this.#closed || listener(data));
    on('connectionStateChanged', (change) => this.#connectionChanged(change));
    on('sessionReady', ({ rooms }) => {
      for (const roomID of this.rooms.resume(rooms)) {
        // A call that entered it had failed here, because its reply was lost.
        void this.rooms.leave(roomID, () => parlor.leaveRoom(roomID)).catch(() => {});
      }
    });
    on('tokenWillExpire', ({ secondsLeft }) => events.emit('tokenWillExpire', { second: secondsLeft }));
    on('roomStateChanged', (event) => this.rooms.apply(event));
    for (const name of ['roomMemberJoined', 'roomMemberLeft'] as const) {
      on(name, (event) => {
        // A session may receive an event about its own user, which ZIM has not.
        const others = event.memberList.filter(({ userID }) => userID !== parlor.userID);
        if (others.length === 0) return;
        this.#inRoom(event, () => events.emit(name, { roomID: event.roomID, memberList: others.map(userInfo) }));
      });
    }
    on('roomAttributesUpdated', (event) => {
      const room = this.rooms.get(event.roomID);
      if (event.operatedInfo?.userID === parlor.userID) room?.awaitOwnChanges();
      this.#inRoom(event, ({ roomID }, room) => {
        if (!room.isNewVersion(event.seq)) return;
        const infos = event.infos.map(({ action, roomAttributes }) => ({
          action: action === 'set' ? ZIMRoomAttributesUpdateAction.Set : ZIMRoomAttributesUpdateAction.Delete,
          roomAttributes,
        }));
        events.emit(infos.length > 1 ? 'roomAttributesBatchUpdated' : 'roomAttributesUpdated', { roomID, infos });
      });
    });
    on('roomMemberAttributesUpdated', (event) =>
      this.#inRoom(event, ({ roomID }) =>
        events.emit('roomMemberAttributesUpdated', {
          roomID,
          infos: event.infos.map(({ userID, attributes }) => ({ attributesInfo: { userID, attributes } })),
          operatedInfo: { userID: event.operatedInfo?.userID ?? '' },
        }),
      ),
    );
    on('roomReset', (event) =>
      this.#inRoom(event, (_, room) => {
        room.entered(event.room);
        this.showAttributes(event.room);
      }),
    );
    on('roomMessageReceived', (event) => {
      for (const message of event.messageList) {
        if (this.#isOwn(message)) continue;
        this.#inRoom(event, () => this.#deliver(message), this.#resolve([message]));
      }
    });
    on('peerMessageReceived', (event) => {
      for (const message of event.messageList) {
        if (this.#isOwn(message)) continue;
        this.#peers.add(() => this.#deliver(message), this.#resolve([message]));
      }
    });
    on('messageRecalled', (event) =>
      this.#inRoom(event, () => this.#recalled(event, ZIMConversationType.Room, event.roomID)),
    );
    on('peerMessageRecalled', (event) =>
      this.#peers.add(() => this.#recalled(event, ZIMConversationType.Peer, event.userID)),
    );
    on('blockListChanged', ({ userID, blocked }) =>
      events.emit('blacklistChanged', {
        userList: [userInfo({ userID, userName: '' })],
        action: blocked ? ZIMBlacklistChangeAction.Added : ZIMBlacklistChangeAction.Removed,
      }),
    );
    on('profileUpdated', ({ profile }) => events.emit('userInfoUpdated', { info: userFullInfo(profile) }));
    on('userStatusUpdated', ({ statusList }) =>
      events.emit('userStatusUpdated', { userStatusList: statusList.map(userStatus) }),
    );
    this.conversations.listen(on);
  }

  #connectionChanged({ state, event, reason }: ConnectionStateChange): void {
    const emit = (state: ZIMConnectionState, event: ZIMConnectionEvent) =>
      this.#events.emit('connectionStateChanged', { state, event, extendedData: '{}' });
    switch (state) {
      case 'connected':
        if (!this.#wasConnected) this.#connected();
        this.#wasConnected = true;
        emit(ZIMConnectionState.Connected, ZIMConnectionEvent.Success);
        break;
      case 'reconnecting':
        if (!this.#wasConnected) return; // the login is still in progress
        emit(ZIMConnectionState.Reconnecting, ZIMConnectionEvent.LoginInterrupted);
        this.rooms.interrupt();
        break;
      case 'disconnected':
        this.end(CONNECTION_EVENTS[event] ?? ZIMConnectionEvent.KickedOut, reason === undefined ? {} : { reason });
    }
  }

  /** Delivers an event of a room that the session is in, in its order, when it is ready. */
  #inRoom<Event extends { roomID: string; generation: number }>(
    event: Event,
    deliver: (event: Event, room: Room) => void,
    ready?: Promise<unknown>,
  ): void {
    const room = this.rooms.get(event.roomID);
    room?.deliveries.add(() => {
      if (room.generation === event.generation) deliver(event, room);
    }, ready);
  }

  /** Emits the attributes that a room has when it is entered. */
  showAttributes({ roomID, roomAttributes }: { roomID: string; roomAttributes: Record<string, string> }): void {
    if (Object.keys(roomAttributes).length === 0) return;
    const infos = [{ action: ZIMRoomAttributesUpdateAction.Set, roomAttributes }];
    this.#events.emit('roomAttributesUpdated', { roomID, infos });
  }

  // Messages

  /** Sends a message. The returned message is the object that `onMessageAttached` was called with. */
  async send(
    message: T.ZIMMessage,
    to: string,
    type: ZIMConversationType,
    config?: T.ZIMMessageSendConfig | null,
    notification?: T.ZIMMessageSendNotification | null,
  ): Promise<T.ZIMMessageSentResult> {
    const inRoom = type === ZIMConversationType.Room;
    if (!inRoom && type !== ZIMConversationType.Peer) throw notSupported(`conversations of type ${type}`);
    const localMessageID = `${this.#prefix}-${++this.#sent}`;
    const sent: T.ZIMMessage = Object.assign(emptyMessage(), message, {
      localMessageID,
      senderUserID: this.parlor.userID,
      conversationID: to,
      conversationType: type,
      sentStatus: ZIMMessageSentStatus.Sending,
      timestamp: Date.now(),
    });
    const draft = draftOf(message, localMessageID, config?.priority); // rejects what cannot be sent
    const sending = new AbortController();
    this.#sending.set(localMessageID, sending);
    const { signal } = sending;
    guarded(() => notification?.onMessageAttached?.(sent));
    this.#statusChanged(sent);
    try {
      const file = isMedia(message) ? { mediaID: await this.#upload(message, sent, signal, notification ?? {}) } : {};
      const options = { signal };
      const { message: stored } = inRoom
        ? await this.parlor.sendRoomMessage(to, { ...draft, ...file } as never, options)
        : await this.parlor.sendPeerMessage(to, { ...draft, ...file } as never, options);
      await this.#resolve([stored]);
      Object.assign(sent, this.show(stored));
      this.#statusChanged(sent);
      return { message: sent };
    } catch (cause) {
      sent.sentStatus = ZIMMessageSentStatus.Failed;
      const error = this.#closed ? notLogged() : signal.aborted ? cancelled() : zimError(cause, 'message');
      this.#statusChanged(sent, error.message);
      throw error;
    } finally {
      this.#sending.delete(localMessageID);
    }
  }

  /** Stops sending a message, unless it was sent. */
  cancel({ localMessageID = '' }: T.ZIMMessage): void {
    const sending = this.#sending.get(localMessageID);
    if (sending === undefined) {
      throw failure(ZIMErrorCode.MessageModuleCancelSendingMessageFailed, 'The message is not being sent.');
    }
    sending.abort();
  }

  async #upload(
    message: T.ZIMMediaMessage,
    sent: T.ZIMMediaMessage,
    signal: AbortSignal,
    { onMediaUploadingProgress }: T.ZIMMessageSendNotification,
  ): Promise<string> {
    const { fileLocalPath: file, fileUID, fileName } = message;
    if (!(file instanceof Blob)) {
      if (fileUID) return fileUID; // a file that this user has uploaded
      throw failure(ZIMErrorCode.MessageModuleFileNotExist, 'fileLocalPath is not a File.');
    }
    const { media } = await this.parlor.uploadMedia(file, {
      signal,
      ...(fileName && { fileName }),
      ...(onMediaUploadingProgress && { onProgress: (done, total) => guarded(() => onMediaUploadingProgress(sent, done, total)) }),
    });
    return media.mediaID;
  }

  #statusChanged(message: T.ZIMMessage, reason = ''): void {
    const infos = [{ status: message.sentStatus!, message, reason }];
    this.#events.emit('messageSentStatusChanged', { infos });
  }

  /** Recalls a message that this user has sent. */
  async revoke(message: T.ZIMMessage): Promise<T.ZIMMessageRevokedResult> {
    const { messageID, conversationID, conversationType } = message;
    if (!messageID || !conversationID) throw invalid('The message has no messageID or no conversationID.');
    this.#revoking.add(messageID);
    try {
      if (conversationType === ZIMConversationType.Room) await this.parlor.recallMessage(conversationID, messageID);
      else await this.parlor.recallPeerMessage(conversationID, messageID);
    } catch (error) {
      this.#revoking.delete(messageID);
      throw error;
    }
    return { message: { ...message, ...revocation(message.type, this.parlor.userID), type: ZIMMessageType.Revoke } as T.ZIMRevokeMessage };
  }

  /** Shows messages of the server, after the URLs of their files are known. */
  async showAll(messages: readonly Message[]): Promise<T.ZIMMessage[]> {
    await this.#resolve(messages);
    return messages.map((message) => this.show(message));
  }

  show(message: Message): T.ZIMMessage {
    return received(message, this.parlor.userID, ({ mediaID }) => this.#urls.get(mediaID)?.url ?? '');
  }

  /** Reports whether this client has sent a message. Those of the user's other sessions are received. */
  #isOwn({ clientMessageID }: Message): boolean {
    return clientMessageID?.startsWith(`${this.#prefix}-`) ?? false;
  }

  #deliver(message: Message): void {
    const shown = this.show(message);
    this.#remember(shown);
    const inRoom = shown.conversationType === ZIMConversationType.Room;
    const data = { messageList: [shown], fromConversationID: shown.conversationID! };
    this.#events.emit(inRoom ? 'roomMessageReceived' : 'peerMessageReceived', {
      ...data,
      info: { isOfflineMessage: shown.timestamp! < this.#began },
    });
    this.#events.emit(inRoom ? 'receiveRoomMessage' : 'receivePeerMessage', data);
  }

  #remember(message: T.ZIMMessage): void {
    this.#remembered.set(message.messageID!, message);
    if (this.#remembered.size > MOST_REMEMBERED) this.#remembered.delete(this.#remembered.keys().next().value!);
  }

  #recalled(
    event: { messageID: string; recalledSeq: number; operatedInfo?: { userID: string } },
    conversationType: ZIMConversationType,
    conversationID: string,
  ): void {
    const { messageID, recalledSeq, operatedInfo } = event;
    if (this.#revoking.delete(messageID)) return;
    const known = this.#remembered.get(messageID);
    const message: T.ZIMRevokeMessage = {
      ...emptyMessage(),
      sentStatus: ZIMMessageSentStatus.Success,
      senderUserID: known?.senderUserID ?? operatedInfo?.userID ?? '',
      localMessageID: known?.localMessageID ?? '',
      timestamp: known?.timestamp ?? 0,
      ...(known?.direction !== undefined && { direction: known.direction }),
      messageID,
      messageSeq: recalledSeq,
      orderKey: recalledSeq,
      conversationID,
      conversationType,
      ...revocation(known?.type ?? ZIMMessageType.Unknown, operatedInfo?.userID),
      type: ZIMMessageType.Revoke,
    };
    this.#events.emit('messageRevokeReceived', { messageList: [message] });
  }

  /** Gets the URLs of the files in messages. Returns undefined if there is nothing to wait for. */
  #resolve(messages: readonly (Message | QuotedMessage)[]): Promise<unknown> | undefined {
    const unknown = messages.flatMap(mediaIn).filter(({ mediaID }) => {
      const known = this.#urls.get(mediaID);
      return known === undefined || known.expiresAt < Date.now();
    });
    if (unknown.length === 0) return undefined;
    const get = async () => {
      for (let media = unknown.pop(); media !== undefined; media = unknown.pop()) await this.#getURL(media);
    };
    return Promise.all(Array.from({ length: CALLS_AT_ONCE }, get));
  }

  async #getURL({ mediaID }: Media): Promise<void> {
    try {
      const { signedURL, expiresAt } = await this.parlor.getMedia(mediaID);
      this.#urls.set(mediaID, { url: signedURL, expiresAt: Date.parse(expiresAt) - 60_000 });
      if (this.#urls.size > MOST_URLS) this.#urls.delete(this.#urls.keys().next().value!);
    } catch {
      // The message is shown without its file.
    }
  }
}

function cancelled(): T.ZIMError {
  return failure(ZIMErrorCode.MessageModuleSendMessageFailedForCancelled, 'The message was cancelled.');
}

/** Returns when a session began, in milliseconds: by the server's clock, which UUIDs of version 7 have. */
function beginning(sessionID: string): number {
  return sessionID[14] === '7' ? Number.parseInt(sessionID.replace('-', '').slice(0, 12), 16) : Date.now();
}
