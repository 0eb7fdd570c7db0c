import {
  type Address,
  createPublicClient,
  createWalletClient,
  custom,
  domainSeparator,
  encodeAbiParameters,
  encodeEventTopics,
  type Hex,
  type PublicClient,
  recoverTypedDataAddress,
  verifyTypedData,
  serializeSignature,
  toHex,
  type TransactionReceipt,
} from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { beforeEach, describe, expect, test, vi } from "vitest";

import { ApiDown, type ApiClient, ApiProblem, OtherBytes, type Wish } from "../api/client";
import type { Config, Model } from "../api/types";
import { cidOfBytes, sha256 } from "../content/cid";
import { bytesOf } from "../content/golden";
import "../test/files";
import { coordinatorAbi } from "./abi";
import { type Call, transact, walletOf } from "./actions";
import { ask, type Asker, type AskStep, type Order, PriceRose, requestIn } from "./ask";
import { troubleOf } from "./errors";

vi.mock("./actions", async (original) => ({
  ...(await original<typeof import("./actions")>()),
  transact: vi.fn(),
  walletOf: vi.fn(),
}));

const PERSON = privateKeyToAccount(`0x${"11".repeat(32)}`);
const COORDINATOR: Address = "0x00000000000000000000000000000000000000c0";
const TOKEN: Address = "0x00000000000000000000000000000000000000e0";
const CID = "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG";
const ID: Hex = `0x${"5e".repeat(32)}`;
const PRICE = 1_000n;
const PERMIT_DOMAIN = { name: "Plain", version: "1", chainId: 31_337, verifyingContract: TOKEN } as const;

/** What the double of the chain answers, by function. */
let reads: Record<string, unknown>;
let timestamp: bigint;
/** Transactions that were asked for, and what happens to them. */
let sent: Call[];
let outcome: "mined" | "cancelled";
/** What happens on the chain while somebody thinks over an approval. */
let meanwhile: () => void;

const uploads = vi.fn<ApiClient["upload"]>();
const wishes = vi.fn<ApiClient["wish"]>();

function receipt(requester: Address = PERSON.address, address: Address = COORDINATOR): TransactionReceipt {
  const topics = encodeEventTopics({
    abi: coordinatorAbi,
    eventName: "InferenceRequested",
    args: { requestId: ID, modelId: 1n, requester },
  });
  const data = encodeAbiParameters(
    [{ type: "bytes" }, { type: "uint256" }, { type: "uint256" }, { type: "uint256" }, { type: "uint256" }],
    ["0x1220", PRICE, 0n, 9n, 0n],
  );
  return { status: "success", transactionHash: ID, logs: [{ address, topics, data }] } as unknown as TransactionReceipt;
}

beforeEach(() => {
  reads = { quote: PRICE, allowance: 0n };
  timestamp = 1_000n;
  sent = [];
  outcome = "mined";
  meanwhile = () => undefined;
  refusal = null;
  uploads.mockReset();
  wishes.mockReset().mockResolvedValue();
  vi.mocked(transact).mockImplementation((_, call, progress) => {
    sent.push(call);
    if (call.functionName === "approve") meanwhile();
    for (const step of ["simulating", "signing", "mining"] as const) progress.step(step);
    return Promise.resolve(
      outcome === "mined" ? { kind: "mined", receipt: receipt(), repriced: false } : { kind: outcome, hash: ID },
    );
  });
  signing((typed) => PERSON.signTypedData(JSON.parse(typed) as never));
});

/** The wallet, and what it answers when it shall sign typed data. */
function signing(answer: (typed: string) => Promise<Hex>): void {
  const request = ({ method, params }: { method: string; params: [Address, string] }) => {
    expect(method).toBe("eth_signTypedData_v4");
    return answer(params[1]);
  };
  const wallet = createWalletClient({ account: PERSON.address, transport: custom({ request }, { retryCount: 0 }) });
  vi.mocked(walletOf).mockResolvedValue(wallet as never);
}
const refusing = (code: number) => () => Promise.reject(Object.assign(new Error("no"), { code }));

