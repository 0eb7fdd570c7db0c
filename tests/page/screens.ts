/** Shoots every page in both themes at two widths, with real data and in its other states, into build/screens. */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";

import type { Page } from "playwright-core";
import { describe, beforeAll } from "vitest";

import { chooseModel, choosePicture, connect, connectButton, payButton, requestId } from "./harness/flow.js";
import { picture } from "./harness/pictures.js";
import { PROJECT, freezeOracle } from "./harness/stack.js";
import { test } from "./harness/site.js";
import type { OpenOptions } from "./harness/site.js";

const FOLDER = join(PROJECT, "build/screens");
const SHAPES = (["light", "dark"] as const).flatMap((theme) => [390, 1280].map((width) => ({ theme, width })));

type Shape = (typeof SHAPES)[number];

async function shoot(page: Page, name: string, { theme, width }: Shape): Promise<void> {
  await page.getByRole("main").waitFor();
  await page.waitForFunction(() => document.querySelector("[aria-busy=true]") === null, undefined, { timeout: 10_000 });
  await page.waitForTimeout(500); // pictures settle
  await page.screenshot({
    path: join(FOLDER, `${name}-${theme}-${width}.png`),
    fullPage: true,
    animations: "disabled",
  });
}

describe("screens", () => {
  beforeAll(() => {
    rmSync(FOLDER, { recursive: true, force: true });
    mkdirSync(FOLDER, { recursive: true });
  });

  for (const shape of SHAPES) {
    const size: OpenOptions = { theme: shape.theme, width: shape.width, height: shape.width === 390 ? 844 : 900 };
    const at = `${shape.theme} ${shape.width}`;

    test(`done ${at}`, async ({ site, run }) => {
      const page = await site.open("#/", { ...size, wallets: [site.requester()] });
      await connect(page);
      await shoot(page, "ask-start", shape);
      await choosePicture(page, picture(run.pictures, "scene"));
      await chooseModel(page, /mask-rcnn-shapes/);
      await shoot(page, "ask-ready", shape);
      const routes = {
        "request-digit": `#/request/${run.asked.digit.id}`,
        "request-scene": `#/request/${run.asked.scene.id}`,
        "history-done": "#/history",
        "providers-done": "#/providers",
        "statistics-done": "#/statistics",
        "publish-start": "#/publish",
      };
      for (const [name, route] of Object.entries(routes)) {
        await page.goto(site.url(route));
        await shoot(page, name, shape);
      }
    });

    test(`empty ${at}`, async ({ site }) => {
      const page = await site.open("#/history", size);
      await shoot(page, "history-disconnected", shape);
      await connectButton(page).click();
      await shoot(page, "wallet-none", shape);
      const fresh = await site.open("#/history", { ...size, wallets: [await site.wallet()] });
      await connect(fresh);
      await shoot(fresh, "history-empty", shape);
      const several = await site.open("#/", {
        ...size,
        wallets: [await site.wallet({ name: "Aspen" }), await site.wallet({ name: "Birch" })],
      });
      await connectButton(several).click();
      await shoot(several, "wallet-several", shape);
      const unknown = await site.open(`#/request/0x${"5e".repeat(32)}`, size);
      await shoot(unknown, "request-unknown", shape);
      const nowhere = await site.open("#/nowhere", size);
      await shoot(nowhere, "nowhere", shape);
    });

    test(`wrong network ${at}`, async ({ site, run }) => {
      const wallet = await site.wallet({ networks: [site.elsewhere] });
      const page = await site.open("#/", { ...size, wallets: [wallet] });
      await connect(page);
      await choosePicture(page, picture(run.pictures, "digit-7"));
      await shoot(page, "ask-wrong-network", shape);
    });

    test(`working ${at}`, async ({ site, run }) => {
      const wallet = await site.wallet();
      const page = await site.open("#/", { ...size, wallets: [wallet], locale: "de-DE" });
      await page.getByRole("banner").getByRole("button", { name: "Verbinden" }).click();
      await page.getByRole("dialog").getByRole("button", { name: "Test Wallet" }).click();
      await choosePicture(page, picture(run.pictures, "digit-7"));
      await shoot(page, "ask-german", shape);
      await page.getByRole("button", { name: "English" }).click();
      const held = wallet.holdNext("send");
      await payButton(page).click();
      await held.asked;
      await shoot(page, "ask-signing", shape);
      const thaw = freezeOracle(run.facts);
      try {
        held.accept();
        await requestId(page);
        await shoot(page, "request-waiting", shape);
      } finally {
        thaw();
      }
    });

    test(`errors ${at}`, async ({ site, run }) => {
      const wallet = await site.wallet();
      const page = await site.open("#/", { ...size, wallets: [wallet] });
      await choosePicture(page, picture(run.pictures, "broken"));
      await shoot(page, "ask-broken-picture", shape);
      const poor = await site.open("#/", { ...size, wallets: [await site.wallet({ ether: "0.00001" })] });
      await choosePicture(poor, picture(run.pictures, "digit-7"));
      await connect(poor);
      await shoot(poor, "ask-poor", shape);

      const down = await site.open("#/", { ...size, wallets: [site.requester()] });
      await connect(down);
      site.api.goDown();
      const routes = {
        "ask-down": "#/",
        "request-down": `#/request/${run.asked.digit.id}`,
        "history-down": "#/history",
        "providers-down": "#/providers",
        "statistics-down": "#/statistics",
        "publish-down": "#/publish",
      };
      for (const [name, route] of Object.entries(routes)) {
        await down.goto(site.url(route));
        await down.reload();
        await shoot(down, name, shape);
      }
      site.api.heal();
      site.api.alter(/^\/(ipfs|v1\/results)\//, (_, body) => Buffer.concat([body, Buffer.from(" ")]));
      const lied = await site.open(`#/request/${run.asked.digit.id}`, size);
      await shoot(lied, "request-wrong-bytes", shape);
    });
  }
});
