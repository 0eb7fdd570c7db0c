import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { encodeDeployData, parseAbi } from "viem";
import type { Address, Hex } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { describe } from "vitest";

import { choosePicture, connect, listed, payAndAsk } from "./harness/flow.js";
import { picture } from "./harness/pictures.js";
import { developmentKey } from "./harness/prepared.js";
import { expect, test } from "./harness/site.js";
import type { Site } from "./harness/site.js";
import { PROJECT } from "./harness/stack.js";

const PRICE = 250_000n;
const CONTRACTS = ["PlainToken", "NoReturnToken", "ZeroFirstToken"].map((name) => `contracts/mocks/${name}.sol`);
const TOKEN = parseAbi([
  "constructor(uint8 places)",
  "function mint(address account, uint256 amount)",
  "function balanceOf(address account) view returns (uint256)",
  "function approve(address spender, uint256 amount)",
]);
const COORDINATOR = parseAbi([
  "function publishModel(bytes manifestCid, uint256 price, address token, address payout) payable returns (uint256)",
  "function publishingFee() view returns (uint256)",
  "function modelCount() view returns (uint256)",
  "function modelOf(uint256 modelId) view returns ((address publisher, address payout, address token, bool active, uint256 price, uint256 publisherShare, bytes manifestCid))",
]);

async function compiled(name: string): Promise<Hex> {
  const folder = mkdtempSync(join(tmpdir(), "sibyl-forge-"));
  try {
    const words = ["build", ...CONTRACTS, "--out", folder, "--cache-path", join(folder, "cache")];
    const forge = spawn(join(PROJECT, "scripts/forge"), words, { cwd: PROJECT, stdio: "ignore" });
    const code = await new Promise((done) => forge.once("close", done));
    if (code !== 0) throw new Error(`forge ended with ${String(code)}`);
    const artifact = JSON.parse(readFileSync(join(folder, `${name}.sol`, `${name}.json`), "utf8")) as {
      bytecode: { object: Hex };
    };
    return artifact.bytecode.object;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A token of which the account holds much, and the digits' model priced in it. */
async function pricedIn(site: Site, name: string, holder: Address): Promise<{ token: Address; model: bigint }> {
  const { chain } = site;
  const account = privateKeyToAccount(developmentKey(2));
  const mined = async (hash: Hex) => chain.waitForTransactionReceipt({ hash, pollingInterval: 50 });
  const data = encodeDeployData({ abi: TOKEN, bytecode: await compiled(name), args: [6] });
  const token = (await mined(await chain.sendTransaction({ account, data }))).contractAddress;
  if (!token) throw new Error("the token was not deployed");
  await mined(
    await chain.writeContract({ account, address: token, abi: TOKEN, functionName: "mint", args: [holder, 10n ** 9n] }),
  );
  const contract = { address: site.facts.coordinator, abi: COORDINATOR } as const;
  const { manifestCid } = await chain.readContract({ ...contract, functionName: "modelOf", args: [1n] });
  await mined(
    await chain.writeContract({
      account,
      ...contract,
      functionName: "publishModel",
      args: [manifestCid, PRICE, token, account.address],
      value: await chain.readContract({ ...contract, functionName: "publishingFee" }),
    }),
  );
  return { token, model: await chain.readContract({ ...contract, functionName: "modelCount" }) };
}

/** What the account allowed the coordinator at some other time. */
async function allowed({ chain, facts }: Site, token: Address, account: Address, amount: bigint): Promise<void> {
  await chain.impersonateAccount({ address: account });
  const call = { address: token, abi: TOKEN, functionName: "approve", args: [facts.coordinator, amount] } as const;
  const hash = await chain.writeContract({ account, ...call });
  await chain.waitForTransactionReceipt({ hash, pollingInterval: 50 });
  await chain.stopImpersonatingAccount({ address: account });
}

describe("models priced in a token", () => {
  for (const [name, before, how, prompts] of [
    ["PlainToken", 0n, "a permit is signed", ["connect", "sign", "send"]],
    ["NoReturnToken", 0n, "an approval is sent", ["connect", "send", "send"]],
    ["NoReturnToken", 1n, "a higher approval is sent", ["connect", "send", "send"]],
    ["ZeroFirstToken", 1n, "the old approval is taken back and a new one sent", ["connect", "send", "send", "send"]],
  ] as const) {
    const given = `given a ${name} of which ${before} is allowed already`;
    test(`${given}, when its model is asked, then ${how} first and the price is paid`, async ({ site, run }) => {
      const wallet = await site.wallet();
      const { token, model } = await pricedIn(site, name, wallet.address);
      if (before > 0n) await allowed(site, token, wallet.address, before);
      await listed(run.facts, '"token"', `/v1/models/${model}`);
      const page = await site.open("#/", { wallets: [wallet] });
      await choosePicture(page, picture(run.pictures, "digit-3"));
      const choice = page.locator(`input[name=model][value="${model}"]`); // models may share a name
      await choice.check();
      await expect.poll(() => page.locator("label").filter({ has: choice }).innerText()).toMatch(/\b0\.25\s/);
      await connect(page);
      await payAndAsk(page);
      expect(wallet.prompts.map((prompt) => prompt.kind)).toEqual(prompts);
      const left = await site.chain.readContract({
        address: token,
        abi: TOKEN,
        functionName: "balanceOf",
        args: [wallet.address],
      });
      expect(left).toBe(10n ** 9n - PRICE);
    });
  }
});
