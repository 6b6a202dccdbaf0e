import { byID } from './element.ts';
import { byteLength } from './identity.ts';

/** Composer is the form in which the user writes messages and attaches files. */
export class Composer {
  readonly #form = byID('composer', HTMLFormElement);
  readonly #text = byID('text', HTMLTextAreaElement);
  readonly #files = byID('files', HTMLInputElement);
  readonly #error = byID('composer-error', HTMLElement);

  constructor(textBytes: number, send: (text: string) => void, attach: (files: File[]) => void) {
    this.#error.textContent = '';
    this.enabled = true;
    this.#form.onsubmit = (event) => {
      event.preventDefault();
      const text = this.#text.value.trim();
      const tooLong = byteLength(text) > textBytes;
      this.#error.textContent = tooLong ? 'This message is too long. Split it into several messages.' : '';
      if (text === '' || tooLong) return;
      this.#text.value = '';
      send(text);
    };
    byID('attach', HTMLButtonElement).onclick = () => this.#files.click();
    this.#files.onchange = () => {
      attach([...(this.#files.files ?? [])]);
      this.#files.value = ''; // allows the same file to be chosen again
      this.#text.focus();
    };
    this.#text.onkeydown = (event) => {
      if (event.key !== 'Enter' || event.shiftKey || isOfInputMethod(event)) return;
      event.preventDefault();
      this.#form.requestSubmit();
    };
  }

  set enabled(enabled: boolean) {
    for (const control of this.#form.elements) (control as HTMLTextAreaElement | HTMLButtonElement).disabled = !enabled;
  }

  focus(): void {
    this.#text.focus();
  }
}

/**
 * Reports whether an input method handles the key: its Enter accepts a suggestion. In Safari, this
 * event follows compositionend, so isComposing is false, but keyCode is 229 as in other browsers.
 */
function isOfInputMethod({ isComposing, keyCode }: KeyboardEvent): boolean {
  return isComposing || keyCode === 229;
}
