import { cleanup, screen, waitFor } from "@testing-library/react";
import { encodeAbiParameters, encodeEventTopics, type TransactionReceipt } from "viem";
import { beforeEach, expect, test, vi } from "vitest";

import { useConfig } from "../api/config";
import { show } from "../test/world";
import { coordinatorAbi } from "./abi";
import { followed } from "./actions";
import { useAsk } from "./ask";
import { COORDINATOR, FakeChain, ME } from "./chain-double";
import { identity } from "./wagmi";

vi.mock("./actions", async (original) => ({
  ...(await original<typeof import("./actions")>()),
  followed: vi.fn(),
}));

const ID = `0x${"5e".repeat(32)}` as const;
const HASH = `0x${"aa".repeat(32)}` as const;

/** A tab that was closed while its payment waited, opened again. */
function Reopened({ chain = "same" }: { chain?: "same" | "other" }) {
  const { config } = useConfig();
  const where = chain === "same" ? identity(config) : "another chain";
  const kept = { identity: where, hash: HASH, account: ME, to: COORDINATOR, data: "0xab", value: "5", nonce: 3, since: "9" };
  if (localStorage.getItem("sibyl.asking") === null && !localStorage.getItem("done")) {
    localStorage.setItem("sibyl.asking", JSON.stringify(kept));
    localStorage.setItem("done", "yes");
  }
  return <Asking />;
}

function Asking() {
  const { state } = useAsk();
  return <p>{state.step === "done" ? `done ${state.id} ${state.resumed ? "resumed" : ""}` : state.step}</p>;
}

const world = () => ({ api: {}, chain: new FakeChain() });

beforeEach(() => void vi.mocked(followed).mockReset());

test("given a payment that waited when its tab was closed, when opened again, then it is followed to its request", async () => {
  const topics = encodeEventTopics({
    abi: coordinatorAbi,
    eventName: "InferenceRequested",
    args: { requestId: ID, modelId: 1n, requester: ME },
  });
  const uint = { type: "uint256" } as const;
  const data = encodeAbiParameters([{ type: "bytes" }, uint, uint, uint, uint], ["0x1220", 1n, 0n, 9n, 0n]);
  const receipt = { status: "success", logs: [{ address: COORDINATOR, topics, data }] } as unknown as TransactionReceipt;
  vi.mocked(followed).mockResolvedValue({ kind: "mined", receipt, repriced: false });
  await show(<Reopened />, world());
  expect(await screen.findByText(`done ${ID} resumed`)).toBeTruthy();
  expect(vi.mocked(followed).mock.calls[0]?.[1]).toMatchObject({ hash: HASH, nonce: 3, value: 5n, since: 9n });
  await waitFor(() => expect(localStorage.getItem("sibyl.asking")).toBeNull());
});

test("given a payment of another chain, when the page is opened, then it is left alone", async () => {
  await show(<Reopened chain="other" />, world());
  expect(await screen.findByText("idle")).toBeTruthy();
  expect(followed).not.toHaveBeenCalled();
});

test("given a payment that still waits, when the page is left, then it is taken up again the next time", async () => {
  vi.mocked(followed).mockImplementation(
    (_, __, ___, signal) =>
      new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(signal.reason as Error))),
  );
  await show(<Reopened />, world());
  expect(await screen.findByText("mining")).toBeTruthy();
  cleanup();
  expect(localStorage.getItem("sibyl.asking")).not.toBeNull();
});
