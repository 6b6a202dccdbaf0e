import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface LoginReply {
  userID: string;
  sessionKey: string;
}

/**
 * Server is a real server with a database of its own. It can be killed, and started again with the
 * same data and port.
 */
export class Server {
  readonly #data: string;
  readonly #options: string[];
  /** The address to listen on. The first start chooses the port. */
  #address = '127.0.0.1:0';
  #process: ChildProcess | undefined;
  #adminToken: string | undefined;

  private constructor(data: string, options: string[]) {
    this.#data = data;
    this.#options = options;
  }

  /** Starts a server with a new database. The options are those of `parlor serve`. */
  static async create(...options: string[]): Promise<Server> {
    const data = mkdtempSync(join(tmpdir(), 'parlor-data-'));
    chmodSync(data, 0o755); // under root, PostgreSQL runs as another user
    const server = new Server(data, options);
    await server.start();
    return server;
  }

  get url(): string {
    return `http://${this.#address}`;
  }

  /** The secret with which user tokens are signed. */
  get secret(): string {
    return readFileSync(join(this.#data, 'secret'), 'utf8').trim();
  }

  /** Starts the server, and waits until it is ready. */
  async start(): Promise<void> {
    const options = ['--data', this.#data, '--listen', this.#address, '--ops-listen', ''];
    const rate = ['--message-rate', '1000']; // the tests type faster than users do
    const started = spawn(binary(), ['serve', '--dev', ...options, ...rate, ...this.#options], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#process = started;
    let output = '';
    this.#address = await new Promise<string>((resolve, reject) => {
      const read = (chunk: Buffer) => {
        output += chunk.toString();
        const ready = output.match(/Parlor is ready: http:\/\/([^/\s]+)/);
        if (ready) resolve(ready[1]!);
      };
      started.stdout.on('data', read);
      started.stderr.on('data', read);
      started.once('exit', (code) => reject(new Error(`the server exited with status ${code}:\n${output}`)));
      started.once('error', reject);
    });
  }

  /** Calls the admin API, and throws unless the call succeeds. */
  async admin(method: 'GET' | 'POST' | 'DELETE', path: string, body?: unknown): Promise<any> {
    const headers = { Authorization: `Bearer ${this.adminToken()}`, 'Content-Type': 'application/json' };
    const init = body === undefined ? { method, headers } : { method, headers, body: JSON.stringify(body) };
    const reply = await fetch(`${this.url}/v1/admin${path}`, init);
    const text = await reply.text();
    if (!reply.ok) throw new Error(`${method} ${path}: ${reply.status} ${text}`);
    return text === '' ? undefined : JSON.parse(text);
  }

  /** Returns a token of the admin API. */
  adminToken(): string {
    this.#adminToken ??= execFileSync(binary(), ['token', '--admin', '--data', this.#data], { encoding: 'utf8' }).trim();
    return this.#adminToken;
  }

  /** Signs a token of a user that is valid for some seconds, with grants such as `join,send:class-*`. */
  userToken(userID: string, seconds: number, ...grants: string[]): string {
    const options = ['--user', userID, '--ttl', `${seconds}s`, '--data', this.#data, ...grants.flatMap((grant) => ['--grant', grant])];
    return execFileSync(binary(), ['token', ...options], { encoding: 'utf8' }).trim();
  }

  /**
   * Makes the token of a session expire in a few seconds: enough for the client to ask for another
   * one before, also on a busy machine.
   */
  async expireSoon({ userID, sessionKey }: LoginReply): Promise<void> {
    const headers = { Authorization: `Bearer ${sessionKey}`, 'Content-Type': 'application/json' };
    for (let seconds = 6; ; seconds *= 2) {
      const body = JSON.stringify({ token: this.userToken(userID, seconds) });
      const reply = await fetch(`${this.url}/v1/sessions/current/token`, { method: 'PUT', headers, body });
      if (reply.ok) return;
      if (reply.status !== 401) throw new Error(`PUT token: ${reply.status} ${await reply.text()}`);
      // On a busy machine, the token has expired already.
    }
  }

  /** Returns the states of a user's sessions: `online` with a stream, `detached` without one. */
  async sessionStates(userID: string): Promise<string[]> {
    const { sessions } = await this.admin('GET', `/users/${encodeURIComponent(userID)}/sessions`);
    return sessions.map(({ state }: { state: string }) => state);
  }

  /** Creates an empty room, for a test that needs another memberTimeout or messages in it. */
  async createRoom(roomID: string, config: { memberTimeout?: number; memberStates?: boolean } = {}): Promise<void> {
    await this.admin('POST', '/rooms', { roomID, config: { unusedTimeout: 300, ...config } });
  }

  /** Kills the server, without a shutdown. */
  kill(): Promise<void> {
    return this.#end('SIGKILL');
  }

  /** Shuts the server down, and removes its data. */
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

/** Returns the path of the program under test: see build-server.ts. */
function binary(): string {
  return process.env['PARLOR_TEST_BINARY']!;
}
