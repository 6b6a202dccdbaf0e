// Builds the page and the API reference into dist/, which the server embeds.
import { mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { build } from 'esbuild';

const dist = new URL('dist/', import.meta.url);

for (const name of await readdir(dist)) {
  if (name !== '.gitkeep') await rm(new URL(name, dist), { recursive: true });
}

const { metafile } = await build({
  absWorkingDir: new URL('.', import.meta.url).pathname,
  entryPoints: {
    page: 'src/page/main.ts',
    'page-style': 'src/page/page.css',
    docs: 'src/docs/docs.ts',
    'docs-style': 'src/docs/docs.css',
  },
  outdir: 'dist/assets',
  // The names change with the content, so that browsers may keep the files for ever.
  entryNames: '[name]-[hash]',
  bundle: true,
  format: 'esm',
  target: 'es2022',
  minify: true,
  legalComments: 'none', // see licenses.txt
  metafile: true,
});

/** The address of each built file, by the source it was made from: relative, as the server may be below a path. */
const addresses = new Map(
  Object.entries(metafile.outputs)
    .filter(([, output]) => output.entryPoint !== undefined)
    .map(([path, output]) => [output.entryPoint, path.replace('dist/', '')]),
);

async function writePage(source, target, assets) {
  let html = await readFile(new URL(source, import.meta.url), 'utf8');
  for (const [placeholder, entryPoint] of Object.entries(assets)) {
    html = html.replace(`{{${placeholder}}}`, addresses.get(entryPoint));
  }
  await writeFile(new URL(target, dist), html);
}

const page = { 'page.js': 'src/page/main.ts', 'page.css': 'src/page/page.css' };
const docs = { 'docs.js': 'src/docs/docs.ts', 'docs.css': 'src/docs/docs.css' };
await writePage('src/page/index.html', 'index.html', page);
await writePage('src/docs/index.html', 'docs.html', docs);

// What is bundled is passed on under its own licence.
const licenses = [
  'eventsource-parser/LICENSE',
  'js-base64/LICENSE.md',
  'querystringify/LICENSE',
  'requires-port/LICENSE',
  'tus-js-client/LICENSE',
  'url-parse/LICENSE',
  'swagger-ui-dist/LICENSE',
  'swagger-ui-dist/NOTICE',
  'swagger-ui-dist/swagger-ui-es-bundle.js.LICENSE.txt',
];
const texts = await Promise.all(
  licenses.map(async (path) => {
    const text = await readFile(new URL(`node_modules/${path}`, import.meta.url), 'utf8');
    return `==> ${path}\n\n${text}`;
  }),
);
await mkdir(new URL('assets/', dist), { recursive: true });
await writeFile(new URL('assets/licenses.txt', dist), texts.join('\n'));
