import type { Conversation, Parlor, Profile } from 'parlor-sdk';
import {
  ZIMConversationEvent,
  ZIMConversationNotificationStatus,
  ZIMConversationType,
  ZIMMessageDeleteType,
} from './enums.ts';
import { isCode, notSupported, zimError } from './errors.ts';
import type { Events } from './events.ts';
import type { Session } from './session.ts';
import type * as T from './types.ts';

/** The most conversations or users in a call. */
const PAGE = 100;

/**
 * Conversations are those with other users. An application that listens for their changes causes a
 * call after them; several changes of a conversation in the meantime need only one.
 */
export class Conversations {
  readonly #session: Session;
  readonly #events: Events;
  /** The users whose conversations have changed since they were read. */
  readonly #changed = new Set<string>();
  /** The conversations that the application knows. */
  readonly #known = new Set<string>();
  /** The conversations that calls of this client delete. */
  readonly #deleting = new Set<string>();
  #totalUnread: number | undefined;
  #running = false;
  #closed = false;

  constructor(session: Session, events: Events) {
    this.#session = session;
    this.#events = events;
  }

  listen(on: Parlor['on']): void {
    on('peerMessageReceived', ({ messageList }) => {
      for (const { userID } of messageList) if (userID !== undefined) this.#change(userID);
    });
    on('peerMessageRecalled', ({ userID }) => this.#change(userID));
    on('conversationChanged', ({ userID, deletedSeq }) => {
      if (deletedSeq !== undefined && !this.#deleting.delete(userID)) {
        this.#events.emit('messageDeleted', {
          conversationID: userID,
          conversationType: ZIMConversationType.Peer,
          isDeleteConversationAllMessage: true,
          messageDeleteType: ZIMMessageDeleteType.ConversationAllMessagesDeleted,
          messageList: [],
        });
      }
      this.#change(userID);
    });
    on('conversationsRead', () => {
      for (const userID of this.#known) this.#change(userID);
      this.#showTotal(0);
    });
  }

  close(): void {
    this.#closed = true;
    this.#changed.clear();
  }

  async list(
    { nextConversation, count }: T.ZIMConversationQueryConfig,
    { conversationTypes, isOnlyUnreadConversation }: T.ZIMConversationFilterOption = {},
  ): Promise<T.ZIMConversation[]> {
    if (conversationTypes?.length && !conversationTypes.includes(ZIMConversationType.Peer)) return [];
    const most = count || PAGE;
    const found: Conversation[] = [];
    let before = nextConversation?.orderKey;
    do {
      const limit = Math.min(most - found.length, PAGE);
      const page = await this.#session.parlor.listConversations({ limit, ...(before !== undefined && { before }) });
      found.push(...page.conversationList.filter(({ unreadCount }) => !isOnlyUnreadConversation || unreadCount > 0));
      before = page.nextCursor;
    } while (before !== undefined && found.length < most);
    return this.#show(found);
  }

  async get(userID: string, type: ZIMConversationType): Promise<T.ZIMConversation> {
    onlyPeers(type);
    const { conversation } = await this.#session.parlor.getConversation(userID);
    const [shown] = await this.#show([conversation]);
    return shown!;
  }

