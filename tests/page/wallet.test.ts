import { describe } from "vitest";

import {
  answered,
  choosePicture,
  chooseModel,
  connect,
  connectButton,
  payAndAsk,
  payButton,
  requestId,
} from "./harness/flow.js";
import { picture } from "./harness/pictures.js";
import type { Run } from "./harness/global.js";
import type { Site } from "./harness/site.js";
import { expect, test } from "./harness/site.js";
import type { ScriptedWallet } from "./wallet/scripted.js";
import type { Page } from "playwright-core";

/** A connected wallet in front of a picture, ready to pay. */
async function ready(site: Site, run: Run, wallet: ScriptedWallet): Promise<Page> {
  const page = await site.open("#/", { wallets: [wallet] });
  await choosePicture(page, picture(run.pictures, "digit-7"));
  await chooseModel(page, /mnist-cnn/);
  await connect(page, wallet.info.name);
  await payButton(page).waitFor();
  return page;
}

describe("wallets", () => {
  test("given no wallet, when the page is opened, then it works and says how to get one", async ({ site, run }) => {
    const page = await site.open();
    await choosePicture(page, picture(run.pictures, "digit-7"));
    await connectButton(page).click();
    await page.getByRole("dialog").getByText("No wallet found").first().waitFor();
    await page.keyboard.press("Escape");
    await page.goto(site.url(`#/request/${run.asked.digit.id}`));
    await answered(page);
  });

  test("given two wallets, when connecting, then both are offered by name and icon, and the chosen one is used", async ({
    site,
  }) => {
    const [first, second] = [await site.wallet({ name: "Aspen" }), await site.wallet({ name: "Birch" })];
    const page = await site.open("#/", { wallets: [first, second] });
    await connectButton(page).click();
    const dialog = page.getByRole("dialog");
    for (const name of ["Aspen", "Birch"]) {
      const choice = dialog.getByRole("button", { name });
      expect(await choice.locator("img").getAttribute("src")).toMatch(/^data:image\/svg/);
    }
    await dialog.getByRole("button", { name: "Birch" }).click();
    await expect.poll(() => second.visible()).toEqual([second.address]);
    expect(first.prompts).toEqual([]);
  });

  test("given something at window.ethereum, when a wallet connects, then it was never touched", async ({ site }) => {
    const wallet = await site.wallet();
    const context = await site.context({ wallets: [wallet] });
    await context.addInitScript(() => {
      const counted = window as unknown as { touched: number };
      counted.touched = 0;
      Object.defineProperty(window, "ethereum", {
        get: () => {
          counted.touched += 1;
          return undefined;
        },
      });
    });
    const page = await context.newPage();
    await page.goto(site.url());
    await connect(page);
    expect(await page.evaluate(() => (window as unknown as { touched: number }).touched)).toBe(0);
  });

  test("given a rejected connection, when it is tried again, then it works", async ({ site }) => {
    const wallet = await site.wallet();
    const page = await site.open("#/", { wallets: [wallet] });
    wallet.rejectNext("connect");
    await connectButton(page).click();
    await page.getByRole("dialog").getByRole("button", { name: "Test Wallet" }).click();
    await page
      .getByText(/You declined in your wallet/)
      .first()
      .waitFor();
    if (await page.getByRole("dialog").isVisible()) await page.keyboard.press("Escape");
    await connect(page);
  });

  test("given a locked wallet, when connecting, then the page says to unlock it", async ({ site }) => {
    const wallet = await site.wallet();
    wallet.locked = true;
    const page = await site.open("#/", { wallets: [wallet] });
    await connectButton(page).click();
    await page.getByRole("dialog").getByRole("button", { name: "Test Wallet" }).click();
    await page.getByText("Your wallet is locked").first().waitFor();
  });

  test("given a signature that is declined (4001), when tried again, then it is paid once", async ({ site, run }) => {
    const wallet = await site.wallet();
    const page = await ready(site, run, wallet);
    wallet.rejectNext("send");
    await payButton(page).click();
    await page
      .getByText(/You declined in your wallet/)
      .first()
      .waitFor();
    expect(wallet.sent).toHaveLength(0);
    const again = payButton(page)
      .or(page.getByRole("button", { name: /try again/i }))
      .first();
    await again.click();
    await requestId(page);
    expect(wallet.sent).toHaveLength(1);
  });

  test("given a wallet on a chain that is not ours, when the network is mended, then it switches", async ({ site }) => {
    const other = { id: 1337, name: "Elsewhere", rpcUrl: site.facts.rpc_url };
    const wallet = await site.wallet({ networks: [other, site.network], chainId: 1337 });
    const page = await site.open("#/", { wallets: [wallet] });
    await connect(page);
    await page
      .getByRole("button", { name: /wrong network/i })
      .first()
      .click();
    await expect.poll(() => wallet.chain).toBe(site.facts.chain_id);
    expect(wallet.prompts.map((prompt) => prompt.kind)).toEqual(["connect", "switch"]);
    await page
      .getByRole("button", { name: /wrong network/i })
      .first()
      .waitFor({ state: "detached" });
  });

  test("given a wallet that does not know our chain (4902), when the network is mended, then it is added", async ({
    site,
  }) => {
    const other = { id: 1337, name: "Elsewhere", rpcUrl: site.facts.rpc_url };
    const wallet = await site.wallet({ networks: [other], chainId: 1337 });
    const page = await site.open("#/", { wallets: [wallet] });
    await connect(page);
    await page
      .getByRole("button", { name: /wrong network/i })
      .first()
      .click();
    await expect.poll(() => wallet.chain).toBe(site.facts.chain_id);
    expect(wallet.prompts.map((prompt) => prompt.kind)).toContain("add");
    await page
      .getByRole("button", { name: /wrong network/i })
      .first()
      .waitFor({ state: "detached" });
  });

  test("given an open question in the wallet, when the account is changed, then nothing is paid from the other", async ({
    site,
    run,
  }) => {
    const wallet = await site.wallet({ accounts: 2 });
    const page = await ready(site, run, wallet);
    const held = wallet.holdNext("send");
    await payButton(page).click();
    await held.asked;
    const before = wallet.address;
    wallet.selectAccount(1);
    held.accept();
    await expect.poll(() => page.getByRole("banner").innerText()).toContain(wallet.address.slice(0, 6));
    expect(before).not.toBe(wallet.address);
    expect(wallet.sent).toHaveLength(0);
    await expect.poll(() => payButton(page).isEnabled()).toBe(true);
    await payAndAsk(page);
    expect(wallet.sent.map((one) => one.from)).toEqual([wallet.address]);
  });

  test("given a request that is being signed, when the chain is changed, then the page says so and does not pay", async ({
    site,
    run,
  }) => {
    const other = { id: 1337, name: "Elsewhere", rpcUrl: site.facts.rpc_url };
    const wallet = await site.wallet({ networks: [site.network, other] });
    const page = await ready(site, run, wallet);
    const held = wallet.holdNext("send");
    await payButton(page).click();
    await held.asked;
    wallet.selectChain(1337);
    held.reject();
    await page
      .getByRole("button", { name: /wrong network/i })
      .first()
      .waitFor();
    expect(wallet.sent).toHaveLength(0);
  });

  test("given a transaction that waits, when it is sped up, then the page follows it to its request", async ({
    site,
    run,
  }) => {
    const wallet = await site.wallet();
    const page = await ready(site, run, wallet);
    await site.chain.setAutomine(false);
    try {
      await payButton(page).click();
      await expect.poll(() => wallet.sent.length).toBe(1);
      const [first] = wallet.sent;
      if (first === undefined) throw new Error("nothing was sent");
      await wallet.speedUp(first.hash);
      await site.chain.mine({ blocks: 1 });
    } finally {
      await site.chain.setAutomine(true);
    }
    await requestId(page);
    await answered(page);
  });

  test("given a transaction that waits, when it is cancelled in the wallet, then the page says that nothing was paid", async ({
    site,
    run,
  }) => {
    const wallet = await site.wallet();
    const page = await ready(site, run, wallet);
    await site.chain.setAutomine(false);
    try {
      await payButton(page).click();
      await expect.poll(() => wallet.sent.length).toBe(1);
      const [first] = wallet.sent;
      if (first === undefined) throw new Error("nothing was sent");
      await wallet.cancel(first.hash);
      await site.chain.mine({ blocks: 1 });
    } finally {
      await site.chain.setAutomine(true);
    }
    await page.getByText("Cancelled in the wallet").first().waitFor();
    expect(page.url()).not.toContain("#/request/");
  });

  test("given a chain that was started anew, when the wallet's count is refused, then the page says what to clear", async ({
    site,
    run,
  }) => {
    const wallet = await site.wallet();
    const page = await ready(site, run, wallet);
    wallet.rememberOldChain(7, "refused");
    await payButton(page).click();
    await page
      .getByText(/clear.*activity/i)
      .first()
      .waitFor();
    wallet.clearActivity();
    await payButton(page)
      .or(page.getByRole("button", { name: /try again/i }))
      .first()
      .click();
    await requestId(page);
  });

  test("given a chain that was started anew, when the transaction waits for others, then the page says what to clear", async ({
    site,
    run,
  }) => {
    const wallet = await site.wallet();
    const page = await ready(site, run, wallet);
    wallet.rememberOldChain(7, "stuck");
    await payButton(page).click();
    await page
      .getByText(/clear.*activity/i)
      .first()
      .waitFor({ timeout: 30_000 });
  });
});
