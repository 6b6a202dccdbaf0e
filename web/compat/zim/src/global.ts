// The classic script sets the global variable of the vendor's script.
import { ZIM } from './index.ts';

Object.assign(globalThis, { ZIM });
