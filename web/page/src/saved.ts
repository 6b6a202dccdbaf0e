import type { ResumeState, RoomStateEvent } from 'parlor-sdk';
import { randomSuffix } from './identity.ts';

/** What survives a reload of the tab, and nothing but the tab reads. */
export interface Saved {
  session: ResumeState;
  /** Whether the server makes this user's tokens, so that the page can renew them. */
  development: boolean;
  room: RoomChoice;
  /** Why the session is out of the room, where it does not go back by itself. */
  out?: BeingOut;
  /** Messages that were not known to be sent, with the IDs that make sending them again safe. */
  unsent: Unsent[];
}

/** The room that was asked for. */
export interface RoomChoice {
  roomID: string;
  roomName: string;
}

export interface BeingOut {
  event: RoomStateEvent;
  /** What an operator said of it. */
  reason?: string;
}

export interface Unsent {
  clientMessageID: string;
  /** What is said, or what the file is called. */
  text: string;
  file?: Attachment;
}

/** A file that was uploaded, and the kind of message that carries it. */
export interface Attachment {
  kind: 'image' | 'audio' | 'video' | 'file';
  mediaID: string;
}

const SAVED = 'parlor.saved';
const SUFFIX = 'parlor.suffix';

export function load(): Saved | undefined {
  try {
    const text = sessionStorage.getItem(SAVED);
    return text === null ? undefined : (JSON.parse(text) as Saved);
  } catch {
    return undefined; // another version's, or no storage at all
  }
}

export function save(saved: Saved): void {
  try {
    sessionStorage.setItem(SAVED, JSON.stringify(saved));
  } catch {
    // Full or forbidden: a reload then begins at the entrance.
  }
}

export function forget(): void {
  try {
    sessionStorage.removeItem(SAVED);
  } catch {
    // Then there is nothing to forget.
  }
}

/** Tells this tab's person from others of the same name; the same after a reload. */
export function tabSuffix(): string {
  try {
    const suffix = sessionStorage.getItem(SUFFIX) ?? randomSuffix();
    sessionStorage.setItem(SUFFIX, suffix);
    return suffix;
  } catch {
    return randomSuffix();
  }
}
