/** A real MetaMask, driven by its own test ids. They differ between versions, so each step takes whichever is there. */
import type { BrowserContext, Page } from "playwright-core";

const PHRASE = "test test test test test test test test test test test junk"; // every development chain's
const PASSWORD = "correct horse battery staple";
const STEP_MS = 250;
const LIMIT_MS = 90_000;

type Act = (page: Page, id: string) => Promise<void>;

const click: Act = (page, id) => page.getByTestId(id).first().click({ timeout: 2_000 });
const type =
  (text: string): Act =>
  (page, id) =>
    page.getByTestId(id).first().fill(text, { timeout: 2_000 });
const paste =
  (text: string): Act =>
  async (page, id) => {
    await page.getByTestId(id).first().click({ timeout: 2_000 });
    await page.keyboard.insertText(text);
  };

/** What the first run may show, in the order in which a page that shows several of them wants them. */
const FIRST_RUN: readonly (readonly [string, Act])[] = [
  ["onboarding-get-started-button", click],
  ["terms-of-use-scroll-button", click],
  ["terms-of-use-checkbox", click],
  ["terms-of-use-agree-button", click],
  ["onboarding-terms-checkbox", click],
  ["onboarding-import-with-srp-button", click],
  ["onboarding-import-wallet", click],
  ["srp-input-import__srp-note", paste(PHRASE)],
  ["import-srp-confirm", click],
  ["create-password-new-input", type(PASSWORD)],
  ["create-password-confirm-input", type(PASSWORD)],
  ["create-password-new", type(PASSWORD)],
  ["create-password-confirm", type(PASSWORD)],
  ["create-password-terms", click],
  ["create-password-submit", click],
  ["create-password-import", click],
  ["metametrics-no-thanks", click],
  ["metametrics-i-agree", click],
  ["download-app-continue", click],
  ["onboarding-complete-done", click],
  ["pin-extension-next", click],
  ["pin-extension-done", click],
];

/** Import the development phrase into a fresh MetaMask. */
export async function setUpMetaMask(context: BrowserContext): Promise<void> {
  const page = context.pages().find((one) => one.url().startsWith("chrome-extension://")) ?? (await opened(context));
  const done = new Set<string>();
  const until = Date.now() + LIMIT_MS;
  while (Date.now() < until) {
    if (await page.getByTestId("account-menu-icon").isVisible()) return;
    for (const [id, act] of FIRST_RUN) {
      const there = page.getByTestId(id).first();
      if (done.has(id) || !(await there.isVisible()) || !(await there.isEnabled())) continue;
      await act(page, id).then(
        () => done.add(id),
        () => undefined, // it went away under the pointer: the next round sees what came instead
      );
      break;
    }
    await page.waitForTimeout(STEP_MS);
  }
  throw new Error("MetaMask's first run was not completed: this version may show steps that are not known here");
}

/** Say yes to whatever MetaMask asks, until `over` is true. */
export async function approveAll(context: BrowserContext, over: () => Promise<boolean>): Promise<void> {
  const home = context.pages().find((one) => one.url().startsWith("chrome-extension://"));
  if (home === undefined) throw new Error("MetaMask has no page open");
  const asked = await context.newPage();
  const until = Date.now() + LIMIT_MS;
  while (!(await over())) {
    if (Date.now() > until) throw new Error("MetaMask asked for something that is not known here");
    await asked.goto(new URL("/notification.html", home.url()).href);
    for (const id of [
      "confirm-btn",
      "confirm-footer-button",
      "confirmation-submit-button",
      "page-container-footer-next",
    ]) {
      await click(asked, id).catch(() => undefined);
    }
    await asked.waitForTimeout(STEP_MS);
  }
  await asked.close();
}

async function opened(context: BrowserContext): Promise<Page> {
  return context.waitForEvent("page", { predicate: (page) => page.url().startsWith("chrome-extension://") });
}
