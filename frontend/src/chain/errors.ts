import { decodeErrorResult, type Hex, parseAbi } from "viem";

import { ApiDown, ApiProblem, OtherBytes } from "../api/client";
import { sayProblem } from "../api/problems";
import type { Words } from "../words";
import { coordinatorAbi } from "./abi";
import { isNoRpc } from "./wagmi";

/** What went wrong on the way to the chain, in the page's own terms. */
export type Trouble =
  | { kind: "declined" }
  | { kind: "locked" }
  | { kind: "busy" }
  | { kind: "account" }
  | { kind: "network" }
  | { kind: "unknown-network" }
  | { kind: "stale" }
  | { kind: "funds" }
  | { kind: "reverted"; name: string; args: readonly unknown[] }
  | { kind: "no-rpc" }
  | { kind: "api"; problem: ApiProblem }
  | { kind: "api-down" }
  | { kind: "other-bytes"; text: string }
  | { kind: "refused-in-block" }
  | { kind: "unfollowed" }
  | { kind: "other"; text: string };

/** A transaction is in a block and changed nothing but the balance that paid its fee. */
export class RefusedInBlock extends Error {
  override readonly name = "RefusedInBlock";
}

/** A transaction was sent, and what became of it could not be read. */
export class Unfollowed extends Error {
  override readonly name = "Unfollowed";
}

/** Nobody answers for the account that the page is about to pay from. */
export class OtherAccount extends Error {
  override readonly name = "OtherAccount";
}

interface Link {
  name?: unknown;
  code?: unknown;
  message?: unknown;
  details?: unknown;
  data?: unknown;
  cause?: unknown;
}

/** The error and its causes, among them what a wallet wraps in `data`, at most a dozen. */
function chainOfCauses(error: unknown): Link[] {
  const found: Link[] = [];
  const waiting: unknown[] = [error];
  while (waiting.length > 0 && found.length < 12) {
    const next = waiting.shift();
    if (typeof next !== "object" || next === null) continue;
    const link = next as Link;
    found.push(link);
    waiting.push(link.cause, link.data, (link as { originalError?: unknown }).originalError);
  }
  return found;
}

const REVERT_DATA = /^0x[0-9a-fA-F]{8,}$/;

/** Reverts that tokens have in common (ERC-6093), beside the coordinator's. */
const TOKEN_ERRORS = parseAbi([
  "error ERC20InsufficientBalance(address sender, uint256 balance, uint256 needed)",
  "error ERC20InsufficientAllowance(address spender, uint256 allowance, uint256 needed)",
  "error ERC2612ExpiredSignature(uint256 deadline)",
  "error ERC2612InvalidSigner(address signer, address owner)",
]);
const KNOWN_ERRORS = [...coordinatorAbi, ...TOKEN_ERRORS];

export function troubleOf(error: unknown): Trouble {
  if (error instanceof ApiProblem) return { kind: "api", problem: error };
  if (error instanceof ApiDown) return { kind: "api-down" };
  if (error instanceof OtherBytes) return { kind: "other-bytes", text: error.message };
  if (error instanceof RefusedInBlock) return { kind: "refused-in-block" };
  if (error instanceof Unfollowed) return { kind: "unfollowed" };
  if (error instanceof OtherAccount) return { kind: "account" };
  const links = chainOfCauses(error);
  const names = new Set(links.map((link) => link.name));
  const codes = new Set(links.map((link) => link.code));
  const text = links
    .flatMap((link) => [link.details, link.message])
    .filter((one): one is string => typeof one === "string")
    .join("\n");

  if (isNoRpc(error)) return { kind: "no-rpc" };
  if (codes.has(4902)) return { kind: "unknown-network" };
  if (names.has("ConnectorChainMismatchError") || names.has("ChainMismatchError")) return { kind: "network" };
  if (names.has("ConnectorAccountNotFoundError") || names.has("ConnectorNotConnectedError")) return { kind: "account" };
  if (codes.has(4001) || codes.has("ACTION_REJECTED")) return { kind: "declined" };
  const reverted = revertOf(links);
  if (reverted) return reverted;
  if (/nonce.{0,3}too.{0,3}(high|low)|nonce has already been used|invalid nonce|expected nonce/i.test(text)) {
    return { kind: "stale" };
  }
  if (/insufficient funds|exceeds the balance|insufficient balance for/i.test(text)) return { kind: "funds" };
  if (codes.has(-32002)) return /\block/i.test(text) ? { kind: "locked" } : { kind: "busy" };
  if (codes.has(4100)) return { kind: "account" };
  return { kind: "other", text: firstLine(links) };
}

function revertOf(links: readonly Link[]): Trouble | null {
  for (const link of links) {
    // viem has decoded it: { errorName, args } in `data` of ContractFunctionRevertedError.
    const decoded = link as { errorName?: unknown; args?: unknown };
    if (typeof decoded.errorName === "string" && decoded.errorName !== "Error") {
      return { kind: "reverted", name: decoded.errorName, args: Array.isArray(decoded.args) ? decoded.args : [] };
    }
    for (const data of [link.data, (link as { raw?: unknown }).raw]) {
      if (typeof data !== "string" || !REVERT_DATA.test(data)) continue;
      try {
        const { errorName, args } = decodeErrorResult({ abi: KNOWN_ERRORS, data: data as Hex });
        return { kind: "reverted", name: errorName, args: args as readonly unknown[] };
      } catch {
        // Some other contract's error, or no error's data at all.
      }
    }
  }
  return null;
}

function firstLine(links: readonly Link[]): string {
  for (const link of [...links].reverse()) {
    const text = (link as { shortMessage?: unknown }).shortMessage ?? link.details ?? link.message;
    if (typeof text === "string" && text.trim() !== "") return text.split("\n")[0]?.slice(0, 300) ?? "";
  }
  return "";
}

export interface Explained {
  /** Nothing went wrong: somebody said no. */
  quiet: boolean;
  title: string;
  text: string;
  remedy?: string;
  details?: string;
}

/** Says it: what happened, that nothing was lost, what to do. */
export function explain(error: unknown, words: Words, chainName: string): Explained {
  const trouble = troubleOf(error);
  const wallet = words.wallet;
  const of = wallet.troubles;
  const reverts: Partial<Record<string, string>> = wallet.reverts;
  const told = (kind: keyof typeof of, details?: string): Explained => ({
    quiet: false,
    ...of[kind],
    ...(details ? { details } : {}),
  });
  switch (trouble.kind) {
    case "declined":
      return { quiet: true, title: wallet.declinedTitle, text: wallet.rejected };
    case "network":
    case "unknown-network":
      return { ...told("network"), remedy: wallet.switchTo(chainName) };
    case "reverted":
      return {
        ...told("reverted"),
        text: reverts[trouble.name] ?? of.reverted.text,
        details: `${trouble.name}(${trouble.args.map(String).join(", ")})`,
      };
    case "api":
      return { quiet: false, ...sayProblem(trouble.problem, words) };
    case "api-down":
      return {
        quiet: false,
        title: words.common.failed,
        text: words.common.apiUnreachable,
        remedy: words.common.apiRemedy,
      };
    case "other-bytes":
      return { quiet: false, title: words.common.failed, text: words.common.otherBytes, details: trouble.text };
    case "no-rpc":
      return { quiet: false, title: words.common.failed, text: words.common.noRpc };
    case "other":
      return told("other", trouble.text);
    default:
      return told(trouble.kind);
  }
}
