import { readFileSync } from "node:fs";

import { describe, expect, test } from "vitest";

import { CHAIN_STATUSES, coordinatorAbi, FAILURE_REASONS } from "./abi";

interface Parameter {
  name: string;
  type: string;
  indexed?: boolean;
  components?: Parameter[];
}
interface Item {
  type: string;
  name?: string;
  inputs?: readonly Parameter[];
  outputs?: readonly Parameter[];
  stateMutability?: string;
}

const committed = JSON.parse(
  readFileSync("../oracle/chain/abi/InferenceCoordinator.json", "utf8"),
) as Item[] | { abi: Item[] };
const whole = Array.isArray(committed) ? committed : committed.abi;
const source = readFileSync("../contracts/interfaces/IInferenceCoordinator.sol", "utf8");

const plain = (parameters: readonly Parameter[] = []): unknown[] =>
  parameters.map(({ name, type, indexed, components }) => ({
    name,
    type,
    ...(indexed ? { indexed } : {}),
    ...(components ? { components: plain(components) } : {}),
  }));
const shape = (item: Item) => ({
  type: item.type,
  name: item.name,
  inputs: plain(item.inputs),
  ...(item.type === "function" ? { outputs: plain(item.outputs), stateMutability: item.stateMutability } : {}),
});
const members = (name: string): string[] =>
  (new RegExp(`enum ${name} \\{([^}]*)\\}`).exec(source)?.[1] ?? "").split(",").map((one) => one.trim());

describe("the coordinator's ABI", () => {
  test("given the compiled contract, when compared, then every item here is one of its own", () => {
    for (const item of coordinatorAbi as readonly Item[]) {
      const compiled = whole.find((one) => one.type === item.type && one.name === item.name);
      expect(compiled && shape(compiled), item.name).toEqual(shape(item));
    }
  });

  test("given the interface, when its enums are read, then their orders are these", () => {
    expect(members("Status")).toEqual([...CHAIN_STATUSES]);
    const words = members("FailureReason").map((one) => one.replace(/(?<=[a-z])(?=[A-Z])/g, "_").toLowerCase());
    expect(words).toEqual([...FAILURE_REASONS]);
  });
});
