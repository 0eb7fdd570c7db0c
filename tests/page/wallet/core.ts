/**
 * A wallet's inside: accounts, networks, permissions, and signatures that are real. It knows no browser and no Node, so
 * that the tests' wallet and the extension share it. It holds play money only.
 */
import { createPublicClient, createWalletClient, defineChain, hexToBigInt, http } from "viem";
import type { Address, Chain, Hex, TransactionRequest } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import type { PrivateKeyAccount } from "viem/accounts";

export interface Network {
  readonly id: number;
  readonly name: string;
  readonly rpcUrl: string;
}

export interface Call {
  readonly method: string;
  readonly params?: unknown;
}

export type PromptKind = "connect" | "switch" | "add" | "sign" | "send";

export interface Prompt {
  readonly kind: PromptKind;
  readonly params: readonly unknown[];
}

export interface Sent {
  readonly hash: Hex;
  readonly from: Address;
  readonly nonce: number;
  readonly to: Address | undefined;
  readonly data: Hex;
  readonly value: bigint;
  readonly gas: bigint;
  readonly maxFeePerGas: bigint;
  readonly maxPriorityFeePerGas: bigint;
}

/** What an EIP-1193 provider rejects with. */
export class ProviderError extends Error {
  constructor(
    readonly code: number,
    message: string,
    readonly data?: unknown,
  ) {
    super(message);
  }
}

export const rejected = (): ProviderError => new ProviderError(4001, "User rejected the request.");

interface WireTransaction {
  from?: Address;
  to?: Address;
  data?: Hex;
  input?: Hex;
  value?: Hex;
  gas?: Hex;
  nonce?: Hex;
  maxFeePerGas?: Hex;
  maxPriorityFeePerGas?: Hex;
}

export type Emit = (event: "accountsChanged" | "chainChanged", payload: unknown) => void;
export type Approve = (prompt: Prompt) => Promise<void>;

const big = (value: Hex | undefined): bigint | undefined => (value === undefined ? undefined : hexToBigInt(value));

/** One wallet. Each prompt goes through `approve`, which throws to reject; each event goes to `emit`. */
export class Wallet {
  readonly sent: Sent[] = [];
  locked = false;
  approve: Approve = () => Promise.resolve();
  emit: Emit = () => undefined;
  protected readonly networks: Map<number, Network>;
  protected accounts: PrivateKeyAccount[];
  private connected = false;

  constructor(
    keys: readonly Hex[],
    networks: readonly Network[],
    protected chainId: number,
  ) {
    this.accounts = keys.map((key) => privateKeyToAccount(key));
    this.networks = new Map(networks.map((network) => [network.id, network]));
  }

  /** The selected account. */
  get address(): Address {
    const [first] = this.accounts;
    if (first === undefined) throw new Error("a wallet has an account");
    return first.address;
  }

  get chain(): number {
    return this.chainId;
  }

  /** What a page sees in `eth_accounts`. */
  visible(): Address[] {
    return this.connected && !this.locked ? [this.address] : [];
  }

  /** Forget that the page was ever allowed to see the accounts. */
  forget(): void {
    this.connected = false;
    this.emit("accountsChanged", []);
  }

  /** Choose another of the accounts, as a person does in the wallet. */
  selectAccount(index: number): void {
    const chosen = this.accounts[index];
    if (chosen === undefined) throw new Error(`no account ${index}`);
    this.accounts = [chosen, ...this.accounts.filter((one) => one !== chosen)];
    this.emit("accountsChanged", this.visible());
  }

  /** Choose another network, as a person does in the wallet. */
  selectChain(id: number): void {
    if (!this.networks.has(id)) throw new Error(`no network ${id}`);
    this.chainId = id;
    this.emit("chainChanged", `0x${id.toString(16)}`);
  }

  setLocked(locked: boolean): void {
    this.locked = locked;
    this.emit("accountsChanged", this.visible());
  }

  async request({ method, params }: Call): Promise<unknown> {
    const list: readonly unknown[] = Array.isArray(params) ? params : [];
    switch (method) {
      case "eth_accounts":
        return this.visible();
      case "eth_requestAccounts":
        return this.connect(list);
      case "wallet_requestPermissions":
        await this.connect(list);
        return this.permissions();
      case "wallet_getPermissions":
        return this.permissions();
      case "wallet_revokePermissions":
        this.forget();
        return null;
      case "eth_chainId":
        return `0x${this.chainId.toString(16)}`;
      case "net_version":
        return String(this.chainId);
      case "wallet_switchEthereumChain":
        return this.switchChain(list);
      case "wallet_addEthereumChain":
        return this.addChain(list);
      case "eth_sendTransaction":
        return this.send(list);
      case "personal_sign":
        return this.sign(list, (account) => account.signMessage({ message: { raw: list[0] as Hex } }));
      case "eth_signTypedData_v4": {
        const typed = typeof list[1] === "string" ? (JSON.parse(list[1]) as unknown) : list[1];
        return this.sign(list, (account) => account.signTypedData(typed as never));
      }
      default:
        if (method.startsWith("wallet_")) throw new ProviderError(-32601, `The method "${method}" does not exist.`);
        return this.node(method, list);
    }
  }

