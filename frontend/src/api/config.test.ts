import { afterEach, describe, expect, test } from "vitest";

import { apiBase, foreignApi, foreignRpc, isConfig, isServedByApi } from "./config";
import type { Config } from "./types";

function page(written = ""): Document {
  const made = document.implementation.createHTMLDocument();
  made.head.innerHTML = `<meta name="sibyl-api" content="${written}">`;
  return made;
}
const at = (url: string) => new URL(url) as unknown as Location;

describe("where the API is", () => {
  test.each([
    ["http://host:8080/", "", "http://host:8080"],
    ["http://host/some/folder/index.html#/history", "", "http://host/some/folder"],
    ["https://static.test/x/?api=https://api.test/sibyl/", "", "https://api.test/sibyl"],
    ["https://static.test/x/", "https://written.test", "https://written.test"],
    ["https://static.test/x/?api=https://asked.test", "https://written.test", "https://written.test"],
    ["https://static.test/x/?api=javascript:alert(1)", "", "https://static.test/x"],
    ["https://static.test/x/?api=https://", "", "https://static.test/x"],
  ])("given the page at %s with %j written in it, when looked up, then it is %s", (place, written, base) => {
    expect(apiBase(at(place), page(written))).toBe(base);
  });
});

describe("an API that only the page's address names", () => {
  test.each([
    ["https://static.test/x/?api=https://api.test/sibyl/", "", "api.test"],
    ["https://static.test/x/?api=https://static.test/api", "", null],
    ["https://static.test/x/?api=https://api.test", "https://written.test", null],
    ["https://static.test/x/", "", null],
  ])("given the page at %s with %j written in it, when looked up, then its host is %j", (place, written, host) => {
    expect(foreignApi(at(place), page(written))).toBe(host);
  });
});

describe("an endpoint that only the page's address names", () => {
  afterEach(() => history.replaceState(null, "", "/"));

  test.each([
    ["/?rpc=https://mine.test/key", "https://rpc.test", "mine.test"],
    ["/?rpc=https://mine.test/key", null, "mine.test"],
    ["/?rpc=https://rpc.test", "https://rpc.test", null],
    ["/?rpc=https://", "https://rpc.test", null],
    ["/", null, null],
  ])("given the page at %s and an API that gives %j, when looked up, then its host is %j", (place, given, host) => {
    history.replaceState(null, "", place);
    expect(foreignRpc({ rpc_url: given } as Config)).toBe(host);
  });
});

describe("what an API says of itself", () => {
  const good: Config = {
    name: "sibyl",
    version: "0.1.0",
    chain_id: 31337,
    chain_name: "Local chain",
    currency: { symbol: "ETH", decimals: 18 },
    coordinator: `0x${"c0".repeat(20)}`,
    start_block: 1,
    default_model: null,
    rpc_url: "http://127.0.0.1:8545",
    explorer_url: "https://explorer.test",
    cancel_window: 0,
    confirmations: 3,
    backend: "golem",
    gateway: { open: false, address: null },
    gateways: ["https://content.test"],
    limits: { image_bytes: 1, image_pixels: 1, formats: ["PNG"] },
  };
  const { gateways: _, ...older } = good;

  test.each([
    ["everything", good],
    ["what one without gateways said", older],
    ["no way to the chain", { ...good, rpc_url: null, explorer_url: null, default_model: 1 }],
  ])("given %s, when it is read, then the page lives on it", (_what, config) => {
    expect(isConfig(JSON.parse(JSON.stringify(config)))).toBe(true);
  });

  test.each<[string, unknown]>([
    ["nothing", null],
    ["a list", []],
    ["a link that runs", { ...good, explorer_url: "javascript:alert(1)" }],
    ["a link with room before it that runs", { ...good, explorer_url: " \tjavascript:alert(1)//http://" }],
    ["no link", { ...good, explorer_url: "explorer" }],
    ["an endpoint of another kind", { ...good, rpc_url: "data:,1" }],
    ["a gateway of another kind", { ...good, gateways: ["https://content.test", "javascript:alert(1)"] }],
    ["one gateway for many", { ...good, gateways: "https://content.test" }],
    ["a coin of no form", { ...good, currency: { symbol: "ETH" } }],
    ["a coin of so many decimals", { ...good, currency: { symbol: "ETH", decimals: 1e9 } }],
    ["limits of null", { ...good, limits: null }],
    ["formats as text", { ...good, limits: { ...good.limits, formats: "PNG" } }],
    ["a paying account of no form", { ...good, gateway: { open: true, address: "0x12" } }],
    ["part of a block", { ...good, start_block: 1.5 }],
    ["a chain as text", { ...good, chain_id: "31337" }],
    ...Object.keys(older).map((name): [string, unknown] => [`no ${name}`, { ...good, [name]: undefined }]),
  ])("given %s, when it is read, then it is no configuration", (_what, config) => {
    expect(isConfig(config)).toBe(false);
  });
});

test.each([
  ["http://host:8080", "http://host:8080/", true],
  ["https://api.test", "https://static.test/x/", false],
])("given an API at %s and the page at %s, when looked at, then it is served by it: %s", (base, place, served) => {
  expect(isServedByApi(base, at(place))).toBe(served);
});
