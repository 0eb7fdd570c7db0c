import { screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { describe, expect, it } from "vitest";

import { FakeChain, ME, OTHER } from "../../chain/chain-double";
import { show } from "../../test/world";
import "../../test/files";
import PublishPage from "./index";

const chain = () => {
  const made = new FakeChain();
  made.head = 5;
  return made;
};

describe("given no wallet", () => {
  it("when the page is opened, then files can be checked, and publishing asks to connect", async () => {
    const person = userEvent.setup({ applyAccept: false });
    await show(<PublishPage />, { api: {}, chain: chain() });
    const check = screen.getByRole("button", { name: "Check and pin" });
    expect(check).toHaveProperty("disabled", true);
    const files = [new File(['{"schema": "x"}'], "manifest.json"), new File(["w"], "w.keras"), new File(["?"], "photo.bmp")];
    await person.upload(screen.getByLabelText("Choose files"), files);
    expect(await screen.findByText(/photo.bmp is none of these/)).toBeTruthy();
    await person.click(check);
    expect(await screen.findByText(/schema: “sibyl\/model\/1” is expected/)).toBeTruthy();
    expect(screen.getAllByText("A check failed. Nothing was published.").length).toBeGreaterThan(0);
    expect(screen.getByRole("button", { name: "Connect a wallet to publish" })).toBeTruthy();
  });
});

describe("given a connected account", () => {
  it("when it has published, then earnings, price and switches are there, and publishing waits for the checks", async () => {
    const made = chain();
    made.balances = 7n * 10n ** 13n;
    await show(<PublishPage />, { api: {}, chain: made, account: ME });
    expect(await screen.findByText("Model 1")).toBeTruthy();
    expect(screen.getByText("Waits for you").nextSibling?.textContent).toMatch(/0\.00007\sETH/);
    expect(screen.getByRole("button", { name: "Withdraw" })).toHaveProperty("disabled", false);
    expect(screen.getByRole("button", { name: "Retire" })).toBeTruthy();
    expect(screen.getByRole("button", { name: "Publish" })).toHaveProperty("disabled", true);
    expect(screen.getByText("You get 70% of it, the operator the rest.")).toBeTruthy();
  });

  it("when it has published nothing, then the page says what will be here", async () => {
    await show(<PublishPage />, { api: {}, chain: chain(), account: OTHER });
    expect(await screen.findByText("No model of this account yet")).toBeTruthy();
  });

  it("when a price is too fine or is none, then it says why", async () => {
    const person = userEvent.setup();
    await show(<PublishPage />, { api: {}, chain: chain(), account: OTHER });
    const price = screen.getByLabelText("Price of one answer");
    await person.clear(price);
    await person.type(price, "0.00000000001");
    await waitFor(() => expect(screen.getByRole("alert").textContent).toContain("multiple of 0.000000001 ETH"));
    await person.clear(price);
    await person.type(price, "much");
    expect(screen.getByRole("alert").textContent).toContain("A number");
  });
});
