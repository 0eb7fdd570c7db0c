import { fireEvent, screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { describe, expect, it } from "vitest";

import type { PublicClient } from "viem";

import type { Config } from "../../api/types";
import { COORDINATOR, FakeChain, ME, OTHER } from "../../chain/chain-double";
import { show } from "../../test/world";
import "../../test/files";
import { cidOf, digest, GOOD } from "./fixtures";
import PublishPage from "./index";
import { readMine } from "./mine";

const chain = () => {
  const made = new FakeChain();
  made.head = 5;
  return made;
};

describe("given no wallet", () => {
  it("when the page is opened, then files can be checked, and publishing asks to connect", async () => {
    const person = userEvent.setup({ applyAccept: false });
    await show(<PublishPage />, { api: {}, chain: chain() });
    const check = screen.getByRole("button", { name: "Check and pin" });
    expect(check).toHaveProperty("disabled", true);
    const files = [new File(['{"schema": "x"}'], "manifest.json"), new File(["w"], "w.keras"), new File(["?"], "photo.bmp")];
    await person.upload(screen.getByLabelText("Choose files"), files);
    expect(await screen.findByText(/photo.bmp is none of these/)).toBeTruthy();
    await person.click(check);
    expect(await screen.findByText(/schema: “sibyl\/model\/1” is expected/)).toBeTruthy();
    expect(screen.getAllByText("A check failed. Nothing was published.").length).toBeGreaterThan(0);
    expect(screen.getByRole("button", { name: "Connect a wallet to publish" })).toBeTruthy();
  });
});

describe("given a connected account", () => {
  it("when it has published, then earnings, price and switches are there, and publishing waits for the checks", async () => {
    const made = chain();
    made.balances = 7n * 10n ** 13n;
    await show(<PublishPage />, { api: {}, chain: made, account: ME });
    expect(await screen.findByText("Model 1")).toBeTruthy();
    expect(screen.getByText("Waits for you").nextSibling?.textContent).toMatch(/0\.00007\sETH/);
    expect(screen.getByRole("button", { name: "Withdraw" })).toHaveProperty("disabled", false);
    expect(screen.getByRole("button", { name: "Retire" })).toBeTruthy();
    expect(screen.getByRole("button", { name: "Publish" })).toHaveProperty("disabled", true);
    expect(screen.getByText("You get 70% of it, the operator the rest.")).toBeTruthy();
  });

  it("when it has published nothing, then the page says what will be here", async () => {
    await show(<PublishPage />, { api: {}, chain: chain(), account: OTHER });
    expect(await screen.findByText("No model of this account yet")).toBeTruthy();
  });

  it("when a price is too fine or is none, then it says why", async () => {
    const person = userEvent.setup();
    await show(<PublishPage />, { api: {}, chain: chain(), account: OTHER });
    const price = screen.getByLabelText("Price of one answer");
    await person.clear(price);
    await person.type(price, "0.00000000001");
    await waitFor(() => expect(screen.getByRole("alert").textContent).toContain("multiple of 0.000000001 ETH"));
    await person.clear(price);
    await person.type(price, "much");
    expect(screen.getByRole("alert").textContent).toContain("A number");
  });
});

/** Files that pass every check, and an API that pins them as they are. */
async function passing() {
  const sha = await digest("w");
  const manifest = JSON.stringify({ ...GOOD, weights: { format: "keras", sha256: sha, bytes: 1, cid: await cidOf("w") } });
  return {
    files: [new File([manifest], "manifest.json"), new File(["w"], "w.keras")],
    manifestCid: await cidOf(manifest),
    api: { "/v1/weights": { cid: await cidOf("w"), bytes: 1, sha256: sha }, "/v1/manifests": { cid: await cidOf(manifest) } },
  };
}

describe("given files that pass", () => {
  async function checked(api: Record<string, unknown>, files: File[], made = chain()) {
    const person = userEvent.setup();
    await show(<PublishPage />, { api, chain: made, account: OTHER });
    for (const file of files) await person.upload(screen.getByLabelText("Choose files"), file);
    await person.click(screen.getByRole("button", { name: "Check and pin" }));
    await screen.findAllByText("All checks passed.");
    return person;
  }

  it("when they came in two quick drops, then both are there", async () => {
    await show(<PublishPage />, { api: {}, chain: chain() });
    const input = screen.getByLabelText("Choose files");
    const { files } = await passing();
    for (const file of files) fireEvent.change(input, { target: { files: [file] } });
    expect(await screen.findByText(/^manifest.json/)).toBeTruthy();
    expect(await screen.findByText(/^w.keras/)).toBeTruthy();
    await userEvent.click(screen.getByRole("button", { name: "Remove w.keras" }));
    expect(screen.queryByText(/^w.keras/)).toBeNull();
    expect(screen.getByText(/^manifest.json/)).toBeTruthy();
    expect(document.activeElement).toBe(input);
  });

  it("when a token is wanted and none is named, or a letter of its address is of the wrong case, then a press says so", async () => {
    const { api, files } = await passing();
    const person = await checked(api, files);
    await person.selectOptions(screen.getByLabelText("Currency"), "token");
    const publish = screen.getByRole("button", { name: "Publish" });
    await waitFor(() => expect(publish).toHaveProperty("disabled", false));
    expect(screen.queryByRole("alert")).toBeNull();
    await person.click(publish);
    expect(screen.getByRole("alert").textContent).toContain("That is not an address");
    const address = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
    await person.type(screen.getByLabelText("Token's address"), address.replace("aA", "AA"));
    expect(screen.getByRole("alert").textContent).toContain("That is not an address");
    await person.clear(screen.getByLabelText("Token's address"));
    await person.type(screen.getByLabelText("Token's address"), address);
    await waitFor(() => expect(screen.queryByText(/That is not an address/)).toBeNull());
  });

  it("when the fee cannot be read, then it says so, and a press reads it again", async () => {
    const made = chain();
    made.down = true;
    await show(<PublishPage />, { api: {}, chain: made, account: OTHER });
    const [retry] = await screen.findAllByRole("button", { name: "Try again" }, { timeout: 5_000 });
    made.down = false;
    await userEvent.click(retry as HTMLElement);
    expect(await screen.findByText(/Fee of publishing/, undefined, { timeout: 5_000 })).toBeTruthy();
  });

  it("when they were sent to be published on an earlier visit, then a second fee needs a second wish", async () => {
    const { api, files, manifestCid } = await passing();
    localStorage.setItem(`sibyl.published.31337.${COORDINATOR}`, manifestCid);
    const person = await checked(api, files);
    expect(await screen.findByText(/Fee of publishing/)).toBeTruthy();
    expect(screen.getByRole("button", { name: "Publish" })).toHaveProperty("disabled", true);
    await person.click(screen.getByRole("button", { name: "Publish it again" }));
    expect(screen.getByRole("button", { name: "Publish" })).toHaveProperty("disabled", false);
  });

  it("when a price is typed, then it is said back as it was understood", async () => {
    await show(<PublishPage />, { api: {}, chain: chain(), account: OTHER });
    const price = screen.getByLabelText("Price of one answer");
    await userEvent.clear(price);
    await userEvent.type(price, "1,5");
    expect(screen.getByText("One answer costs 1.5 ETH.")).toBeTruthy();
    await userEvent.clear(price);
    await userEvent.type(price, "1,500");
    expect(screen.getByRole("alert").textContent).toContain("read in two ways");
    expect(screen.queryByText(/One answer costs/)).toBeNull();
  });
});

describe("given a contract of many models", () => {
  const config = { chain_id: 31_337, currency: { symbol: "ETH", decimals: 18 }, coordinator: COORDINATOR } as Config;
  const of = (count: number, mine: readonly number[]) => {
    const looked: number[] = [];
    const client = {
      readContract: ({ functionName, args }: { functionName: string; args?: readonly [bigint] }) => {
        const id = Number(args?.[0]);
        if (functionName === "modelCount") return Promise.resolve(BigInt(count));
        if (functionName === "earningsOf") return Promise.resolve(5n);
        looked.push(id);
        const publisher = mine.includes(id) ? ME : OTHER;
        return Promise.resolve({
          publisher,
          payout: publisher,
          token: `0x${"0".repeat(40)}`,
          active: true,
          price: 1n,
          publisherShare: 7_000n,
          manifestCid: "0x",
        });
      },
    };
    return { looked, client: client as unknown as PublicClient };
  };
  const ids = ({ models }: { models: { id: number }[] }) => models.map(({ id }) => id);

  it("when they were looked through once, then only one's own and new ones are read again", async () => {
    const first = await readMine(of(40, [3, 30]).client, config, ME);
    expect(ids(first)).toEqual([30, 3]);
    const later = of(42, [3, 30, 42]);
    expect(ids(await readMine(later.client, config, ME, first))).toEqual([42, 30, 3]);
    expect(later.looked.sort((a, b) => a - b)).toEqual([3, 30, 41, 42]);
  });

  it("when a local chain was started anew, then all are looked through again", async () => {
    const first = await readMine(of(40, [3]).client, config, ME);
    expect(ids(await readMine(of(5, [4]).client, config, ME, first))).toEqual([4]);
  });

  it("when there are more than are looked through, then the newest are, and the count tells", async () => {
    const many = of(1_200, [1, 1_100]);
    const found = await readMine(many.client, config, ME);
    expect([ids(found), found.count, many.looked.length]).toEqual([[1_100], 1_200, 1_000]);
  });
});
