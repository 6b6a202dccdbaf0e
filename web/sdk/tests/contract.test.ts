import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { streamEventNames } from '../src/types.ts';

test('streamEventNames are the events of openapi.yaml', () => {
  const contract = readFileSync(new URL('../../../openapi.yaml', import.meta.url), 'utf8');
  const events = contract.split(/^ +x-sse-events:\n/m)[1]!.split(/^\n/m)[0]!;
  const declared = [...events.matchAll(/^ +(\w+): \{ id: (?:true|false|stored), schema: (\w+) \}$/gm)];
  expect(declared.length).toBeGreaterThan(0);
  expect(declared.map(([, name]) => name).sort()).toEqual([...streamEventNames].sort());
  // StreamEvents relies on this: each event has the schema of the same name.
  for (const [, name, schema] of declared) {
    expect(schema).toBe(`${name![0]!.toUpperCase()}${name!.slice(1)}Event`);
  }
});
