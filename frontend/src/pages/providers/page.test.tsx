import { screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { describe, expect, it } from "vitest";

import { FakeChain } from "../../chain/chain-double";
import { show } from "../../test/world";
import ProvidersPage from "./index";

const oak = {
  id: `0x${"11".repeat(20)}`,
  name: "oak-3",
  price: { start: "0.0001", second: "0.000000012", cpu_second: "0.00003" },
  picture_glm: "0.00002",
  threads: 8,
  images_per_second: 41.24,
  load_seconds: 1.4,
  good: 44,
  failed: 1,
  lied: 0,
  reputation: 0.96,
  reasons: ["answered <b>late</b>"],
  standing: "trusted",
  blocked_until: null,
  first_seen: 1,
  last_seen: Date.now() / 1000 - 12,
};
const ash = { ...oak, id: `0x${"22".repeat(20)}`, name: "ash\u202E-1", images_per_second: 90, reputation: 0.5, standing: "", reasons: [] };
const world = (items: unknown[]) => ({ api: { "/v1/providers": { items, next: null } }, chain: new FakeChain() });
const names = () => screen.getAllByRole("rowheader").map((cell) => cell.firstChild?.textContent);

describe("given providers", () => {
  it("when they are shown, then price, speed and reputation are read, and a stranger's text is only text", async () => {
    await show(<ProvidersPage />, world([oak, ash]));
    expect(await screen.findAllByText("0.000000012")).toHaveLength(2);
    const meter = screen.getByRole("meter", { name: "Reputation of oak-3" });
    expect(meter.getAttribute("aria-valuetext")).toBe("96%");
    expect(screen.getByText("answered <b>late</b>")).toBeTruthy();
    expect(names()).toEqual(["oak-3", "ash-1"]);
  });

  it("when they are sorted by speed, then the fastest is first", async () => {
    await show(<ProvidersPage />, world([oak, ash]));
    await userEvent.selectOptions(await screen.findByRole("combobox"), "Speed");
    expect(names()).toEqual(["ash-1", "oak-3"]);
  });
});

describe("given none", () => {
  it("when the oracle computes by itself, then the page says what would be here", async () => {
    await show(<ProvidersPage />, { ...world([]), backend: "local" });
    expect(await screen.findByText("This oracle computes on its own machine")).toBeTruthy();
  });

  it("when the API is down, then it says so and offers to try again", async () => {
    await show(<ProvidersPage />, { ...world([]), down: true });
    expect(await screen.findByRole("button", { name: "Try again" })).toBeTruthy();
    expect(screen.getByRole("alert").textContent).toContain("API");
  });
});
