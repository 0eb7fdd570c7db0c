import { afterEach, describe, expect, it, vi } from "vitest";

import { cidOfBytes, cidOfHex, isNamed, NotACid, parseCid } from "./cid";
import { bytesOf, fromHex, golden } from "./golden";

afterEach(() => vi.unstubAllGlobals());

describe("CIDs", () => {
  it.each(golden.small)("given $cid, when it is read from text and from bytes, then both are the oracle's", (one) => {
    const read = parseCid(one.cid);
    expect(read.text).toBe(one.cid);
    expect(read.version).toBe(one.version);
    expect([...read.bytes]).toEqual([...fromHex(one.bytes)]);
    expect(cidOfBytes(fromHex(one.bytes)).text).toBe(one.cid);
    expect(cidOfHex(`0x${one.bytes}`)?.text).toBe(one.cid);
  });

  it("given the ways in which people write a CID, when they are read, then they name the same", () => {
    const { cid } = golden.small[1] ?? { cid: "" };
    for (const text of [`ipfs://${cid}`, `/ipfs/${cid}/`, ` ${cid}\n`, cid.toUpperCase()]) {
      expect(parseCid(text).text).toBe(parseCid(cid).text);
    }
  });

  it.each([
    "",
    "Qm",
    "hello",
    "bafkrei",
    "z",
    "0x1220",
    "b" + "a".repeat(58),
    "Q".repeat(100_000),
    // The last character but one bit: another spelling of the same bytes.
    (golden.small[1]?.cid ?? "").slice(0, -1) + "7",
  ])("given %s, when it is read, then it is refused", (text) => {
    expect(() => parseCid(text)).toThrow(NotACid);
  });

  it("given no bytes on the chain, when they are read, then there is no CID", () => {
    expect(cidOfHex("0x")).toBeNull();
    expect(() => cidOfHex("0x1")).toThrow(NotACid);
    expect(() => cidOfHex("0x1220")).toThrow(NotACid);
  });

  it.each(["the browser's hash", "no hash of the browser's"])(
    "given %s, when a block is held to its CID, then one other bit is told",
    async (where) => {
      if (where.startsWith("no")) vi.stubGlobal("crypto", {});
      const raw = golden.small.find((one) => one.version === 1 && one.hex.length > 100);
      const block = fromHex(raw?.hex ?? "");
      const cid = parseCid(raw?.cid ?? "");
      expect(await isNamed(cid, block)).toBe(true);
      block[100] = (block[100] ?? 0) ^ 1;
      expect(await isNamed(cid, block)).toBe(false);
      expect(await isNamed(cid, bytesOf("else"))).toBe(false);
    },
  );
});
