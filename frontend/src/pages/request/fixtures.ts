/** A request as API and chain tell of it, for tests. */
import type { Hex, RequestStatus, RequestView } from "../../api/types";
import type { ChainRequest } from "../../chain/requests";
import type { ChainStatus } from "../../chain/abi";
import { parseCid } from "../../content/cid";
import { golden } from "../../content/golden";

export const ID = golden.requestId as Hex;
export const REQUESTER: Hex = `0x${"12".repeat(20)}`;
export const AT = 1_700_000_000;

export type Kind = keyof typeof golden.documents;

const WAY: RequestStatus[] = ["seen", "confirmed", "ready", "computing", "computed", "posting", "fulfilled"];

export function hexOf(cid: string): Hex {
  return `0x${Buffer.from(parseCid(cid).bytes).toString("hex")}`;
}

export function viewOf(status: RequestStatus, kind: Kind = "classification", over: Partial<RequestView> = {}): RequestView {
  const last = WAY.indexOf(status);
  const moves = last < 0 ? [...WAY.slice(0, 4), status] : WAY.slice(0, last + 1);
  const done = status === "fulfilled";
  return {
    id: ID,
    status,
    model: 1,
    model_name: "mnist-cnn",
    requester: REQUESTER,
    image_cid: golden.imageCid,
    image: null,
    payment: "2100",
    token: null,
    callback_gas: 0,
    deadline: AT + 600,
    created_at: AT,
    block: 124,
    transaction: `0x${"7a".repeat(32)}`,
    provider: "0x1212",
    provider_name: "oak-3",
    result_cid: done ? golden.documents[kind].cid : null,
    answer: done ? (golden.documents[kind].answer as Hex) : null,
    top: null,
    failure: null,
    detail: "",
    report_transaction: null,
    nonce: 7,
    refundable_at: AT + 600,
    timeline: moves.map((move, i) => ({ at: AT + i, status: move, detail: "" })),
    ...over,
  };
}

export function chainOf(status: ChainStatus, kind: Kind = "classification", over: Partial<ChainRequest> = {}): ChainRequest {
  const answered = status === "Fulfilled" || status === "CallbackFailed";
  const { cid, answer } = golden.documents[kind];
  return {
    id: ID,
    status,
    head: { number: 200, timestamp: AT + 100 },
    asking: {
      model: 1,
      requester: REQUESTER,
      imageCid: golden.imageCid,
      imageCidBytes: hexOf(golden.imageCid),
      payment: 2_100n,
      callbackGas: 0n,
      deadline: AT + 600,
      nonce: 7n,
      block: 124,
      transaction: `0x${"7a".repeat(32)}`,
      at: AT,
    },
    settling:
      status === "Pending" || status === "Unknown"
        ? null
        : {
            block: 127,
            transaction: `0x${"8b".repeat(32)}`,
            at: AT + 9,
            resultCid: answered ? cid : null,
            resultCidBytes: answered ? hexOf(cid) : null,
            answer: answered ? (answer as Hex) : null,
            failure: status === "Failed" ? "image_unreadable" : null,
            paidTo: answered ? null : "account",
          },
    callback: status === "CallbackFailed" ? "failed" : "none",
    ...over,
  };
}
