// Bundles the SDK into dist/sdk/, which the server serves below /sdk/: parlor.js and admin.js, with
// their types. It prints the sizes, and fails if the part that every page loads is too large.
import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

/** The most bytes of parlor.js and what it imports at once, compressed with gzip: not uploads. */
const MOST_BYTES = 8 * 1024;
const ENTRIES = { parlor: 'index', 'member-list': 'member-list', admin: 'admin', development: 'development' };

process.chdir(fileURLToPath(new URL('.', import.meta.url)));

for (const [name, module] of Object.entries(ENTRIES)) {
  // Each by itself: what both share would be one more file to load.
  const { metafile } = await build({
    entryPoints: { [name]: `sdk/dist/${module}.js` },
    outdir: 'dist/sdk',
    // The entries keep their names. The names of chunks contain a hash, so that browsers may cache
    // them without an end.
    chunkNames: 'chunks/[name]-[hash]',
    bundle: true,
    splitting: true,
    format: 'esm',
    target: 'es2022',
    minify: true,
    legalComments: 'none', // assets/licenses.txt has the licences of all bundled packages
    metafile: true,
  });
  const chunks = withImports(metafile, `dist/sdk/${name}.js`);
  // Together, as in the bundle of an application.
  const code = await Promise.all(Array.from(chunks, (path) => readFile(path)));
  const size = gzipSync(Buffer.concat(code), { level: 9 }).length;
  console.log(`sdk/${name}.js: ${size} bytes with gzip`);
  if (name === 'parlor' && size > MOST_BYTES) throw new Error(`sdk/parlor.js is larger than ${MOST_BYTES} bytes`);
  await writeFile(`dist/sdk/${name}.d.ts`, `export * from './types/${module}.js';\n`);
  await copyTypes(`${module}.d.ts`, new Set());
}

/** Returns a bundle and those that it imports at once. */
function withImports(metafile, path, found = new Set()) {
  found.add(path);
  for (const { path: imported, kind } of metafile.outputs[path].imports) {
    if (kind === 'import-statement' && !found.has(imported)) withImports(metafile, imported, found);
  }
  return found;
}

/** Copies a file of types and those that it imports. */
async function copyTypes(file, copied) {
  if (copied.has(file)) return;
  copied.add(file);
  const target = join('dist/sdk/types', file);
  await mkdir(dirname(target), { recursive: true });
  await cp(join('sdk/dist', file), target);
  const text = await readFile(join('sdk/dist', file), 'utf8');
  for (const [, name] of text.matchAll(/from '\.\/([\w./-]+)\.[jt]s'/g)) await copyTypes(`${name}.d.ts`, copied);
}
