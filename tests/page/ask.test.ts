import { createHash } from "node:crypto";

import { describe } from "vitest";

import {
  ANSWER_MS,
  answered,
  chooseModel,
  choosePicture,
  chooseProvider,
  connect,
  payAndAsk,
  payButton,
  readyToPay,
  requestId,
  saved,
  verified,
} from "./harness/flow.js";
import { picture } from "./harness/pictures.js";
import { expect, test } from "./harness/site.js";

const OAK = {
  id: `0x${"0a".repeat(20)}`,
  name: "oak",
  price: { start: "0", second: "0", cpu_second: "0" },
  picture_glm: null,
  images_per_second: null,
  reputation: 0.9,
  reasons: [],
  standing: "good",
};

describe("asking", () => {
  test("given a wallet and a digit, when it is paid for, then its answer is read and verified", async ({
    site,
    run,
  }) => {
    const wallet = await site.wallet();
    const page = await readyToPay(site, wallet, picture(run.pictures, "digit-7"));
    const id = await payAndAsk(page);
    await answered(page);

    const answer = page.getByRole("region", { name: "Answer" });
    expect(await answer.innerText()).toContain("7");
    const timeline = await page.getByRole("list", { name: "Timeline" }).innerText();
    for (const step of [/Mined in block \d+/, /Picked up/, /Answer pinned/, /Posted on-chain/]) {
      expect(timeline).toMatch(step);
    }
    expect(wallet.prompts.map((prompt) => prompt.kind)).toEqual(["connect", "send"]);
    expect(wallet.sent).toHaveLength(1);
    expect(id).toMatch(/^0x[0-9a-f]{64}$/);
  });

  test("given an answer, when the tab is closed and opened anew, then it is there again", async ({ site, run }) => {
    const page = await site.open(`#/request/${run.asked.digit.id}`);
    await answered(page);
    await page.reload();
    await answered(page);
  });

  test("given an answer, when its files are downloaded, then they are the bytes of the CIDs", async ({ site, run }) => {
    const page = await site.open(`#/request/${run.asked.digit.id}`);
    await answered(page);
    const bytes = await saved(page, /JSON/);
    const served = await fetch(`${run.facts.gateway_url}${run.asked.digit.result}`);
    const hash = (data: Uint8Array): string => createHash("sha256").update(data).digest("hex");
    expect(hash(bytes)).toBe(hash(new Uint8Array(await served.arrayBuffer())));
  });

  test("given the keyboard alone, when a digit is asked about, then its answer is read", async ({ site, run }) => {
    const wallet = await site.wallet();
    const page = await site.open("#/", { wallets: [wallet] });
    await page.getByRole("heading", { level: 1 }).first().waitFor();
    const tabTo = async (what: RegExp | string, limit = 80): Promise<void> => {
      for (let step = 0; step < limit; step += 1) {
        await page.keyboard.press("Tab");
        const name = await page.evaluate(() => {
          const on = document.activeElement;
          const label =
            on instanceof HTMLInputElement ? [...(on.labels ?? [])].map((one) => one.innerText).join(" ") : "";
          return `${on?.getAttribute("aria-label") ?? ""} ${label} ${(on as HTMLElement | null)?.innerText ?? ""}`;
        });
        if (typeof what === "string" ? name.includes(what) : what.test(name)) return;
      }
      throw new Error(`the keyboard does not reach ${String(what)}`);
    };
    await tabTo(/^\s*connect/i);
    await page.keyboard.press("Enter");
    await page.getByRole("dialog").waitFor();
    await tabTo("Test Wallet");
    await page.keyboard.press("Enter");
    await page.getByRole("dialog").waitFor({ state: "hidden" });

    const chooser = page.waitForEvent("filechooser");
    await tabTo(/choose/i);
    await page.keyboard.press("Enter");
    await (await chooser).setFiles(picture(run.pictures, "digit-3"));
    await payButton(page).waitFor();
    await tabTo(/^\s*Pay /);
    await expect.poll(() => payButton(page).isEnabled()).toBe(true);
    await page.keyboard.press("Enter");
    await requestId(page);
    await answered(page);
    expect(await page.getByRole("region", { name: "Answer" }).innerText()).toContain("3");
  });

  test("given a picture over the limit, when it is chosen, then it is made smaller and that is said", async ({
    site,
    run,
  }) => {
    const page = await site.open();
    await choosePicture(page, picture(run.pictures, "large"));
    await page
      .getByText(/Made smaller, from 7000 . 7000 to/)
      .first()
      .waitFor();
  });

  test("given a file that is no picture, when it is chosen, then that is said and nothing is sent", async ({
    site,
    run,
  }) => {
    const page = await site.open();
    const uploads: string[] = [];
    page.on("request", (request) => {
      if (request.method() === "POST" && request.url().includes("/v1/images")) uploads.push(request.url());
    });
    await choosePicture(page, picture(run.pictures, "broken"));
    await page.getByRole("alert").first().waitFor();
    expect(uploads).toEqual([]);
  });

  test("given another language, when the page is opened, then it speaks it", async ({ site }) => {
    const page = await site.open("#/", { locale: "de-DE" });
    await expect.poll(() => page.locator("html").getAttribute("lang")).toBe("de");
    await page.getByRole("link", { name: "Verlauf" }).first().waitFor();
  });

  test("given an account without enough ether, when it would pay, then what is missing is said", async ({
    site,
    run,
  }) => {
    const wallet = await site.wallet({ ether: "0.00001" });
    const page = await readyToPay(site, wallet, picture(run.pictures, "digit-7"));
    await page
      .getByText(/This account is missing 0\.\d+ ETH/)
      .first()
      .waitFor();
    expect(wallet.sent).toHaveLength(0);
  });

  test("given a provider that was chosen, when it is signed for and paid, then it alone computes the answer, until it is taken back", async ({
    site,
    run,
    skip,
  }) => {
    if (run.facts.backend !== "golem") skip("no Golem network runs here, so there are no providers to choose");
    const wallet = await site.wallet();
    const page = await site.open("#/", { wallets: [wallet] });
    const kinds = () => wallet.prompts.map((prompt) => prompt.kind);
    await choosePicture(page, picture(run.pictures, "digit-3"));
    await chooseModel(page, /mnist-cnn/);
    await chooseProvider(page, /^boole/);
    await connect(page);
    await payAndAsk(page);
    expect(kinds()).toEqual(["connect", "sign", "send"]);
    await answered(page);
    await page.getByText("Computed at provider boole").first().waitFor();

    await page.goto(site.url());
    await choosePicture(page, picture(run.pictures, "digit-3"));
    await chooseModel(page, /mnist-cnn/);
    await payAndAsk(page);
    expect(kinds()).toEqual(["connect", "sign", "send", "sign", "send"]);
  });

  test("given a choice of provider that is declined in the wallet, when the best is taken instead, then only that is paid", async ({
    site,
    run,
  }) => {
    site.api.alter(/^\/v1(\/providers)?$/, (path, body) => {
      if (body.length === 0) return body; // nothing has changed since the browser asked before
      const told = JSON.parse(body.toString()) as object;
      const changed = path === "/v1" ? { ...told, backend: "golem" } : { items: [OAK], next: null };
      return Buffer.from(JSON.stringify(changed));
    });
    const wallet = await site.wallet();
    const page = await readyToPay(site, wallet, picture(run.pictures, "digit-3"));
    await chooseProvider(page, /^oak/);
    wallet.rejectNext("sign");
    await payButton(page).click();
    await page.getByText("You declined in your wallet. Nothing was sent.").first().waitFor();
    expect(wallet.sent).toHaveLength(0);
    await page.getByRole("radio", { name: /^Best/ }).check();
    await payAndAsk(page);
    expect(wallet.prompts.map((prompt) => prompt.kind)).toEqual(["connect", "sign", "send"]);
  });

  test("given a payment that waits for its block, when the tab is closed and another opened, then it is taken up there", async ({
    site,
    run,
  }) => {
    const wallet = await site.wallet();
    const page = await readyToPay(site, wallet, picture(run.pictures, "digit-7"));
    await site.unmined(async () => {
      await payButton(page).click();
      await expect.poll(() => wallet.sent.length).toBe(1);
      await page.getByText("You may close this page").waitFor();
      await page.close();
    });
    const [context] = site.contexts;
    if (context === undefined) throw new Error("the profile is still open");
    const later = await context.newPage();
    await later.goto(site.url());
    await later.getByRole("link", { name: "Open the request" }).click();
    await answered(later);
    expect(wallet.sent).toHaveLength(1);
  });

  test("given an API that goes down, when a CID is asked about, then it is paid for and answered by the chain alone", async ({
    site,
    run,
  }) => {
    const wallet = await site.wallet();
    const page = await site.open("#/", { wallets: [wallet] });
    await connect(page);
    site.api.goDown();
    await page.reload();
    await page.getByRole("textbox", { name: "Or a web address or CID" }).fill(run.asked.digit.image);
    await page.getByRole("button", { name: "Use it" }).click();
    await chooseModel(page, /mnist-cnn/);
    await payAndAsk(page);
    await page
      .getByText(/Posted on-chain in block \d+/)
      .first()
      .waitFor({ timeout: ANSWER_MS });
    await expect.poll(() => page.getByRole("region", { name: "Answer" }).innerText()).toContain("Class 7");
    expect(await verified(page).count()).toBe(0);
    site.api.heal();
    await page.reload();
    await answered(page);
  });
});
