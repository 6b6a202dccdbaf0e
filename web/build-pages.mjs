// Builds the pages into dist/, which the server embeds. Every HTML file in the src folder of a
// workspace is a page: the scripts and style sheets that it names are bundled into dist/assets/, and
// the built page names the bundles instead.
import { existsSync } from 'node:fs';
import { mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

process.chdir(fileURLToPath(new URL('.', import.meta.url)));

const pages = [];
for (const workspace of await readdir('.')) {
  const source = join(workspace, 'src');
  if (!existsSync(source)) continue;
  for (const file of await readdir(source)) {
    if (!file.endsWith('.html')) continue;
    const html = await readFile(join(source, file), 'utf8');
    const names = [...html.matchAll(/(?:src|href)="([\w-]+\.(?:ts|css))"/g)].map(([, name]) => name);
    pages.push({ file, html, entryPoints: new Map(names.map((name) => [name, join(source, name)])) });
  }
}

for (const name of await readdir('dist')) {
  if (name !== '.gitkeep') await rm(join('dist', name), { recursive: true });
}

const { metafile } = await build({
  entryPoints: pages.flatMap(({ entryPoints }) => [...entryPoints.values()]),
  outdir: 'dist/assets',
  // A name contains a hash of the content, so that browsers may cache the file without an end.
  entryNames: '[name]-[hash]',
  bundle: true,
  format: 'esm',
  target: 'es2022',
  minify: true,
  legalComments: 'none', // see writeLicenses
  metafile: true,
});

// URLs are relative, because a proxy may serve the pages below a path.
const urls = new Map();
for (const [path, { entryPoint }] of Object.entries(metafile.outputs)) urls.set(entryPoint, path.replace('dist/', ''));

for (const { file, html, entryPoints } of pages) {
  let built = html;
  for (const [name, entryPoint] of entryPoints) built = built.replace(`"${name}"`, `"${urls.get(entryPoint)}"`);
  await writeFile(join('dist', file), built);
}
await writeLicenses();

/** Writes the licence and the notices of each package whose code was bundled. */
async function writeLicenses() {
  const paths = new Set();
  for (const input of Object.keys(metafile.inputs)) {
    const [, folder] = input.match(/^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//) ?? [];
    if (folder === undefined) continue;
    const licenses = (await readdir(folder)).filter((name) => /^(licen[cs]e|notice)\b/i.test(name));
    if (licenses.length === 0) throw new Error(`${folder} has no licence file`);
    for (const name of licenses) paths.add(join(folder, name));
    // A bundle within a package may have a file of the licences of its own dependencies.
    const own = join(dirname(input), `${basename(input)}.LICENSE.txt`);
    if (existsSync(own)) paths.add(own);
  }
  const texts = await Promise.all(
    [...paths].sort().map(async (path) => `==> ${path}\n\n${await readFile(path, 'utf8')}`),
  );
  await mkdir('dist/assets', { recursive: true });
  await writeFile('dist/assets/licenses.txt', texts.join('\n'));
}
