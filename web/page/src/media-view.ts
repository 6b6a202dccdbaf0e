import type { Media, MediaReply, Message, Parlor } from 'parlor-sdk';
import { make } from './element.ts';
import { wordsForBytes, wordsForError } from './words.ts';

/** How far outside of what is seen files are asked for already, in pixels. */
const AHEAD = '600px';
/** The largest that pictures are shown, in pixels. */
const WIDEST = 480;
const HIGHEST = 384;
/** How long before its end a URL is not used any more, in milliseconds. */
const BEFORE_THE_END = 60_000;

/** The files of messages: pictures, sound, films and downloads. Each is asked for when it comes in sight. */
export class MediaView {
  readonly #parlor: Parlor;
  readonly #replies = new Map<string, Promise<MediaReply>>();
  readonly #shown = new Map<Element, () => void>();
  readonly #inSight = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        this.#inSight.unobserve(target);
        this.#shown.get(target)?.();
        this.#shown.delete(target);
      }
    },
    { rootMargin: AHEAD },
  );

  constructor(parlor: Parlor) {
    this.#parlor = parlor;
  }

  /** What shows the file of a message of that kind. */
  show(kind: Message['kind'], media: Media): HTMLElement {
    const { fileName } = media;
    const size = sizeOf(media);
    const about = make('span', { class: 'about' }, wordsForBytes(media.size));
    const link = make('a', { class: 'file-name', target: '_blank', rel: 'noopener', download: fileName }, fileName);
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

  /** Forgets what is not on the page any more. */
  clear(): void {
    this.#inSight.disconnect();
    this.#shown.clear();
  }

  #load<E extends HTMLElement>(
    element: E,
    { mediaID }: Media,
    link: HTMLAnchorElement,
    shown?: HTMLImageElement | HTMLMediaElement,
  ): E {
    const error = make('p', { class: 'error' });
    element.append(error);
    let opened: MediaReply | undefined;
    const load = async (fresh = false) => {
      try {
        const reply = await this.#ask(mediaID, fresh);
        if (fresh && reply.signedURL === opened?.signedURL) {
          error.textContent = 'The file could not be loaded.';
          return;
        }
        opened = reply;
        error.textContent = '';
        link.href = reply.signedURL;
        if (shown !== undefined) show(shown, reply.signedURL);
      } catch (fault) {
        error.textContent = wordsForError(fault);
      }
    };
    // A URL opens the file for an hour at most: a picture may be loaded again after that,
    // a film go on, and somebody click.
    shown?.addEventListener('error', () => void load(true));
    link.addEventListener('click', (event) => {
      if (opened === undefined || isGood(opened)) return;
      event.preventDefault();
      void load().then(() => opened !== undefined && isGood(opened) && link.click());
    });
    this.#shown.set(element, () => void load());
    this.#inSight.observe(element);
    return element;
  }

  /** Asks for a file once, until its URL ends; and again where a fresh one is needed. */
  async #ask(mediaID: string, fresh: boolean): Promise<MediaReply> {
    const known = await this.#replies.get(mediaID)?.catch(() => undefined);
    if (known !== undefined && !fresh && isGood(known)) return known;
    const asked = this.#parlor.getMedia(mediaID);
    this.#replies.set(mediaID, asked);
    return asked;
  }
}

/** Whether a file's URL opens it for some time yet. */
const isGood = ({ expiresAt }: MediaReply): boolean => Date.parse(expiresAt) - BEFORE_THE_END > Date.now();

/** Shows a file under another URL: sound and films go on where they were. */
function show(shown: HTMLImageElement | HTMLMediaElement, url: string): void {
  if (shown instanceof HTMLImageElement) {
    shown.src = url;
    return;
  }
  const { currentTime, paused } = shown;
  shown.src = url;
  if (currentTime > 0) shown.currentTime = currentTime;
  if (!paused) shown.play().catch(() => {}); // it stays paused, and can be started by hand
}

/** The place that a picture takes, before it is there: nothing moves when it comes. */
function sizeOf({ width = 0, height = 0 }: Media): Record<string, string> {
  if (width === 0 || height === 0) return {};
  const scale = Math.min(1, WIDEST / width, HIGHEST / height);
  return { width: `${Math.round(width * scale)}`, height: `${Math.round(height * scale)}` };
}
