/** The page in a browser, watched: what a test opens, and what must never happen while it is open. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";

import { chromium } from "playwright-core";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { test as base, expect, inject } from "vitest";

import type { Network } from "../wallet/core.js";
import { ScriptedWallet } from "../wallet/scripted.js";
import { chainOf, fundedKey, networkOf } from "./chain.js";
import type { TestChain } from "./chain.js";
import { findChromium } from "./chromium.js";
import { FaultyApi } from "./faults.js";
import { developmentKey } from "./prepared.js";
import { FAILURES } from "./stack.js";
import type { Run } from "./global.js";
import type { Facts } from "./stack.js";

export const BROWSER_ARGS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking"];

export interface OpenOptions {
  readonly wallets?: readonly ScriptedWallet[];
  readonly theme?: "light" | "dark";
  readonly width?: number;
  readonly height?: number;
  readonly locale?: string;
  readonly bypassCSP?: boolean;
}

let running: Promise<Browser> | undefined;

/** One browser for a whole file of tests. */
async function browser(executablePath: string): Promise<Browser> {
  running ??= chromium.launch({ executablePath, args: BROWSER_ARGS });
  return running;
}

export class Site {
  /** Violations of the content policy, uncaught errors, calls to others' servers. */
  readonly problems: string[] = [];
  readonly chain: TestChain;
  readonly network: Network;
  /** Another network than the page's. */
  readonly elsewhere: Network;
  /** The browser's profiles, in the order in which they were opened. */
  readonly contexts: BrowserContext[] = [];
  private readonly ours: Set<string>;

  constructor(
    readonly facts: Facts,
    readonly api: FaultyApi,
    private readonly chromium: Browser,
  ) {
    this.chain = chainOf(facts);
    this.network = networkOf(facts);
    this.elsewhere = { id: 1337, name: "Elsewhere", rpcUrl: facts.rpc_url };
    this.ours = new Set([new URL(api.url).origin, new URL(facts.rpc_url).origin]);
  }

  /** Another server of our own, which the page may speak to. */
  allow(url: string): void {
    this.ours.add(new URL(url).origin);
  }

  /** A wallet with ten ether of its own, or what the options say. */
  async wallet(
    options: { name?: string; ether?: string; accounts?: number; networks?: readonly Network[] } = {},
  ): Promise<ScriptedWallet> {
    const { name, ether = "10", accounts = 1, networks = [this.network] } = options;
    const keys = await Promise.all(Array.from({ length: accounts }, async () => fundedKey(this.chain, ether)));
    return new ScriptedWallet({ keys, networks, ...(name === undefined ? {} : { name }) });
  }

  /** The wallet of who asked on the command line. */
  requester(): ScriptedWallet {
    return new ScriptedWallet({ keys: [developmentKey(3)], networks: [this.network] });
  }

  /** The wallet of who published the models. */
  publisher(): ScriptedWallet {
    return new ScriptedWallet({ keys: [developmentKey(2)], networks: [this.network] });
  }

  /** Do something while no block is mined; then one is. */
  async unmined(act: () => Promise<void>): Promise<void> {
    await this.chain.setAutomine(false);
    try {
      await act();
    } finally {
      await this.chain.setAutomine(true);
      await this.chain.mine({ blocks: 1 });
    }
  }

  async context(options: OpenOptions = {}): Promise<BrowserContext> {
    const { wallets = [], theme = "light", width = 1280, height = 900, locale = "en-US", bypassCSP = false } = options;
    const context = await this.chromium.newContext({
      viewport: { width, height },
      colorScheme: theme,
      locale,
      bypassCSP,
      reducedMotion: "reduce",
      permissions: ["clipboard-read", "clipboard-write"],
      acceptDownloads: true,
    });
    await this.watch(context);
    for (const wallet of wallets) await wallet.install(context);
    return context;
  }

  /** The page at a route, in a fresh profile of a browser. */
  async open(route = "#/", options: OpenOptions = {}): Promise<Page> {
    const context = await this.context(options);
    const page = await context.newPage();
    await page.goto(this.url(route));
    return page;
  }

  url(route = "#/"): string {
    return `${this.api.url}/${route}`;
  }

  /** Note in `problems` what no page of this context may do. */
  async watch(context: BrowserContext): Promise<void> {
    this.contexts.push(context);
    context.setDefaultTimeout(15_000);
    await context.exposeBinding("__policyViolated", (_, what: string) => void this.problems.push(`policy: ${what}`));
    await context.addInitScript(() => {
      document.addEventListener("securitypolicyviolation", (event) => {
        const report = (window as unknown as { __policyViolated: (what: string) => void }).__policyViolated;
        report(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`);
      });
    });
    context.on("request", (request) => {
      const { protocol, origin } = new URL(request.url());
      if (/^(https?|wss?):$/.test(protocol) && !this.ours.has(origin.replace(/^ws/, "http"))) {
        this.problems.push(`request to another server: ${request.url()}`);
      }
    });
    context.on("weberror", (error) => void this.problems.push(`uncaught: ${error.error().message}`));
    context.on("console", (message) => {
      // The browser itself says so of every answer that is not 2xx; the tests make such answers.
      if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) {
        this.problems.push(`console: ${message.text()}`);
      }
    });
  }

  async close(failedTest?: string): Promise<void> {
    if (failedTest !== undefined) {
      mkdirSync(FAILURES, { recursive: true });
      const pages = this.contexts.flatMap((context) => context.pages());
      await Promise.allSettled(
        pages.map((page, index) =>
          page.screenshot({ path: join(FAILURES, `${failedTest}-${index}.png`), fullPage: true, timeout: 5_000 }),
        ),
      );
    }
    await Promise.allSettled(this.contexts.map((context) => context.close()));
    await this.api.close();
  }
}

/** A `Site` on a stack. The caller closes it. */
export async function siteOn(facts: Facts): Promise<Site> {
  const path = findChromium();
  if (path === null) throw new Error("no Chromium");
  return new Site(facts, await FaultyApi.start(facts.api_url), await browser(path));
}

/** A test with a `site` on the stack of the run, which must have stayed clean when the test is over. */
export const test = base.extend<{ run: Run; site: Site }>({
  run: async ({ skip }, lend) => {
    const run = inject("run");
    if (run === null) skip("there is no Chromium here: install one, or name it in CHROMIUM");
    else await lend(run);
  },
  site: async ({ run, task }, lend) => {
    const site = await siteOn(run.facts);
    await lend(site);
    await site.close(
      task.result?.state === "fail" ? task.name.replaceAll(/[^a-z0-9]+/gi, "-").slice(0, 120) : undefined,
    );
    expect(site.problems).toEqual([]);
  },
});

export { expect };
