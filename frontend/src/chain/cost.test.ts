import { expect, test } from "vitest";

import { summed } from "./cost";

const READ = {
  price: 1_000n,
  gasPrice: 1n,
  ether: 10n ** 9n,
  balance: 0n,
  held: 1_000n,
  symbol: "PLAIN",
  decimals: 6,
};

test("given a token, when the cost is summed, then each approval that must come first counts towards the fee", () => {
  const fee = (approvals: number) => summed({ ...READ, token: "0x00000000000000000000000000000000000000e0", approvals }, false).fee ?? 0n;
  expect([fee(0), fee(1), fee(2)]).toEqual([95_000n, 145_000n, 195_000n]);
});

test("given ether or money at the contract, when the cost is summed, then no approval counts", () => {
  expect(summed({ ...READ, token: null, approvals: 1 }, false)).toMatchObject({ fee: 65_000n, total: 66_000n });
  expect(summed({ ...READ, token: null, approvals: 1 }, true)).toMatchObject({ fee: 70_000n, total: null });
});
