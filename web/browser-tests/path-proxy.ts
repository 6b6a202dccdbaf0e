import { once } from 'node:events';
import { createServer, request } from 'node:http';
import { type AddressInfo } from 'node:net';

/** A proxy that has the server below a path, and takes that off. All else is 404, as on a host with other applications. */
export class Folder {
  readonly #path: string;
  readonly #proxy;

  private constructor(path: string, server: string) {
    this.#path = path;
    this.#proxy = createServer((asked, reply) => {
      if (!asked.url!.startsWith(`${path}/`)) {
        reply.writeHead(404).end();
        return;
      }
      const { method, headers } = asked;
      const handedOn = request(server + asked.url!.slice(path.length), { method: method!, headers }, (answer) => {
        reply.writeHead(answer.statusCode!, answer.headers);
        answer.pipe(reply);
      });
      handedOn.on('error', () => reply.destroy());
      reply.on('close', () => handedOn.destroy());
      asked.pipe(handedOn);
    });
  }

  static async of(server: string, path: string): Promise<Folder> {
    const folder = new Folder(path, server);
    folder.#proxy.listen(0, '127.0.0.1');
    await once(folder.#proxy, 'listening');
    return folder;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#proxy.address() as AddressInfo).port}${this.#path}`;
  }

  close(): void {
    this.#proxy.closeAllConnections();
    this.#proxy.close();
  }
}
