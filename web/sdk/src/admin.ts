import { readFeed } from './feed.ts';
import type { FeedEvent, FeedOptions } from './feed-events.ts';
import { HTTP } from './http.ts';
import { type PeerMessageDraft, type RoomMessageDraft, withDefaults } from './message.ts';
import { type IfVersion, ifMatch } from './version.ts';
import type * as S from './schemas.gen.ts';
import type { TokenSource } from './token-source.ts';

export type { FeedEvent, FeedOptions } from './feed-events.ts';
export { ParlorError, type ProblemCode } from './problem.ts';
export type * from './schemas.gen.ts';
export type { TokenSource } from './token-source.ts';

export interface AdminOptions {
  /** The address of the server. */
  baseURL: string;
  /** Returns an admin token. It is called before each request, so it may sign a short-lived one. */
  getToken: TokenSource;
}

/** A message to send on behalf of a user. */
export interface AdminMessage {
  sender: S.SenderRequest;
  message: RoomMessageDraft;
}

export interface AdminPeerMessage extends Omit<AdminMessage, 'message'> {
  message: PeerMessageDraft;
}

/**
 * ParlorAdmin makes the calls of the admin API, for servers: an admin token must not reach a
 * browser. Calls that fail are rejected with a ParlorError. Those that are safe to repeat are
 * repeated for up to 30 s while the server is away.
 *
 * The methods are the operations of openapi.yaml, by their names there: first the IDs in the path,
 * then the rest.
 */
export class ParlorAdmin {
  readonly #baseURL: string;
  readonly #getToken: TokenSource;

  constructor({ baseURL, getToken }: AdminOptions) {
    this.#baseURL = baseURL;
    this.#getToken = getToken;
  }

