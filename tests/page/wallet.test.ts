import { describe } from "vitest";

import {
  answered,
  choosePicture,
  connect,
  connectButton,
  payAndAsk,
  payButton,
  readyToPay,
  requestId,
  wrongNetwork,
} from "./harness/flow.js";
import { picture } from "./harness/pictures.js";
import type { Run } from "./harness/global.js";
import type { Site } from "./harness/site.js";
import { expect, test } from "./harness/site.js";
import type { ScriptedWallet } from "./wallet/scripted.js";
import type { Page } from "playwright-core";
import type { Hex } from "viem";

const ready = async (site: Site, run: Run, wallet: ScriptedWallet): Promise<Page> =>
  readyToPay(site, wallet, picture(run.pictures, "digit-7"));

/** Pay; the transaction that now waits for its block. */
async function sent(page: Page, wallet: ScriptedWallet): Promise<Hex> {
  await payButton(page).click();
  await expect.poll(() => wallet.sent.length).toBe(1);
  const [first] = wallet.sent;
  if (first === undefined) throw new Error("nothing was sent");
  return first.hash;
}

const tryAgain = (page: Page) =>
  payButton(page)
    .or(page.getByRole("button", { name: /try again/i }))
    .first();

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
    await tryAgain(page).click();
    await requestId(page);
    expect(wallet.sent).toHaveLength(1);
  });

  test("given a wallet on a chain that is not ours, when the network is mended, then it switches", async ({ site }) => {
    const wallet = await site.wallet({ networks: [site.elsewhere, site.network] });
    const page = await site.open("#/", { wallets: [wallet] });
    await connect(page);
    await wrongNetwork(page).click();
    await expect.poll(() => wallet.chain).toBe(site.facts.chain_id);
    expect(wallet.prompts.map((prompt) => prompt.kind)).toEqual(["connect", "switch"]);
    await wrongNetwork(page).waitFor({ state: "detached" });
  });

  test("given a wallet that does not know our chain (4902), when the network is mended, then it is added", async ({
    site,
  }) => {
    const wallet = await site.wallet({ networks: [site.elsewhere] });
    const page = await site.open("#/", { wallets: [wallet] });
    await connect(page);
    await wrongNetwork(page).click();
    await expect.poll(() => wallet.chain).toBe(site.facts.chain_id);
    expect(wallet.prompts.map((prompt) => prompt.kind)).toContain("add");
    await wrongNetwork(page).waitFor({ state: "detached" });
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
    const wallet = await site.wallet({ networks: [site.network, site.elsewhere] });
    const page = await ready(site, run, wallet);
    const held = wallet.holdNext("send");
    await payButton(page).click();
    await held.asked;
    wallet.selectChain(site.elsewhere.id);
    held.reject();
    await wrongNetwork(page).waitFor();
    expect(wallet.sent).toHaveLength(0);
  });

  test("given a transaction that waits, when it is sped up, then the page follows it to its request", async ({
    site,
    run,
  }) => {
    const wallet = await site.wallet();
    const page = await ready(site, run, wallet);
    await site.unmined(async () => {
      await wallet.speedUp(await sent(page, wallet));
    });
    await requestId(page);
    await answered(page);
  });

  test("given a transaction that waits, when it is cancelled in the wallet, then the page says that nothing was paid", async ({
    site,
    run,
  }) => {
    const wallet = await site.wallet();
    const page = await ready(site, run, wallet);
    await site.unmined(async () => {
      await wallet.cancel(await sent(page, wallet));
    });
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
    await tryAgain(page).click();
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