  async totalUnread(): Promise<number> {
    return (await this.#session.parlor.listConversations({ limit: 1 })).totalUnreadCount;
  }

  async delete(userID: string, type: ZIMConversationType): Promise<void> {
    onlyPeers(type);
    this.#deleting.add(userID);
    try {
      await this.#session.parlor.deleteConversation(userID);
    } catch (error) {
      this.#deleting.delete(userID);
      if (!isCode(error, 'conversation_not_found')) throw error; // it has no messages
    }
  }

  async deleteAll(): Promise<void> {
    for (;;) {
      const { conversationList } = await this.#session.parlor.listConversations({ limit: PAGE });
      for (const { userID } of conversationList) await this.delete(userID, ZIMConversationType.Peer);
      if (conversationList.length < PAGE) return;
    }
  }

  /** Marks all messages of a conversation as read. */
  async read(userID: string, type: ZIMConversationType): Promise<void> {
    onlyPeers(type);
    try {
      const { conversation } = await this.#session.parlor.getConversation(userID);
      const { seq } = conversation.lastMessage;
      if (conversation.unreadCount > 0 && seq !== undefined) await this.#session.parlor.readConversation(userID, { seq });
    } catch (error) {
      if (!isCode(error, 'conversation_not_found')) throw error;
    }
  }

  #change(userID: string): void {
    if (this.#closed) return;
    if (!this.#events.has('conversationChanged') && !this.#events.has('conversationTotalUnreadMessageCountUpdated')) return;
    this.#changed.add(userID);
    if (!this.#running) void this.#run();
  }

  /** Reads the conversations that have changed, one after another. */
  async #run(): Promise<void> {
    this.#running = true;
    for (const userID of this.#changed) {
      this.#changed.delete(userID);
      try {
        await this.#read(userID);
      } catch (error) {
        if (!this.#closed) this.#events.emit('error', zimError(error, 'message'));
      }
    }
    this.#running = false;
  }

  async #read(userID: string): Promise<void> {
    const wasKnown = this.#known.has(userID);
    try {
      const { conversation, totalUnreadCount } = await this.#session.parlor.getConversation(userID);
      const [shown] = await this.#show([conversation]);
      this.#emit(wasKnown ? ZIMConversationEvent.Updated : ZIMConversationEvent.Added, shown!);
      this.#showTotal(totalUnreadCount);
    } catch (error) {
      if (!isCode(error, 'conversation_not_found')) throw error;
      this.#known.delete(userID);
      this.#emit(ZIMConversationEvent.Deleted, emptyConversation(userID));
      this.#showTotal(await this.totalUnread());
    }
  }

  #emit(event: ZIMConversationEvent, conversation: T.ZIMConversation): void {
    if (!this.#closed) this.#events.emit('conversationChanged', { infoList: [{ event, conversation }] });
  }

  #showTotal(totalUnreadMessageCount: number): void {
    if (this.#closed || this.#totalUnread === totalUnreadMessageCount) return;
    this.#totalUnread = totalUnreadMessageCount;
    this.#events.emit('conversationTotalUnreadMessageCountUpdated', { totalUnreadMessageCount });
  }

  async #show(conversations: readonly Conversation[]): Promise<T.ZIMConversation[]> {
    const profiles = new Map<string, Profile>();
    for (let from = 0; from < conversations.length; from += PAGE) {
      const userID = conversations.slice(from, from + PAGE).map((conversation) => conversation.userID);
      for (const profile of (await this.#session.parlor.queryUsers({ userID })).userList) profiles.set(profile.userID, profile);
    }
    const messages = await this.#session.showAll(conversations.map(({ lastMessage }) => lastMessage));
    return conversations.map(({ userID, unreadCount, readSeq }, index) => {
      this.#known.add(userID);
      const lastMessage = messages[index]!;
      const profile = profiles.get(userID);
      return {
        ...emptyConversation(userID),
        conversationName: profile?.userName ?? '',
        conversationAvatarUrl: profile?.avatarURL ?? '',
        unreadMessageCount: unreadCount,
        readMessageSeq: readSeq,
        orderKey: lastMessage.orderKey ?? 0,
        lastMessage,
      };
    });
  }
}

function emptyConversation(conversationID: string): T.ZIMConversation {
  return {
    conversationID,
    type: ZIMConversationType.Peer,
    conversationName: '',
    conversationAvatarUrl: '',
    conversationAlias: '',
    notificationStatus: ZIMConversationNotificationStatus.Notify,
    unreadMessageCount: 0,
    readMessageSeq: 0,
    orderKey: 0,
    isPinned: false,
    pinnedTime: 0,
    mentionedInfoList: [],
    draft: '',
    marks: [],
  };
}

function onlyPeers(type: ZIMConversationType): void {
  if (type !== ZIMConversationType.Peer) throw notSupported(`conversations of type ${type}`);
}
