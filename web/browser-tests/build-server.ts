import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Builds the server with the pages in it, once for all tests. The returned function removes it. */
export default function buildServer(): () => void {
  const folder = mkdtempSync(join(tmpdir(), 'parlor-browser-'));
  const binary = join(folder, 'parlor');
  const web = new URL('..', import.meta.url);
  execFileSync('go', ['build', '-o', binary, '../cmd/parlor'], { cwd: web, stdio: 'inherit' });
  process.env['PARLOR_TEST_BINARY'] = binary; // the workers inherit it
  return () => rmSync(folder, { recursive: true, force: true });
}
