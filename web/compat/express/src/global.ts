// The classic script sets the global variable of the vendor's script.
import { ZegoExpressEngine } from './index.ts';

Object.assign(globalThis, { ZegoExpressEngine });
