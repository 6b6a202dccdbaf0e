// Bundles the SDK into dist/sdk/, which the server serves below /sdk/: parlor.js and its other
// modules, and for each folder of compat/ an ES module and a classic script, such as compat/zim.js
// and compat/zim.global.js, all with their types. It prints the sizes, and fails if the part that
// every page loads is too large.
import { existsSync } from 'node:fs';
import { cp, mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

/** The most bytes of parlor.js and what it imports at once, compressed with gzip: not uploads. */
const MOST_BYTES = 8 * 1024;

process.chdir(fileURLToPath(new URL('.', import.meta.url)));

const { exports } = JSON.parse(await readFile('sdk/package.json', 'utf8'));
for (const { default: entry } of Object.values(exports)) {
  const module = basename(entry, '.js');
  const name = module === 'index' ? 'parlor' : module;
  const size = await bundle(name, `sdk/dist/${module}.js`);
  if (name === 'parlor' && size > MOST_BYTES) throw new Error(`sdk/parlor.js is larger than ${MOST_BYTES} bytes`);
  await writeTypes(name, `sdk/dist/${module}.d.ts`, 'types');
}

for (const facade of await readdir('compat')) {
  if (!existsSync(`compat/${facade}/src/global.ts`)) continue; // shared by the others
  await bundle(`compat/${facade}`, `compat/${facade}/dist/index.js`);
  await writeTypes(`compat/${facade}`, `compat/${facade}/dist/index.d.ts`, `compat/types/${facade}`);
  // A script for pages without modules. It is one file, and sets the global variables itself.
  await bundle(`compat/${facade}.global`, `compat/${facade}/dist/global.js`, { format: 'iife', splitting: false });
  // In the package too.
  await cp(`dist/sdk/compat/${facade}.global.js`, `compat/${facade}/dist/${facade}.global.js`);
}

/** Bundles a module, and returns its size with gzip, without what it loads on first use. */
async function bundle(name, entry, options = {}) {
  // Each by itself: what several share would be one more file to load.
  const { metafile } = await build({
    entryPoints: { [name]: entry },
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
    ...options,
  });
  const chunks = withImports(metafile, `dist/sdk/${name}.js`);
  // Together, as in the bundle of an application.
  const code = await Promise.all(Array.from(chunks, (path) => readFile(path)));
  const size = gzipSync(Buffer.concat(code), { level: 9 }).length;
  console.log(`sdk/${name}.js: ${size} bytes with gzip`);
  return size;
}

/** Returns a bundle and those that it imports at once. */
function withImports(metafile, path, found = new Set()) {
  found.add(path);
  for (const { path: imported, kind } of metafile.outputs[path].imports) {
    if (kind === 'import-statement' && !found.has(imported)) withImports(metafile, imported, found);
  }
  return found;
}

/** Writes the types of a module beside it, and what they import into a folder. */
async function writeTypes(name, file, folder) {
  const target = join('dist/sdk', `${name}.d.ts`);
  const types = `./${relative(dirname(target), join('dist/sdk', folder, basename(file, '.d.ts')))}.js`;
  await mkdir(dirname(target), { recursive: true });
  const text = await readFile(file, 'utf8');
  const also = /export \{[^}]*\bas default\b|export default/.test(text) ? `export { default } from '${types}';\n` : '';
  await writeFile(target, `export * from '${types}';\n${also}`);
  await copyTypes(file, join('dist/sdk', folder), new Set());
}

/** Copies a file of types and those that it imports. */
async function copyTypes(file, folder, copied) {
  if (copied.has(file)) return;
  copied.add(file);
  const target = join(folder, basename(file));
  await mkdir(dirname(target), { recursive: true });
  await cp(file, target);
  const text = await readFile(file, 'utf8');
  for (const [, name] of text.matchAll(/from '\.\/([\w.-]+)\.[jt]s'/g)) {
    await copyTypes(join(dirname(file), `${name}.d.ts`), folder, copied);
  }
}
