import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

/** TCPProxy forwards connections to the server, and can interrupt them like a broken network. */
export class TCPProxy {
  readonly #proxy;
  readonly #sockets = new Set<Socket>();
  #interrupted = false;

  private constructor(port: number) {
    this.#proxy = createServer((client) => {
      if (this.#interrupted) {
        client.destroy();
        return;
      }
      const server = connect(port, '127.0.0.1');
      for (const [from, to] of [[client, server], [server, client]] as const) {
        this.#sockets.add(from);
        from.pipe(to);
        from.on('error', () => {}); // expected after an interruption; 'close' follows
        from.on('close', () => {
          this.#sockets.delete(from);
          to.destroy();
        });
      }
    });
  }

  static async start(serverURL: string): Promise<TCPProxy> {
    const proxy = new TCPProxy(Number(new URL(serverURL).port));
    proxy.#proxy.listen(0, '127.0.0.1');
    await once(proxy.#proxy, 'listening');
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#proxy.address() as AddressInfo).port}`;
  }

  /** Closes all connections, and every new one until restore is called. */
  interrupt(): void {
    this.#interrupted = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  restore(): void {
    this.#interrupted = false;
  }

  close(): void {
    this.interrupt();
    this.#proxy.close();
  }
}
