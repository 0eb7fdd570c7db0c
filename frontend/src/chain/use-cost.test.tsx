import { screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { useState } from "react";
import { expect, test } from "vitest";

import type { Model } from "../api/types";
import { show } from "../test/world";
import { FakeChain, ME, OTHER } from "./chain-double";
import { useCost } from "./cost";

const MODEL = { id: 1, token: null, price: "5" } as Model;

function Page() {
  const [account, setAccount] = useState(ME);
  const { cost } = useCost(MODEL, account, false);
  return <button onClick={() => setAccount(OTHER)}>{cost ? String(cost.holds.ether) : "not read"}</button>;
}

test("given one account's balance, when another is connected, then it is not shown as the other's", async () => {
  const chain = new FakeChain();
  await show(<Page />, { api: {}, chain });
  expect(await screen.findByText("1000000000000000000")).toBeTruthy();
  chain.down = true;
  await userEvent.click(screen.getByRole("button"));
  expect(screen.getByText("not read")).toBeTruthy();
});
