import type { Media, MediaReply, Parlor } from 'parlor-sdk';
import { make } from './element.ts';
import type { Log } from './log.ts';
import type { Outbox } from './outbox.ts';
import type { Attachment, SavedUpload } from './saved.ts';
import { formatBytes, textForError } from './texts.ts';

// The types and limits of the message kinds. A file that fits none is sent as kind `file`.
const IMAGES = ['image/jpeg', 'image/png', 'image/gif', 'image/webp', 'image/bmp', 'image/tiff'];
const IMAGE_BYTES = 10 * 1024 * 1024;
const AUDIO = ['audio/mpeg', 'audio/mp4'];
const AUDIO_BYTES = 6 * 1024 * 1024;
const AUDIO_SECONDS = 300;
const VIDEOS = ['video/mp4', 'video/quicktime'];

/** Returns the kind of message for a file, from what the server detected in it. */
export function kindOf({ contentType, size, duration = 0, videoCodec = '' }: Media): Attachment['kind'] {
  if (IMAGES.includes(contentType) && size <= IMAGE_BYTES) return 'image';
  if (AUDIO.includes(contentType) && size <= AUDIO_BYTES && Math.floor(duration) <= AUDIO_SECONDS) return 'audio';
  if (VIDEOS.includes(contentType) && videoCodec !== '') return 'video';
  return 'file';
}

/** A file of an upload that did not finish. Another session of the user can continue it. */
export interface UnfinishedUpload {
  file: File;
  /** The ID of the upload; undefined if it has not begun. */
  uploadID: string | undefined;
}

interface Item {
  /** The chosen file; undefined after a reload, which files do not survive. */
  file: File | undefined;
  saved: SavedUpload;
  element: HTMLLIElement;
  bar: HTMLProgressElement;
  state: HTMLElement;
  failed: boolean;
}

/**
 * Attachments uploads the chosen files, one at a time and in their order, and sends each as a
 * message when it is uploaded. While the connection is lost, they wait, and continue by themselves.
 */
export class Attachments {
  readonly #parlor: Parlor;
  readonly #log: Log;
  readonly #outbox: Outbox;
  readonly #items = new Set<Item>();
  #current: { item: Item; cancel: AbortController } | undefined;

  constructor(parlor: Parlor, log: Log, outbox: Outbox) {
    this.#parlor = parlor;
    this.#log = log;
    this.#outbox = outbox;
  }

