import { byID } from './element.ts';
import { byteLength, roomIDOf } from './identity.ts';
import type { RoomChoice } from './saved.ts';
import { textForError } from './texts.ts';

const NAME_BYTES = 256;
const ROOM_NAME_BYTES = 64;

export interface EntryFormValues {
  name: string;
  room: RoomChoice;
  /** The pasted token; empty if the field is hidden. */
  token: string;
}

/** EntryForm is the form in which the user enters a name and a room. */
export class EntryForm {
  readonly #view = byID('entry', HTMLElement);
  readonly #name = byID('name', HTMLInputElement);
  readonly #room = byID('room-name', HTMLInputElement);
  readonly #tokenField = byID('token-field', HTMLElement);
  readonly #token = byID('token', HTMLTextAreaElement);
  readonly #error = byID('entry-error', HTMLElement);
  readonly #button = byID('enter', HTMLButtonElement);

  /** The form calls `enter` with valid values, and shows the error that it throws. */
  constructor(enter: (values: EntryFormValues) => Promise<void>) {
    byID('entry-form', HTMLFormElement).onsubmit = async (event) => {
      event.preventDefault();
      const values = this.#read();
      if (values === undefined) return;
      this.#button.disabled = true;
      this.#button.textContent = 'Entering…';
      try {
        await enter(values);
      } catch (error) {
        this.showError(textForError(error));
      } finally {
        this.#button.disabled = false;
        this.#button.textContent = 'Enter room';
      }
    };
  }

  show({ name, room }: { name?: string | undefined; room?: string | undefined }): void {
    if (name !== undefined) this.#name.value = name;
    if (room !== undefined) this.#room.value = room;
    this.#view.hidden = false;
    document.title = 'Parlor';
    (this.#name.value === '' ? this.#name : this.#room.value === '' ? this.#room : this.#button).focus();
  }

  hide(): void {
    this.#view.hidden = true;
    this.showError('');
  }

  showError(text: string): void {
    this.#error.textContent = text;
  }

  askForToken(): void {
    this.#tokenField.hidden = false;
    this.#token.focus();
    this.showError('This server does not issue tokens. Paste a user token.');
  }

  /** Returns the values; undefined if one is invalid, after showing why. */
  #read(): EntryFormValues | undefined {
    const name = this.#name.value.trim();
    const roomName = this.#room.value.trim();
    const roomID = roomIDOf(roomName);
    const reject = (field: HTMLElement, text: string) => {
      field.focus();
      this.showError(text);
      return undefined;
    };
    if (name === '') return reject(this.#name, 'Please enter your name.');
    if (byteLength(name) > NAME_BYTES) return reject(this.#name, 'This name is too long.');
    if (roomName === '') return reject(this.#room, 'Please enter a room name.');
    if (roomID === undefined) return reject(this.#room, 'This room name is too long.');
    const token = this.#tokenField.hidden ? '' : this.#token.value.trim();
    if (!this.#tokenField.hidden && token === '') return reject(this.#token, 'Please paste a user token.');
    this.showError('');
    // The server does not store a longer name. The page then shows the room's ID instead.
    return { name, room: { roomID, roomName: byteLength(roomName) > ROOM_NAME_BYTES ? '' : roomName }, token };
  }
}