const cidOf = async (text: string) =>
  cidOfBytes(Uint8Array.from([1, 0x55, 0x12, 0x20, ...(await sha256(bytesOf(text)))]));

const client = {
  readContract: ({ functionName }: { functionName: string }) =>
    functionName in reads ? Promise.resolve(reads[functionName]) : Promise.reject(new Error(`no ${functionName}`)),
  getBlock: () => Promise.resolve({ timestamp }),
  simulateContract: (call: Call) => node.simulateContract({ ...call, account: PERSON.address }),
} as unknown as PublicClient;

/** What the node says to a call that is tried; null when it works. */
let refusal: unknown = null;
const node = createPublicClient({
  transport: custom(
    {
      // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- nodes answer with plain objects
      request: () => (refusal === null ? Promise.resolve("0x") : Promise.reject(refusal)),
    },
    { retryCount: 0 },
  ),
});

async function asking(order: Partial<Order> = {}, token: Address | null = null) {
  const steps: AskStep[] = [];
  let all: readonly AskStep[] = [];
  const config = { coordinator: COORDINATOR, chain_id: 31_337, cancel_window: 30 } as Config;
  const api = { base: "http://api.test", upload: uploads, wish: wishes } as unknown as ApiClient;
  const asker = { client, account: PERSON.address, chainId: 31_337, config, api } as Asker;
  const model = { id: 1, token } as Model;
  const asked = ask(
    asker,
    { model, picture: { kind: "cid", cid: CID }, provider: null, fromBalance: false, price: PRICE, ...order },
    {
      step: (step, planned) => {
        steps.push(step);
        all = [...planned];
      },
      sent: () => undefined,
      note: () => undefined,
      late: () => undefined,
    },
    new AbortController().signal,
  );
  const [result] = await Promise.allSettled([asked]);
  return { result, steps, all };
}

describe("asking", () => {
  test("given ether and a CID, when asked, then one transaction pays the quote, and its request is the end", async () => {
    const { result, steps, all } = await asking();
    expect(result).toEqual({ status: "fulfilled", value: { kind: "asked", id: ID } });
    expect(sent).toHaveLength(1);
    expect(sent[0]).toMatchObject({ functionName: "request", value: PRICE, address: COORDINATOR });
    expect(steps).toEqual(["quoting", "simulating", "signing", "mining"]);
    expect(all).toEqual(steps);
    expect(uploads).not.toHaveBeenCalled();
  });

  test("given a file, when asked, then it is uploaded once, and its CID is proven before anything is paid", async () => {
    const picture = { kind: "file", blob: new Blob(["x"]), name: "x.png" } as const;
    const upload = { bytes: 1, format: "PNG", width: 1, height: 1 };
    uploads.mockResolvedValue({ ...upload, cid: (await cidOf("y")).text });
    const { result, steps } = await asking({ picture });
    expect(result.status === "rejected" && result.reason).toBeInstanceOf(OtherBytes);
    expect(steps).toEqual(["uploading"]);
    expect(sent).toEqual([]);

    const cid = await cidOf("x");
    uploads.mockResolvedValue({ ...upload, cid: cid.text });
    await asking({ picture });
    expect(sent[0]?.args[1]).toBe(toHex(cid.bytes));
    await asking({ picture });
    expect(sent).toHaveLength(2);
    expect(uploads, "the same picture is not sent twice").toHaveBeenCalledTimes(2);
  });

  test("given a price that rose since it was shown, when asked, then nothing is paid, and it reads as too low", async () => {
    reads.quote = PRICE + 1n;
    const { result } = await asking();
    const reason: unknown = result.status === "rejected" ? result.reason : null;
    expect(reason).toBeInstanceOf(PriceRose);
    expect(troubleOf(reason)).toMatchObject({ kind: "reverted", name: "PaymentTooLow" });
    expect(sent).toEqual([]);
  });

  test("given a chain whose clock runs ahead, when asked, then the deadline goes by the chain", async () => {
    timestamp = 10_000_000_000n;
    await asking();
    expect(sent[0]?.args[3]).toBe(timestamp + 630n);
    timestamp = 1_000n;
    const now = BigInt(Math.floor(Date.now() / 1000));
    await asking();
    expect(Number((sent[1]?.args[3] as bigint) - now)).toBeGreaterThanOrEqual(630);
    expect(Number((sent[1]?.args[3] as bigint) - now)).toBeLessThan(640);
  });

  test("given an approval that takes long, when it is mined, then the deadline counts from then", async () => {
    timestamp = 10_000_000_000n;
    meanwhile = () => (timestamp += 900n);
    await asking({}, TOKEN);
    expect(sent.map((call) => call.functionName)).toEqual(["approve", "requestWithToken"]);
    expect(sent[1]?.args[3]).toBe(10_000_000_900n + 630n);
  });

  test("given a payment that is cancelled in the wallet, when asked, then that is the end, and no request", async () => {
    outcome = "cancelled";
    expect((await asking()).result).toEqual({ status: "fulfilled", value: { kind: "cancelled", hash: ID } });
  });

  test("given money at the contract, when it is to be used, then the balance pays, whatever the token", async () => {
    await asking({ fromBalance: true }, TOKEN);
    expect(sent[0]).toMatchObject({ functionName: "requestFromBalance", value: 0n });
    expect(sent[0]?.args.at(-1)).toBe(PRICE);
  });
});

