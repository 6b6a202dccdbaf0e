export { ZegoExpressEngine as default, ZegoExpressEngine } from './engine.ts';
export { ZegoError } from './error.ts';
export type { MediaCalls } from './media.ts';
export * from './types.ts';
