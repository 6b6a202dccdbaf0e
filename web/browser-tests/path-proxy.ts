import { once } from 'node:events';
import { createServer, request } from 'node:http';
import { type AddressInfo } from 'node:net';

/**
 * PathProxy is a proxy that serves the server below a path, which it removes from requests. Other
 * paths are 404, as on a host with other applications.
 */
export class PathProxy {
  readonly #path: string;
  readonly #proxy;

  private constructor(path: string, server: string) {
    this.#path = path;
    this.#proxy = createServer((incoming, reply) => {
      if (!incoming.url!.startsWith(`${path}/`)) {
        reply.writeHead(404).end();
        return;
      }
      const { method, headers } = incoming;
      const target = server + incoming.url!.slice(path.length);
      const outgoing = request(target, { method: method!, headers }, (response) => {
        reply.writeHead(response.statusCode!, response.headers);
        response.pipe(reply);
      });
      outgoing.on('error', () => reply.destroy());
      reply.on('close', () => outgoing.destroy());
      incoming.pipe(outgoing);
    });
  }

  static async start(server: string, path: string): Promise<PathProxy> {
    const proxy = new PathProxy(path, server);
    proxy.#proxy.listen(0, '127.0.0.1');
    await once(proxy.#proxy, 'listening');
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#proxy.address() as AddressInfo).port}${this.#path}`;
  }

  close(): void {
    this.#proxy.closeAllConnections();
    this.#proxy.close();
  }
}
