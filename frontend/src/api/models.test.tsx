import { screen } from "@testing-library/react";
import { expect, it } from "vitest";

import { FakeChain } from "../chain/chain-double";
import { show } from "../test/world";
import { useModels } from "./models";

function Listed() {
  const { models, source } = useModels();
  return <p>{models ? `${models.length} of the ${source}, manifest ${models[0]?.manifest_cid || "unknown"}` : "none"}</p>;
}

it.each([
  ["a manifest", `0x1220${"ab".repeat(32)}`, /^1 of the chain, manifest Qm/],
  ["a manifest CID of no form", "0xdead", /^1 of the chain, manifest unknown$/],
] as const)("given a model with %s, when the API is down, then the chain's list has it", async (_, manifest, listed) => {
  const chain = new FakeChain();
  chain.manifest = manifest;
  await show(<Listed />, { api: {}, down: true, chain });
  expect(await screen.findByText(listed)).toBeTruthy();
});
