import { describe } from "vitest";

import { payAndAsk, readyToPay } from "./harness/flow.js";
import { picture } from "./harness/pictures.js";
import { expect, test } from "./harness/site.js";
import { freezeOracle } from "./harness/stack.js";

const MONTH = 30 * 24 * 3600;

describe("refund", () => {
  test("given an oracle that has gone, when the deadline has passed, then the requester takes the money back", async ({
    site,
    run,
  }) => {
    const wallet = await site.wallet();
    const page = await readyToPay(site, wallet, picture(run.pictures, "digit-7"));
    const thaw = freezeOracle(run.facts);
    try {
      await payAndAsk(page);
      await page
        .getByText(/Mined in block/)
        .first()
        .waitFor();
      const refund = page.getByRole("button", { name: "Take the money back" });
      expect(await refund.count()).toBe(0);

      await site.chain.increaseTime({ seconds: MONTH });
      await site.chain.mine({ blocks: 1 });
      const before = await site.chain.getBalance({ address: wallet.address });
      await refund.click({ timeout: 30_000 });
      await page.getByText("The money went back").first().waitFor();
      expect(wallet.sent).toHaveLength(2);
      // The price came back, and the fee of two small transactions is far below it.
      expect(await site.chain.getBalance({ address: wallet.address })).toBeGreaterThan(before);
      await expect.poll(() => refund.count()).toBe(0);
    } finally {
      thaw();
    }
  });
});
