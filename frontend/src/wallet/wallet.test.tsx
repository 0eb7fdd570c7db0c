import { act, screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, describe, expect, test } from "vitest";

import { FakeChain, ME } from "../chain/chain-double";
import { Header } from "../frame/header";
import { show } from "../test/world";

type Request = (call: { method: string; params?: unknown }) => Promise<unknown>;
const ICON = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg'/%3E";
const fail = (code: number, message: string) => Promise.reject(Object.assign(new Error(message), { code }));

/** A wallet that announces itself by EIP-6963, and does what `answers` says. */
class Announced {
  static standing: Announced[] = [];
  readonly calls: string[] = [];
  chain = 31_337;
  private readonly heard = new Map<string, Set<(payload: unknown) => void>>();

  constructor(
    readonly name: string,
    readonly answers: Partial<Record<string, Request>> = {},
  ) {
    Announced.standing.push(this);
    window.addEventListener("eip6963:requestProvider", this.announce);
  }

  readonly announce = () => {
    const info = { uuid: `uuid-${this.name}`, name: this.name, icon: ICON, rdns: `test.${this.name.toLowerCase()}` };
    const detail = Object.freeze({ info, provider: this });
    window.dispatchEvent(new CustomEvent("eip6963:announceProvider", { detail }));
  };

  request: Request = (call) => {
    this.calls.push(call.method);
    const special = this.answers[call.method];
    if (special) return special(call);
    switch (call.method) {
      case "eth_requestAccounts":
        return Promise.resolve([ME]);
      case "eth_accounts":
        return Promise.resolve([]);
      case "eth_chainId":
        return Promise.resolve(`0x${this.chain.toString(16)}`);
      case "wallet_switchEthereumChain":
      case "wallet_addEthereumChain":
        this.move(31_337);
        return Promise.resolve(null);
      default:
        return fail(-32601, "no such method");
    }
  };

  on(event: string, handler: (payload: unknown) => void): void {
    this.heard.set(event, (this.heard.get(event) ?? new Set()).add(handler));
  }

  removeListener(event: string, handler: (payload: unknown) => void): void {
    this.heard.get(event)?.delete(handler);
  }

  leave(): void {
    for (const handler of this.heard.get("accountsChanged") ?? []) handler([]);
  }

  move(chain: number): void {
    this.chain = chain;
    for (const handler of this.heard.get("chainChanged") ?? []) handler(`0x${chain.toString(16)}`);
  }
}

afterEach(() => {
  for (const wallet of Announced.standing) window.removeEventListener("eip6963:requestProvider", wallet.announce);
  Announced.standing = [];
});

const open = (chain = new FakeChain()) => show(<Header route={{ page: "ask" }} />, { api: {}, chain });

async function choose(name: string): Promise<void> {
  await userEvent.click(screen.getByRole("button", { name: "Connect" }));
  await userEvent.click(within(screen.getByRole("dialog")).getByRole("button", { name }));
}

describe("connecting", () => {
  test("given no wallet, when asked to connect, then it says how to get one", async () => {
    await open();
    await userEvent.click(screen.getByRole("button", { name: "Connect" }));
    expect(within(screen.getByRole("dialog", { name: "No wallet found" })).getByRole("link")).toBeTruthy();
    await userEvent.click(screen.getByRole("button", { name: "Close" }));
    expect(screen.queryByRole("dialog")).toBeNull();
  });

  test("given two wallets, when one is chosen by its name, then the other is never asked", async () => {
    const [aspen, birch] = [new Announced("Aspen"), new Announced("Birch")];
    await open();
    await choose("Birch");
    expect(await screen.findByText("0x0000…00A1")).toBeTruthy();
    expect(screen.queryByRole("dialog")).toBeNull();
    expect(birch.calls).toContain("eth_requestAccounts");
    expect(aspen.calls).not.toContain("eth_requestAccounts");
  });

  test("given the account's dialog, when the wallet leaves and comes back, then its balance was exact and it stays away", async () => {
    const wallet = new Announced("Aspen");
    const chain = new FakeChain();
    chain.ether = 10n ** 18n - 1n;
    await open(chain);
    await choose("Aspen");
    await userEvent.click(await screen.findByRole("button", { name: /^Account/ }));
    expect(await within(screen.getByRole("dialog")).findByText(/^0\.999999\sETH$/)).toBeTruthy();
    act(() => wallet.leave());
    expect(await screen.findByRole("button", { name: "Connect" })).toBeTruthy();
    await choose("Aspen");
    expect(await screen.findByText("0x0000…00A1")).toBeTruthy();
    expect(screen.queryByRole("dialog")).toBeNull();
  });

  test.each([
    ["declined", 4001, "User rejected the request.", /declined/],
    ["locked", -32002, "The wallet is locked: unlock it first.", /unlock it/],
    ["asking already", -32002, "Already processing eth_requestAccounts.", /already shows a question/],
    ["broken", -32603, "boom", /did not connect/],
  ])("given a wallet that is %s, when it is chosen, then it says so and another try is one step away", async (_, code, message, said) => {
    const wallet = new Announced("Aspen", { eth_requestAccounts: () => fail(code, message) });
    await open();
    await choose("Aspen");
    expect(await screen.findByText(said)).toBeTruthy();
    delete wallet.answers.eth_requestAccounts;
    await userEvent.click(within(screen.getByRole("dialog")).getByRole("button", { name: "Aspen" }));
    expect(await screen.findByText("0x0000…00A1")).toBeTruthy();
  });
});

describe("the network", () => {
  async function onAnother(answers: Partial<Record<string, Request>> = {}): Promise<Announced> {
    const wallet = new Announced("Aspen", answers);
    wallet.chain = 1;
    await open();
    await choose("Aspen");
    await userEvent.click(await screen.findByRole("button", { name: "Wrong network" }));
    return wallet;
  }

  test("given a wallet on another chain, when mended, then it switches", async () => {
    const wallet = await onAnother();
    await waitFor(() => expect(screen.queryByRole("button", { name: "Wrong network" })).toBeNull());
    expect(wallet.calls).not.toContain("wallet_addEthereumChain");
  });

  test("given a wallet that does not know the chain, when mended, then it is added with its RPC endpoint", async () => {
    let added: unknown;
    await onAnother({
      wallet_switchEthereumChain: () => fail(4902, "Unrecognized chain"),
      wallet_addEthereumChain: ({ params }) => {
        [added] = params as unknown[];
        Announced.standing[0]?.move(31_337);
        return Promise.resolve(null);
      },
    });
    await waitFor(() => expect(screen.queryByRole("button", { name: "Wrong network" })).toBeNull());
    expect(added).toMatchObject({ chainId: "0x7a69", rpcUrls: ["http://rpc.test/"] });
  });

  test("given a switch that is declined, when mended, then it says so quietly and can be tried again", async () => {
    const wallet = await onAnother({ wallet_switchEthereumChain: () => fail(4001, "no") });
    expect(await screen.findByText("You declined in your wallet. Nothing was sent.")).toBeTruthy();
    delete wallet.answers.wallet_switchEthereumChain;
    await userEvent.click(screen.getByRole("button", { name: "Wrong network" }));
    await waitFor(() => expect(screen.queryByRole("button", { name: "Wrong network" })).toBeNull());
  });
});
