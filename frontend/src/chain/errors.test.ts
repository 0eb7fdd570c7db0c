import { encodeErrorResult, InternalRpcError, UserRejectedRequestError } from "viem";
import { describe, expect, test } from "vitest";

import { ApiDown, ApiProblem, OtherBytes } from "../api/client";
import { catalogue } from "../words";
import { coordinatorAbi } from "./abi";
import { explain, OtherAccount, RefusedInBlock, troubleOf, Unfollowed } from "./errors";

const wallet = (code: number, message: string, data?: unknown) => Object.assign(new Error(message), { code, data });
const wrapped = (cause: unknown) => new Error("Transaction failed", { cause });

describe("what went wrong", () => {
  test.each([
    ["a declined question", wrapped(new UserRejectedRequestError(wallet(4001, "no"))), "declined"],
    ["a locked wallet", wrapped(wallet(-32002, "The wallet is locked: unlock it first.")), "locked"],
    ["a question that is open", wrapped(wallet(-32002, "Already processing eth_requestAccounts")), "busy"],
    ["a count of an older chain", new InternalRpcError(wallet(-32603, "Internal JSON-RPC error.", { code: -32000, message: "Nonce too high. Expected nonce to be 1 but got 8." })), "stale"],
    ["a spent nonce", wrapped(wallet(-32000, "nonce too low")), "stale"],
    ["too little ether", wrapped(wallet(-32000, "insufficient funds for gas * price + value")), "funds"],
    ["another account", wrapped(wallet(4100, "not authorized")), "account"],
    ["the page's own check", new OtherAccount("x"), "account"],
    ["an unknown chain", wrapped(wallet(4902, "Unrecognized chain")), "unknown-network"],
    ["a block that refused", new RefusedInBlock("x"), "refused-in-block"],
    ["one out of sight", new Unfollowed("x"), "unfollowed"],
    ["no API", new ApiDown("x"), "api-down"],
    ["an API that stored something else", new OtherBytes("x"), "other-bytes"],
    ["anything else", new Error("boom\nat line 1"), "other"],
    ["no error at all", "text", "other"],
  ])("given %s, when looked at, then it is told apart", (_, error, kind) => {
    expect(troubleOf(error).kind).toBe(kind);
  });

  test("given a revert of the coordinator in a wallet's data, when looked at, then it is decoded", () => {
    const data = encodeErrorResult({ abi: coordinatorAbi, errorName: "ModelInactive", args: [3n] });
    expect(troubleOf(wrapped(wallet(3, "execution reverted", data)))).toEqual({
      kind: "reverted",
      name: "ModelInactive",
      args: [3n],
    });
  });

  test("given an error that names itself as its cause, when looked at, then the look ends", () => {
    const round: { cause?: unknown; message: string } = { message: "round" };
    round.cause = round;
    expect(troubleOf(round).kind).toBe("other");
  });
});

describe("how it is said", () => {
  test("given a declined question, when said, then it is quiet and blames nobody", () => {
    const told = explain(wallet(4001, "User rejected"), catalogue.en, "Here");
    expect(told.quiet).toBe(true);
    expect(told.text).toContain("declined");
    expect(told.details).toBeUndefined();
  });

  test("given each error that the coordinator can make in asking, when said, then in words of both languages", () => {
    const names = ["EnforcedPause", "PaymentTooLow", "InvalidCid", "BalanceTooLow", "DeadlineOutOfRange"] as const;
    for (const name of names) {
      for (const words of [catalogue.en, catalogue.de]) {
        const told = explain({ errorName: name, args: [1n] }, words, "Here");
        expect(told.text).toBe(words.wallet.reverts[name]);
        expect(told.details).toBe(`${name}(1)`);
      }
    }
  });

  test("given a problem of the API, when said, then with its own detail and remedy", () => {
    const told = explain(new ApiProblem(409, "Taken", "Another wish stands.", "Wait an hour.", "taken"), catalogue.en, "Here");
    expect(told).toMatchObject({ title: "Taken", text: "Another wish stands.", remedy: "Wait an hour." });
  });

  test("given an error with a stack, when said, then only its first line is among the details", () => {
    expect(explain(new Error("boom\n    at secret.js:1"), catalogue.en, "Here").details).toBe("boom");
  });
});
