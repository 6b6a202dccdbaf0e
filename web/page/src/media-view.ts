import type { Media, MediaReply, Message, Parlor } from 'parlor-sdk';
import { make } from './element.ts';
import { formatBytes, textForError } from './texts.ts';

/** The distance from the visible area within which files are loaded. */
const LOAD_MARGIN = '600px';
/** The largest size of a displayed image or video, in pixels. */
const MAX_WIDTH = 480;
const MAX_HEIGHT = 384;
/** How long before its expiry a signed URL is no longer used, in milliseconds. */
const EXPIRY_MARGIN = 60_000;

/** MediaView shows the files of messages. It loads each when it is about to be visible. */
export class MediaView {
  readonly #parlor: Parlor;
  readonly #replies = new Map<string, Promise<MediaReply>>();
  /** The load functions of elements that have not been visible yet. */
  readonly #unloaded = new Map<Element, () => void>();
  readonly #visibility = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        this.#visibility.unobserve(target);
        this.#unloaded.get(target)?.();
        this.#unloaded.delete(target);
      }
    },
    { rootMargin: LOAD_MARGIN },
  );

  constructor(parlor: Parlor) {
    this.#parlor = parlor;
  }

  /** Makes the element that shows the file of a message. */
  show(kind: Message['kind'], media: Media): HTMLElement {
    const { fileName } = media;
    const size = sizeOf(media);
    const about = make('span', { class: 'about' }, formatBytes(media.size));
    const link = make('a', { class: 'file-name', dir: 'auto', target: '_blank', rel: 'noopener', download: fileName }, fileName);
    const caption = make('p', { class: 'caption' }, link, ' ', about);
    switch (kind) {
      case 'image': {
        const image = make('img', { alt: fileName, ...size });
        const whole = make('a', { target: '_blank', rel: 'noopener' }, image);
        return this.#load(make('figure', {}, whole), media, whole, image);
      }
      case 'audio':
      case 'video': {
        const player = make(kind, { controls: '', preload: 'metadata', 'aria-label': fileName, ...size });
        return this.#load(make('figure', {}, player, caption), media, link, player);
      }
      default:
        return this.#load(make('div', {}, caption), media, link);
    }
  }

  /** Stops loading files: their elements were removed from the page. */
  clear(): void {
    this.#visibility.disconnect();
    this.#unloaded.clear();
  }

  #load<E extends HTMLElement>(
    element: E,
    { mediaID }: Media,
    link: HTMLAnchorElement,
    shown?: HTMLImageElement | HTMLMediaElement,
  ): E {
    const error = make('p', { class: 'error' });
    element.append(error);
    let current: MediaReply | undefined;
    const load = async (fresh = false) => {
      try {
        const reply = await this.#getMedia(mediaID, fresh);
        if (fresh && reply.signedURL === current?.signedURL) {
          error.textContent = 'The file could not be loaded.';
          return;
        }
        current = reply;
        error.textContent = '';
        link.href = reply.signedURL;
        if (shown !== undefined) setSource(shown, reply.signedURL);
      } catch (cause) {
        error.textContent = textForError(cause);
      }
    };
    // A URL expires after an hour at most. An image may be reloaded, a video resumed and the link
    // clicked after that.
    shown?.addEventListener('error', () => void load(true));
    link.addEventListener('click', (event) => {
      if (current === undefined || isValid(current)) return;
      event.preventDefault();
      void load().then(() => current !== undefined && isValid(current) && link.click());
    });
    this.#unloaded.set(element, () => void load());
    this.#visibility.observe(element);
    return element;
  }

  /** Returns a file's URL, and reuses the last one while it is valid unless `fresh` is set. */
  async #getMedia(mediaID: string, fresh: boolean): Promise<MediaReply> {
    const cached = await this.#replies.get(mediaID)?.catch(() => undefined);
    if (cached !== undefined && !fresh && isValid(cached)) return cached;
    const reply = this.#parlor.getMedia(mediaID);
    this.#replies.set(mediaID, reply);
    return reply;
  }
}

/** Reports whether a signed URL is valid for some time. */
const isValid = ({ expiresAt }: MediaReply): boolean => Date.parse(expiresAt) - EXPIRY_MARGIN > Date.now();

/** Sets the URL of an element. Audio and video continue at their position. */
function setSource(shown: HTMLImageElement | HTMLMediaElement, url: string): void {
  if (shown instanceof HTMLImageElement) {
    shown.src = url;
    return;
  }
  const { currentTime, paused } = shown;
  shown.src = url;
  if (currentTime > 0) shown.currentTime = currentTime;
  if (!paused) shown.play().catch(() => {}); // it stays paused, and the user can start it
}

/** Returns the size of an image or video, so that the layout does not move when it is loaded. */
function sizeOf({ width = 0, height = 0 }: Media): Record<string, string> {
  if (width === 0 || height === 0) return {};
  const scale = Math.min(1, MAX_WIDTH / width, MAX_HEIGHT / height);
  return { width: `${Math.round(width * scale)}`, height: `${Math.round(height * scale)}` };
}
