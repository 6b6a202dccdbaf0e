import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { defineConfig } from '@playwright/test';

/** Finds the Chromium of the system; nothing is downloaded. */
function chromium(): string {
  const named = process.env['PARLOR_CHROMIUM'];
  if (named) return named;
  const folders = (process.env['PATH'] ?? '').split(delimiter);
  const names = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];
  const candidates = names.flatMap((name) => folders.map((folder) => join(folder, name)));
  const found = candidates.find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
  if (found === undefined) {
    throw new Error('no Chromium found: run scripts/setup.sh chromium, or set PARLOR_CHROMIUM to its path');
  }
  return found;
}

export default defineConfig({
  globalSetup: './build-server.ts',
  // Two, even on one core, because many tests wait. Each worker has a server of its own, with its own
  // PostgreSQL and browser, so that with more of them the clients and servers of tests wait for each
  // other on two cores.
  workers: 2,
  fullyParallel: true,
  // Both only limit how long a failure takes. On a busy machine, a test takes many times as long as
  // on a quiet one.
  timeout: 180_000,
  expect: { timeout: 60_000 },
  forbidOnly: process.env['CI'] !== undefined,
  reporter: 'list',
  use: {
    locale: 'en-GB',
    screenshot: 'only-on-failure',
    launchOptions: {
      executablePath: chromium(),
      // As in the browsers of users. With it, goBack must not wait until the page is loaded.
      ignoreDefaultArgs: ['--disable-back-forward-cache'],
      args: [
        '--no-sandbox', // the tests may run as root, in a container
        '--disable-quic',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
      ],
    },
  },
});