  protected network(): Network {
    const network = this.networks.get(this.chainId);
    if (network === undefined) throw new Error(`no network ${this.chainId}`);
    return network;
  }

  /** Ask the node of the selected network. */
  protected async node(method: string, params: readonly unknown[]): Promise<unknown> {
    const response = await fetch(this.network().rpcUrl, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }),
    });
    const answer = (await response.json()) as {
      result?: unknown;
      error?: { code: number; message: string; data?: unknown };
    };
    if (answer.error) throw new ProviderError(answer.error.code, answer.error.message, answer.error.data);
    return answer.result;
  }

  private permissions(): unknown[] {
    if (!this.connected) return [];
    return [
      { parentCapability: "eth_accounts", caveats: [{ type: "restrictReturnedAccounts", value: this.visible() }] },
    ];
  }

  private async connect(params: readonly unknown[]): Promise<Address[]> {
    if (!this.connected || this.locked) await this.approve({ kind: "connect", params });
    this.connected = true;
    if (this.locked) throw new ProviderError(-32002, "The wallet is locked: unlock it first.");
    this.emit("accountsChanged", this.visible());
    return this.visible();
  }

  private async switchChain(params: readonly unknown[]): Promise<null> {
    const id = Number((params[0] as { chainId: Hex }).chainId);
    if (!this.networks.has(id)) {
      throw new ProviderError(4902, `Unrecognized chain ID "0x${id.toString(16)}". Try adding the chain first.`);
    }
    if (id !== this.chainId) {
      await this.approve({ kind: "switch", params });
      this.selectChain(id);
    }
    return null;
  }

  private async addChain(params: readonly unknown[]): Promise<null> {
    const wanted = params[0] as { chainId: Hex; chainName: string; rpcUrls?: string[] };
    const [rpcUrl] = wanted.rpcUrls ?? [];
    if (rpcUrl === undefined) throw new ProviderError(-32602, "Expected an array with at least one RPC endpoint.");
    await this.approve({ kind: "add", params });
    const id = Number(wanted.chainId);
    this.networks.set(id, { id, name: wanted.chainName, rpcUrl });
    this.selectChain(id);
    return null;
  }

  private async sign(params: readonly unknown[], work: (account: PrivateKeyAccount) => Promise<Hex>): Promise<Hex> {
    await this.approve({ kind: "sign", params });
    return work(this.unlocked());
  }

  private unlocked(): PrivateKeyAccount {
    const [first] = this.accounts;
    if (!this.connected || this.locked || first === undefined) {
      throw new ProviderError(4100, "The requested account and/or method has not been authorized by the user.");
    }
    return first;
  }

  /** What the wallet would sign with next. */
  protected async nextNonce(): Promise<number> {
    return Number(await this.node("eth_getTransactionCount", [this.address, "pending"]));
  }

  private async send(params: readonly unknown[]): Promise<Hex> {
    const wanted = params[0] as WireTransaction;
    this.unlocked();
    // As wallets do, the question is put for the account and network of this moment.
    await this.approve({ kind: "send", params });
    const account = this.unlocked();
    if (wanted.from !== undefined && wanted.from.toLowerCase() !== account.address.toLowerCase()) {
      throw new ProviderError(4100, "The requested account and/or method has not been authorized by the user.");
    }
    const client = createPublicClient({ chain: this.viemChain(), transport: http() });
    const fees = await client.estimateFeesPerGas();
    const data = wanted.data ?? wanted.input ?? "0x";
    const value = big(wanted.value) ?? 0n;
    const to = wanted.to;
    const request: TransactionRequest = { from: account.address, data, value, ...(to === undefined ? {} : { to }) };
    const gas = big(wanted.gas) ?? (await client.estimateGas({ ...request, account: account.address }));
    return this.broadcast(account, {
      from: account.address,
      nonce: await this.nextNonce(),
      to,
      data,
      value,
      gas,
      maxFeePerGas: big(wanted.maxFeePerGas) ?? fees.maxFeePerGas,
      maxPriorityFeePerGas: big(wanted.maxPriorityFeePerGas) ?? fees.maxPriorityFeePerGas,
    });
  }

  protected async broadcast(account: PrivateKeyAccount, plan: Omit<Sent, "hash">): Promise<Hex> {
    const { from: _from, to, ...rest } = plan;
    const raw = await createWalletClient({ account, chain: this.viemChain(), transport: http() }).signTransaction({
      ...rest,
      to: to ?? null,
      type: "eip1559",
      chainId: this.chainId,
    });
    const hash = (await this.node("eth_sendRawTransaction", [raw])) as Hex;
    this.sent.push({ ...plan, hash });
    return hash;
  }

  private viemChain(): Chain {
    const { id, name, rpcUrl } = this.network();
    return defineChain({
      id,
      name,
      nativeCurrency: { name: "Ether", symbol: "ETH", decimals: 18 },
      rpcUrls: { default: { http: [rpcUrl] } },
    });
  }
}
