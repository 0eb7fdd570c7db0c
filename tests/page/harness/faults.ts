/**
 * A server in front of the API that misbehaves on purpose. The page lives at its address, so what goes wrong here is
 * what the page sees. The page's own files go on coming when the API is "down", as they would from a static host.
 */
import { createServer, request as ask } from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export type Rewrite = (path: string, body: Buffer) => Buffer;

const API = /^\/(v1|ipfs|requestPrediction|readPrediction)\b/;

export class FaultyApi {
  /** Which paths are cut off without an answer. */
  private cut: RegExp | undefined;
  private changes: { readonly path: RegExp; readonly rewrite: Rewrite } | undefined;
  private readonly open = new Set<ServerResponse>();
  private readonly server: Server;

  private constructor(private readonly upstream: string) {
    this.server = createServer((request, response) => this.serve(request, response));
  }

  static async start(upstream: string): Promise<FaultyApi> {
    const proxy = new FaultyApi(upstream.replace(/\/$/, ""));
    await new Promise<void>((done) => proxy.server.listen(0, "127.0.0.1", done));
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** Cut off every call of the API, those under way too. */
  goDown(path: RegExp = API): void {
    this.cut = path;
    for (const response of this.open) if (path.test(response.req.url ?? "")) response.destroy();
  }

  /** Give other bytes than the API gave, for paths that match. */
  alter(path: RegExp, rewrite: Rewrite): void {
    this.changes = { path, rewrite };
  }

  heal(): void {
    this.cut = undefined;
    this.changes = undefined;
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((done) => this.server.close(done));
  }

  private serve(request: IncomingMessage, response: ServerResponse): void {
    const path = request.url ?? "/";
    if (this.cut?.test(path)) {
      request.socket.destroy();
      return;
    }
    this.open.add(response);
    response.once("close", () => this.open.delete(response));
    const headers = { ...request.headers, host: new URL(this.upstream).host };
    const changes = this.changes?.path.test(path) ? this.changes : undefined;
    // A changed body must be read whole, so it must not come compressed.
    if (changes) Object.assign(headers, { "accept-encoding": "identity" });
    const onward = ask(`${this.upstream}${path}`, { method: request.method, headers }, (answer) => {
      if (!changes) {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(response);
        answer.once("error", () => response.destroy());
        return;
      }
      const parts: Buffer[] = [];
      answer.on("data", (part: Buffer) => parts.push(part));
      answer.once("end", () => {
        const body = changes.rewrite(path, Buffer.concat(parts));
        const { "content-length": _length, "transfer-encoding": _encoding, ...kept } = answer.headers;
        response.writeHead(answer.statusCode ?? 502, { ...kept, "content-length": body.length });
        response.end(body);
      });
    });
    onward.once("error", () => response.destroy());
    response.once("close", () => onward.destroy());
    request.pipe(onward);
  }
}
