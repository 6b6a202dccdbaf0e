export { useAttributes, type UseAttributes, useMembers, type UseMembers, useMessages, type UseMessages } from './live.ts';
export { type Connection, ParlorProvider, useConnection, useParlor } from './parlor.ts';
export { type RoomOptions, useRoom, type UseRoom } from './room.ts';
