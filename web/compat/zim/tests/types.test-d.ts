// These lines are compiled, not run: what an application has written for the ZIM SDK compiles with
// this package instead. An expected error that does not occur is an error too.
import type * as vendor from 'zego-zim-web';
import type * as parlor from '../src/index.ts';

declare const client: parlor.ZIM;
declare const statics: typeof parlor.ZIM;

/** Every call and event of the vendor's declarations. */
export const asVendor: vendor.ZIM = client;
export const staticsAsVendor: Pick<typeof vendor.ZIM, keyof typeof vendor.ZIM> = statics;

/** Every enum, under its name and with its numbers. */
type Enums<Module> = { [Name in keyof Module as Module[Name] extends Record<string, string | number> ? Name : never]: Module[Name] };
declare const enums: Enums<typeof parlor>;
export const enumsAsVendor: Enums<typeof vendor> = enums;

/** The data of events, and messages in both directions. */
type Data<Handlers> = { [Event in keyof Handlers]: Handlers[Event] extends (zim: any, data: infer D) => void ? D : never };
declare const data: Data<parlor.ZIMEventHandler>;
export const dataAsVendor: Pick<Data<vendor.ZIMEventHandler>, keyof parlor.ZIMEventHandler> = data;
declare const messages: [
  vendor.ZIMTextMessage, vendor.ZIMCommandMessage, vendor.ZIMBarrageMessage, vendor.ZIMCustomMessage, vendor.ZIMCombineMessage,
  vendor.ZIMImageMessage, vendor.ZIMFileMessage, vendor.ZIMAudioMessage, vendor.ZIMVideoMessage,
];
export const toSend: [
  parlor.ZIMTextMessage, parlor.ZIMCommandMessage, parlor.ZIMBarrageMessage, parlor.ZIMCustomMessage, parlor.ZIMCombineMessage,
  parlor.ZIMImageMessage, parlor.ZIMFileMessage, parlor.ZIMAudioMessage, parlor.ZIMVideoMessage,
] = messages;

export async function oldForms(): Promise<void> {
  await client.login({ userID: 'alice', userName: 'Alice' }, 'token');
  await client.login('alice', { userName: 'Alice', token: 'token' });
  client.on('receiveRoomMessage', (_zim: parlor.ZIM, messageList: parlor.ZIMMessage[], fromRoomID: string) => void [messageList, fromRoomID]);
  client.on('roomMemberJoined', (_zim, { roomID, memberList }) => void [roomID, memberList[0]?.userName]);
  client.off('roomMemberJoined');
  await client.sendRoomMessage({ type: 1, message: 'Hello' } as parlor.ZIMTextMessage, 'room');
  // @ts-expect-error no such event
  client.on('roomMemberJoinned', (_zim: unknown, _data: unknown) => {});
  // @ts-expect-error a call that Parlor does not offer has no result
  (await client.createGroup({}, [])).groupInfo;
}
