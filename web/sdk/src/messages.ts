import type { HTTP } from './http.ts';
import type { Arguments, Operation } from './types.ts';

type SendMessageRequest = NonNullable<Arguments<Operation<'/v1/rooms/{roomID}/messages', 'post'>>['body']>;

/** A message to send. The default of `kind` is `text`. */
export type MessageDraft = Omit<SendMessageRequest, 'kind'> & Partial<Pick<SendMessageRequest, 'kind'>>;

/** `before` and `after` cannot be combined. */
export type MessageQuery = NonNullable<Arguments<Operation<'/v1/rooms/{roomID}/messages', 'get'>>['query']>;

/** Every message has a clientMessageID, so that a retry after a lost reply cannot send it twice. */
const withDefaults = (draft: MessageDraft): SendMessageRequest => ({
  kind: 'text',
  ...draft,
  clientMessageID: draft.clientMessageID ?? newMessageID(),
});

export const sendRoomMessage = (http: HTTP, roomID: string, draft: MessageDraft) =>
  http.call('post', '/v1/rooms/{roomID}/messages', { path: { roomID }, body: withDefaults(draft) }, { retry: true });

export const listRoomMessages = (http: HTTP, roomID: string, query: MessageQuery) =>
  http.call('get', '/v1/rooms/{roomID}/messages', { path: { roomID }, query });

export const recallMessage = (http: HTTP, roomID: string, messageID: string) =>
  http.call('delete', '/v1/rooms/{roomID}/messages/{messageID}', { path: { roomID, messageID } }, { retry: true });

export const sendPeerMessage = (http: HTTP, userID: string, draft: MessageDraft) =>
  http.call('post', '/v1/users/{userID}/messages', { path: { userID }, body: withDefaults(draft) }, { retry: true });

export const listPeerMessages = (http: HTTP, userID: string, query: MessageQuery) =>
  http.call('get', '/v1/users/{userID}/messages', { path: { userID }, query });

export const recallPeerMessage = (http: HTTP, userID: string, messageID: string) =>
  http.call('delete', '/v1/users/{userID}/messages/{messageID}', { path: { userID, messageID } }, { retry: true });

/** Returns a new clientMessageID. */
export function newMessageID(): string {
  // Browsers have randomUUID only on https and localhost.
  if (typeof crypto.randomUUID === 'function') return crypto.randomUUID();
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
