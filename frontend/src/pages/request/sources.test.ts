import { afterEach, expect, it } from "vitest";

import { storage } from "../../storage";
import { sourcesOf } from "./sources";

afterEach(() => history.replaceState(null, "", "/"));

it("given gateways that API, address and browser name, when content is looked for, then each is asked once, the API first", () => {
  history.replaceState(null, "", "/?gateway=https://asked.test/ipfs/");
  storage.set("gateway", "https://kept.test");
  const gateways = ["https://named.test", "https://asked.test", "http://api.test"];
  expect(sourcesOf("http://api.test", { gateways }).map(({ name }) => name)).toEqual([
    "API",
    "asked.test",
    "kept.test",
    "named.test",
  ]);
});

it("given nobody who names any, when content is looked for, then the API alone is asked", () => {
  history.replaceState(null, "", "/?gateway=javascript:alert(1)");
  expect(sourcesOf("http://api.test", {}).map(({ name }) => name)).toEqual(["API"]);
});
