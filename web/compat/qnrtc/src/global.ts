// The classic script sets the global variable of the vendor's script.
import * as module from './index.ts';

// Pages say QNRTC.createClient, or QNRTC.default.createClient.
Object.assign(globalThis, { QNRTC: Object.assign(module.QNRTC, module) });
