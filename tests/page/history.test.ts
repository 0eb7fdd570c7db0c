import { describe } from "vitest";

import { connect, saved } from "./harness/flow.js";
import { expect, test } from "./harness/site.js";

describe("history", () => {
  test("given a new browser and no API, when the account connects, then the chain alone tells all its requests", async ({
    site,
    run,
  }) => {
    const page = await site.open("#/", { wallets: [site.requester()] });
    await connect(page);
    site.api.goDown();
    await page.goto(site.url("#/history"));
    await page.reload();
    const rows = page.locator(`a[href*="#/request/"]`);
    await expect.poll(() => rows.count(), { timeout: 15_000 }).toBeGreaterThanOrEqual(2);
    const links = await rows.evaluateAll((all) => all.map((one) => one.getAttribute("href")));
    for (const { id } of [run.asked.digit, run.asked.scene]) expect(links.join(" ")).toContain(id);
    expect(new Set(links).size).toBeGreaterThanOrEqual(2);
  });

  test("given requests, when they are searched and saved, then both hold what was asked for", async ({ site, run }) => {
    const page = await site.open("#/history", { wallets: [site.requester()] });
    await connect(page);
    const rows = page.locator(`a[href*="#/request/"]`);
    await expect.poll(() => rows.count(), { timeout: 15_000 }).toBeGreaterThanOrEqual(2);
    const csv = (await saved(page, /^CSV$/)).toString();
    expect(csv).toContain(run.asked.digit.id);
    expect(csv).toContain(run.asked.scene.id);

    await page.getByRole("searchbox").fill(run.asked.scene.id);
    await expect
      .poll(
        async () => [...new Set(await rows.evaluateAll((all) => all.map((one) => one.getAttribute("href"))))].length,
      )
      .toBe(1);
  });

  test("given an account that never asked, when it looks, then it is told how to begin", async ({ site }) => {
    const page = await site.open("#/history", { wallets: [await site.wallet()] });
    await connect(page);
    await page.getByRole("main").getByRole("link", { name: /ask/i }).first().waitFor();
  });
});
