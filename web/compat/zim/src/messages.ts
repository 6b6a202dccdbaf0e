import type { Media, Message, QuotedMessage, QuotedMessageRequest } from 'parlor-sdk';
import {
  ZIMConversationType,
  ZIMMessageDirection,
  ZIMMessagePriority,
  ZIMMessageReceiptStatus,
  ZIMMessageRevokeStatus,
  ZIMMessageSentStatus,
  ZIMMessageType,
  ZIMRevokeType,
} from './enums.ts';
import { invalid, notSupported } from './errors.ts';
import type * as T from './types.ts';

type ZIMMessage = T.ZIMMessage;

/** The messages that can be sent. */
type Sendable =
  | T.ZIMTextMessage
  | T.ZIMBarrageMessage
  | T.ZIMCommandMessage
  | T.ZIMCustomMessage
  | T.ZIMCombineMessage
  | T.ZIMImageMessage
  | T.ZIMFileMessage
  | T.ZIMAudioMessage
  | T.ZIMVideoMessage;

const KINDS = {
  text: ZIMMessageType.Text,
  command: ZIMMessageType.Command,
  barrage: ZIMMessageType.Barrage,
  custom: ZIMMessageType.Custom,
  combine: ZIMMessageType.Combine,
  image: ZIMMessageType.Image,
  file: ZIMMessageType.File,
  audio: ZIMMessageType.Audio,
  video: ZIMMessageType.Video,
} as const satisfies Record<Message['kind'], ZIMMessageType>;

const MEDIA_KINDS = {
  [ZIMMessageType.Image]: 'image',
  [ZIMMessageType.File]: 'file',
  [ZIMMessageType.Audio]: 'audio',
  [ZIMMessageType.Video]: 'video',
} as const;

const PRIORITIES = {
  [ZIMMessagePriority.Low]: 'low',
  [ZIMMessagePriority.Medium]: 'medium',
  [ZIMMessagePriority.High]: 'high',
} as const;

/** Reports whether a message has a file, which is uploaded before it is sent. */
export function isMedia(message: ZIMMessage): message is T.ZIMMediaMessage {
  return message.type in MEDIA_KINDS;
}

/** Returns the draft of a message. That of a message with a file has no mediaID yet. */
export function draftOf(message: ZIMMessage, clientMessageID: string, priority: ZIMMessagePriority | undefined): Draft {
  return {
    ...contentOf(message),
    clientMessageID,
    ...(priority !== undefined && priority in PRIORITIES && { priority: PRIORITIES[priority] }),
    ...(message.extendedData && { extendedData: message.extendedData }),
  };
}

interface Draft {
  kind: Message['kind'];
  clientMessageID: string;
}

/** Returns the fields of a message that its kind determines, except for a file. */
function contentOf(zimMessage: ZIMMessage) {
  const message = zimMessage as Sendable;
  switch (message.type) {
    case ZIMMessageType.Text:
      return { kind: 'text', text: message.message } as const;
    case ZIMMessageType.Barrage:
      return { kind: 'barrage', text: message.message } as const;
    case ZIMMessageType.Command:
      return { kind: 'command', data: toBase64(message.message) } as const;
    case ZIMMessageType.Custom:
      return { kind: 'custom', text: message.message, subType: message.subType ?? 0 } as const;
    case ZIMMessageType.Combine: {
      const { title, summary, messageList } = message;
      return { kind: 'combine', title, ...(summary && { summary }), messageList: messageList.map(quote) } as const;
    }
    case ZIMMessageType.Image:
    case ZIMMessageType.File:
    case ZIMMessageType.Audio:
    case ZIMMessageType.Video:
      return { kind: MEDIA_KINDS[message.type] } as const;
    default:
      throw notSupported(`messages of type ${zimMessage.type}`);
  }
}

/** Returns a message that was sent or received before, as it is quoted in a combined one. */
function quote(message: ZIMMessage): QuotedMessageRequest {
  if (!message.senderUserID) throw invalid('A message in messageList has no senderUserID.');
  return {
    ...contentOf(message),
    ...(isMedia(message) && { mediaID: message.fileUID }),
    sender: { userID: message.senderUserID },
    sentAt: new Date(message.timestamp ?? Date.now()).toISOString(),
  } as QuotedMessageRequest;
}

