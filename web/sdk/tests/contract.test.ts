import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { ParlorAdmin } from '../src/admin.ts';
import { streamEventNames } from '../src/stream-events.ts';
import { login } from './harness.ts';
import { TestServer } from './server.ts';

const contract = readFileSync(new URL('../../../openapi.yaml', import.meta.url), 'utf8');

test('streamEventNames are the events of openapi.yaml', () => {
  const events = contract.split(/^ +x-sse-events:\n/m)[1]!.split(/^\n/m)[0]!;
  const declared = [...events.matchAll(/^ +(\w+): \{ id: (?:true|false|stored), schema: (\w+) \}$/gm)];
  expect(declared.length).toBeGreaterThan(0);
  expect(declared.map(([, name]) => name).sort()).toEqual([...streamEventNames].sort());
  // StreamEvents relies on this: each event has the schema of the same name.
  for (const [, name, schema] of declared) {
    expect(schema).toBe(`${name![0]!.toUpperCase()}${name!.slice(1)}Event`);
  }
});

/** The operations that have no method which makes just this call, and what makes it. */
const elsewhere: Record<string, string> = {
  createSession: 'Parlor.login',
  streamEvents: 'the connection of a Parlor',
  streamAdminEvents: 'streamAdminEvents is an iterator',
  createDevelopmentToken: 'a function, because there is no session yet',
  uploadMedia: 'uploadMedia makes resumable uploads, by the next four operations',
  describeUploads: '',
  createUpload: '',
  getUploadOffset: '',
  continueUpload: '',
  downloadMedia: 'downloadMedia calls getMedia first',
  headMedia: 'headMedia calls getMedia first',
};

const operations = contract
  .split(/^components:$/m)[0]!
  .split(/^  (?=\/)/m)
  .slice(1)
  .flatMap((item) => {
    const path = item.slice(0, item.indexOf(':'));
    const calls = item.matchAll(/^    (get|post|put|patch|delete|head|options):\n      operationId: (\w+)$/gm);
    return Array.from(calls, ([, method, name]) => ({ name: name!, method: method!.toUpperCase(), path }));
  });

test('every operation of openapi.yaml was found', () => {
  expect(operations).toHaveLength(contract.match(/operationId:/g)!.length);
});

describe('the method of an operation makes its call:', () => {
  test.each(operations.filter(({ name }) => !(name in elsewhere)))('$name', async ({ name, method, path }) => {
    const server = await TestServer.start();
    const client = path.startsWith('/v1/admin/')
      ? new ParlorAdmin({ baseURL: server.url, getToken: () => 'admin' })
      : await login(server);
    const call = (client as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>)[name]?.bind(client);
    if (call === undefined) throw new Error(`add the method ${name} to src/${path.startsWith('/v1/admin/') ? 'admin' : 'parlor'}.ts`);
    const ids = Array.from(path.matchAll(/\{(\w+)\}/g), ([, id]) => `${id}#`);
    const called = call(...ids, { toRoom: { roomID: 'other' } }).catch((error: unknown) => error);
    const filled = ids.reduce((text, id) => text.replace(/\{\w+\}/, encodeURIComponent(id)), path);
    (await server.next(method, filled)).refuse(418, 'teapot');
    expect(await called).toMatchObject({ code: 'teapot' });
  });
});
