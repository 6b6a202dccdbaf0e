import type { ResumeState, RoomStateChange } from 'parlor-sdk';
import { randomSuffix } from './identity.ts';

/** The state of a tab that survives a reload. Only this tab can read it. */
export interface Saved {
  session: ResumeState;
  /** Whether the token is a development token, so that the page can get another one. */
  development: boolean;
  room: RoomChoice;
  /** Why the session is out of the room, if it does not enter it again by itself. */
  out?: Removal;
  /** The messages that may not have been sent, with the IDs that make a retry safe. */
  unsent: Unsent[];
  /** The uploads that did not finish, to continue them if the user attaches the files again. */
  uploads: SavedUpload[];
}

/** The room that the user chose. */
export interface RoomChoice {
  roomID: string;
  roomName: string;
}

export interface Removal {
  event: RoomStateChange['event'];
  /** The text that an admin gave. */
  reason?: string;
}

export interface Unsent {
  clientMessageID: string;
  /** The text of the message, or the name of the file. */
  text: string;
  file?: Attachment;
}

/** What a reload leaves of an upload: not its file. */
export interface SavedUpload {
  name: string;
  size: number;
  lastModified: number;
  /** The ID of the upload; undefined if it has not begun. */
  uploadID?: string;
}

/** A file that was uploaded, and the kind of its message. */
export interface Attachment {
  kind: 'image' | 'audio' | 'video' | 'file';
  mediaID: string;
}

const SAVED = 'parlor.saved';
const SUFFIX = 'parlor.suffix';

export function loadSaved(): Saved | undefined {
  try {
    const text = sessionStorage.getItem(SAVED);
    return text === null ? undefined : (JSON.parse(text) as Saved);
  } catch {
    return undefined; // it is not JSON, or storage is disabled
  }
}

export function save(saved: Saved): void {
  try {
    sessionStorage.setItem(SAVED, JSON.stringify(saved));
  } catch {
    // Storage is full or disabled: after a reload, the page shows the entry form.
  }
}

export function clearSaved(): void {
  try {
    sessionStorage.removeItem(SAVED);
  } catch {
    // Storage is disabled, so nothing was saved.
  }
}

/** Returns the tab's suffix, which distinguishes its user from others of the same name. */
export function tabSuffix(): string {
  try {
    const suffix = sessionStorage.getItem(SUFFIX) ?? randomSuffix();
    sessionStorage.setItem(SUFFIX, suffix);
    return suffix;
  } catch {
    return randomSuffix();
  }
}