  /** What to show of the unfinished uploads after a reload. */
  get saved(): SavedUpload[] {
    return Array.from(this.#items, ({ saved }) => saved);
  }

  /** Uploads files. A file whose upload a reload interrupted is continued. */
  add(files: File[]): void {
    const uploads = files.map((file) => {
      const interrupted = [...this.#items].find((item) => item.file === undefined && isSame(item.saved, file));
      if (interrupted !== undefined) this.#remove(interrupted);
      return { file, uploadID: interrupted?.saved.uploadID };
    });
    this.continue(uploads);
  }

  /** Continues the uploads of another session. */
  continue(uploads: readonly UnfinishedUpload[]): void {
    for (const { file, uploadID } of uploads) {
      const { name, size, lastModified } = file;
      this.#queue(this.#show(file, { name, size, lastModified, ...(uploadID !== undefined && { uploadID }) }));
    }
    void this.#uploadAll();
  }

  /** Shows the uploads that a reload interrupted. The page cannot read their files again. */
  showInterrupted(uploads: readonly SavedUpload[]): void {
    for (const saved of uploads) {
      this.#fail(this.#show(undefined, saved), 'Not sent: the page was reloaded. Attach the file again to continue.');
    }
  }

  /** Removes the uploads that did not finish, so that another session can continue them. */
  take(): UnfinishedUpload[] {
    const items = [...this.#items];
    for (const item of items) this.#remove(item);
    return items.flatMap(({ file, saved }) => (file ? [{ file, uploadID: saved.uploadID }] : []));
  }

  /** Cancels all uploads. */
  close(): void {
    for (const item of this.#items) this.#discard(item);
  }

  #show(file: File | undefined, saved: SavedUpload): Item {
    const bar = make('progress', { max: '1', value: '0', 'aria-label': `Uploading ${saved.name}` });
    const state = make('p', { class: 'state' });
    const name = make('p', { class: 'file-name', dir: 'auto' }, saved.name);
    const bubble = make('div', { class: 'bubble upload' }, name, bar);
    const element = make('li', { class: 'message mine' }, make('div', { class: 'content' }, bubble, state));
    const item = { file, saved, element, bar, state, failed: false };
    this.#items.add(item);
    this.#log.addPending(element);
    return item;
  }

  #queue(item: Item): void {
    item.failed = false;
    this.#showProgress(item, 'Waiting…');
  }

  async #uploadAll(): Promise<void> {
    if (this.#current !== undefined) return;
    for (let item = this.#next(); item !== undefined; item = this.#next()) {
      const cancel = new AbortController();
      this.#current = { item, cancel };
      try {
        const { media } = await this.#upload(item, item.file!, cancel.signal);
        this.#remove(item);
        this.#outbox.add({ text: media.fileName, file: { kind: kindOf(media), mediaID: media.mediaID } });
      } catch (error) {
        if (!cancel.signal.aborted) this.#fail(item, `Upload failed. ${textForError(error)}`);
      }
    }
    this.#current = undefined;
  }

  #next(): Item | undefined {
    return [...this.#items].find((item) => !item.failed);
  }

  #upload(item: Item, file: File, signal: AbortSignal): Promise<MediaReply> {
    const { saved, bar } = item;
    let progress = '';
    this.#showProgress(item, 'Uploading…');
    return this.#parlor.uploadMedia(file, {
      ...(saved.uploadID !== undefined && { uploadID: saved.uploadID }),
      signal,
      onBegun: (uploadID) => (saved.uploadID = uploadID),
      onProgress: (sent, total) => {
        bar.value = total === 0 ? 1 : sent / total;
        progress = `${formatBytes(sent)} of ${formatBytes(total)}`;
        this.#showProgress(item, progress);
      },
      onInterrupted: () => this.#showProgress(item, `Waiting for the connection… ${progress}`),
    });
  }

  #showProgress(item: Item, text: string): void {
    if (item.element.dataset['state'] !== 'uploading') {
      item.element.dataset['state'] = 'uploading';
      const cancel = make('button', { type: 'button', 'aria-label': `Cancel ${item.saved.name}` }, 'Cancel');
      cancel.onclick = () => this.#discard(item);
      // Screen readers should not read every change aloud.
      item.state.replaceChildren(make('span', { 'aria-live': 'off' }), ' ', cancel);
    }
    item.state.firstChild!.textContent = text;
  }

  #fail(item: Item, text: string): void {
    item.failed = true;
    item.element.dataset['state'] = 'failed';
    item.state.replaceChildren(`${text} `);
    if (item.file !== undefined) {
      const retry = make('button', { type: 'button', 'aria-label': `Try again: ${item.saved.name}` }, 'Try again');
      retry.onclick = () => {
        this.#queue(item);
        void this.#uploadAll();
      };
      item.state.append(retry, ' ');
    }
    const discard = make('button', { type: 'button', 'aria-label': `Discard ${item.saved.name}` }, 'Discard');
    discard.onclick = () => this.#discard(item);
    item.state.append(discard);
  }

  #discard(item: Item): void {
    this.#remove(item);
    if (this.#current?.item === item) this.#current.cancel.abort();
    // If this fails, the server deletes the upload after a day.
    else if (item.saved.uploadID !== undefined) this.#parlor.endUpload(item.saved.uploadID).catch(() => {});
  }

  #remove(item: Item): void {
    item.element.remove();
    this.#items.delete(item);
  }
}

/** Reports whether a file is probably the one of an earlier upload. */
function isSame(upload: SavedUpload, { name, size, lastModified }: File): boolean {
  return upload.name === name && upload.size === size && upload.lastModified === lastModified;
}
