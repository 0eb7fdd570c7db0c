import { describe, expect, test } from "vitest";

import { href, parseRoute } from "./router";

const ID = `0x${"5e".repeat(32)}`;

describe("routes", () => {
  test.each([
    ["", { page: "ask" }],
    ["#/", { page: "ask" }],
    ["#/?from=mail", { page: "ask" }],
    [`#/request/${ID}`, { page: "request", id: ID }],
    [`#/request/${ID.toUpperCase().replace("0X", "0x")}`, { page: "request", id: ID }],
    ["#/history", { page: "history" }],
    ["#/request/0x12", { page: "unknown" }],
    [`#/request/${ID}/more`, { page: "unknown" }],
    ["#/history/more", { page: "unknown" }],
    ["#/constructor", { page: "unknown" }],
  ])("given the hash %s, when read, then it is %o", (hash, route) => {
    expect(parseRoute(hash)).toEqual(route);
  });

  test("given every page, when its address is read again, then it is the same page", () => {
    for (const page of ["ask", "history", "providers", "statistics", "publish"] as const) {
      expect(parseRoute(href({ page }))).toEqual({ page });
    }
    expect(parseRoute(href({ page: "request", id: ID }))).toEqual({ page: "request", id: ID });
  });
});
