import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { act, fireEvent, render, screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { ApiClient, ApiDown } from "../../api/client";
import { type Configured, ConfigProvider } from "../../api/config";
import type { Watcher } from "../../api/events";
import type { Config, RequestView } from "../../api/types";
import type { TransactionState } from "../../chain/actions";
import { coordinatorAbi } from "../../chain/abi";
import type { ChainRequest } from "../../chain/requests";
import { encodeFunctionResult, getAbiItem, toFunctionSelector, type TransactionReceipt, zeroAddress } from "viem";

import { NoRpc } from "../../chain/wagmi";
import { bytesOf, golden } from "../../content/golden";
import { WordsProvider } from "../../words";
import { AT, chainOf, hexOf, ID, type Kind, viewOf } from "./fixtures";
import RequestPage from ".";

const stub = vi.hoisted(() => ({
  watcher: null as Watcher | null,
  chain: null as ChainRequest | Error | null,
  account: undefined as string | undefined,
  /** What the connected wallet's own endpoint answers. */
  wallet: null as ((method: string) => Promise<unknown>) | null,
  run: vi.fn(() => Promise.resolve(null)),
  /** What the chain's endpoint answers to a call. */
  contract: null as ((call: Reading) => Promise<string>) | null,
  /** How far the transaction is. */
  state: null as TransactionState | null,
  wrong: false,
  mend: vi.fn(),
  connect: vi.fn(),
}));

vi.mock("../../api/events", () => ({
  watchRequest: (_base: string, _id: string, watcher: Watcher) => {
    stub.watcher = watcher;
    return () => undefined;
  },
}));
vi.mock("../../chain/client", () => ({ publicClient: () => ({ request: (call: Reading) => stub.contract?.(call) }) }));
vi.mock("../../chain/requests", async (original) => ({
  ...(await original<typeof import("../../chain/requests")>()),
  readRequest: () => (stub.chain instanceof Error ? Promise.reject(stub.chain) : Promise.resolve(stub.chain)),
}));
vi.mock("../../chain/actions", async (original) => ({
  ...(await original<typeof import("../../chain/actions")>()),
  useTransaction: () => ({ state: stub.state ?? { step: "idle" }, running: false, run: stub.run, reset: () => undefined }),
}));
vi.mock("../../wallet/use-wallet", () => ({
  useWallet: () => ({
    address: stub.account ?? null,
    right: stub.account !== undefined && !stub.wrong,
    mend: stub.mend,
    connect: stub.connect,
    mending: false,
    mendProblem: null,
  }),
}));
vi.mock("wagmi", async (original) => ({
  ...(await original<typeof import("wagmi")>()),
  useConnection: () => ({
    address: stub.account,
    ...(stub.wallet && {
      status: "connected",
      chainId: 31337,
      connector: {
        uid: "wallet",
        getProvider: () => Promise.resolve({ request: ({ method }: { method: string }) => stub.wallet?.(method) }),
      },
    }),
  }),
}));

interface Reading {
  method: string;
  params?: unknown;
}

const MANIFEST = "bafkreiafwov7ev42l23gia6npc7fk76ymbrtuh7cca6hmqqdbxx6gldfp4";

/** A registry in which every model has this manifest. */
function registry(manifest: string): Promise<string> {
  const nobody = zeroAddress;
  const result = { publisher: nobody, payout: nobody, token: nobody, active: true, price: 1n, publisherShare: 1n };
  return Promise.resolve(
    encodeFunctionResult({
      abi: coordinatorAbi,
      functionName: "modelOf",
      result: { ...result, manifestCid: hexOf(manifest) },
    }),
  );
}

function isAboutModel({ params }: Reading): boolean {
  const [{ data }] = params as [{ data: string }];
  return data.startsWith(toFunctionSelector(getAbiItem({ abi: coordinatorAbi, name: "modelOf" })));
}

const config: Config = {
  name: "sibyl",
  version: "0.1.0",
  chain_id: 31337,
  chain_name: "Anvil",
  currency: { symbol: "ETH", decimals: 18 },
  coordinator: `0x${"c0".repeat(20)}`,
  start_block: 1,
  default_model: 1,
  rpc_url: "http://rpc.example",
  explorer_url: null,
  cancel_window: 60,
  confirmations: 3,
  backend: "local",
  gateway: { open: false, address: null },
  limits: { image_bytes: 1_000_000, image_pixels: 1_000_000, formats: ["PNG"] },
};

/** Blocks that the gateway of the test sends, by CID. */
let blocks: Map<string, Uint8Array<ArrayBuffer>>;

beforeEach(() => {
  const { classification, instances } = golden.documents;
  blocks = new Map([
    [classification.cid, bytesOf(classification.text)],
    [instances.cid, bytesOf(instances.text)],
    [golden.imageCid, bytesOf("a picture")],
  ]);
  vi.stubGlobal("fetch", (address: string) => {
    const block = blocks.get(new URL(address).pathname.split("/").at(-1) ?? "");
    return Promise.resolve(block ? new Response(block) : new Response("", { status: 404 }));
  });
  stub.chain = null;
  stub.account = undefined;
  stub.contract = () => registry(MANIFEST);
  stub.wallet = null;
  stub.state = null;
  stub.wrong = false;
  stub.run.mockClear();
});

afterEach(() => vi.unstubAllGlobals());

function open(api = new ApiClient("http://api.example")) {
  api.model = () => Promise.reject(new ApiDown("not asked here"));
  const configured: Configured = { config, api, down: false };
  const client = new QueryClient({ defaultOptions: { queries: { retry: false } } });
  render(
    <WordsProvider>
      <QueryClientProvider client={client}>
        <ConfigProvider value={configured}>
          <RequestPage id={ID} />
        </ConfigProvider>
      </QueryClientProvider>
    </WordsProvider>,
  );
}

function tell(view: RequestView) {
  act(() => stub.watcher?.onRequest(view));
}

const VERIFIED = "Verified: these bytes hash to the CID on the chain";
const answer = () => within(screen.getByRole("region", { name: "Answer" }));

describe("the request page", () => {
  it("given an answer on the chain, when its bytes hash to the CID there, then it is shown as verified", async () => {
    stub.chain = chainOf("Fulfilled");
    open();
    tell(viewOf("fulfilled"));
    await answer().findByText(VERIFIED);
    expect(answer().getAllByText("seven")).toHaveLength(2);
    expect(answer().getByText(/more typical than 83%/)).toBeTruthy();
    expect(screen.getByRole("list", { name: "Timeline" }).textContent).toMatch(/Mined in block 124.*Posted on-chain/);
    expect(screen.getByRole("button", { name: "Result JSON" })).toBeTruthy();
  });

  it("given a gateway that sends other bytes, when the answer is read, then no label of them is shown", async () => {
    const { cid, text } = golden.documents.classification;
    blocks.set(cid, bytesOf(text.replaceAll("seven", "eight")));
    stub.chain = chainOf("Fulfilled");
    open();
    tell(viewOf("fulfilled"));
    await answer().findByText(/the bytes do not hash to the CID/);
    expect(screen.queryByText(VERIFIED)).toBeNull();
    expect(document.body.textContent).not.toContain("eight");
    expect(answer().getByText("Class 7")).toBeTruthy();
    expect(screen.queryByRole("button", { name: "Result JSON" })).toBeNull();
  });

  it("given a document that names another manifest than the registry, when it is read, then nothing of it is shown", async () => {
    stub.contract = () => registry(golden.imageCid);
    stub.chain = chainOf("Fulfilled");
    open();
    tell(viewOf("fulfilled"));
    await answer().findByText("Not verified: the result is not of the model that was asked");
    expect(document.body.textContent).not.toContain("seven");
    expect(answer().getByText("Class 7")).toBeTruthy();
  });

  it.each([
    ["no RPC endpoint", new NoRpc("none"), /no RPC endpoint to check the chain/],
    ["a chain that fails", new Error("connection refused"), /chain cannot be read now. It is tried again/],
  ])("given %s, when the API says an answer, then it is the API's word and never called verified", async (_, error, why) => {
    stub.chain = error;
    open();
    tell(viewOf("fulfilled"));
    await answer().findByText("Not verified: this is the API's word only");
    expect(answer().getByText(why)).toBeTruthy();
    expect(screen.queryByText(VERIFIED)).toBeNull();
  });

  const says = (word: string) => (method: string) => Promise.resolve(method === "eth_chainId" ? "0x7a69" : word);
  const bit = (one: boolean): string => `0x${(one ? "1" : "0").padStart(64, "0")}`;

  it("given a wallet whose endpoint holds the same result, when it is verified, then both endpoints are named", async () => {
    stub.chain = chainOf("Fulfilled");
    stub.wallet = says(bit(true));
    open();
    tell(viewOf("fulfilled"));
    await answer().findByText(VERIFIED);
    expect(answer().getByText(/Two endpoints agree: rpc.example and the one of your wallet/)).toBeTruthy();
  });

  it("given a wallet whose endpoint knows no such contract, when an answer is read, then nothing of it is shown", async () => {
    stub.chain = chainOf("Fulfilled");
    stub.wallet = says("0x");
    open();
    tell(viewOf("fulfilled"));
    expect((await answer().findByRole("alert")).textContent).toMatch(/two endpoints disagree.*Compare the network/);
    expect(screen.queryByText(VERIFIED)).toBeNull();
    expect(document.body.textContent).not.toContain("seven");
    expect(answer().queryByText("Class 7")).toBeNull();
    expect(screen.queryByRole("button", { name: "Result JSON" })).toBeNull();
    // Its reader chooses the right network there.
    stub.wallet = says(bit(true));
    await userEvent.click(answer().getByRole("button", { name: "Try again" }));
    expect(await answer().findByText(VERIFIED)).toBeTruthy();
  });

  it("given a wallet whose endpoint has no answer yet, when it is asked, then the answer is not called verified", async () => {
    stub.chain = chainOf("Fulfilled");
    // False for the result, and for the request a state of zeros, which is "unknown".
    stub.wallet = says(`0x${"0".repeat(64 * 7)}`);
    open();
    tell(viewOf("fulfilled"));
    await answer().findByText("Not verified yet: your wallet's endpoint does not have this answer");
    expect(screen.queryByText(VERIFIED)).toBeNull();
    expect(answer().getAllByText("seven")).toHaveLength(2);
  });

  it("given a wallet that cannot answer, when it is asked, then the one endpoint is named", async () => {
    stub.chain = chainOf("Fulfilled");
    stub.wallet = () => Promise.reject(new Error("Unsupported method"));
    open();
    tell(viewOf("fulfilled"));
    await answer().findByText(VERIFIED);
    expect(answer().getByText(/The chain was read through rpc.example/)).toBeTruthy();
  });

  it.each([
    ["another place than the API", "http://api.example", /name another gateway in this page's address/i],
    ["the API, whose policy holds", location.origin, /tell the operator/i],
  ])("given the page from %s, when bytes are wrong, then it suggests what works", async (_, base, remedy) => {
    blocks.set(golden.documents.classification.cid, bytesOf("{}"));
    stub.chain = chainOf("Fulfilled");
    open(new ApiClient(base));
    tell(viewOf("fulfilled"));
    expect(await answer().findByText(remedy)).toBeTruthy();
  });

  it("given labels that hold markup and marks that turn text around, when they are shown, then they are plain text", async () => {
    stub.chain = new NoRpc("none");
    // What a lying publisher can do is put it into an honest document, whose own CID the chain then names.
    const { cid, text } = golden.documents.classification;
    const { sha256, cidOfBytes } = await import("../../content/cid");
    const evil = bytesOf(text.replaceAll('"seven"', JSON.stringify("<b>seven</b>\u202e")));
    const evilCid = cidOfBytes(Uint8Array.from([1, 0x55, 0x12, 0x20, ...(await sha256(evil))])).text;
    blocks.delete(cid);
    blocks.set(evilCid, evil);
    open();
    tell(viewOf("fulfilled", "classification", { result_cid: evilCid }));
    expect(await answer().findAllByText("<b>seven</b>")).toHaveLength(2);
    expect(document.querySelector("b")).toBeNull();
    expect(document.body.textContent).not.toContain("\u202e");
  });

  it("given an API that is down, when the chain has the answer, then it is told from there and the page says so", async () => {
    blocks.clear();
    stub.chain = chainOf("Fulfilled");
    open();
    act(() => stub.watcher?.onDown?.());
    await screen.findByText(/The API does not answer/);
    expect(await answer().findByText("Class 7")).toBeTruthy();
    expect(answer().getByText(/the result is not to be had now/)).toBeTruthy();
  });

  it("given a page without a secure origin, when it is shared, then its link is copied the old way and that is said", async () => {
    const typed: string[] = [];
    Object.assign(document, { execCommand: () => typed.push(document.querySelector("textarea")?.value ?? "") > 0 });
    stub.chain = chainOf("Pending");
    open();
    tell(viewOf("seen"));
    vi.useFakeTimers();
    fireEvent.click(screen.getByRole("button", { name: "Share this page" }));
    await act(() => vi.advanceTimersByTimeAsync(10));
    expect(typed).toEqual([location.href]);
    const said = () => screen.queryAllByRole("status").some(({ textContent }) => textContent === "Link copied");
    expect(said()).toBe(true);
    await act(() => vi.advanceTimersByTimeAsync(3_000));
    expect(said()).toBe(false);
    expect(screen.getByRole("button", { name: "Share this page" })).toBeTruthy();
    vi.useRealTimers();
  });

  it("given an id that nobody knows, when it is opened, then the page says what to do", async () => {
    stub.chain = chainOf("Unknown", "classification", { asking: null });
    open();
    act(() => stub.watcher?.onWaiting?.());
    expect(await screen.findByText("Nobody knows this request")).toBeTruthy();
    expect(screen.getByRole("link", { name: "Look in my history" }).getAttribute("href")).toBe("#/history");
  });

  it("given neither API nor chain, when a request is opened, then nothing was lost and it can be tried again", async () => {
    stub.chain = new Error("connection refused");
    open();
    act(() => stub.watcher?.onDown?.());
    expect((await screen.findByRole("alert")).textContent).toMatch(/Nothing was lost/);
    expect(screen.getByRole("button", { name: "Try again" })).toBeTruthy();
  });

  it("given a request on its way, when it moves, then the timeline goes along and it is read aloud", async () => {
    stub.chain = chainOf("Pending");
    open();
    tell(viewOf("ready"));
    await screen.findByText("No answer yet");
    tell(viewOf("computing"));
    const now = () => screen.getByRole("list", { name: "Timeline" }).querySelector('[aria-current="step"]')?.textContent;
    expect(now()).toMatch(/Computing at provider oak-3/);
    expect(screen.getAllByRole("status").map(({ textContent }) => textContent)).toContain("Computing at provider oak-3");
  });

  it("given a deadline that the chain has passed, when a wallet is connected, then anyone can send the refund", async () => {
    stub.account = `0x${"77".repeat(20)}`;
    stub.chain = chainOf("Pending", "classification", { head: { number: 300, timestamp: AT + 601 } });
    open();
    tell(viewOf("expired"));
    await userEvent.click(await screen.findByRole("button", { name: "Take the money back" }));
    expect(stub.run).toHaveBeenCalledWith({ functionName: "refund", args: [ID] });
  });

  it("given no wallet, or one on another chain, when the deadline has passed, then the button brings it here", async () => {
    stub.chain = chainOf("Pending", "classification", { head: { number: 300, timestamp: AT + 601 } });
    open();
    tell(viewOf("expired"));
    await userEvent.click(await screen.findByRole("button", { name: "Connect" }));
    expect(stub.connect).toHaveBeenCalledOnce();
    stub.account = `0x${"77".repeat(20)}`;
    stub.wrong = true;
    tell(viewOf("expired"));
    await userEvent.click(await screen.findByRole("button", { name: "Switch to Anvil" }));
    expect(stub.mend).toHaveBeenCalledOnce();
    expect(screen.queryByRole("button", { name: "Take the money back" })).toBeNull();
  });

  it("given a refund that is sent, when it is in a block, then its hash and its end are told", async () => {
    stub.account = `0x${"77".repeat(20)}`;
    stub.chain = chainOf("Pending", "classification", { head: { number: 300, timestamp: AT + 601 } });
    open();
    tell(viewOf("expired", "classification", { token: `0x${"aa".repeat(20)}` }));
    const button = await screen.findByRole("button", { name: "Take the money back" });
    expect(screen.getByText(/the money goes to the balance that the account which asked has at the contract/)).toBeTruthy();
    stub.chain = chainOf("Refunded");
    const receipt = { blockNumber: 301n, transactionHash: `0x${"5e".repeat(32)}` } as unknown as TransactionReceipt;
    stub.state = { step: "done", receipt };
    await userEvent.click(button);
    const line = (await screen.findByText("The money went back.")).closest("[role=status]");
    expect(line?.textContent).toContain("0x5e5e");
    expect(await answer().findByText(/went back to the account that asked/)).toBeTruthy();
  });

  it("given a chain that has decided nothing, when the API says that the money went back, then nobody says so", async () => {
    stub.chain = chainOf("Pending");
    open();
    tell(viewOf("refunded"));
    expect(await answer().findByText("No answer yet")).toBeTruthy();
    expect(document.body.textContent).not.toContain("refunded");
  });

  it("given an endpoint that keeps no events and an API that is down, when it is answered, then nothing waits for ever", async () => {
    stub.chain = chainOf("Fulfilled", "classification", { asking: null, settling: null });
    open();
    act(() => stub.watcher?.onDown?.());
    expect(await screen.findByText("Which picture it is about is not to be had from here now")).toBeTruthy();
    expect(await answer().findByText(/the answer is not to be had from here now/)).toBeTruthy();
    stub.chain = chainOf("Fulfilled");
    await userEvent.click(answer().getByRole("button", { name: "Try again" }));
    expect(await answer().findByText(VERIFIED)).toBeTruthy();
  });

  it("given a contract that cannot be asked at once, when it can be, then the answer is checked after all", async () => {
    stub.chain = chainOf("Fulfilled", "classification", { settling: null });
    let asked = 0;
    stub.contract = (call) => {
      if (isAboutModel(call)) return registry(MANIFEST);
      asked += 1;
      return asked === 1 ? Promise.reject(new Error("busy")) : Promise.resolve(bit(true));
    };
    open();
    tell(viewOf("fulfilled"));
    await answer().findByText("Not verified: the contract could not be asked");
    await userEvent.click(answer().getByRole("button", { name: "Try again" }));
    expect(await answer().findByText(VERIFIED)).toBeTruthy();
  });

  it("given its requester within the cancel window, when it is pending, then it can be cancelled on its own terms", async () => {
    vi.spyOn(Date, "now").mockReturnValue((AT + 20) * 1000);
    const chain = chainOf("Pending", "classification", { head: { number: 125, timestamp: AT + 20 } });
    stub.account = chain.asking?.requester;
    stub.chain = chain;
    open();
    tell(viewOf("seen"));
    await userEvent.click(await screen.findByRole("button", { name: "Cancel, 40 s left" }));
    expect(stub.run).toHaveBeenCalledWith({
      functionName: "cancel",
      args: [expect.objectContaining({ nonce: 7n, modelId: 1n, createdAt: BigInt(AT), deadline: BigInt(AT + 600) })],
    });
  });

  it("given a failure that the oracle reported, when it is opened, then its reason and the money's way are told", async () => {
    stub.chain = chainOf("Failed");
    open();
    tell(viewOf("rejected"));
    expect(await answer().findByText(/does not name a whole, readable picture/)).toBeTruthy();
    expect(answer().getByText(/whole payment went back/)).toBeTruthy();
  });
});

describe("things in a picture", () => {
  async function scene(kind: Kind = "instances") {
    stub.chain = chainOf("Fulfilled", kind);
    open();
    tell(viewOf("fulfilled", kind));
    await answer().findByText(VERIFIED);
    const shapes = () => [...document.querySelectorAll(".viewer-shape")];
    return { shapes, colour: (shape?: Element) => shape?.querySelector("path:last-child")?.getAttribute("fill") };
  }

  it("given a scene, when a thing is switched off, then it leaves the picture and the others keep their colours", async () => {
    const { shapes, colour } = await scene();
    expect(answer().getByText("5 things found")).toBeTruthy();
    const [circle, ...others] = screen.getAllByRole("checkbox");
    expect(others).toHaveLength(2);
    // The best is drawn last, uppermost.
    const before = shapes().map(colour);
    const swatches = [...document.querySelectorAll(".request-swatch rect")].map((rect) => rect.getAttribute("fill"));
    expect([...before].reverse()).toEqual(swatches);
    await userEvent.click(circle as HTMLElement);
    expect(shapes().map(colour)).toEqual(before.slice(0, 2));
    await userEvent.click(screen.getByRole("button", { name: "Show all" }));
    expect(shapes()).toHaveLength(3);
    await userEvent.click(screen.getByRole("button", { name: "Hide all" }));
    expect(shapes()).toHaveLength(0);
  });

  it("given a scene, when a row is pointed at, then its shape stands out, and the other way round", async () => {
    const { shapes } = await scene();
    const rows = document.querySelectorAll(".request-thing");
    await userEvent.hover(rows[1] as Element);
    expect(shapes().map(({ classList }) => classList.contains("viewer-active"))).toEqual([false, true, false]);
    await userEvent.hover(shapes()[0] as Element);
    await waitFor(() => expect(rows[2]?.classList.contains("request-thing-active")).toBe(true));
    expect(rows[1]?.classList.contains("request-thing-active")).toBe(false);
  });

  it("given a scene, when it is put beside its mask, then both are there with names of their own", async () => {
    await scene();
    await userEvent.click(screen.getByRole("radio", { name: "Side by side" }));
    expect(screen.getByRole("region", { name: "Original" })).toBeTruthy();
    expect(within(screen.getByRole("region", { name: "Mask" })).getByRole("img").getAttribute("aria-label")).toMatch(
      /circle, star, square/,
    );
  });
});
