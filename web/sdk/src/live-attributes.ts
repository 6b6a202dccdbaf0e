import { Live } from './live.ts';
import type { RoomHandle } from './room.ts';
import type { RoomAttributes, RoomAttributesUpdatedEvent } from './schemas.gen.ts';

/** The attributes of a room, kept up to date. */
export class LiveAttributes extends Live<void> {
  #values: RoomAttributes = {};
  #version = 0;
  #generation = 0;
  #reading = 0;
  /** The events that arrived while the attributes are read. The reply may or may not include them. */
  #meanwhile: RoomAttributesUpdatedEvent[] = [];

  /** @internal */
  static async open(room: RoomHandle): Promise<LiveAttributes> {
    const attributes = new LiveAttributes(room);
    await attributes.read();
    return attributes;
  }

  private constructor(room: RoomHandle) {
    super(room);
    room.on('roomAttributesUpdated', (event) => {
      if (this.#reading > 0) this.#meanwhile.push(event);
      this.#apply(event);
      this.changed();
    });
  }

  /** The attributes. It is another object after each change. */
  get values(): Readonly<RoomAttributes> {
    return this.#values;
  }

  /** Their version, for `ifVersion` of updateRoomAttributes. */
  get version(): number {
    return this.#version;
  }

  protected override async read(): Promise<void> {
    this.#reading++;
    try {
      const { room } = await this.room.parlor.getRoom(this.room.roomID);
      this.#values = room.roomAttributes;
      this.#version = room.attributesVersion;
      this.#generation = room.generation;
      for (const event of this.#meanwhile) this.#apply(event);
    } finally {
      if (--this.#reading === 0) this.#meanwhile = [];
    }
  }

  #apply({ generation, seq, infos }: RoomAttributesUpdatedEvent): void {
    if (generation !== this.#generation || seq <= this.#version) return;
    this.#version = seq;
    const values = new Map(Object.entries(this.#values));
    for (const { action, roomAttributes } of infos) {
      for (const [key, value] of Object.entries(roomAttributes)) {
        if (action === 'set') values.set(key, value);
        else values.delete(key);
      }
    }
    this.#values = Object.fromEntries(values);
  }
}
