import { act, fireEvent, render, screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { beforeEach, describe, expect, test, vi } from "vitest";

import { App } from "./app";

const CONFIG = {
  name: "sibyl",
  version: "1.2.3",
  chain_id: 31_337,
  chain_name: "Local chain",
  currency: { symbol: "ETH", decimals: 18 },
  coordinator: "0x00000000000000000000000000000000000000c0",
  start_block: 0,
  default_model: 1,
  rpc_url: "http://rpc.test/",
  explorer_url: null,
  cancel_window: 0,
  confirmations: 1,
  backend: "local",
  gateway: { open: false, address: null },
  limits: { image_bytes: 1_000_000, image_pixels: 1_000_000, formats: ["PNG"] },
};
let answers: Record<string, unknown>;

beforeEach(() => {
  location.hash = "#/nowhere";
  answers = { "/v1": CONFIG, "/v1/health": { ok: true } };
  vi.stubGlobal("fetch", (url: string) => {
    const found = answers[new URL(url).pathname];
    return found === undefined ? Promise.reject(new TypeError("Failed to fetch")) : Promise.resolve(Response.json(found));
  });
});

describe("the frame", () => {
  test("given an API, when the page is opened, then it names contract, version and health", async () => {
    render(<App />);
    expect(await screen.findByText("API up")).toBeTruthy();
    expect(screen.getByText(/1\.2\.3/)).toBeTruthy();
    expect(screen.getByText("0x0000…00c0")).toBeTruthy();
    expect(screen.getByRole("heading", { name: "Page not found" })).toBeTruthy();
    expect(document.title).toBe("Page not found · Sibyl");
  });

  test("given an API that was there once, when it is down, then the page lives on and says so", async () => {
    const first = render(<App />);
    await screen.findByText("API up");
    first.unmount();
    answers = {};
    render(<App />);
    expect(await screen.findByText("API down")).toBeTruthy();
    expect(screen.getByRole("heading", { name: "Page not found" })).toBeTruthy();
  });

  test("given an API that was never there, when the page is opened, then it says what to do, and tries again", async () => {
    answers = {};
    render(<App />);
    expect(await screen.findByText("The page cannot reach its API", undefined, { timeout: 5_000 })).toBeTruthy();
    answers = { "/v1": CONFIG, "/v1/health": { ok: true } };
    await userEvent.click(screen.getByRole("button", { name: "Try again" }));
    expect(await screen.findByText("API up")).toBeTruthy();
  });

  test("given something else at the API's address, when the page is opened, then it is not taken for the API", async () => {
    answers = { "/v1": { hello: "world" } };
    render(<App />);
    expect(await screen.findByText("The page cannot reach its API", undefined, { timeout: 5_000 })).toBeTruthy();
  });

  test("given a link that names an endpoint of its own, when it is opened, then the page warns of it", async () => {
    history.replaceState(null, "", "/?rpc=https://mine.test#/nowhere");
    render(<App />);
    expect(await screen.findByText(/The link to this page chose mine.test to read the chain/)).toBeTruthy();
    history.replaceState(null, "", "/");
  });

  test("given a page, when another is gone to, then its heading has the focus, and its title is said and in the tab", async () => {
    render(<App />);
    await screen.findByText("API up");
    expect(document.activeElement).toBe(document.body);
    act(() => {
      location.hash = "#/providers";
    });
    await waitFor(() => expect(document.activeElement?.textContent).toBe("Providers"), { timeout: 5_000 });
    expect(document.activeElement?.tagName).toBe("H1");
    const said = () => screen.getAllByRole("status").map((one) => one.textContent);
    await waitFor(() => expect(said()).toContain("Providers"));
    expect(document.title).toBe("Providers · Sibyl");
    act(() => {
      location.hash = "#/nowhere";
    });
    await waitFor(() => expect(document.activeElement?.textContent).toBe("Page not found"));
  });

  test("given a file or a text, when it is dropped beside every place for it, then only the file is held off", async () => {
    render(<App />);
    await screen.findByText("API up");
    for (const event of [fireEvent.dragOver, fireEvent.drop]) {
      expect(event(document.body, { dataTransfer: { types: ["Files"] } })).toBe(false);
      expect(event(document.body, { dataTransfer: { types: ["text/plain"] } })).toBe(true);
    }
  });

  test("given another language and theme, when chosen, then both hold and are kept", async () => {
    render(<App />);
    await userEvent.click(await screen.findByRole("button", { name: "Deutsch" }));
    expect(screen.getByRole("link", { name: "Verlauf" })).toBeTruthy();
    expect(document.documentElement.lang).toBe("de");
    await userEvent.click(screen.getByRole("button", { name: "Dunkle Farben" }));
    expect(document.documentElement.dataset.theme).toBe("dark");
    expect(localStorage.getItem("sibyl.theme")).toBe("dark");
    await userEvent.click(screen.getByRole("button", { name: "Helle Farben" }));
    await waitFor(() => expect(document.documentElement.dataset.theme).toBeUndefined());
    expect(localStorage.getItem("sibyl.language")).toBe("de");
  });
});