  /**
   * Iterates over the events of all rooms. The feed continues by itself after the connection is
   * lost or the token has expired, and never skips an event; a `feedReady` that was not resumed says
   * that events before it are lost. Breaking out of the loop closes the connection. It ends with a
   * ParlorError if the server refuses the token.
   */
  streamAdminEvents(options: FeedOptions = {}): AsyncGenerator<FeedEvent, void> {
    return readFeed(() => this.#http(), options);
  }

  /** Lists the servers that share the database. */
  async adminListNodes(): Promise<S.NodeListReply> {
    return (await this.#http()).call('get', '/v1/admin/nodes', {});
  }

  async adminListRooms(query: S.AdminListRoomsQuery = {}): Promise<S.RoomPageReply> {
    return (await this.#http()).call('get', '/v1/admin/rooms', { query });
  }

  /** Creates an empty room. */
  async adminCreateRoom(roomID: string, options: Omit<S.AdminCreateRoomRequest, 'roomID'> = {}): Promise<S.RoomReply> {
    return (await this.#http()).call('post', '/v1/admin/rooms', { body: { roomID, ...options } });
  }

  async adminGetRoom(roomID: string): Promise<S.RoomReply> {
    return (await this.#http()).call('get', '/v1/admin/rooms/{roomID}', { path: { roomID } });
  }

  /** Changes the name and the settings of any room; see Parlor.updateRoom. */
  async adminUpdateRoom(roomID: string, { ifVersion, ...body }: S.UpdateRoomRequest & IfVersion): Promise<S.RoomReply> {
    const header = ifMatch(ifVersion);
    return (await this.#http()).call('patch', '/v1/admin/rooms/{roomID}', { path: { roomID }, body, header });
  }

  /** Removes all members, and destroys the room and its messages. */
  async adminDestroyRoom(roomID: string, query: S.AdminDestroyRoomQuery = {}): Promise<undefined> {
    return (await this.#http()).call('delete', '/v1/admin/rooms/{roomID}', { path: { roomID }, query });
  }

  async adminListMembers(roomID: string, query: S.AdminListMembersQuery = {}): Promise<S.MemberListReply> {
    return (await this.#http()).call('get', '/v1/admin/rooms/{roomID}/members', { path: { roomID }, query });
  }

  async adminGetRoomAttributes(roomID: string): Promise<S.RoomAttributesReply> {
    return (await this.#http()).call('get', '/v1/admin/rooms/{roomID}/attributes', { path: { roomID } });
  }

  /** Sets and deletes attributes of any room; see Parlor.updateRoomAttributes. */
  async adminUpdateRoomAttributes(
    roomID: string,
    { ifVersion, ...body }: S.UpdateRoomAttributesRequest & IfVersion,
  ): Promise<S.UpdateRoomAttributesReply> {
    const header = ifMatch(ifVersion);
    return (await this.#http()).call('patch', '/v1/admin/rooms/{roomID}/attributes', { path: { roomID }, body, header });
  }

  async adminListMemberAttributes(
    roomID: string,
    query: S.AdminListMemberAttributesQuery = {},
  ): Promise<S.MemberAttributesReply> {
    return (await this.#http()).call('get', '/v1/admin/rooms/{roomID}/member-attributes', { path: { roomID }, query });
  }

  async adminUpdateMemberAttributes(
    roomID: string,
    body: S.AdminUpdateMemberAttributesRequest,
  ): Promise<S.UpdateMemberAttributesReply> {
    return (await this.#http()).call('patch', '/v1/admin/rooms/{roomID}/member-attributes', { path: { roomID }, body });
  }

  /** Removes a user from a room, and with `banSeconds` keeps the user out. */
  async adminKickMember(roomID: string, userID: string, query: S.AdminKickMemberQuery = {}): Promise<undefined> {
    const path = { roomID, userID };
    return (await this.#http()).call('delete', '/v1/admin/rooms/{roomID}/members/{userID}', { path, query });
  }

  /** Removes up to 50 users from a room. */
  async adminKickMembers(roomID: string, body: S.KickRequest): Promise<S.KickReply> {
    return (await this.#http()).call('post', '/v1/admin/rooms/{roomID}/kick', { path: { roomID }, body });
  }

  async adminListBans(roomID: string): Promise<S.BanListReply> {
    return (await this.#http()).call('get', '/v1/admin/rooms/{roomID}/bans', { path: { roomID } });
  }

  async adminUnban(roomID: string, userID: string): Promise<undefined> {
    return (await this.#http()).call('delete', '/v1/admin/rooms/{roomID}/bans/{userID}', { path: { roomID, userID } });
  }

  /** Lists everything that a room stores, as Parlor.listRoomMessages does. */
  async adminListMessages(roomID: string, query: S.AdminListMessagesQuery = {}): Promise<S.MessageListReply> {
    return (await this.#http()).call('get', '/v1/admin/rooms/{roomID}/messages', { path: { roomID }, query });
  }

  /** Sends a message on behalf of a user. It is stored once, although the call is repeated. */
  async adminSendMessage(roomID: string, { sender, message }: AdminMessage): Promise<S.MessageReply> {
    const body = { sender, message: withDefaults(message) };
    const path = { roomID };
    return (await this.#http()).call('post', '/v1/admin/rooms/{roomID}/messages', { path, body }, { retry: true });
  }

  async adminRecallMessage(roomID: string, messageID: string): Promise<undefined> {
    const path = { roomID, messageID };
    const http = await this.#http();
    return http.call('delete', '/v1/admin/rooms/{roomID}/messages/{messageID}', { path }, { retry: true });
  }

  /** Lists the broadcasts, running and ended. */
  async adminListBroadcasts(): Promise<S.BroadcastListReply> {
    return (await this.#http()).call('get', '/v1/admin/broadcasts', {});
  }

  /** Begins to send a message to many rooms. */
  async adminCreateBroadcast(body: S.CreateBroadcastRequest): Promise<S.BroadcastReply> {
    return (await this.#http()).call('post', '/v1/admin/broadcasts', { body });
  }

  async adminGetBroadcast(broadcastID: string): Promise<S.BroadcastReply> {
    return (await this.#http()).call('get', '/v1/admin/broadcasts/{broadcastID}', { path: { broadcastID } });
  }

  /** Stops a broadcast. The rooms that have the message keep it. */
  async adminStopBroadcast(broadcastID: string): Promise<undefined> {
    return (await this.#http()).call('delete', '/v1/admin/broadcasts/{broadcastID}', { path: { broadcastID } });
  }

  /** Lists the users of the server. */
  async adminListUsers(query: S.AdminListUsersQuery = {}): Promise<S.UserListReply> {
    return (await this.#http()).call('get', '/v1/admin/users', { query });
  }

  async adminGetProfile(userID: string): Promise<S.ProfileReply> {
    return (await this.#http()).call('get', '/v1/admin/users/{userID}/profile', { path: { userID } });
  }

  async adminUpdateProfile(userID: string, body: S.UpdateProfileRequest): Promise<S.ProfileReply> {
    return (await this.#http()).call('patch', '/v1/admin/users/{userID}/profile', { path: { userID }, body });
  }

  /** Lists the messages from and to a user. */
  async adminListUserMessages(userID: string, query: S.AdminListUserMessagesQuery = {}): Promise<S.MessageListReply> {
    return (await this.#http()).call('get', '/v1/admin/users/{userID}/messages', { path: { userID }, query });
  }

  /** Sends a message to a user on behalf of another one. It is stored once, as in adminSendMessage. */
  async adminSendPeerMessage(userID: string, { sender, message }: AdminPeerMessage): Promise<S.MessageReply> {
    const body = { sender, message: withDefaults(message) };
    const path = { userID };
    return (await this.#http()).call('post', '/v1/admin/users/{userID}/messages', { path, body }, { retry: true });
  }

  async adminListUserRooms(userID: string): Promise<S.RoomListReply> {
    return (await this.#http()).call('get', '/v1/admin/users/{userID}/rooms', { path: { userID } });
  }

  async adminListUserSessions(userID: string): Promise<S.SessionListReply> {
    return (await this.#http()).call('get', '/v1/admin/users/{userID}/sessions', { path: { userID } });
  }

  /** Ends all sessions of a user, whose tokens remain valid. */
  async adminEndUserSessions(userID: string, query: S.AdminEndUserSessionsQuery = {}): Promise<S.EndSessionsReply> {
    return (await this.#http()).call('delete', '/v1/admin/users/{userID}/sessions', { path: { userID }, query });
  }

  /** Voids the older tokens of a user, and ends the sessions that they started. */
  async adminVoidTokens(userID: string, body: S.VoidTokensRequest): Promise<S.VoidTokensReply> {
    const path = { userID };
    return (await this.#http()).call('put', '/v1/admin/users/{userID}/tokens-void-before', { path, body });
  }

  async adminEndSession(userID: string, sessionID: string, query: S.AdminEndSessionQuery = {}): Promise<undefined> {
    const path = { userID, sessionID };
    return (await this.#http()).call('delete', '/v1/admin/users/{userID}/sessions/{sessionID}', { path, query });
  }

  async #http(): Promise<HTTP> {
    return new HTTP(this.#baseURL, await this.#getToken());
  }
}
