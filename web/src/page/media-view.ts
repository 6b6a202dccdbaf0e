import type { Media, MediaReply, Message, Parlor } from '../client/index.ts';
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
        return this.#load(make('figure', {}, whole), media, (url) => {
          image.src = url;
          whole.href = url;
        });
      }
      case 'audio':
      case 'video': {
        const player = make(kind, { controls: '', preload: 'metadata', 'aria-label': fileName, ...size });
        return this.#load(make('figure', {}, player, caption), media, (url) => {
          player.src = url;
          link.href = url;
        });
      }
      default:
        return this.#load(make('div', {}, caption), media, (url) => (link.href = url));
    }
  }

  /** Forgets what is not on the page any more. */
  clear(): void {
    this.#inSight.disconnect();
    this.#shown.clear();
  }

  #load<E extends HTMLElement>(element: E, { mediaID }: Media, open: (url: string) => void): E {
    const error = make('p', { class: 'error' });
    element.append(error);
    const load = async () => {
      try {
        open((await this.#ask(mediaID)).signedURL);
      } catch (fault) {
        error.textContent = wordsForError(fault);
      }
    };
    this.#shown.set(element, () => void load());
    this.#inSight.observe(element);
    return element;
  }

  /** Asks for a file once, until its URL ends. */
  async #ask(mediaID: string): Promise<MediaReply> {
    const known = await this.#replies.get(mediaID)?.catch(() => undefined);
    if (known !== undefined && Date.parse(known.expiresAt) - BEFORE_THE_END > Date.now()) return known;
    const asked = this.#parlor.getMedia(mediaID);
    this.#replies.set(mediaID, asked);
    return asked;
  }
}

/** The place that a picture takes, before it is there: nothing moves when it comes. */
function sizeOf({ width = 0, height = 0 }: Media): Record<string, string> {
  if (width === 0 || height === 0) return {};
  const scale = Math.min(1, WIDEST / width, HIGHEST / height);
  return { width: `${Math.round(width * scale)}`, height: `${Math.round(height * scale)}` };
}
