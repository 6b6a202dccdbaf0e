import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Page } from '@playwright/test';
import type { Server } from './server.ts';

/** Returns the programs in JavaScript of a document in docs/. */
export async function readPrograms(name: string): Promise<string[]> {
  const text = await readFile(new URL(`../../docs/${name}`, import.meta.url), 'utf8');
  return [...text.matchAll(/^```js\n(.*?)^```$/gms)].map(([, program]) => program!);
}

/**
 * Imports a program of a document in Node, with these environment variables. They are put into the
 * program, because the process would pass its own on to the servers of the tests.
 */
export async function importProgram(program: string, environment: Record<string, string>): Promise<any> {
  for (const [name, value] of Object.entries(environment)) {
    program = program.replaceAll(`process.env.${name}`, JSON.stringify(value));
  }
  const folder = await mkdtemp(join(tmpdir(), 'parlor-program-'));
  try {
    const file = join(folder, 'program.mjs');
    await writeFile(file, program);
    return await import(pathToFileURL(file).href);
  } finally {
    await rm(folder, { recursive: true });
  }
}

/**
 * Opens an empty page that runs a program of a document. The program calls the server as
 * parlor.example.com, and the backend of the application under these paths.
 */
export async function serveApplication(page: Page, server: Server, program: string, backend: Record<string, () => string>): Promise<void> {
  const script = program.replaceAll('https://parlor.example.com', server.url);
  await page.route(`${server.url}/application`, (route) =>
    route.fulfill({ contentType: 'text/html', body: `<!doctype html><body><script type="module">${script}</script>` }),
  );
  for (const [path, reply] of Object.entries(backend)) {
    await page.route(server.url + path, (route) => route.fulfill({ contentType: 'text/plain', body: reply() }));
  }
  await page.goto(`${server.url}/application`);
}
