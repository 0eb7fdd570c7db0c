/** What a person does on the page, by the names that a screen reader would say. */
import type { Page } from "playwright-core";

import { expect } from "./site.js";

export const ANSWER_MS = 45_000;

export const connectButton = (page: Page) => page.getByRole("banner").getByRole("button", { name: /^connect/i });
export const payButton = (page: Page) => page.getByRole("button", { name: /^Pay .* and ask$/ });

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