describe("asking a model that is priced in a token", () => {
  test("given an allowance, when asked, then it alone is used", async () => {
    reads.allowance = PRICE;
    const { steps } = await asking({}, TOKEN);
    expect(sent.map((call) => call.functionName)).toEqual(["requestWithToken"]);
    expect(steps).not.toContain("permitting");
  });

  test("given a token with permits, when asked, then one signature over exactly the price goes with the request", async () => {
    Object.assign(reads, { DOMAIN_SEPARATOR: domainSeparator({ domain: PERMIT_DOMAIN }), name: "Plain", nonces: 7n });
    const { all } = await asking({}, TOKEN);
    expect(all).toEqual(["quoting", "permitting", "simulating", "signing", "mining"]);
    expect(sent.map((call) => call.functionName)).toEqual(["requestWithPermit"]);
    const permit = sent[0]?.args[5] as { deadline: bigint; v: number; r: Hex; s: Hex };
    const signer = await recoverTypedDataAddress({
      domain: PERMIT_DOMAIN,
      primaryType: "Permit",
      types: {
        Permit: [
          { name: "owner", type: "address" },
          { name: "spender", type: "address" },
          { name: "value", type: "uint256" },
          { name: "nonce", type: "uint256" },
          { name: "deadline", type: "uint256" },
        ],
      },
      message: { owner: PERSON.address, spender: COORDINATOR, value: PRICE, nonce: 7n, deadline: permit.deadline },
      signature: serializeSignature({ r: permit.r, s: permit.s, yParity: permit.v - 27 }),
    });
    expect(signer).toBe(PERSON.address);
  });

  test.each([
    ["without permits", {}],
    ["whose domain is not what it states", { DOMAIN_SEPARATOR: ID, name: "Plain", nonces: 0n }],
  ])("given a token %s, when asked, then exactly the price is approved first", async (_, more) => {
    Object.assign(reads, more);
    const { all } = await asking({}, TOKEN);
    expect(all).toEqual(["quoting", "approving", "allowing", "simulating", "signing", "mining"]);
    expect(sent.map((call) => [call.address, call.functionName])).toEqual([
      [TOKEN, "approve"],
      [COORDINATOR, "requestWithToken"],
    ]);
    expect(sent[0]?.args).toEqual([COORDINATOR, PRICE]);
  });

  test.each([
    ["by anvil's words", { code: 3, message: "execution reverted", data: "0x" }],
    ["without a reason", { code: -32000, message: "execution reverted" }],
    ["with one", { code: 3, message: "execution reverted: approve from non-zero", data: "0x08c379a0" }],
  ])("given a token that refuses to change a permission %s, when asked, then the old one is taken back first", async (_, said) => {
    reads.allowance = 1n;
    refusal = said;
    const { result, steps, all } = await asking({}, TOKEN);
    expect(result.status).toBe("fulfilled");
    expect(all).toEqual([
      "quoting",
      "revoking",
      "clearing",
      "approving",
      "allowing",
      "simulating",
      "signing",
      "mining",
    ]);
    expect(steps).toEqual(all);
    expect(sent.map((call) => [call.functionName, call.args.at(-1)])).toEqual([
      ["approve", 0n],
      ["approve", PRICE],
      ["requestWithToken", PRICE],
    ]);
  });

  test("given a token that lets a permission be changed, when asked, then one approval is enough", async () => {
    reads.allowance = 1n;
    await asking({}, TOKEN);
    expect(sent.map((call) => call.functionName)).toEqual(["approve", "requestWithToken"]);
  });

  test("given a node that fails while an approval is tried, when asked, then no permission is taken back for it", async () => {
    reads.allowance = 1n;
    refusal = Object.assign(new Error("fetch failed"), { name: "HttpRequestError" });
    const { result } = await asking({}, TOKEN);
    expect(result.status).toBe("rejected");
    expect(sent).toEqual([]);
  });

  test("given no permission yet, when asked, then there is nothing to take back", async () => {
    refusal = { code: 3, message: "execution reverted", data: "0x" };
    await asking({}, TOKEN);
    expect(sent.map((call) => call.functionName)).toEqual(["approve", "requestWithToken"]);
  });

  test("given a wallet that cannot sign permits, when asked, then an approval does", async () => {
    Object.assign(reads, { DOMAIN_SEPARATOR: domainSeparator({ domain: PERMIT_DOMAIN }), name: "Plain", nonces: 0n });
    signing(refusing(4200));
    const { all } = await asking({}, TOKEN);
    expect(all).not.toContain("permitting");
    expect(sent.map((call) => call.functionName)).toEqual(["approve", "requestWithToken"]);
  });

  test("given a permit that is declined, when asked, then nothing else is asked for", async () => {
    Object.assign(reads, { DOMAIN_SEPARATOR: domainSeparator({ domain: PERMIT_DOMAIN }), name: "Plain", nonces: 0n });
    signing(refusing(4001));
    const { result } = await asking({}, TOKEN);
    expect(troubleOf(result.status === "rejected" ? result.reason : null).kind).toBe("declined");
    expect(sent).toEqual([]);
  });
});

