/** What a person does on the page, by the names that a screen reader would say. */
import { readFile } from "node:fs/promises";

import type { Page } from "playwright-core";

import type { ScriptedWallet } from "../wallet/scripted.js";
import { expect } from "./site.js";
import type { Site } from "./site.js";
import type { Facts } from "./stack.js";

export const ANSWER_MS = 45_000;

export const connectButton = (page: Page) => page.getByRole("banner").getByRole("button", { name: /^connect/i });
export const payButton = (page: Page) => page.getByRole("button", { name: /^Pay .* and ask$/ });
export const wrongNetwork = (page: Page) => page.getByRole("button", { name: /wrong network/i }).first();

/** Connect a wallet by its name. */
export async function connect(page: Page, wallet = "Test Wallet"): Promise<void> {
  await connectButton(page).click();
  await page.getByRole("dialog").getByRole("button", { name: wallet }).click();
  await expect
    .poll(() =>
      page
        .getByRole("banner")
        .getByText(/0x[0-9a-fA-F]{4}…[0-9a-fA-F]{4}/)
        .count(),
    )
    .toBeGreaterThan(0);
}

export async function choosePicture(page: Page, path: string): Promise<void> {
  await page.locator("input[type=file]").first().setInputFiles(path);
}

export async function chooseModel(page: Page, name: string | RegExp): Promise<void> {
  await page.getByRole("radio", { name }).first().check();
}

export async function chooseProvider(page: Page, name: RegExp): Promise<void> {
  await page.getByText(/^Choose among/).click();
  await page.getByRole("radio", { name }).check();
}

/** The page with a picture and a model chosen and a wallet connected. */
export async function readyToPay(site: Site, wallet: ScriptedWallet, path: string, model = /mnist-cnn/): Promise<Page> {
  const page = await site.open("#/", { wallets: [wallet] });
  await choosePicture(page, path);
  await chooseModel(page, model);
  await connect(page, wallet.info.name);
  return page;
}

/** Pay and ask; the id of the request whose page comes. */
export async function payAndAsk(page: Page): Promise<`0x${string}`> {
  await payButton(page).click();
  return requestId(page);
}

/** The id of the request that the page shows, as soon as it does. */
export async function requestId(page: Page): Promise<`0x${string}`> {
  await page.waitForURL(/#\/request\/0x[0-9a-f]{64}$/, { timeout: 30_000 });
  return page.url().split("/").at(-1) as `0x${string}`;
}

export const verified = (page: Page) => page.getByText("Verified: these bytes hash to the CID on the chain");

/** Wait until the page has checked the answer itself. */
export async function answered(page: Page): Promise<void> {
  await verified(page).first().waitFor({ timeout: ANSWER_MS });
}

/** The bytes that the button or link of this name saves. */
export async function saved(page: Page, name: RegExp): Promise<Buffer> {
  const coming = page.waitForEvent("download");
  await page.getByRole("button", { name }).or(page.getByRole("link", { name })).first().click();
  return readFile(await (await coming).path());
}

/** Wait until the API knows of a model, or of a list of them, what the text says. */
export async function listed(facts: Facts, text: string, path = "/v1/models"): Promise<void> {
  const answer = async (): Promise<string> => (await fetch(`${facts.api_url}${path}`)).text();
  await expect.poll(answer, { timeout: 20_000 }).toContain(text);
}
