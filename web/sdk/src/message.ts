import type { SendMessageRequest } from './schemas.gen.ts';

/** A message to send to a room: one of the kinds, each with its fields. The default of `kind` is `text`. */
export type RoomMessageDraft =
  | SendMessageRequest
  | (Without<Extract<SendMessageRequest, { kind: 'text' }>, 'kind'> & { kind?: undefined });

/** A message to send to a user, who alone can see it. */
export type PeerMessageDraft = Without<Exclude<RoomMessageDraft, { kind: 'barrage' }>, 'to'>;

/** T without a field; unlike Omit, it keeps the kinds of a union apart. */
type Without<T, Field extends string> = T extends unknown ? Omit<T, Field> : never;

/** Returns the message to send. With a clientMessageID, a retry after a lost reply cannot send it twice. */
export function withDefaults(draft: RoomMessageDraft | PeerMessageDraft): SendMessageRequest {
  return { kind: 'text', clientMessageID: newMessageID(), ...draft } as SendMessageRequest;
}

/** Returns a new clientMessageID. Browsers have crypto.randomUUID only on https and localhost. */
export function newMessageID(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
