import { describe, expect, test } from "vitest";

import { apiBase, foreignApi } from "./config";

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
