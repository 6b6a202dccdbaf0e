import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

/** TCPProxy forwards connections to the server, and can break them as networks do. */
export class TCPProxy {
  readonly #proxy;
  readonly #sockets = new Set<Socket>();
  #interrupted = false;
  #silent = false;

  private constructor(port: number) {
    this.#proxy = createServer((client) => {
      if (this.#interrupted) {
        client.destroy();
        return;
      }
      if (this.#silent) {
        this.#keep(client);
        return;
      }
      const server = connect(port, '127.0.0.1');
      for (const [from, to] of [[client, server], [server, client]] as const) {
        this.#keep(from);
        from.pipe(to);
        from.on('close', () => {
          if (!this.#silent) to.destroy();
        });
      }
    });
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('error', () => {}); // expected after an interruption; 'close' follows
    socket.on('close', () => this.#sockets.delete(socket));
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

  /**
   * Forwards nothing more on any connection, without closing it, and neither on new ones until
   * restore is called: as when a phone loses its network, and later has another address.
   */
  silence(): void {
    this.#silent = true;
    for (const socket of this.#sockets) socket.unpipe().pause();
  }

  /** Forwards new connections again. */
  restore(): void {
    this.#interrupted = false;
    this.#silent = false;
  }

  close(): void {
    this.interrupt();
    this.#proxy.close();
  }
}
