// The classic script sets the global variables that the vendor's script sets: the class and the enums.
import * as api from './index.ts';

const { default: _, ...names } = api;
Object.assign(globalThis, names);
