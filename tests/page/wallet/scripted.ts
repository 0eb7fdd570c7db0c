/** The tests' wallet: keys stay here in Node, the page gets a provider, and a test says what the person at it does. */
import type { BrowserContext } from "playwright-core";
import type { Hex } from "viem";

import { ProviderError, Wallet, rejected } from "./core.js";
import type { Call, Network, Prompt, PromptKind } from "./core.js";
import { announce } from "./provider.js";
import type { Info, Reply } from "./provider.js";

const BINDING = "__testWallet";

export interface Held {
  /** Resolves once the question is on the wallet's screen. */
  readonly asked: Promise<Prompt>;
  readonly accept: () => void;
  readonly reject: () => void;
}

interface Step {
  readonly kind: PromptKind;
  readonly take: (prompt: Prompt) => Promise<void>;
}

export interface ScriptedOptions {
  readonly name?: string;
  readonly keys: readonly Hex[];
  /** The first is the one that it is on. */
  readonly networks: readonly Network[];
}

let count = 0;

export class ScriptedWallet extends Wallet {
  readonly info: Info;
  readonly calls: Call[] = [];
  readonly prompts: Prompt[] = [];
  private readonly steps: Step[] = [];
  private staleBy = 0;
  private refusesStale = false;
  private readonly contexts: BrowserContext[] = [];

  constructor({ name = "Test Wallet", keys, networks }: ScriptedOptions) {
    const [first] = networks;
    super(keys, networks, first?.id ?? 0);
    count += 1;
    this.info = {
      uuid: `00000000-0000-4000-8000-${count.toString().padStart(12, "0")}`,
      name,
      icon: icon(name),
      rdns: `test.wallet.${name.toLowerCase().replaceAll(/[^a-z0-9]/g, "")}`,
    };
    this.approve = async (prompt) => {
      this.prompts.push(prompt);
      const index = this.steps.findIndex((step) => step.kind === prompt.kind);
      const [step] = index < 0 ? [] : this.steps.splice(index, 1);
      await step?.take(prompt);
    };
    this.emit = (event, payload) => void this.tell(event, payload);
  }

  /** Say no to the next question of this kind. */
  rejectNext(kind: PromptKind): void {
    this.steps.push({ kind, take: () => Promise.reject(rejected()) });
  }

  /** Leave the next question of this kind open until the test decides. */
  holdNext(kind: PromptKind): Held {
    let seen!: (prompt: Prompt) => void;
    let accept!: () => void;
    let reject!: () => void;
    const asked = new Promise<Prompt>((resolve) => (seen = resolve));
    const decided = new Promise<void>((resolve, fail) => {
      accept = resolve;
      reject = () => fail(rejected());
    });
    decided.catch(() => undefined);
    this.steps.push({
      kind,
      take: (prompt) => {
        seen(prompt);
        return decided;
      },
    });
    return { asked, accept, reject };
  }

  /**
   * Behave as a wallet whose chain was started anew: it goes on counting where the old chain ended.
   * "refused" is told so by the node, "stuck" is a transaction that waits for others that will never come.
   */
  rememberOldChain(by: number, how: "refused" | "stuck"): void {
    this.staleBy = by;
    this.refusesStale = how === "refused";
  }

  clearActivity(): void {
    this.staleBy = 0;
  }

  protected override async nextNonce(): Promise<number> {
    const nonce = await super.nextNonce();
    if (this.staleBy > 0 && this.refusesStale) {
      const message = `Nonce too high. Expected nonce to be ${nonce} but got ${nonce + this.staleBy}.`;
      throw new ProviderError(-32603, "Internal JSON-RPC error.", { code: -32000, message });
    }
    return nonce + this.staleBy;
  }

  /** The same again at the same nonce, for higher fees. */
  async speedUp(hash: Hex): Promise<Hex> {
    const old = this.find(hash);
    return this.replace({ ...old, ...raised(old) });
  }

  /** Nothing at the same nonce, to the account itself, for higher fees. */
  async cancel(hash: Hex): Promise<Hex> {
    const old = this.find(hash);
    return this.replace({ ...old, ...raised(old), to: old.from, data: "0x", value: 0n, gas: 21_000n });
  }

  /** Put the wallet into every page that the context opens from now on. */
  async install(context: BrowserContext): Promise<void> {
    this.contexts.push(context);
    const binding = `${BINDING}_${this.info.uuid.replaceAll("-", "_")}`;
    await context.exposeBinding(binding, (_, method: string, params: unknown) => this.answer(method, params));
    const source = `(${announce.toString()})(${JSON.stringify(this.info)}, {
      call: (method, params) => window[${JSON.stringify(binding)}](method, params),
      listen: (heard) => window.addEventListener(${JSON.stringify(binding)}, (e) => heard(e.detail.event, e.detail.payload)),
    })`;
    await context.addInitScript({ content: source });
  }

  private async answer(method: string, params: unknown): Promise<Reply> {
    this.calls.push({ method, params });
    try {
      return { result: await this.request({ method, params }) };
    } catch (error) {
      if (error instanceof ProviderError) {
        return { error: { code: error.code, message: error.message, data: error.data } };
      }
      return { error: { code: -32603, message: error instanceof Error ? error.message : String(error) } };
    }
  }

  private async tell(event: string, payload: unknown): Promise<void> {
    const name = `${BINDING}_${this.info.uuid.replaceAll("-", "_")}`;
    const pages = this.contexts.flatMap((context) => context.pages());
    await Promise.allSettled(
      pages.map((page) =>
        page.evaluate(([name, detail]) => window.dispatchEvent(new CustomEvent(name, { detail })), [
          name,
          { event, payload },
        ] as const),
      ),
    );
  }

  private find(hash: Hex): Sent {
    const found = this.sent.find((one) => one.hash === hash);
    if (found === undefined) throw new Error(`the wallet did not send ${hash}`);
    return found;
  }

  private async replace({ hash: _hash, ...plan }: Sent): Promise<Hex> {
    const account = this.accounts.find((one) => one.address === plan.from);
    if (account === undefined) throw new Error(`no account ${plan.from}`);
    return this.broadcast(account, plan);
  }
}

type Sent = Wallet["sent"][number];

function raised(old: Sent): Pick<Sent, "maxFeePerGas" | "maxPriorityFeePerGas"> {
  const more = (fee: bigint): bigint => fee * 2n + 1_000_000_000n;
  return { maxFeePerGas: more(old.maxFeePerGas), maxPriorityFeePerGas: more(old.maxPriorityFeePerGas) };
}

function icon(name: string): string {
  const hue = Array.from(name).reduce((sum, letter) => sum + letter.charCodeAt(0), 0) % 360;
  const svg =
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="8" fill="hsl(${hue} 60% 40%)"/>` +
    `<text x="16" y="22" font-size="16" fill="#fff" text-anchor="middle">${name.charAt(0)}</text></svg>`;
  return `data:image/svg+xml,${encodeURIComponent(svg)}`;
}
