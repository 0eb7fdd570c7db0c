import { describe } from "vitest";

import { answered, connectButton, listed, payAndAsk, readyToPay, verified } from "./harness/flow.js";
import { picture } from "./harness/pictures.js";
import { WEIGHTS, manifestNamed } from "./harness/prepared.js";
import { expect, test } from "./harness/site.js";
import { sibyl } from "./harness/stack.js";

describe("results", () => {
  test("given a scene, when its answer comes, then each thing found can be hidden and shown", async ({ site, run }) => {
    const page = await site.open(`#/request/${run.asked.scene.id}`);
    await answered(page);
    const toggles = page.getByRole("checkbox").or(page.getByRole("switch"));
    await toggles.first().waitFor();
    const shown = await toggles.count();
    expect(shown).toBeGreaterThan(1);
    const drawn = page.getByRole("img", { name: /^What was found/ });
    const before = await drawn.getAttribute("aria-label");
    await toggles.first().click();
    await expect.poll(() => drawn.getAttribute("aria-label")).not.toBe(before);
    expect(await drawn.locator("path").count()).toBeLessThan(2 * shown);
    await toggles.first().click();
    await expect.poll(() => drawn.getAttribute("aria-label")).toBe(before);
  });

  test("given a scene, when it is asked about in the page, then its answer is verified", async ({ site, run }) => {
    const page = await readyToPay(site, await site.wallet(), picture(run.pictures, "scene"), /mask-rcnn-shapes/);
    await payAndAsk(page);
    await answered(page);
  });

  test("given a gateway that serves other bytes, when an answer is read, then it is not shown as verified", async ({
    site,
    run,
  }) => {
    site.api.alter(/^\/(ipfs|v1\/results)\//, (_, body) => {
      const text = body
        .toString("latin1")
        .replaceAll('"label": "7"', '"label": "4"')
        .replaceAll('"label":"7"', '"label":"4"');
      return Buffer.from(`${text} `, "latin1");
    });
    const page = await site.open(`#/request/${run.asked.digit.id}`);
    await page.getByText("Not verified: the bytes do not hash to the CID on the chain").first().waitFor();
    expect(await verified(page).count()).toBe(0);
    // The chain's own answer has numbers of classes only; the labels stand in the bytes that are not to be trusted.
    await expect.poll(() => page.getByRole("region", { name: "Answer" }).innerText()).toContain("Class 7");
    expect(await page.getByRole("button", { name: /JSON/ }).count()).toBe(0);
  });

  test("given an API that is down, when a request is opened, then the chain tells of it and the page says so", async ({
    site,
    run,
  }) => {
    const page = await site.open("#/");
    await connectButton(page).waitFor();
    site.api.goDown();
    await page.goto(site.url(`#/request/${run.asked.digit.id}`));
    await page.reload();
    await page
      .getByText(/API .*(down|does not answer|cannot be reached|not reachable)/i)
      .first()
      .waitFor();
    await page
      .getByText(/Mined in block \d+/)
      .first()
      .waitFor();
    await expect.poll(() => page.getByRole("main").innerText()).toContain("7");
  });

  test("given labels that hold markup, when the answer is shown, then they are text", async ({ site, run }) => {
    const markup = (label: string): string => `<img src=x onerror="document.title='owned'"><b>${label}</b>`;
    const hostile = manifestNamed("digits-in-markup", markup);
    await sibyl(run.facts, "models", "publish", hostile, WEIGHTS, "--price", "0.0001");
    await listed(run.facts, "digits-in-markup");

    const page = await readyToPay(site, await site.wallet(), picture(run.pictures, "digit-7"), /digits-in-markup/);
    await payAndAsk(page);
    await answered(page);
    expect(await page.getByRole("main").innerText()).toContain(markup("7"));
    expect(await page.locator("img[src='x']").count()).toBe(0);
    expect(await page.title()).not.toContain("owned");
  });
});
