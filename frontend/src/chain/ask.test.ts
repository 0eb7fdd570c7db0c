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
  serializeSignature,
  type TransactionReceipt,
} from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { beforeEach, describe, expect, test, vi } from "vitest";

import { ApiDown, type ApiClient } from "../api/client";
import type { Config, Model } from "../api/types";
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
  refusal = null;
  uploads.mockReset().mockResolvedValue({ cid: CID, bytes: 1, format: "PNG", width: 1, height: 1 });
  wishes.mockReset().mockResolvedValue();
  vi.mocked(transact).mockImplementation((_, call, progress) => {
    sent.push(call);
    for (const step of ["simulating", "signing", "mining"] as const) progress.step(step);
    return Promise.resolve(
      outcome === "mined" ? { kind: "mined", receipt: receipt(), repriced: false } : { kind: outcome, hash: ID },
    );
  });
  const wallet = createWalletClient({
    account: PERSON.address,
    transport: custom({
      request: ({ method, params }: { method: string; params: [Address, string] }) => {
        expect(method).toBe("eth_signTypedData_v4");
        return PERSON.signTypedData(JSON.parse(params[1]) as never);
      },
    }),
  });
  vi.mocked(walletOf).mockResolvedValue(wallet as never);
});

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

  test("given a file and a provider, when asked, then it is uploaded and the wish noted before anything is paid", async () => {
    const order = { picture: { kind: "file", blob: new Blob(["x"]), name: "x.png" }, provider: "oak" } as const;
    const { steps } = await asking(order);
    expect(steps.slice(0, 3)).toEqual(["uploading", "wishing", "quoting"]);
    expect(wishes.mock.calls[0]?.[0]).toEqual({ requester: PERSON.address, imageCid: CID, provider: "oak" });
    await asking(order);
    expect(uploads, "the same picture is not sent twice").toHaveBeenCalledTimes(1);
  });

  test("given an API that does not take the wish, when asked, then nothing is paid", async () => {
    wishes.mockRejectedValue(new ApiDown("down"));
    const { result, steps } = await asking({ provider: "oak" });
    expect(result).toMatchObject({ status: "rejected", reason: { name: "ApiDown" } });
    expect(steps.at(-1)).toBe("wishing");
    expect(sent).toEqual([]);
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
    expect(steps).toEqual(["quoting", "approving", ...all.slice(1)]);
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
    const mute = createWalletClient({
      account: PERSON.address,
      transport: custom({ request: () => Promise.reject(Object.assign(new Error("unsupported"), { code: 4200 })) }, { retryCount: 0 }),
    });
    vi.mocked(walletOf).mockResolvedValue(mute as never);
    const { all } = await asking({}, TOKEN);
    expect(all).not.toContain("permitting");
    expect(sent.map((call) => call.functionName)).toEqual(["approve", "requestWithToken"]);
  });

  test("given a permit that is declined, when asked, then nothing else is asked for", async () => {
    Object.assign(reads, { DOMAIN_SEPARATOR: domainSeparator({ domain: PERMIT_DOMAIN }), name: "Plain", nonces: 0n });
    const refusing = createWalletClient({
      account: PERSON.address,
      transport: custom({ request: () => Promise.reject(Object.assign(new Error("no"), { code: 4001 })) }),
    });
    vi.mocked(walletOf).mockResolvedValue(refusing as never);
    const { result } = await asking({}, TOKEN);
    expect(troubleOf(result.status === "rejected" ? result.reason : null).kind).toBe("declined");
    expect(sent).toEqual([]);
  });
});

test("given logs of other contracts and other people, when the request is looked for, then only one's own counts", () => {
  expect(requestIn(receipt(), COORDINATOR, PERSON.address)).toBe(ID);
  expect(() => requestIn(receipt(PERSON.address, TOKEN), COORDINATOR, PERSON.address)).toThrow("made no request");
  expect(() => requestIn(receipt(TOKEN), COORDINATOR, PERSON.address)).toThrow("made no request");
});
