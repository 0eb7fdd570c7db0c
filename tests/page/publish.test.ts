import { join } from "node:path";

import { describe } from "vitest";

import { connect, listed, saved } from "./harness/flow.js";
import { picture } from "./harness/pictures.js";
import { WEIGHTS, askBeside, manifestNamed } from "./harness/prepared.js";
import { expect, test } from "./harness/site.js";
import { PROJECT } from "./harness/stack.js";

describe("publishing", () => {
  test("given a manifest and weights, when they are checked and published, then the account has a model", async ({
    site,
    run,
  }) => {
    const wallet = await site.wallet();
    const page = await site.open("#/publish", { wallets: [wallet] });
    await connect(page);
    await page.locator("input[type=file]").setInputFiles([manifestNamed("digits-of-mine"), WEIGHTS]);
    await page.getByRole("button", { name: "Check and pin" }).click();
    await page.getByText("All checks passed.").first().waitFor();
    const publish = page.getByRole("main").getByRole("button", { name: "Publish", exact: true });
    await publish.click();
    await page
      .getByText(/Published as model \d+/)
      .first()
      .waitFor();
    expect(wallet.sent).toHaveLength(1);
    expect(await publish.isEnabled()).toBe(false); // a second press would be a second model
    await page
      .getByRole("region", { name: "My models" })
      .getByText("digits-of-mine")
      .first()
      .waitFor({ timeout: 30_000 });
    await listed(run.facts, "digits-of-mine");
  });

  test("given weights that are not the manifest's, when they are checked, then nothing can be published", async ({
    site,
  }) => {
    const page = await site.open("#/publish", { wallets: [await site.wallet()] });
    await connect(page);
    const other = join(PROJECT, "provider_images/mask_rcnn/weights.npz");
    await page.locator("input[type=file]").setInputFiles([manifestNamed("digits-not-mine"), other]);
    await page.getByRole("button", { name: "Check and pin" }).click();
    await page.getByText("A check failed. Nothing was published.").first().waitFor();
    expect(await page.getByRole("main").getByRole("button", { name: "Publish", exact: true }).isEnabled()).toBe(false);
  });

  test("given a model that has earned, when its publisher withdraws, then the contract pays out", async ({
    site,
    run,
  }) => {
    await askBeside(run.facts, picture(run.pictures, "digit-7"), "1");
    const wallet = site.publisher();
    const page = await site.open("#/publish", { wallets: [wallet] });
    await connect(page);
    const balance = () => site.chain.getBalance({ address: site.facts.coordinator });
    const before = await balance();
    const mine = page.getByRole("region", { name: "My models" });
    await mine
      .getByRole("button", { name: /Withdraw/ })
      .and(page.locator(":enabled"))
      .first()
      .click();
    await mine.getByText("Paid out to your account.").waitFor();
    expect(wallet.sent).toHaveLength(1);
    expect(await balance()).toBeLessThan(before);
  });
});

describe("figures", () => {
  test("given providers that have worked, when the page lists them, then each has its costs and its reputation", async ({
    site,
    run,
    skip,
  }) => {
    if (run.facts.backend !== "golem") skip("no Golem network runs here, so there are no providers");
    const page = await site.open("#/providers");
    for (const name of ["ada", "boole", "curie"]) await page.getByRole("main").getByText(name).first().waitFor();
    expect(await page.getByRole("main").innerText()).toMatch(/\d+%/);
  });

  test("given answers, when the statistics are saved, then the file holds each request", async ({ site, run }) => {
    const page = await site.open("#/statistics");
    const csv = (await saved(page, /CSV/)).toString();
    for (const { id } of [run.asked.digit, run.asked.scene]) expect(csv).toContain(id);
  });
});
