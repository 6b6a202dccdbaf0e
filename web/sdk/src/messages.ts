import type { HTTP } from './http.ts';
import type { Arguments, Operation } from './types.ts';

type SendMessageRequest = NonNullable<Arguments<Operation<'/v1/rooms/{roomID}/messages', 'post'>>['body']>;

/** A message to be sent; the kind is `text` unless said otherwise. */
export type MessageDraft = Omit<SendMessageRequest, 'kind'> & Partial<Pick<SendMessageRequest, 'kind'>>;

/** `before` and `after` exclude each other. */
export type MessageQuery = NonNullable<Arguments<Operation<'/v1/rooms/{roomID}/messages', 'get'>>['query']>;

/**
 * Every message goes out under a clientMessageID, so that repeating a call whose
 * answer was lost cannot post the message twice.
 */
export const sendRoomMessage = (http: HTTP, roomID: string, draft: MessageDraft) => {
  const clientMessageID = draft.clientMessageID ?? newMessageID();
  const body = { kind: 'text' as const, ...draft, clientMessageID };
  return http.call('post', '/v1/rooms/{roomID}/messages', { path: { roomID }, body }, { repeatable: true });
};

export const listRoomMessages = (http: HTTP, roomID: string, query: MessageQuery) =>
  http.call('get', '/v1/rooms/{roomID}/messages', { path: { roomID }, query });

/** Recalling again changes nothing. */
export const recallMessage = (http: HTTP, roomID: string, messageID: string) =>
  http.call('delete', '/v1/rooms/{roomID}/messages/{messageID}', { path: { roomID, messageID } }, { repeatable: true });
/** As sendRoomMessage, to a user. */
export const sendPeerMessage = (http: HTTP, userID: string, draft: MessageDraft) => {
  const clientMessageID = draft.clientMessageID ?? newMessageID();
  const body = { kind: 'text' as const, ...draft, clientMessageID };
  return http.call('post', '/v1/users/{userID}/messages', { path: { userID }, body }, { repeatable: true });
};

export const listPeerMessages = (http: HTTP, userID: string, query: MessageQuery) =>
  http.call('get', '/v1/users/{userID}/messages', { path: { userID }, query });

/** Recalling again changes nothing. */
export const recallPeerMessage = (http: HTTP, userID: string, messageID: string) =>
  http.call('delete', '/v1/users/{userID}/messages/{messageID}', { path: { userID, messageID } }, { repeatable: true });

/** A new clientMessageID. */
export function newMessageID(): string {
  // Browsers have randomUUID on https and localhost only.
  if (typeof crypto.randomUUID === 'function') return crypto.randomUUID();
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
