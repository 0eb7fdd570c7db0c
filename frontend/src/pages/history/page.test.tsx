import { screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { zeroAddress } from "viem";
import { describe, expect, it } from "vitest";

import { FakeChain, ME, OTHER } from "../../chain/chain-double";
import { show } from "../../test/world";
import HistoryPage from "./index";

const SEVEN = `0x01010100000726de${"00".repeat(24)}` as const;

function chainOfThree(): FakeChain {
  const chain = new FakeChain();
  chain.name = Math.random().toString(); // what is kept of one test's chain is not another's
  const answered = chain.ask(4, "answered", ME, 10n ** 14n);
  chain.ask(5, "waiting", ME, 10n ** 14n);
  const refunded = chain.ask(6, "refunded", ME, 10n ** 14n);
  chain.ask(7, "another's", OTHER);
  chain.emit(8, "InferenceFulfilled", { requestId: answered, resultCid: `0x1220${"cd".repeat(32)}`, answer: SEVEN });
  chain.emit(8, "InferenceRefunded", { requestId: refunded, requester: ME, amount: 10n ** 14n });
  return chain;
}

const api = {
  "/v1/models": { items: [{ id: 1, name: "mnist-cnn", token: null }], next: null },
  "/v1/models/1": { id: 1, name: "mnist-cnn", token: null, manifest: { labels: Array.from("0123456789") } },
  "/v1/requests": { items: [], next: null },
};
const rows = async () => within(await screen.findByRole("list")).findAllByRole("listitem");

describe("given no wallet", () => {
  it("when the page is opened, then it says how to go on, and any account can be looked at", async () => {
    const person = userEvent.setup();
    await show(<HistoryPage />, { api, chain: chainOfThree() });
    expect(screen.getByRole("button", { name: "Connect" })).toBeTruthy();
    await person.type(screen.getByLabelText("Address"), "0x12");
    await person.click(screen.getByRole("button", { name: "Show" }));
    expect(screen.getByRole("alert").textContent).toContain("not an address");
    await person.clear(screen.getByLabelText("Address"));
    await person.type(screen.getByLabelText("Address"), ME);
    await person.click(screen.getByRole("button", { name: "Show" }));
    expect(await rows()).toHaveLength(3);
    expect(location.hash.toLowerCase()).toContain(ME);
  });
});

describe("given a connected account", () => {
  it("when it has requests, then they stand there with answer, cost and totals, and can be filtered and searched", async () => {
    const person = userEvent.setup();
    await show(<HistoryPage />, { api, chain: chainOfThree(), account: ME });
    expect(await screen.findByText("7, 99.5%")).toBeTruthy();
    expect(await rows()).toHaveLength(3);
    expect(screen.getByText("Paid").nextSibling?.textContent).toMatch(/0\.0003\sETH/);
    await person.selectOptions(screen.getByLabelText("Status"), "Answered");
    expect(await rows()).toHaveLength(1);
    await person.selectOptions(screen.getByLabelText("Status"), "All");
    await person.type(screen.getByLabelText("Search"), "no such thing");
    expect(screen.queryByRole("list")).toBeNull();
    await person.click(screen.getByRole("button", { name: "Clear filters" }));
    expect(await rows()).toHaveLength(3);
  });

  it("when it has none, then the page says what will be here", async () => {
    const chain = new FakeChain();
    chain.head = 9;
    await show(<HistoryPage />, { api, chain, account: ME });
    expect(await screen.findByText("No request yet")).toBeTruthy();
  });

  it("when the API is down, then everything that the chain knows is there, and what is missing is said", async () => {
    await show(<HistoryPage />, { api: {}, down: true, chain: chainOfThree(), account: ME });
    expect(await screen.findByText("class 7, 99.5%")).toBeTruthy();
    expect(screen.getByText(/The API does not answer/)).toBeTruthy();
    expect(screen.getAllByText("Model 1").length).toBeGreaterThan(0);
  });

  it("when nobody tells what a model is priced in, then what was paid is not called ether", async () => {
    const chain = chainOfThree();
    const answer = chain.request.bind(chain);
    chain.request = (call) =>
      call.method === "eth_call" ? Promise.reject(new Error("execution reverted")) : answer(call);
    await show(<HistoryPage />, { api: {}, chain, account: ME });
    expect(await rows()).toHaveLength(3);
    expect(screen.getByText("Paid").nextSibling?.textContent).toBe("300,000,000,000,000 smallest parts");
    expect(document.body.textContent).not.toContain("ETH");
    // Nor is a balance that cannot be read passed over.
    expect(screen.getByText("The balance could not be read.")).toBeTruthy();
  });

  it("when the chain does not answer, then it says so and can be tried again", { timeout: 30_000 }, async () => {
    const person = userEvent.setup();
    const chain = chainOfThree();
    chain.down = true;
    await show(<HistoryPage />, { api, chain, account: ME });
    const again = await screen.findByRole("button", { name: "Try again" }, { timeout: 25_000 });
    chain.down = false;
    await person.click(again);
    await waitFor(async () => expect(await rows()).toHaveLength(3));
  });

  it("when it did other things at the contract, then they stand apart, and no total counts them", async () => {
    const chain = chainOfThree();
    chain.emit(9, "Deposited", { token: zeroAddress, account: ME, amount: 3n * 10n ** 15n });
    chain.emit(10, "ModelPublished", { modelId: 1n, payout: ME, token: zeroAddress, price: 1n, manifestCid: "0x12" });
    chain.emit(11, "Withdrawn", { token: zeroAddress, account: ME, to: OTHER, amount: 10n ** 15n });
    await show(<HistoryPage />, { api, chain, account: ME });
    const table = await screen.findByRole("table");
    await waitFor(() => expect(table.textContent).toContain("Published mnist-cnn"));
    const lines = within(table).getAllByRole("row").map((one) => one.textContent);
    expect(lines).toHaveLength(4);
    expect(lines[1]).toMatch(/Withdrawn from the balance.*0x.*00A2.*0\.001\sETH.*block 11/);
    expect(lines[3]).toMatch(/Paid into the balance.*0\.003\sETH.*block 9/);
    expect(screen.getByText("Paid").nextSibling?.textContent).toMatch(/^0\.0003\sETH$/);
    expect(screen.getByRole("button", { name: "CSV of other transactions" })).toBeTruthy();
  });

  it("when it has a balance at the contract, then it can be withdrawn", async () => {
    const chain = chainOfThree();
    chain.balances = 5n * 10n ** 13n;
    await show(<HistoryPage />, { api, chain, account: ME });
    expect(await screen.findByRole("button", { name: "Withdraw 0.00005 ETH" })).toBeTruthy();
  });
});