/** Returns a message of the server, as a user sees it. `urlOf` returns the URL of a file, if known. */
export function received(message: Message, userID: string, urlOf: (media: Media) => string): ZIMMessage {
  const inRoom = message.roomID !== undefined;
  const { sender, seq = 0 } = message;
  const base = {
    ...emptyMessage(),
    messageID: message.messageID,
    localMessageID: message.clientMessageID ?? '',
    messageSeq: seq,
    orderKey: seq,
    senderUserID: sender.userID,
    conversationID: (inRoom ? message.roomID : message.userID) ?? '',
    conversationType: inRoom ? ZIMConversationType.Room : ZIMConversationType.Peer,
    direction: sender.userID === userID ? ZIMMessageDirection.Send : ZIMMessageDirection.Receive,
    sentStatus: ZIMMessageSentStatus.Success,
    timestamp: Date.parse(message.sentAt),
    extendedData: message.extendedData ?? '',
  };
  if (message.recalled) return { ...base, ...revocation(KINDS[message.kind], sender.userID), type: ZIMMessageType.Revoke };
  return { ...base, ...shown(message, urlOf) } as ZIMMessage;
}

/** Returns the fields of a recalled message. */
export function revocation(originalMessageType: ZIMMessageType, operatedUserID: string | undefined) {
  return {
    revokeType: ZIMRevokeType.TwoWay,
    revokeStatus: operatedUserID === undefined ? ZIMMessageRevokeStatus.ServerAPIRevoke : ZIMMessageRevokeStatus.SelfRevoke,
    revokeTimestamp: Date.now(),
    operatedUserID: operatedUserID ?? '',
    originalMessageType,
    originalTextMessageContent: '',
    revokeExtendedData: '',
  };
}

/** Returns the fields that every message has, as they are before it is sent. */
export function emptyMessage() {
  return {
    messageID: '',
    localMessageID: '',
    messageSeq: 0,
    orderKey: 0,
    senderUserID: '',
    conversationID: '',
    conversationType: ZIMConversationType.Unknown,
    direction: ZIMMessageDirection.Send,
    sentStatus: ZIMMessageSentStatus.Sending,
    timestamp: 0,
    extendedData: '',
    localExtendedData: '',
    isUserInserted: false,
    isBroadcastMessage: false,
    isServerMessage: false,
    isMentionAll: false,
    isGroupTargetedMessage: false,
    mentionedUserIDs: [],
    reactions: [],
    receiptStatus: ZIMMessageReceiptStatus.None,
    rootRepliedCount: 0,
    editorUserID: '',
    editedTime: 0,
    pinnedUserID: '',
    pinnedTime: 0,
  };
}

/** Returns the content of a message. */
function shown(message: Message | QuotedMessage, urlOf: (media: Media) => string) {
  const type = KINDS[message.kind] ?? ZIMMessageType.Unknown;
  switch (message.kind) {
    case 'text':
    case 'barrage':
      return { type, message: message.text ?? '' };
    case 'command':
      return { type, message: fromBase64(message.data ?? '') };
    case 'custom':
      return { type, message: message.text ?? '', subType: message.subType ?? 0, searchedContent: '' };
    case 'combine':
      return {
        type,
        title: message.title ?? '',
        summary: message.summary ?? '',
        combineID: '',
        messageList: (message.messageList ?? []).map((quoted) => quotation(quoted, urlOf)),
      };
    case 'image':
    case 'file':
    case 'audio':
    case 'video':
      return { type, ...(message.media && fileFields(type, message.media, urlOf(message.media))) };
    default:
      return { type, message: '' };
  }
}

function quotation(quoted: QuotedMessage, urlOf: (media: Media) => string): ZIMMessage {
  return {
    ...emptyMessage(),
    sentStatus: ZIMMessageSentStatus.Success,
    senderUserID: quoted.sender.userID,
    timestamp: Date.parse(quoted.sentAt),
    ...shown(quoted, urlOf),
  } as ZIMMessage;
}

/** Returns the fields of a message that describe its file. */
export function fileFields(type: ZIMMessageType, media: Media, url: string) {
  const { width = 0, height = 0, duration = 0 } = media;
  const file = { fileUID: media.mediaID, fileName: media.fileName, fileSize: media.size, fileDownloadUrl: url };
  switch (type) {
    case ZIMMessageType.Image:
      return {
        ...file,
        thumbnailDownloadUrl: url,
        largeImageDownloadUrl: url,
        originalImageWidth: width,
        originalImageHeight: height,
        largeImageWidth: width,
        largeImageHeight: height,
        thumbnailWidth: width,
        thumbnailHeight: height,
      };
    case ZIMMessageType.Audio:
      return { ...file, audioDuration: Math.round(duration) };
    case ZIMMessageType.Video:
      return {
        ...file,
        videoDuration: Math.round(duration),
        videoFirstFrameDownloadUrl: '',
        videoFirstFrameWidth: width,
        videoFirstFrameHeight: height,
      };
    default:
      return file;
  }
}

/** Returns the files in a message and in those that it quotes. */
export function mediaIn(message: Message | QuotedMessage): Media[] {
  if ('media' in message && message.media) return [message.media];
  if ('messageList' in message && message.messageList) return message.messageList.flatMap(mediaIn);
  return [];
}

function toBase64(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

function fromBase64(text: string): Uint8Array {
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
}
