import { screen, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { describe, expect, it } from "vitest";

import { FakeChain } from "../../chain/chain-double";
import { show } from "../../test/world";
import StatisticsPage from "./index";

const id = (number: number) => `0x${number.toString(16).padStart(64, "0")}`;
const point = (number: number, bytes: number, seconds: number | null) => ({
  id: id(number),
  model: 1,
  provider: "oak-3",
  bytes,
  pixels: bytes * 4,
  compute_s: seconds,
  total_s: 3,
  at: 1_700_000_000,
});
const stats = {
  requests: { fulfilled: 3, computing: 1 },
  success_rate: 0.75,
  queue: 1,
  throughput_per_hour: [{ at: 1_700_000_000, count: 3 }],
  by_model: [{ model: 1, name: "mnist-cnn", count: 3, median_s: 2, p90_s: 4, box: [1, 1.5, 2, 3, 5] }],
  points: [point(1, 4_096, 0.5), point(2, 1_024, 0.25), point(3, 65_536, null)],
};
const empty = { requests: {}, success_rate: null, queue: 0, throughput_per_hour: [], by_model: [], points: [] };
const world = (answer: unknown) => ({ api: { "/v1/stats": answer }, chain: new FakeChain() });

describe("given measured requests", () => {
  it("when the arrow keys go over the scatter plot, then each point is named, opens its request, and one is a tab stop", async () => {
    const person = userEvent.setup();
    await show(<StatisticsPage />, world(stats));
    const plot = await screen.findByRole("group", { name: /^Processing time against picture size, 2 requests/ });
    const points = within(plot).getAllByRole("link");
    // By size, and only those whose time is known.
    expect(points.map((one) => one.getAttribute("href"))).toEqual([`#/request/${id(2)}`, `#/request/${id(1)}`]);
    expect(points.map((one) => one.getAttribute("tabindex"))).toEqual(["0", "-1"]);
    points[0]?.focus();
    await person.keyboard("{ArrowRight}");
    expect(document.activeElement).toBe(points[1]);
    expect(document.activeElement?.getAttribute("aria-label")).toMatch(/mnist-cnn\s4 KiB, 0.5 s/);
    await person.keyboard("{ArrowRight}{Home}");
    expect(document.activeElement).toBe(points[0]);
  });

  it("when the time is the whole one, then requests without a computing time are there too", async () => {
    await show(<StatisticsPage />, world(stats));
    await userEvent.selectOptions(await screen.findByLabelText("Time"), "From mined to answered");
    expect(screen.getByRole("group", { name: /3 requests/ })).toBeTruthy();
  });

  it("when charts cannot be seen, then the same numbers are in tables", async () => {
    await show(<StatisticsPage />, world(stats));
    expect(await screen.findByRole("table", { name: "Time by model" })).toBeTruthy();
    expect(screen.getByRole("img", { name: /mnist-cnn: median 2 s, 3 requests/ })).toBeTruthy();
    expect(screen.getByText("75%")).toBeTruthy();
  });

  it("when another span is chosen, then the CSV is of that span", async () => {
    await show(<StatisticsPage />, world(stats));
    await userEvent.click(await screen.findByRole("radio", { name: "1 h" }));
    expect(screen.getByRole("link", { name: "CSV" }).getAttribute("href")).toContain("stats.csv?range=3600");
  });
});

it("given none in the span, when the page is opened, then it says what will be here and leads further", async () => {
  await show(<StatisticsPage />, world(empty));
  await userEvent.click(await screen.findByRole("button", { name: "Show the whole year" }));
  expect(await screen.findByRole("link", { name: "Ask about a picture" })).toBeTruthy();
});

it("given no API, when the page is opened, then it says so and offers to try again", async () => {
  await show(<StatisticsPage />, { ...world(empty), down: true });
  expect(await screen.findByRole("button", { name: "Try again" })).toBeTruthy();
});
