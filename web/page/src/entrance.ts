import { byID } from './element.ts';
import { byteLength, roomIDOf } from './identity.ts';
import type { RoomChoice } from './saved.ts';
import { wordsForError } from './words.ts';

const NAME_BYTES = 256;
const ROOM_NAME_BYTES = 64;

export interface Entry {
  name: string;
  room: RoomChoice;
  /** As pasted; empty where the field is not shown. */
  token: string;
}

/** The form in front of the room. */
export class Entrance {
  readonly #view = byID('entrance', HTMLElement);
  readonly #name = byID('name', HTMLInputElement);
  readonly #room = byID('room-name', HTMLInputElement);
  readonly #tokenField = byID('token-field', HTMLElement);
  readonly #token = byID('token', HTMLTextAreaElement);
  readonly #error = byID('entrance-error', HTMLElement);
  readonly #button = byID('enter', HTMLButtonElement);

  /** `enter` does what is needed and is waited for; what it throws is shown. */
  constructor(enter: (entry: Entry) => Promise<void>) {
    byID('entrance-form', HTMLFormElement).onsubmit = async (event) => {
      event.preventDefault();
      const entry = this.#read();
      if (entry === undefined) return;
      this.#button.disabled = true;
      this.#button.textContent = 'Entering…';
      try {
        await enter(entry);
      } catch (error) {
        this.say(wordsForError(error));
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
    this.say('');
  }

  say(words: string): void {
    this.#error.textContent = words;
  }

  askForToken(): void {
    this.#tokenField.hidden = false;
    this.#token.focus();
    this.say('This server does not make tokens itself. Paste a user token.');
  }

  #read(): Entry | undefined {
    const name = this.#name.value.trim();
    const roomName = this.#room.value.trim();
    const roomID = roomIDOf(roomName);
    const complain = (field: HTMLElement, words: string) => {
      field.focus();
      this.say(words);
      return undefined;
    };
    if (name === '') return complain(this.#name, 'Say who you are, please.');
    if (byteLength(name) > NAME_BYTES) return complain(this.#name, 'This name is too long.');
    if (roomName === '') return complain(this.#room, 'Name a room, please.');
    if (roomID === undefined) return complain(this.#room, 'This room name is too long.');
    const token = this.#tokenField.hidden ? '' : this.#token.value.trim();
    if (!this.#tokenField.hidden && token === '') return complain(this.#token, 'Paste a user token, please.');
    this.say('');
    // The ID tells rooms apart whatever the name; where that is too long to be stored, the ID is shown instead.
    return { name, room: { roomID, roomName: byteLength(roomName) > ROOM_NAME_BYTES ? '' : roomName }, token };
  }
}
