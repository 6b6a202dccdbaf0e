// These lines are compiled, not run: an expected error that does not occur is an error too.
import type { Media, Message, Parlor, PeerMessageDraft, RoomMessageDraft } from '../src/index.ts';

declare const parlor: Parlor;
declare const message: Message;

export const drafts: RoomMessageDraft[] = [
  { text: 'Hello' },
  { kind: 'text', text: 'Hello', to: ['bob'], priority: 'high', extendedData: 'x', clientMessageID: 'c' },
  { kind: 'command', data: 'AA==' },
  { kind: 'barrage', text: 'Hello' },
  { kind: 'custom', text: '{}', subType: 0 },
  { kind: 'image', mediaID: 'm' },
  { kind: 'combine', title: 'Two', messageList: [{ kind: 'text', text: 'a', sender: { userID: 'a' }, sentAt: '2026-11-21T15:00:00Z' }] },
  // @ts-expect-error a text has a text
  {},
  // @ts-expect-error a custom message has a subType
  { kind: 'custom', text: '{}' },
  // @ts-expect-error a text has no file
  { kind: 'text', text: 'Hello', mediaID: 'm' },
  // @ts-expect-error an image is a file
  { kind: 'image', text: 'Hello' },
  // @ts-expect-error no such kind
  { kind: 'hologram', text: 'Hello' },
  // @ts-expect-error a quoted message has a sender
  { kind: 'combine', title: 'One', messageList: [{ kind: 'text', text: 'a', sentAt: '2026-11-21T15:00:00Z' }] },
];

export const toPeers: PeerMessageDraft[] = [
  { text: 'Hello' },
  // @ts-expect-error only messages to rooms name users
  { text: 'Hello', to: ['bob'] },
  // @ts-expect-error a barrage is for rooms
  { kind: 'barrage', text: 'Hello' },
];

export function read(): void {
  if (message.kind === 'image') {
    const media: Media | undefined = message.media; // none if it was recalled
    void media;
  } else if (message.kind === 'custom') {
    const { text, subType }: { text?: string; subType?: number } = message;
    void [text, subType];
  }
  // @ts-expect-error not every kind has a text
  void message.text;
  // @ts-expect-error a misspelled event
  parlor.on('roomMessageRecieved', () => {});
}
