import { describe, expect, it } from "vitest";

import type { ChainRequest } from "../../chain/requests";
import { factsOf, stepsOf } from "./facts";
import { AT, chainOf, ID, REQUESTER, viewOf } from "./fixtures";

const steps = (...given: Parameters<typeof factsOf> extends [string, ...infer Rest] ? Rest : never) => {
  const facts = factsOf(ID, ...given);
  return facts ? stepsOf(facts).map(({ name, state }) => `${name}:${state}`) : [];
};

describe("what is known of a request", () => {
  it("given nobody who knows it, when facts are joined, then there are none", () => {
    expect(factsOf(ID, null, null, 3)).toBeNull();
    expect(factsOf(ID, null, chainOf("Unknown", "classification", { asking: null }), 3)).toBeNull();
  });

  it("given an API that contradicts the chain, when facts are joined, then the chain's stand", () => {
    const lying = viewOf("refunded", "classification", { requester: `0x${"99".repeat(20)}`, payment: "1", model: 9 });
    const facts = factsOf(ID, lying, chainOf("Fulfilled"), 3);
    expect(facts).toMatchObject({ status: "fulfilled", requester: REQUESTER, payment: 2_100n, model: 1 });
  });

  it("given a chain that has decided nothing, when the API says an end without an answer, then the chain's word stands", () => {
    const lying = viewOf("rejected", "classification", { failure: { reason: "image_unreadable", text: "" } });
    expect(factsOf(ID, lying, chainOf("Pending"), 3)).toMatchObject({ status: "seen", reason: null, settledAt: null });
    expect(factsOf(ID, viewOf("fulfilled"), chainOf("Pending"), 3)?.status).toBe("fulfilled");
    expect(factsOf(ID, viewOf("computing"), chainOf("Pending"), 3)?.status).toBe("computing");
  });

  it("given a request in tokens, when its money is to go back, then it goes to the balance at the contract", () => {
    const view = viewOf("expired", "classification", { token: `0x${"aa".repeat(20)}` });
    expect(factsOf(ID, view, chainOf("Pending"), 3)?.paidTo).toBe("balance");
    expect(factsOf(ID, viewOf("expired"), chainOf("Pending"), 3)?.paidTo).toBeNull();
    expect(factsOf(ID, viewOf("refunded"), chainOf("Refunded"), 3)?.paidTo).toBe("account");
  });

  it("given the chain alone, when the deadline has passed by its own time, then the request is expired", () => {
    const late = chainOf("Pending", "classification", { head: { number: 200, timestamp: AT + 601 } });
    expect(factsOf(ID, null, late, 3)?.status).toBe("expired");
    expect(factsOf(ID, null, chainOf("Pending"), 3)?.status).toBe("seen");
  });
});

describe("the timeline", () => {
  it.each([
    ["seen", "signed:done mined:done confirmed:now picked:waiting computing:waiting pinned:waiting posted:waiting"],
    ["confirmed", "signed:done mined:done confirmed:done picked:now computing:waiting pinned:waiting posted:waiting"],
    ["ready", "signed:done mined:done confirmed:done picked:done computing:waiting pinned:waiting posted:waiting"],
    ["computing", "signed:done mined:done confirmed:done picked:done computing:now pinned:waiting posted:waiting"],
    ["posting", "signed:done mined:done confirmed:done picked:done computing:done pinned:done posted:now"],
    ["fulfilled", "signed:done mined:done confirmed:done picked:done computing:done pinned:done posted:done"],
    ["rejected", "signed:done mined:done confirmed:done picked:done computing:bad failed:bad refunded:done"],
    ["expired", "signed:done mined:done confirmed:done picked:done computing:bad expired:bad"],
    ["cancelled", "signed:done mined:done confirmed:done picked:done computing:bad cancelled:done"],
    ["orphaned", "signed:done orphaned:now"],
  ] as const)("given a request that is %s, when its steps are listed, then each says where it stands", (status, expected) => {
    expect(steps(viewOf(status), null, 3).join(" ")).toBe(expected);
  });

  it("given the chain alone, when blocks lie on a request, then it is confirmed by their number", () => {
    const shallow: ChainRequest = chainOf("Pending", "classification", { head: { number: 125, timestamp: AT + 9 } });
    expect(steps(null, shallow, 3)).toContain("confirmed:now");
    expect(steps(null, chainOf("Pending"), 3)).toContain("confirmed:done");
  });

  it.each([
    ["delivered", "callback:done"],
    ["failed", "callback:bad"],
    ["retried", "callback:done"],
  ] as const)("given a callback that was %s, when the steps are listed, then the last one says so", (callback, expected) => {
    const asking = chainOf("Fulfilled").asking;
    const chain = chainOf("Fulfilled", "classification", { callback, asking: asking && { ...asking, callbackGas: 50_000n } });
    expect(steps(null, chain, 3).at(-1)).toBe(expected);
  });

  it("given tries that failed, when the steps are listed, then the oracle's notes stand with their step", () => {
    const view = viewOf("computing");
    view.timeline.push({ at: AT + 20, status: "computing", detail: "oak-3 did not answer" });
    const facts = factsOf(ID, view, null, 3);
    expect(facts && stepsOf(facts).find(({ name }) => name === "computing")?.notes).toEqual(["oak-3 did not answer"]);
  });
});
