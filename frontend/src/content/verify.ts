/** Files by CID from places that nobody has to trust: every block is hashed here before a byte of it is used. */
import { isNamed, type Bytes, type Cid } from "./cid";
import { Malformed, readBlock } from "./unixfs";

/** Blocks travel up to 2 MiB; the rest is room for odd writers. */
export const MAX_BLOCK_BYTES = 4 * 1024 * 1024;

const AT_ONCE = 4;
const MAX_BLOCKS = 4096;
const MAX_DEPTH = 32;
const BLOCK_MS = 20_000;

/** A place that may have a block. */
export interface Source {
  /** For people: the host, or what it is. */
  readonly name: string;
  /** The bytes that it sends as this block, at most `limit`. Throws when it has none. */
  block(cid: Cid, limit: number, signal: AbortSignal): Promise<Bytes>;
}

/** Nobody has the bytes, at least not now. */
export class Unavailable extends Error {
  override name = "Unavailable";
}

/** Whoever was asked sent other bytes than the CID names. `liars` are their names. */
export class WrongBytes extends Error {
  override name = "WrongBytes";
  constructor(
    readonly cid: Cid,
    readonly liars: readonly string[],
  ) {
    super(`${liars.join(", ")} sent other bytes than ${cid.text} names`);
  }
}

/** The file is larger than anybody wants to have here. */
export class TooLarge extends Error {
  override name = "TooLarge";
}

/** How to fetch. */
export interface FetchOptions {
  readonly signal?: AbortSignal;
  /** Told of every place that sent other bytes, also when another place had the right ones. */
  readonly onWrong?: (source: string) => void;
}

/** A gateway of HTTP, at whose `/ipfs/CID?format=raw` single blocks lie (the trustless gateway specification). */
export function gateway(base: string, name?: string): Source {
  const root = base.replace(/\/+$/, "");
  return {
    name: name ?? hostOf(root),
    async block(cid, limit, signal) {
      const answer = await fetch(`${root}/ipfs/${cid.text}?format=raw`, {
        headers: { Accept: "application/vnd.ipld.raw" },
        credentials: "omit",
        referrerPolicy: "no-referrer",
        signal,
      });
      if (!answer.ok) throw new Unavailable(`${name ?? hostOf(root)} answers ${answer.status}`);
      return readBody(answer, limit);
    },
  };
}

/**
 * The file that a CID names, of at most `limit` bytes, each block from the first source that has the right one.
 *
 * Throws WrongBytes when all that came was false, Unavailable when nothing came, TooLarge, and Malformed for a CID that
 * names no file.
 */
export async function fetchVerified(
  cid: Cid,
  sources: readonly Source[],
  limit: number,
  options: FetchOptions = {},
): Promise<Bytes> {
  const walk = new Walk(sources, options);
  const pieces = await walk.file(cid, limit);
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

class Walk {
  private blocks = 0;
  private failed = false;
  private running = 0;
  private readonly waiting: (() => void)[] = [];
  /** Places that lied once are asked last from then on. */
  private readonly liars = new Set<string>();

  constructor(
    private readonly sources: readonly Source[],
    private readonly options: FetchOptions,
  ) {}

  async file(cid: Cid, limit: number): Promise<Bytes[]> {
    const root = readBlock(cid, await this.verified(cid));
    if (root.size > limit) throw new TooLarge(`the file has ${root.size} bytes, more than ${limit}`);
    return this.below(root, 0);
  }

  private async below(node: ReturnType<typeof readBlock>, depth: number): Promise<Bytes[]> {
    if (depth === MAX_DEPTH) throw new Malformed(`a file of more than ${MAX_DEPTH} levels`);
    const parts = await Promise.all(
      node.children.map(async ({ cid, size }) => {
        const child = readBlock(cid, await this.verified(cid));
        if (child.size !== size) throw new Malformed(`a child of ${child.size} bytes where ${size} are declared`);
        return this.below(child, depth + 1);
      }),
    );
    return [node.payload, ...parts.flat()];
  }

  private async verified(cid: Cid): Promise<Bytes> {
    this.blocks += 1;
    if (this.blocks > MAX_BLOCKS) throw new Malformed(`a file of more than ${MAX_BLOCKS} blocks`);
    await this.turn();
    try {
      if (this.failed) throw new Unavailable("another block of the file was not to be had");
      return await this.fromAnyone(cid);
    } catch (error) {
      this.failed = true;
      throw error;
    } finally {
      this.running -= 1;
      this.waiting.shift()?.();
    }
  }

  private async turn(): Promise<void> {
    while (this.running >= AT_ONCE) await new Promise<void>((go) => this.waiting.push(go));
    this.running += 1;
  }

  private async fromAnyone(cid: Cid): Promise<Bytes> {
    const wrong: string[] = [];
    const missing: string[] = [];
    const honest = (source: Source) => (this.liars.has(source.name) ? 1 : 0);
    for (const source of [...this.sources].sort((a, b) => honest(a) - honest(b))) {
      this.options.signal?.throwIfAborted();
      let data: Bytes;
      try {
        data = await source.block(cid, MAX_BLOCK_BYTES, patience(this.options.signal));
      } catch (error) {
        this.options.signal?.throwIfAborted();
        // Nobody sends more than was asked for by mistake, least of all a block.
        if (error instanceof TooLarge) wrong.push(source.name);
        else missing.push(`${source.name}: ${error instanceof Error ? error.message : String(error)}`);
        continue;
      }
      if (await isNamed(cid, data)) return data;
      wrong.push(source.name);
      if (!this.liars.has(source.name)) {
        this.liars.add(source.name);
        this.options.onWrong?.(source.name);
      }
    }
    if (wrong.length > 0) throw new WrongBytes(cid, wrong);
    throw new Unavailable(missing.length > 0 ? missing.join("; ") : "nobody was asked");
  }
}

function patience(signal: AbortSignal | undefined): AbortSignal {
  const late = AbortSignal.timeout(BLOCK_MS);
  return signal === undefined ? late : AbortSignal.any([signal, late]);
}

async function readBody(answer: Response, limit: number): Promise<Bytes> {
  if (Number(answer.headers.get("Content-Length") ?? 0) > limit) throw new TooLarge(`more than ${limit} bytes`);
  if (answer.body === null) return new Uint8Array(await answer.arrayBuffer());
  const reader = answer.body.getReader();
  const pieces: Uint8Array[] = [];
  let length = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    length += value.length;
    if (length > limit) {
      await reader.cancel();
      throw new TooLarge(`more than ${limit} bytes`);
    }
    pieces.push(value);
  }
  const whole = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

function hostOf(base: string): string {
  try {
    return new URL(base, location.href).host;
  } catch {
    return base;
  }
}
