import type { Media, Parlor } from 'parlor-sdk';
import { make } from './element.ts';
import type { Log } from './log.ts';
import type { Outbox } from './outbox.ts';
import type { Attachment } from './saved.ts';
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

/** Attachments uploads the chosen files, and sends each as a message when it is uploaded. */
export class Attachments {
  readonly #parlor: Parlor;
  readonly #log: Log;
  readonly #outbox: Outbox;
  readonly #uploads = new Set<AbortController>();

  constructor(parlor: Parlor, log: Log, outbox: Outbox) {
    this.#parlor = parlor;
    this.#log = log;
    this.#outbox = outbox;
  }

  add(files: File[]): void {
    for (const file of files) {
      const bar = make('progress', { max: '1', value: '0', 'aria-label': `Uploading ${file.name}` });
      const state = make('p', { class: 'state' });
      const name = make('p', { class: 'file-name' }, file.name);
      const bubble = make('div', { class: 'bubble upload' }, name, bar);
      const element = make('li', { class: 'message mine' }, make('div', { class: 'content' }, bubble, state));
      this.#log.addPending(element);
      void this.#upload(file, element, bar, state);
    }
  }

  /** Cancels all uploads. */
  close(): void {
    for (const upload of this.#uploads) upload.abort();
  }

  async #upload(
    file: File,
    element: HTMLElement,
    bar: HTMLProgressElement,
    state: HTMLElement,
    uploadID?: string,
  ): Promise<void> {
    const upload = new AbortController();
    this.#uploads.add(upload);
    element.dataset['state'] = 'uploading';
    const progress = document.createTextNode('Uploading…');
    const cancel = make('button', { type: 'button', 'aria-label': `Cancel ${file.name}` }, 'Cancel');
    cancel.onclick = () => upload.abort();
    state.replaceChildren(progress, ' ', cancel);
    try {
      const { media } = await this.#parlor.uploadMedia(file, {
        ...(uploadID !== undefined && { uploadID }),
        signal: upload.signal,
        onBegun: (id) => (uploadID = id),
        onProgress: (sent, total) => {
          bar.value = total === 0 ? 1 : sent / total;
          progress.textContent = `${formatBytes(sent)} of ${formatBytes(total)}`;
        },
      });
      element.remove();
      this.#outbox.add({ text: media.fileName, file: { kind: kindOf(media), mediaID: media.mediaID } });
    } catch (error) {
      if (upload.signal.aborted) element.remove();
      else {
        const retry = () => void this.#upload(file, element, bar, state, uploadID);
        const discard = () => {
          element.remove();
          // If this fails, the server deletes the upload after a day.
          if (uploadID !== undefined) this.#parlor.endUpload(uploadID).catch(() => {});
        };
        showFailure(error, element, state, retry, discard);
      }
    } finally {
      this.#uploads.delete(upload);
    }
  }
}

function showFailure(
  error: unknown,
  element: HTMLElement,
  state: HTMLElement,
  retry: () => void,
  discard: () => void,
): void {
  element.dataset['state'] = 'failed';
  const retryButton = make('button', { type: 'button' }, 'Try again');
  retryButton.onclick = retry;
  const discardButton = make('button', { type: 'button' }, 'Discard');
  discardButton.onclick = discard;
  state.replaceChildren(`Upload failed. ${textForError(error)} `, retryButton, ' ', discardButton);
}
