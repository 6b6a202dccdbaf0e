import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { onTestFinished } from 'vitest';

/** Call is a request that the test replies to. */
export class Call {
  constructor(
    readonly request: IncomingMessage,
    readonly response: ServerResponse,
    readonly body: any,
  ) {}

  get url(): URL {
    return new URL(this.request.url!, 'http://localhost');
  }

  header(name: string): string | undefined {
    return this.request.headers[name.toLowerCase()] as string | undefined;
  }

  reply(status: number, body?: unknown, headers: Record<string, string> = {}): void {
    const type = status < 400 ? 'application/json' : 'application/problem+json';
    this.response.writeHead(status, { 'Content-Type': type, ...headers });
    this.response.end(body === undefined ? undefined : JSON.stringify(body));
  }

  refuse(status: number, code: string, headers: Record<string, string> = {}): void {
    this.reply(status, { type: `/docs/errors#${code}`, title: 'No', status, code, detail: `The code is ${code}.` }, headers);
  }

  /** Closes the connection without a reply. */
  cut(): void {
    this.request.socket.destroy();
  }

  /** Starts an event stream, with the first bytes that the server sends. */
  open(retry = 0): this {
    this.response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    return this.write(`retry: ${retry}\n\n`);
  }

  write(bytes: string | Uint8Array): this {
    this.response.write(bytes);
    return this;
  }

  event(name: string, data: unknown, id?: string): this {
    return this.write(`${id === undefined ? '' : `id: ${id}\n`}event: ${name}\ndata: ${JSON.stringify(data)}\n\n`);
  }

  ready(id = '1:0', rooms: unknown[] = [], heartbeatSeconds: number | undefined = 10): this {
    return this.event('sessionReady', { sessionID: session.sessionID, resumed: false, rooms, heartbeatSeconds }, id);
  }
}

/** TestServer is a server on a real port. The test takes each call from it, and replies. */
export class TestServer {
  readonly #server = createServer((request, response) => this.#receive(request, response));
  readonly #waiting: { matches: (call: Call) => boolean; take: (call: Call) => void }[] = [];
  readonly #calls: Call[] = [];
  readonly #sockets = new Set<Socket>();

  static async start(): Promise<TestServer> {
    const server = new TestServer();
    server.#server.on('connection', (socket) => {
      server.#sockets.add(socket);
      socket.on('close', () => server.#sockets.delete(socket));
    });
    await new Promise<void>((resolve) => server.#server.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => server.#stop());
    return server;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Returns the next call of a method and path, which may have arrived already. */
  next(method: string, path: string): Promise<Call> {
    const matches = (call: Call) => call.request.method === method && call.url.pathname === path;
    const arrived = this.#calls.findIndex(matches);
    if (arrived >= 0) return Promise.resolve(this.#calls.splice(arrived, 1)[0]!);
    return new Promise((take) => this.#waiting.push({ matches, take }));
  }

  nextStream(): Promise<Call> {
    return this.next('GET', '/v1/events');
  }

  async #receive(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] | undefined = await request.toArray().catch(() => undefined);
    if (chunks === undefined) return; // the connection was closed, such as at the end of the test
    const text = Buffer.concat(chunks).toString();
    const isJSON = request.headers['content-type'] === 'application/json';
    const call = new Call(request, response, text === '' ? undefined : isJSON ? JSON.parse(text) : text);
    const waiting = this.#waiting.findIndex(({ matches }) => matches(call));
    if (waiting >= 0) this.#waiting.splice(waiting, 1)[0]!.take(call);
    else this.#calls.push(call);
  }

  #stop(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}

/** The reply of createSession. The streamURL is relative to the server. */
export const session = {
  sessionID: '0193507e-8f5c-7d5a-9a55-6f3f4c1f2a10',
  sessionKey: 'sk_test',
  userID: 'alice',
  userName: 'Alice',
  streamURL: '/v1/events?stream_key=ek_test',
  tokenExpiresAt: '2026-11-21T16:00:00Z',
  limits: { textBytes: 32768, extendedDataBytes: 1024, rooms: 20, heartbeatSeconds: 10 },
};
