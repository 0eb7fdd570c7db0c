import type { Hash, PublicClient } from "viem";
import { writeContract } from "viem/actions";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { getConnection, getConnectorClient } from "wagmi/actions";

import { coordinatorAbi } from "./abi";
import { type Actor, type Call, transact } from "./actions";
import { Unfollowed } from "./errors";
import { follow, type Watched } from "./follow";

vi.mock("viem/actions", async (original) => ({ ...(await original<object>()), writeContract: vi.fn() }));
vi.mock("wagmi/actions", async (original) => ({
  ...(await original<object>()),
  getConnection: vi.fn(),
  getConnectorClient: vi.fn(),
}));
vi.mock("./follow", () => ({ follow: vi.fn() }));

const ACCOUNT = "0x00000000000000000000000000000000000000a1";
const HASH: Hash = `0x${"1".repeat(64)}`;
const CALL: Call = {
  address: "0x00000000000000000000000000000000000000c0",
  abi: coordinatorAbi,
  functionName: "refund",
  args: [HASH],
};
let latest: number;

function actor(): Actor {
  const client = {
    getBlockNumber: () => Promise.resolve(10n),
    getTransactionCount: ({ blockTag }: { blockTag: string }) => Promise.resolve(blockTag === "pending" ? 4 : latest),
    simulateContract: () => Promise.resolve({}),
  } as unknown as PublicClient;
  return { wagmi: {} as Actor["wagmi"], client, account: ACCOUNT, chainId: 31_337 };
}

async function sentBy(): Promise<{ kept: Watched[]; end: Promise<unknown> }> {
  const kept: Watched[] = [];
  const progress = { step: () => undefined, note: () => undefined, sent: (watched: Watched) => kept.push(watched) };
  const end = transact(actor(), CALL, progress, new AbortController().signal);
  await end.catch(() => undefined);
  return { kept, end };
}

beforeEach(() => {
  latest = 4;
  vi.mocked(getConnection).mockReturnValue({ address: ACCOUNT } as never);
  vi.mocked(getConnectorClient).mockResolvedValue({ chain: null } as never);
  vi.mocked(writeContract).mockResolvedValue(HASH);
  vi.mocked(follow).mockResolvedValue({ kind: "cancelled", hash: HASH });
});

describe("one transaction", () => {
  test("given others of the account that were mined while the wallet asked, when sent, then they are not taken for it", async () => {
    latest = 6;
    const { kept } = await sentBy();
    expect(vi.mocked(follow).mock.lastCall?.[1]).toMatchObject({ nonce: 4, before: 6 });
    expect(kept.at(-1)).toMatchObject({ nonce: 4, before: 6 });
    latest = 4;
    await sentBy();
    expect(vi.mocked(follow).mock.lastCall?.[1].before).toBeUndefined();
  });

  test("given a network that stops answering, when it was sent, then nobody is told that nothing was paid", async () => {
    vi.mocked(follow).mockRejectedValue(new Error("no connection"));
    const { kept, end } = await sentBy();
    await expect(end).rejects.toBeInstanceOf(Unfollowed);
    expect(kept).toHaveLength(1);
  });
});
