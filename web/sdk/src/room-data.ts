// The code that a RoomHandle loads on first use.
import { LiveAttributes } from './live-attributes.ts';
import { LiveHistory } from './live-history.ts';
import { LiveMembers } from './live-members.ts';
import type { RoomHandle } from './room.ts';

export const attributes = (room: RoomHandle): Promise<LiveAttributes> => LiveAttributes.open(room);
export const members = (room: RoomHandle, most?: number): Promise<LiveMembers> => LiveMembers.open(room, most);
export const history = (room: RoomHandle): Promise<LiveHistory> => LiveHistory.open(room);
