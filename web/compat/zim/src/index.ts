import { ZIM } from './zim.ts';

export * from './enums.ts';
export type { ZIMEventHandler } from './events.ts';
export type * from './types.ts';
export { ZIM };
export default ZIM;
