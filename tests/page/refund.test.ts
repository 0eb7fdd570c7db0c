import { createHash } from "node:crypto";

import { describe } from "vitest";

import { chooseModel, connect, payAndAsk } from "./harness/flow.js";
import { expect, test } from "./harness/site.js";
import { freezeOracle } from "./harness/stack.js";
import { choosePicture } from "./harness/flow.js";
import { picture } from "./harness/pictures.js";

describe("refund", () => {
  test("given an oracle that has gone, when the deadline has passed, then the requester takes the money back", async ({
    site,
    run,
  }) => {
    const wallet = await site.wallet();
    const page = await site.open("#/", { wallets: [wallet] });
    await choosePicture(page, picture(run.pictures, "digit-7"));
    await chooseModel(page, /mnist-cnn/);
    await connect(page);
    const thaw = freezeOracle(run.facts);
    try {
      const id = await payAndAsk(page);
      const refund = page.getByRole("button", { name: /refund|take .*back/i });
      await page
        .getByText(/Mined in block/)
        .first()
        .waitFor();
      expect(await refund.count()).toBe(0);
      await site.chain.increaseTime({ seconds: 7 * 24 * 3600 });
      await site.chain.mine({ blocks: 1 });
      await refund.first().click({ timeout: 30_000 });
      await page
        .getByText(/refunded|went back/i)
        .first()
        .waitFor();
      expect(wallet.sent).toHaveLength(2);
      expect(id).toMatch(/^0x/);
      expect(createHash).toBeTypeOf("function");
    } finally {
      thaw();
    }
  });
});
