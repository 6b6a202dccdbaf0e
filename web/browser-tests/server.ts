import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A real server with a database of its own, which can be killed and started again on the same data and port. */
export class Server {
  readonly #data: string;
  readonly #port: number;
  #process: ChildProcess | undefined;
  #output = '';
  #adminToken: string | undefined;

  private constructor(data: string, port: number) {
    this.#data = data;
    this.#port = port;
  }

  static async create(): Promise<Server> {
    const data = mkdtempSync(join(tmpdir(), 'parlor-data-'));
    chmodSync(data, 0o755); // where it runs as root, PostgreSQL runs as somebody else
    const server = new Server(data, await freePort());
    await server.start();
    return server;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Starts the server and waits until it says that it is ready. */
  async start(): Promise<void> {
    const listen = `127.0.0.1:${this.#port}`;
    // The tests type faster than people do.
    const pace = ['--member-timeout', '5s', '--message-rate', '1000'];
    const options = ['--data', this.#data, '--listen', listen, '--ops-listen', '', ...pace];
    const started = spawn(binary(), ['serve', '--dev', ...options], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#process = started;
    this.#output = '';
    await new Promise<void>((resolve, reject) => {
      const read = (chunk: Buffer) => {
        this.#output += chunk.toString();
        if (this.#output.includes('Parlor is ready')) resolve();
      };
      started.stdout.on('data', read);
      started.stderr.on('data', read);
      started.once('exit', (code) => reject(new Error(`the server ended with status ${code}:\n${this.#output}`)));
      started.once('error', reject);
    });
  }

  /** Calls the admin API, as an operator's program does, and fails unless that succeeds. */
  async operate(method: 'GET' | 'POST' | 'DELETE', path: string): Promise<any> {
    this.#adminToken ??= execFileSync(binary(), ['token', '--admin', '--data', this.#data], { encoding: 'utf8' }).trim();
    const headers = { Authorization: `Bearer ${this.#adminToken}` };
    const reply = await fetch(`${this.url}/v1/admin${path}`, { method, headers });
    const text = await reply.text();
    if (!reply.ok) throw new Error(`${method} ${path}: ${reply.status} ${text}`);
    return text === '' ? undefined : JSON.parse(text);
  }

  /** Ends the server without a chance to say goodbye. */
  kill(): Promise<void> {
    return this.#end('SIGKILL');
  }

  /** Ends the server as an operator would, and removes its data. */
  async stop(): Promise<void> {
    await this.#end('SIGTERM');
    rmSync(this.#data, { recursive: true, force: true });
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const running = this.#process;
    if (running === undefined || running.exitCode !== null || running.signalCode !== null) return;
    const exited = once(running, 'exit');
    running.kill(signal);
    await exited;
  }
}

/** The program under test, see build-server.ts. */
function binary(): string {
  return process.env['PARLOR_TEST_BINARY']!;
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const address = probe.address();
  probe.close();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}
