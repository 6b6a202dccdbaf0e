import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Parlor } from 'parlor-sdk';
import { expect, test as base } from './user.ts';

const run = promisify(execFile);
const web = fileURLToPath(new URL('..', import.meta.url));

/** Compiles the files of a folder, as strict as an application can be: it also checks the types of packages. */
async function compile(folder: string, ...files: string[]): Promise<void> {
  const options = { strict: true, skipLibCheck: false, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true };
  const target = { target: 'es2022', lib: ['es2022', 'dom', 'dom.iterable'], module: 'nodenext', jsx: 'react-jsx', types: [] };
  await writeFile(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions: { ...options, ...target }, files }));
  const compiled = run(process.execPath, [join(web, 'node_modules/typescript/bin/tsc')], { cwd: folder });
  expect(await compiled.catch(({ stdout }) => stdout)).toEqual({ stdout: '', stderr: '' });
}

/** Makes the package of a workspace, as for a registry, and returns its path. */
async function pack(workspace: string, folder: string): Promise<string> {
  const { stdout } = await run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], { cwd: join(web, workspace) });
  return join(folder, JSON.parse(stdout)[0].filename);
}

// The programs of the README, with what they leave to the application.
const programs: Record<string, (blocks: string[]) => string> = {
  'client.ts': ([client, rooms]) => `
    const { fetch: originalFetch } = globalThis;
    globalThis.fetch = async (url, init) =>
      url === '/parlor-token' ? new Response(process.env.USER_TOKEN) : originalFetch(url, init);
    declare const process: { env: { [name: string]: string } };
    ${client}
    ${rooms}
    await parlor.endSession();
  `,
  'tabs.ts': ([, , tabs]) => `
    import { Parlor } from 'parlor-sdk';
    declare const baseURL: string;
    declare const getToken: () => Promise<string>;
    ${tabs}
  `,
  'outbox.ts': ([, , , outbox]) => `
    import type { Parlor } from 'parlor-sdk';
    declare const parlor: Parlor;
    declare function showWarning(text: string): void;
    declare function showNotSent(message: unknown, error: unknown): void;
    ${outbox}
  `,
  'admin.ts': ([, , , , admin]) => `
    declare const process: { env: { [name: string]: string }; exit(status: number): never };
    const signAdminToken = () => process.env.ADMIN_TOKEN!;
    let lastEventID: string | undefined;
    async function archive(messages: { kind: string }[]) {
      console.log('archived ' + messages.map(({ kind }) => kind));
      process.exit(0);
    }
    ${admin}
  `,
};

/** An empty folder. */
const test = base.extend<{ folder: string }>({
  folder: async ({}, use) => {
    const folder = await mkdtemp(join(tmpdir(), 'parlor-package-'));
    await writeFile(join(folder, 'package.json'), JSON.stringify({ type: 'module', private: true }));
    await use(folder);
    await rm(folder, { recursive: true, force: true });
  },
});

/** Installs packages, and returns the code of the examples in the README of one. */
async function install(folder: string, name: string, language: string, ...packages: string[]): Promise<string[]> {
  await run('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', ...packages], { cwd: folder });
  const readme = await readFile(join(folder, 'node_modules', name, 'README.md'), 'utf8');
  return Array.from(readme.matchAll(/^```(\w+)\n(.*?)^```/gms)).flatMap(([, of, code]) => (of === language ? code! : []));
}

test('the packed SDK is installed, and runs the examples of its README', async ({ server, folder }) => {
  const examples = await install(folder, 'parlor-sdk', 'ts', await pack('sdk', folder));
  const blocks = examples.map((code) => code.replaceAll('https://parlor.example.com', server.url));
  expect(blocks).toHaveLength(Object.keys(programs).length + 1);
  for (const [name, program] of Object.entries(programs)) await writeFile(join(folder, name), program(blocks));
  await compile(folder, ...Object.keys(programs));

  const env = { ...process.env, USER_TOKEN: server.userToken('reader', 3600), ADMIN_TOKEN: server.adminToken() };
  const runProgram = (name: string) => run(process.execPath, [name], { cwd: folder, env, timeout: 60_000 });
  const bob = await Parlor.login({ baseURL: server.url, token: server.userToken('bob', 3600) });
  const room = await bob.enterRoom('class#1', { roomAttributes: { topic: 'Fractions' } });
  const history = await room.history();
  const members = await room.members();
  const seen: string[] = [];
  members.onChange(() => seen.push(members.members.map(({ userID }) => userID).join()));
  const { stdout } = await runProgram('client.js');
  expect(stdout).toContain('reader: Hello');
  expect(history.messages).toMatchObject([{ text: 'Hello', sender: { userID: 'reader' } }]);
  await expect.poll(() => seen).toEqual(['bob,reader', 'bob']);

  const archived = runProgram('admin.js');
  let settled = false;
  const ended = archived.finally(() => (settled = true));
  const send = async () => {
    await room.send({ text: 'archive this' });
    return settled;
  };
  await expect.poll(send).toBe(true); // the feed begins when the program has connected
  expect((await ended).stdout).toContain('archived text');
  await bob.endSession();
});

test('the packed hooks are installed, and the example of their README compiles', async ({ folder }) => {
  const { devDependencies } = JSON.parse(await readFile(join(web, 'react/package.json'), 'utf8'));
  const versions = ['react', '@types/react'].map((name) => `${name}@${devDependencies[name]}`);
  const packages = [await pack('sdk', folder), await pack('react', folder), ...versions];
  const [example] = await install(folder, 'parlor-react', 'tsx', ...packages);
  await writeFile(join(folder, 'app.tsx'), example!);
  await compile(folder, 'app.tsx');
});

test('the packed APIs of other SDKs are installed, compile and load', async ({ folder }) => {
  const workspaces = ['sdk', 'compat/shared', 'compat/zim', 'compat/qnrtc', 'compat/express'];
  const packages: string[] = [];
  for (const workspace of workspaces) packages.push(await pack(workspace, folder));
  await install(folder, 'parlor-zim', 'ts', ...packages);
  const program = `
    import { ZegoExpressEngine } from 'parlor-express';
    import QNRTC, { QNConnectionState } from 'parlor-qnrtc';
    import { ZIM, ZIMRoomState } from 'parlor-zim';
    const server = 'https://parlor.example.com';
    const zim: ZIM | null = ZIM.create({ appID: 1, server });
    zim!.on('roomStateChanged', (_, { state }) => console.log(state === ZIMRoomState.Connected));
    const client = QNRTC.createClient({ server });
    const engine = new ZegoExpressEngine(1, server);
    console.log(JSON.stringify([zim !== null, client.connectionState === QNConnectionState.DISCONNECTED, engine instanceof ZegoExpressEngine]));
    zim!.destroy();
  `;
  await writeFile(join(folder, 'app.ts'), program);
  await compile(folder, 'app.ts');
  const { stdout } = await run(process.execPath, ['app.js'], { cwd: folder, timeout: 60_000 });
  expect(JSON.parse(stdout)).toEqual([true, true, true]);
});