describe("choosing a provider", () => {
  const said = () => wishes.mock.calls.map(([wish]) => wish);
  const signed = ({ requester, imageCid, provider, signedAt, signature }: Wish) =>
    verifyTypedData({
      address: PERSON.address,
      domain: { name: "Sibyl", version: "1", chainId: 31_337, verifyingContract: COORDINATOR },
      primaryType: "Wish",
      types: {
        Wish: [
          { name: "requester", type: "address" },
          { name: "image", type: "string" },
          { name: "provider", type: "string" },
          { name: "signedAt", type: "uint256" },
        ],
      },
      message: { requester: requester as Address, image: imageCid, provider, signedAt: BigInt(signedAt) },
      signature: signature as Hex,
    });

  test("given a provider, when asked, then the choice is signed and said when the price is known and nothing paid", async () => {
    const { steps, all } = await asking({ provider: "oak" }, TOKEN);
    expect(steps).toEqual(["quoting", "choosing", "approving", "allowing", "simulating", "signing", "mining"]);
    expect(all).toEqual(steps);
    expect(said()).toEqual([
      expect.objectContaining({ requester: PERSON.address, imageCid: CID, provider: "oak" }),
    ]);
    const [wish] = said();
    if (!wish) throw new Error("nothing was said");
    expect(await signed(wish)).toBe(true);
    expect(await signed({ ...wish, provider: "elm" })).toBe(false);
    expect(Math.abs(wish.signedAt - Date.now() / 1000)).toBeLessThan(5);
  });

  test("given the same words, when they are signed here, then it is what the oracle's own Python signs", async () => {
    vi.useFakeTimers({ toFake: ["Date"], now: 1_700_000_000_999 });
    try {
      await asking({ provider: "oak" });
    } finally {
      vi.useRealTimers();
    }
    expect(said()[0]).toMatchObject({
      signedAt: 1_700_000_000,
      signature:
        "0x0863f1d3478da7df1bca98ed3393e40d5d2150a1aa2a936f4df389814732496c30f583fe5d00c822f08cbd1915e0e00f188bf7c6466429d8376295526ddb40eb1b",
    });
  });

  test("given a price that rose, when a provider was chosen, then nothing is signed", async () => {
    reads.quote = PRICE + 1n;
    await asking({ provider: "oak" });
    expect(said()).toEqual([]);
  });

  test("given a contract's wallet, when its signature is long, then it is passed on as it is", async () => {
    const long: Hex = `0x${"ab".repeat(400)}`;
    signing(() => Promise.resolve(long));
    const { result } = await asking({ provider: "oak" });
    expect(said()[0]?.signature).toBe(long);
    expect(result.status).toBe("fulfilled");
  });

  test("given somebody who declines to sign, when asked, then nothing is said or paid, and without a provider it goes on", async () => {
    signing(refusing(4001));
    const { result, steps } = await asking({ provider: "oak" }, TOKEN);
    expect(troubleOf(result.status === "rejected" ? result.reason : null).kind).toBe("declined");
    expect(steps.at(-1)).toBe("choosing");
    expect(said()).toEqual([]);
    expect(sent).toEqual([]);
    expect((await asking()).all).not.toContain("choosing");
    expect(sent).toHaveLength(1);
  });

  test("given a provider that was chosen, when the same picture is asked about without one, then the choice is taken back once", async () => {
    await asking({ provider: "oak" });
    const { all } = await asking();
    expect(all).toEqual(["quoting", "choosing", "simulating", "signing", "mining"]);
    expect(said().map(({ provider }) => provider)).toEqual(["oak", ""]);
    expect(await signed(said()[1] as Wish)).toBe(true);
    expect((await asking()).all).not.toContain("choosing");
    expect(sent).toHaveLength(3);
  });

  test.each([
    ["another picture is asked about", cidOfBytes(Uint8Array.from([0x12, 0x20, ...bytesOf("x".repeat(32))])).text, 0],
    ["an hour has gone by", CID, 3_600_001],
  ])("given a provider that was chosen, when %s, then nothing is taken back", async (_, cid, later) => {
    await asking({ provider: "oak" });
    vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + later });
    try {
      expect((await asking({ picture: { kind: "cid", cid } })).all).not.toContain("choosing");
    } finally {
      vi.useRealTimers();
    }
  });

  test("given an API that refuses the choice, or does not answer, when asked, then nothing is paid, and only what may stand is taken back", async () => {
    wishes.mockRejectedValueOnce(new ApiProblem(409, "Unknown", "", "", "unknown-provider"));
    const refused = await asking({ provider: "oak" });
    expect(refused.result).toMatchObject({ status: "rejected", reason: { name: "ApiProblem" } });
    expect(refused.steps.at(-1)).toBe("choosing");
    expect((await asking()).all).not.toContain("choosing");

    sent = [];
    wishes.mockRejectedValueOnce(new ApiDown("down"));
    expect((await asking({ provider: "oak" })).result).toMatchObject({ reason: { name: "ApiDown" } });
    expect(sent).toEqual([]);
    expect((await asking()).all).toContain("choosing");
  });
});

test("given logs of other contracts and other people, when the request is looked for, then only one's own counts", () => {
  expect(requestIn(receipt(), COORDINATOR, PERSON.address)).toBe(ID);
  expect(() => requestIn(receipt(PERSON.address, TOKEN), COORDINATOR, PERSON.address)).toThrow("made no request");
  expect(() => requestIn(receipt(TOKEN), COORDINATOR, PERSON.address)).toThrow("made no request");
});
