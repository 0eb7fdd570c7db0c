import { act, cleanup, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import type { Hash } from "viem";
import { writeContract } from "viem/actions";
import { expect, test, vi } from "vitest";
import { getConnectorClient } from "wagmi/actions";

import { show } from "../test/world";
import { calls, useTransaction } from "./actions";
import { FakeChain, ME } from "./chain-double";
import { follow } from "./follow";

vi.mock("viem/actions", async (original) => ({ ...(await original<object>()), writeContract: vi.fn() }));
vi.mock("wagmi/actions", async (original) => ({ ...(await original<object>()), getConnectorClient: vi.fn() }));
vi.mock("./follow", () => ({ follow: vi.fn() }));
vi.mock("./client", () => ({
  publicClient: () => ({
    getBlockNumber: () => Promise.resolve(10n),
    getTransactionCount: () => Promise.resolve(4),
    simulateContract: () => Promise.resolve({}),
  }),
}));

const HASH: Hash = `0x${"1".repeat(64)}`;

function Page({ sent }: { sent: () => void }) {
  const { state, run } = useTransaction();
  return <button onClick={() => void run(calls.refund(HASH), sent)}>{state.step}</button>;
}

/** A transaction whose question is open in the wallet; what answers it. */
async function asked() {
  let answer: (hash: Hash) => void = () => undefined;
  vi.mocked(getConnectorClient).mockResolvedValue({ chain: null } as never);
  vi.mocked(writeContract).mockReturnValue(new Promise((resolve) => (answer = resolve)));
  vi.mocked(follow).mockReturnValue(new Promise(() => undefined));
  const sent = vi.fn();
  await show(<Page sent={sent} />, { api: {}, chain: new FakeChain(), account: ME });
  await userEvent.click(screen.getByRole("button"));
  expect(await screen.findByText("signing")).toBeTruthy();
  const settle = async () => {
    answer(HASH);
    await Promise.resolve();
  };
  return { sent, answer: () => act(settle) };
}

test("given a question in the wallet, when it is answered, then whoever asked is told that it was sent, once", async () => {
  const { sent, answer } = await asked();
  expect(sent).not.toHaveBeenCalled();
  await answer();
  expect(await screen.findByText("mining")).toBeTruthy();
  expect(sent).toHaveBeenCalledTimes(1);
});

test("given a page that was left meanwhile, when the wallet's question is answered after all, then that is told too", async () => {
  const { sent, answer } = await asked();
  cleanup();
  expect(sent).not.toHaveBeenCalled();
  await answer();
  expect(sent).toHaveBeenCalledTimes(1);
});
