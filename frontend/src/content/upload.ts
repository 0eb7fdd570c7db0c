/** Uploads whose CID was proven: it names the bytes that were sent, and no others. */
import { ApiDown, OtherBytes } from "../api/client";
import { type Bytes, type Cid, CODEC_RAW, isNamed, parseCid } from "./cid";
import { readBlock } from "./unixfs";
import { gateway, MAX_BLOCK_BYTES, type Source } from "./verify";

const BLOCK_MS = 20_000;
const MOST_BLOCKS = 1_024;

/**
 * What `upload` answers, once its CID is proven to name `sent`. Parts of the file are hashed here, so no more is fetched
 * from the API at `base` than the few blocks that list them. Throws OtherBytes, ApiDown, and what `upload` throws.
 */
export async function checkedUpload<T extends { cid: string }>(
  base: string,
  sent: Bytes,
  upload: () => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  const answer = await upload();
  let same: boolean;
  try {
    same = await new Proof(gateway(base, "API"), signal).holds(parseCid(answer.cid), sent);
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof ApiDown) throw error;
    throw new OtherBytes(`${answer.cid} cannot be read`, { cause: error });
  }
  if (!same) throw new OtherBytes(`${answer.cid} names other bytes than were sent`);
  return answer;
}

class Proof {
  private fetched = 0;

  constructor(
    private readonly source: Source,
    private readonly signal: AbortSignal | undefined,
  ) {}

  /** Whether the file that the CID names is exactly these bytes. */
  async holds(cid: Cid, bytes: Bytes): Promise<boolean> {
    if (cid.codec === CODEC_RAW) return isNamed(cid, bytes);
    const block = await this.block(cid);
    if (!(await isNamed(cid, block))) return false;
    const { payload, children, size } = readBlock(cid, block);
    if (size !== bytes.length || !payload.every((byte, i) => byte === bytes[i])) return false;
    let at = payload.length;
    for (const child of children) {
      if (!(await this.holds(child.cid, bytes.subarray(at, at + child.size)))) return false;
      at += child.size;
    }
    return true;
  }

  private async block(cid: Cid): Promise<Bytes> {
    this.fetched += 1;
    if (this.fetched > MOST_BLOCKS) throw new Error(`more than ${MOST_BLOCKS} blocks list the parts of one file`);
    const late = AbortSignal.timeout(BLOCK_MS);
    try {
      return await this.source.block(cid, MAX_BLOCK_BYTES, this.signal ? AbortSignal.any([this.signal, late]) : late);
    } catch (error) {
      this.signal?.throwIfAborted();
      throw new ApiDown(`The API does not deliver ${cid.text}`, { cause: error });
    }
  }
}
