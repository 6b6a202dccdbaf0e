import { ParlorError } from './problem.ts';

/** Loads code that few clients need. Without the network, it fails like a call. */
export function load<Module>(start: () => Promise<Module>): Promise<Module> {
  return start().catch((cause: unknown) => {
    throw new ParlorError('network_error', 'Code of the SDK could not be loaded.', { cause });
  });
}
