import type { Media, Parlor } from 'parlor-sdk';
import { make } from './element.ts';
import type { Log } from './log.ts';
import type { Outbox } from './outbox.ts';
import type { Attachment } from './saved.ts';
import { wordsForBytes, wordsForError } from './words.ts';

// What messages carry as what they are; everything else goes as a file.
const IMAGES = ['image/jpeg', 'image/png', 'image/gif', 'image/webp', 'image/bmp', 'image/tiff'];
const IMAGE_BYTES = 10 * 1024 * 1024;
const AUDIO = ['audio/mpeg', 'audio/mp4'];
const AUDIO_BYTES = 6 * 1024 * 1024;
const AUDIO_SECONDS = 300;
const VIDEOS = ['video/mp4', 'video/quicktime'];

/** The kind of message that carries a file, by what the server found it to be. */
export function kindOf({ contentType, size, duration = 0, videoCodec = '' }: Media): Attachment['kind'] {
  if (IMAGES.includes(contentType) && size <= IMAGE_BYTES) return 'image';
  if (AUDIO.includes(contentType) && size <= AUDIO_BYTES && Math.floor(duration) <= AUDIO_SECONDS) return 'audio';
  if (VIDEOS.includes(contentType) && videoCodec !== '') return 'video';
  return 'file';
}

/** The files on their way. Each is sent when it is uploaded. */
export class Attachments {
  readonly #parlor: Parlor;
  readonly #log: Log;
  readonly #outbox: Outbox;
  readonly #running = new Set<AbortController>();

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

  /** Gives up on what is not uploaded yet. */
  close(): void {
    for (const run of this.#running) run.abort();
  }

  async #upload(file: File, element: HTMLElement, bar: HTMLProgressElement, state: HTMLElement, uploadID?: string): Promise<void> {
    const run = new AbortController();
    this.#running.add(run);
    element.dataset['state'] = 'uploading';
    const words = document.createTextNode('Uploading…');
    const cancel = make('button', { type: 'button', 'aria-label': `Cancel ${file.name}` }, 'Cancel');
    cancel.onclick = () => run.abort();
    state.replaceChildren(words, ' ', cancel);
    try {
      const { media } = await this.#parlor.uploadMedia(file, {
        ...(uploadID !== undefined && { uploadID }),
        signal: run.signal,
        onBegun: (id) => (uploadID = id),
        onProgress: (sent, total) => {
          bar.value = total === 0 ? 1 : sent / total;
          words.textContent = `${wordsForBytes(sent)} of ${wordsForBytes(total)}`;
        },
      });
      element.remove();
      this.#outbox.add({ text: media.fileName, file: { kind: kindOf(media), mediaID: media.mediaID } });
    } catch (error) {
      if (run.signal.aborted) element.remove();
      else {
        const again = () => void this.#upload(file, element, bar, state, uploadID);
        const discard = () => {
          element.remove();
          // Else the server deletes it after a day.
          if (uploadID !== undefined) this.#parlor.endUpload(uploadID).catch(() => {});
        };
        fail(error, element, state, again, discard);
      }
    } finally {
      this.#running.delete(run);
    }
  }
}

function fail(error: unknown, element: HTMLElement, state: HTMLElement, upload: () => void, drop: () => void): void {
  element.dataset['state'] = 'failed';
  const again = make('button', { type: 'button' }, 'Try again');
  again.onclick = upload;
  const discard = make('button', { type: 'button' }, 'Discard');
  discard.onclick = drop;
  state.replaceChildren(`Not uploaded. ${wordsForError(error)} `, again, ' ', discard);
}
