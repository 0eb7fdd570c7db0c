import { decodeFunctionData, encodeFunctionResult, type Hex } from "viem";
import { afterEach, describe, expect, it, vi } from "vitest";

import { CHAIN_STATUSES, type ChainStatus, coordinatorAbi } from "../../chain/abi";
import type { Reader } from "../../chain/logs";
import { golden } from "../../content/golden";
import type { Claim } from "./check";
import { hexOf, ID, REQUESTER } from "./fixtures";
import { testimonyOf } from "./witness";

const place = { chain_id: 1, coordinator: `0x${"c0".repeat(20)}`, start_block: 1 };
const { cid, answer } = golden.documents.classification;
const claim: Claim = { resultCid: cid, answer: answer as Hex, imageCid: golden.imageCid, by: "event", apiDiffers: false };

/** A wallet whose endpoint has the request in this state, with this result. */
function wallet(status: ChainStatus, held = cid, chainId = "0x1"): Reader {
  return {
    request: ({ method, params }) => {
      if (method === "eth_chainId") return Promise.resolve(chainId);
      const [{ to, data }] = params as [{ to: string; data: Hex }];
      expect(to).toBe(place.coordinator);
      const call = decodeFunctionData({ abi: coordinatorAbi, data });
      if (call.functionName === "verifyResult") {
        expect(call.args[0]).toBe(ID);
        const result = call.args[1] === hexOf(held) && call.args[2] === answer;
        return Promise.resolve(encodeFunctionResult({ abi: coordinatorAbi, functionName: "verifyResult", result }));
      }
      const terms = { requester: REQUESTER, modelId: 1n, payment: 0n, callbackGas: 0n, deadline: 0n, failure: 0 };
      const result = { ...terms, status: CHAIN_STATUSES.indexOf(status) };
      return Promise.resolve(encodeFunctionResult({ abi: coordinatorAbi, functionName: "requestOf", result }));
    },
  };
}

const sends = (answered: unknown): Reader => ({
  request: ({ method }) => Promise.resolve(method === "eth_chainId" ? "0x1" : answered),
});
const throws: Reader = { request: () => Promise.reject(new Error("Unsupported method")) };

afterEach(() => vi.useRealTimers());

describe("what the endpoint of a wallet says of a result", () => {
  it.each([
    ["holds the same", wallet("Fulfilled"), "agrees"],
    ["holds the same, whose callback failed", wallet("CallbackFailed"), "agrees"],
    ["holds another", wallet("Fulfilled", golden.imageCid), "differs"],
    ["has it refunded", wallet("Refunded", golden.imageCid), "differs"],
    ["has it still pending", wallet("Pending", golden.imageCid), "lags"],
    ["never heard of it", wallet("Unknown", golden.imageCid), "lags"],
    ["has no contract there", sends("0x"), "differs"],
    ["is on another chain by now", wallet("Fulfilled", cid, "0x2"), "silent"],
    ["reads for nobody", throws, "silent"],
    ["sends what is no answer", sends("0x12"), "silent"],
    ["sends nothing", sends(null), "silent"],
  ])("given one that %s, when it is asked, then that is told", async (_, reader, testimony) => {
    expect(await testimonyOf(Promise.resolve(reader), place, ID, claim)).toBe(testimony);
  });

  it("given a wallet that is gone, when it is asked, then it is silent", async () => {
    expect(await testimonyOf(Promise.reject(new Error("gone")), place, ID, claim)).toBe("silent");
  });

  it("given a wallet that never answers, when it is asked, then it is not waited for", async () => {
    vi.useFakeTimers();
    const asked = testimonyOf(new Promise(() => undefined), place, ID, claim);
    await vi.advanceTimersByTimeAsync(6_000);
    expect(await asked).toBe("silent");
  });
});
