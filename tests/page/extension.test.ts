import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { chromium } from "playwright-core";
import type { BrowserContext, Page } from "playwright-core";
import { afterAll, describe } from "vitest";

import { fundedKey } from "./harness/chain.js";
import { findChromium } from "./harness/chromium.js";
import { buildExtension } from "./harness/extension.js";
import { answered, chooseModel, choosePicture, connect, connectButton, payAndAsk, payButton } from "./harness/flow.js";
import type { Run } from "./harness/global.js";
import { picture } from "./harness/pictures.js";
import { BROWSER_ARGS, test } from "./harness/site.js";
import type { Site } from "./harness/site.js";
import { approveAll, setUpMetaMask } from "./wallet/metamask.js";

const METAMASK = process.env["METAMASK_DIR"];
const folders: string[] = [];

function temporary(name: string): string {
  const folder = mkdtempSync(join(tmpdir(), name));
  folders.push(folder);
  return folder;
}

/** A profile with one extension. A headless browser loads extensions only in its new mode. */
async function withExtension(folder: string): Promise<BrowserContext> {
  const executablePath = findChromium();
  if (executablePath === null) throw new Error("no Chromium");
  const context = await chromium.launchPersistentContext(temporary("sibyl-profile-"), {
    executablePath,
    headless: true,
    locale: "en-US",
    ignoreDefaultArgs: ["--disable-extensions"],
    args: [...BROWSER_ARGS, "--headless=new", `--disable-extensions-except=${folder}`, `--load-extension=${folder}`],
  });
  context.setDefaultTimeout(15_000);
  return context;
}

async function prepare(site: Site, run: Run, page: Page): Promise<void> {
  await page.goto(site.url());
  await choosePicture(page, picture(run.pictures, "digit-7"));
  await chooseModel(page, /mnist-cnn/);
}

describe("wallets as extensions", () => {
  afterAll(() => {
    for (const folder of folders) rmSync(folder, { recursive: true, force: true });
  });

  test("given a wallet that is an extension, when a digit is paid for, then its answer is verified", async ({
    site,
    run,
  }) => {
    const extension = await buildExtension();
    folders.push(extension);
    const context = await withExtension(extension);
    try {
      const worker = context.serviceWorkers()[0] ?? (await context.waitForEvent("serviceworker"));
      const key = await fundedKey(site.chain);
      await worker.evaluate(
        (kept) =>
          (
            globalThis as unknown as { chrome: { storage: { local: { set(kept: unknown): Promise<void> } } } }
          ).chrome.storage.local.set(kept),
        { key, network: site.network },
      );
      await site.watch(context);
      const page = await context.newPage();
      await prepare(site, run, page);
      await connect(page, "Extension Wallet");
      await payAndAsk(page);
      await answered(page);
    } finally {
      await context.close();
    }
  });

  test("given a real MetaMask, when a digit is paid for, then its answer is verified", async ({ site, run, skip }) => {
    if (METAMASK === undefined || METAMASK === "") {
      skip("METAMASK_DIR names no unpacked MetaMask");
      return;
    }
    const context = await withExtension(METAMASK);
    try {
      await setUpMetaMask(context);
      const page = await context.newPage();
      await prepare(site, run, page);
      await connectButton(page).click();
      await page.getByRole("dialog").getByRole("button", { name: "MetaMask" }).click();
      const mend = page.getByRole("button", { name: /wrong network|switch/i }).first();
      await approveAll(context, async () => (await mend.isVisible()) || (await payButton(page).isEnabled()));
      if (await mend.isVisible()) {
        await mend.click();
        await approveAll(context, () => payButton(page).isEnabled());
      }
      await payButton(page).click();
      await approveAll(context, () => Promise.resolve(page.url().includes("#/request/")));
      await answered(page);
    } finally {
      await context.close();
    }
  }, 240_000);
});
