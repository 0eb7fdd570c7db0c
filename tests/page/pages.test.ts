import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { createRequire } from "node:module";
import { extname, join } from "node:path";

import type { Page } from "playwright-core";
import { describe } from "vitest";

import { answered, connect, connectButton } from "./harness/flow.js";
import type { Run } from "./harness/global.js";
import { expect, test } from "./harness/site.js";
import type { Site } from "./harness/site.js";
import { PROJECT } from "./harness/stack.js";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const NOBODYS = `0x${"5e".repeat(32)}`;

const routes = (run: Run): Record<string, string> => ({
  ask: "#/",
  digit: `#/request/${run.asked.digit.id}`,
  scene: `#/request/${run.asked.scene.id}`,
  unknown: `#/request/${NOBODYS}`,
  history: "#/history",
  providers: "#/providers",
  statistics: "#/statistics",
  publish: "#/publish",
  nowhere: "#/nowhere",
});

/** Until nothing is loading any more. */
async function settled(page: Page): Promise<void> {
  await page.getByRole("main").waitFor();
  await expect.poll(() => page.locator("[aria-busy=true]").count(), { timeout: 15_000 }).toBe(0);
}

async function violations(page: Page): Promise<string[]> {
  await page.evaluate(AXE);
  return page.evaluate(async () => {
    const { axe } = window as unknown as { axe: { run: (options: unknown) => Promise<{ violations: Violation[] }> } };
    interface Violation {
      id: string;
      help: string;
      nodes: { target: string[] }[];
    }
    const found = await axe.run({ resultTypes: ["violations"] });
    return found.violations.map(
      ({ id, help, nodes }) =>
        `${id}: ${help}: ${nodes
          .slice(0, 3)
          .map((node) => node.target.join(" "))
          .join(", ")}`,
    );
  });
}

async function visit(site: Site, page: Page, route: string): Promise<void> {
  await page.goto(site.url(route));
  await settled(page);
  if (route.includes("/request/") && !route.includes(NOBODYS)) await answered(page);
}

describe("every page", () => {
  for (const theme of ["light", "dark"] as const) {
    test(`given the ${theme} theme, when axe looks at every page, then it finds nothing`, async ({ site, run }) => {
      const page = await site.open("#/", { theme, bypassCSP: true, wallets: [site.requester()] });
      const found: string[] = [];
      for (const connected of [false, true]) {
        if (connected) await connect(page);
        for (const [name, route] of Object.entries(routes(run))) {
          await visit(site, page, route);
          for (const what of await violations(page)) found.push(`${name}${connected ? ", connected" : ""}: ${what}`);
        }
      }
      expect(found).toEqual([]);
    });
  }

  test("given each state of a wallet, when axe looks, then it finds nothing", async ({ site }) => {
    const found: string[] = [];
    const look = async (state: string, page: Page): Promise<void> => {
      await settled(page);
      for (const what of await violations(page)) found.push(`${state}: ${what}`);
      await page.context().close();
    };
    const none = await site.open("#/", { bypassCSP: true });
    await connectButton(none).click();
    await none.getByRole("dialog").waitFor();
    await look("none", none);

    const several = await site.open("#/", {
      bypassCSP: true,
      wallets: [await site.wallet({ name: "Aspen" }), await site.wallet({ name: "Birch" })],
    });
    await connectButton(several).click();
    await several.getByRole("dialog").waitFor();
    await look("several", several);

    const wrong = await site.open("#/", {
      bypassCSP: true,
      wallets: [await site.wallet({ networks: [site.elsewhere] })],
    });
    await connect(wrong);
    await look("wrong chain", wrong);

    const wallet = await site.wallet();
    wallet.rejectNext("connect");
    const declined = await site.open("#/", { bypassCSP: true, wallets: [wallet] });
    await connectButton(declined).click();
    await declined.getByRole("dialog").getByRole("button", { name: "Test Wallet" }).click();
    await expect.poll(() => wallet.prompts.length).toBe(1);
    await look("declined", declined);
    expect(found).toEqual([]);
  });

  test("given 360 pixels, when every page is opened, then none scrolls sideways", async ({ site, run }) => {
    const page = await site.open("#/", { width: 360, height: 740, wallets: [site.requester()] });
    await connect(page);
    const wide: string[] = [];
    for (const [name, route] of Object.entries(routes(run))) {
      await visit(site, page, route);
      const over = await page.evaluate(
        () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
      );
      if (over > 0) wide.push(`${name}: ${over} px too wide`);
    }
    expect(wide).toEqual([]);
  });

  test("given a static host in a folder, when the page is opened there, then it works", async ({ site, run }) => {
    const types: Record<string, string> = {
      ".html": "text/html",
      ".js": "text/javascript",
      ".css": "text/css",
      ".svg": "image/svg+xml",
    };
    const server = createServer((request, response) => {
      const path = new URL(request.url ?? "/", "http://host").pathname.replace(/^\/some\/folder\//, "");
      if (path.startsWith("v1") || path.startsWith("ipfs")) {
        // The host forwards what is the API's, so that the page finds it beside itself.
        void fetch(`${site.api.url}/${path}`).then(async (answer) => {
          response.writeHead(answer.status, { "content-type": answer.headers.get("content-type") ?? "" });
          response.end(Buffer.from(await answer.arrayBuffer()));
        });
        return;
      }
      try {
        const file = path === "" ? "index.html" : path;
        const body = readFileSync(join(PROJECT, "frontend/dist", file));
        response.writeHead(200, { "content-type": types[extname(file)] ?? "application/octet-stream" }).end(body);
      } catch {
        response.writeHead(404).end();
      }
    });
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    const home = `http://127.0.0.1:${(server.address() as AddressInfo).port}/some/folder/`;
    try {
      const page = await site.open();
      site.allow(home);
      await page.goto(`${home}#/request/${run.asked.digit.id}`);
      await answered(page);
    } finally {
      server.closeAllConnections();
      server.close();
    }
  });
});
