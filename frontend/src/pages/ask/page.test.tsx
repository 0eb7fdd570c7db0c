import { act, cleanup, fireEvent, screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { beforeEach, describe, expect, test, vi } from "vitest";

import type { Config, Model } from "../../api/types";
import { COORDINATOR, FakeChain, ME } from "../../chain/chain-double";
import { keep, keptFor } from "../../chain/pending";
import { show, type World } from "../../test/world";
import { cidOfBytes, sha256 } from "../../content/cid";
import { usePicture } from "../request/use-result";
import AskPage from "./index";
import { readCid, readUrl } from "./use-picture";

const CID = "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG";
const PNG = Uint8Array.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 0]);
const MODEL: Partial<Model> = {
  id: 1,
  name: "mnist-cnn",
  task: "classification",
  description: "Reads one digit.",
  price: "100000000000000",
  token: null,
  token_symbol: "ETH",
  active: true,
  usual_seconds: 0.7,
  example: false,
  problem: "",
};

const OAK = {
  id: "0xaa",
  name: "oak",
  picture_glm: "0.000120000",
  images_per_second: 3,
  reputation: 0.98,
  standing: "good",
};

function world(more: Partial<World> = {}, models: Partial<Model>[] = [MODEL]): World {
  return {
    api: { "/v1/models": { items: models, next: null }, "/v1/providers": { items: [], next: null } },
    chain: new FakeChain(),
    ...more,
  };
}

beforeEach(() => {
  vi.stubGlobal("createImageBitmap", (blob: Blob) =>
    blob.size < 5
      ? Promise.reject(new Error("no picture"))
      : Promise.resolve({ width: 28, height: 28, close: () => undefined }),
  );
});
const choose = (data: BlobPart, name = "seven.png") => {
  const input = document.querySelector<HTMLInputElement>('input[type="file"]');
  if (!input) throw new Error("there is no place for a file");
  fireEvent.change(input, { target: { files: [new File([data], name, { type: "image/png" })] } });
};

describe("the Ask page", () => {
  test("given no wallet, when a picture is chosen, then it is shown as it is, and the next step is to connect", async () => {
    const chain = new FakeChain();
    chain.balances = 10n ** 14n; // what the double answers to every question for an amount
    await show(<AskPage />, world({ chain }));
    choose(PNG);
    expect(await screen.findByAltText("Your picture: seven.png")).toBeTruthy();
    expect(screen.getByText("28 × 28 pixels, PNG, 12 B")).toBeTruthy();
    expect(screen.queryByText("What was changed")).toBeNull();
    expect(await screen.findByText(/^0\.0001\sETH \+ network fee$/, undefined, { timeout: 5_000 })).toBeTruthy();
    await userEvent.click(screen.getByRole("button", { name: "Connect a wallet to pay" }));
    expect(within(screen.getByRole("dialog")).getByText(/EIP-6963/)).toBeTruthy();
  });

  test("given a wallet but no picture, when the page is opened, then paying waits and says what for", async () => {
    await show(<AskPage />, world({ account: ME }));
    expect(await screen.findByText("First choose a picture.")).toBeTruthy();
    const pay = await screen.findByRole("button", { name: /^Pay .* and ask$/ });
    expect(pay).toHaveProperty("disabled", true);
    choose(PNG);
    await waitFor(() => expect(pay).toHaveProperty("disabled", false));
  });

  test("given a file that is no picture, when it is chosen, then that is said, and another can be chosen", async () => {
    await show(<AskPage />, world());
    choose("?");
    expect((await screen.findByRole("alert")).textContent).toContain("not a picture that can be read");
    choose(PNG);
    expect(await screen.findByAltText(/Your picture/)).toBeTruthy();
  });

  test("given a CID, when it is used, then it needs no upload, and that nobody delivers it now is no obstacle", async () => {
    await show(<AskPage />, world({ account: ME }));
    await userEvent.type(screen.getByLabelText("Or a web address or CID"), `ipfs://${CID}`);
    await userEvent.click(screen.getByRole("button", { name: "Use it" }));
    expect(await screen.findByText(/No preview/)).toBeTruthy();
    await waitFor(() => expect(screen.getByRole("button", { name: /^Pay / })).toHaveProperty("disabled", false));
  });

  test("given a CID whose picture is delivered, when it is used, then it is shown, and the request's page has the same", async () => {
    const cid = cidOfBytes(Uint8Array.from([1, 0x55, 0x12, 0x20, ...(await sha256(PNG))])).text;
    function Elsewhere() {
      const { state, blob } = usePicture(cid);
      return <p>{`${state} ${blob?.type}`}</p>;
    }
    await show(
      <>
        <AskPage />
        <Elsewhere />
      </>,
      world({ api: { ...world().api, [`/ipfs/${cid}`]: PNG } }),
    );
    await userEvent.type(screen.getByLabelText("Or a web address or CID"), cid);
    await userEvent.click(screen.getByRole("button", { name: "Use it" }));
    expect((await screen.findByAltText("Picture by its CID")).getAttribute("src")).toMatch(/^blob:/);
    expect(screen.getByText("here image/png")).toBeTruthy();
  });

  test("given pictures that were shown, when they go, then nothing of them stays in memory", async () => {
    const made = vi.spyOn(URL, "createObjectURL");
    const gone = vi.spyOn(URL, "revokeObjectURL");
    await show(<AskPage />, world());
    choose(PNG);
    await screen.findByAltText("Your picture: seven.png");
    choose(PNG, "eight.png");
    await screen.findByAltText("Your picture: eight.png");
    cleanup();
    expect(made).toHaveBeenCalledTimes(2);
    expect(gone.mock.calls.flat()).toEqual(made.mock.results.map(({ value }) => value as string));
  });

  test("given words that are no address, when they are used, then it says how one begins", async () => {
    await show(<AskPage />, world());
    await userEvent.type(screen.getByLabelText("Or a web address or CID"), "kitten{Enter}");
    expect((await screen.findByRole("alert")).textContent).toContain("https://");
  });

  test("given several models, when another is chosen, then it is the one, and names of strangers stay text", async () => {
    const evil = { ...MODEL, id: 2, name: "<img src=x onerror=alert(1)>\u202e" };
    await show(<AskPage />, world({}, [MODEL, evil]));
    const other = await screen.findByRole("radio", { name: /<img src=x/ });
    expect(screen.getByRole("radio", { name: /mnist-cnn/ })).toHaveProperty("checked", true);
    await userEvent.click(other);
    expect(other).toHaveProperty("checked", true);
    expect(document.querySelector('img[src="x"]')).toBeNull();
    expect(document.body.textContent).not.toContain("\u202e");
  });

  test("given a chosen model that is retired meanwhile, when it is looked at, then it stays the one, and cannot be paid for", async () => {
    const other = { ...MODEL, id: 2, name: "shapes" };
    const now = world({ account: ME }, [MODEL, other]);
    const queries = await show(<AskPage />, now);
    choose(PNG);
    await userEvent.click(await screen.findByRole("radio", { name: /shapes/ }));
    for (const left of [[MODEL, { ...other, active: false }], [MODEL]]) {
      now.api["/v1/models"] = { items: left, next: null };
      await act(() => queries.invalidateQueries({ queryKey: ["models"] }));
      expect(await screen.findByText(/takes no new requests/)).toBeTruthy();
      expect(screen.getByRole("radio", { name: /shapes.*retired/ })).toHaveProperty("checked", true);
      expect(screen.getByRole("button", { name: /^Pay / })).toHaveProperty("disabled", true);
    }
  });

  test("given a default model that cannot be run now, when the page is opened, then another is chosen; chosen, it is not paid for", async () => {
    await show(<AskPage />, world({ account: ME }, [{ ...MODEL, problem: "no manifest" }, { ...MODEL, id: 2, name: "shapes" }]));
    choose(PNG);
    expect(await screen.findByRole("radio", { name: /shapes/ })).toHaveProperty("checked", true);
    await waitFor(() => expect(screen.getByRole("button", { name: /^Pay / })).toHaveProperty("disabled", false));
    await userEvent.click(screen.getByRole("radio", { name: /mnist-cnn.*cannot be run/ }));
    expect(await screen.findByText(/cannot be run here now. Choose another/)).toBeTruthy();
    expect(screen.getByRole("button", { name: /^(Pay|Reading)/ })).toHaveProperty("disabled", true);
  });

  test("given the keyboard, when what is pressed goes away, then the focus is where the page goes on", async () => {
    await show(<AskPage />, world({ account: ME }));
    choose(PNG);
    await userEvent.click(await screen.findByRole("button", { name: "Remove" }));
    expect(document.activeElement).toBe(screen.getByRole("button", { name: "Choose a picture" }));
    choose(PNG);
    const pay = await screen.findByRole("button", { name: /^Pay / });
    await waitFor(() => expect(pay).toHaveProperty("disabled", false));
    await userEvent.click(pay);
    // The upload fails in this world: the news of that is where the focus is.
    expect(document.activeElement).toBe(screen.getByRole("group", { name: "Progress" }));
    await waitFor(() => expect(within(document.activeElement as HTMLElement).getByRole("alert")).toBeTruthy());
  });

  test("given no model, when the page is opened, then it says how to make the first", async () => {
    await show(<AskPage />, world({}, []));
    expect(await screen.findByText("No model is published yet")).toBeTruthy();
    expect(screen.getByRole("link", { name: "Publish a model" })).toBeTruthy();
  });

  test("given providers, when one is chosen, then those that are blocked cannot be", async () => {
    const blocked = { ...OAK, id: "0xbb", name: "elm", standing: "blocked" };
    const api = { ...world().api, "/v1/providers": { items: [OAK, blocked], next: null } };
    await show(<AskPage />, world({ api }));
    await userEvent.click(await screen.findByText("Choose among 2"));
    const oak = screen.getByRole("radio", { name: /oak.*0\.00012 GLM a picture.*3 pictures\/s.*98%/ });
    expect(screen.getByRole("radio", { name: /elm/ })).toHaveProperty("disabled", true);
    await userEvent.click(oak);
    expect(oak).toHaveProperty("checked", true);
    expect(screen.getByRole("radio", { name: /^Best/ })).toHaveProperty("checked", false);
  });

  test("given a choice of provider that nobody wants to sign, when it is declined, then it says how to do without", async () => {
    const api = { ...world().api, "/v1/providers": { items: [OAK], next: null } };
    await show(<AskPage />, world({ api, account: ME }));
    await userEvent.type(screen.getByLabelText("Or a web address or CID"), `${CID}{Enter}`);
    await userEvent.click(await screen.findByText("Choose among 1"));
    await userEvent.click(screen.getByRole("radio", { name: /oak/ }));
    const pay = screen.getByRole("button", { name: /^Pay / });
    await waitFor(() => expect(pay).toHaveProperty("disabled", false));
    await userEvent.click(pay);
    expect(await screen.findByText("You declined in your wallet. Nothing was sent.")).toBeTruthy();
    expect(screen.getByText(/choose “Best” as the provider/)).toBeTruthy();
    await userEvent.click(screen.getByRole("radio", { name: /^Best/ }));
    expect(screen.queryByText(/choose “Best” as the provider/)).toBeNull();
  });

  test("given an API that is down, when the page is opened, then models come from the chain, and files must wait", async () => {
    await show(<AskPage />, world({ down: true, account: ME }));
    expect(await screen.findByText(/Prices are read from the chain/)).toBeTruthy();
    expect(await screen.findByRole("radio", { name: /#1/ })).toBeTruthy();
    choose(PNG);
    expect(await screen.findByText(/cannot be uploaded while the API is down/)).toBeTruthy();
    expect(screen.getByRole("button", { name: /^Pay / })).toHaveProperty("disabled", true);
  });
});

/** A chain that tells of its transactions too. */
class Telling extends FakeChain {
  override request(asked: { method: string; params?: unknown }): Promise<unknown> {
    const [hash] = (asked.params ?? []) as string[];
    const log = this.logs.find((one) => one.transaction === hash);
    if (asked.method === "eth_getTransactionReceipt") {
      const receipt = { transactionHash: hash, status: "0x1", blockNumber: "0x1" };
      return Promise.resolve(log ? { ...receipt, logs: [{ ...log, address: COORDINATOR, logIndex: "0x0" }] } : null);
    }
    if (asked.method === "eth_getTransactionByHash") return Promise.resolve(null);
    if (asked.method === "eth_getTransactionCount") return Promise.resolve("0x0");
    return super.request(asked);
  }
}

test("given two payments of an earlier visit, when the page is opened, then what became of each is told, and another can be made", async () => {
  const config = { chain_id: 31_337, coordinator: COORDINATOR } as Config;
  const chain = new Telling();
  const id = chain.ask(1, "mined");
  const payment = { account: ME, to: COORDINATOR, data: "0xab", value: 5n, nonce: 0, since: 0n } as const;
  const waiting = `0x${"77".repeat(32)}` as const;
  keep(config, { ...payment, hash: chain.logs[0]?.transaction ?? "0x" });
  keep(config, { ...payment, hash: waiting });
  await show(<AskPage />, world({ chain, account: ME }));
  const earlier = within(await screen.findByRole("region", { name: "Earlier payments" }));
  const link = await earlier.findByRole("link", { name: "Open the request" });
  expect(link.getAttribute("href")).toBe(`#/request/${id}`);
  expect(earlier.getByText("Waiting for a block")).toBeTruthy();
  expect(earlier.getAllByRole("listitem")).toHaveLength(2);
  expect(keptFor(config).map((one) => one.hash)).toEqual([waiting]);
  choose(PNG);
  await waitFor(() => expect(screen.getByRole("button", { name: /^Pay / })).toHaveProperty("disabled", false));

  await userEvent.click(earlier.getByRole("button", { name: "Close" }));
  expect(earlier.getAllByRole("listitem")).toHaveLength(1);
  expect(earlier.queryByRole("button", { name: "Close" }), "what waits is not closed by chance").toBeNull();
});

describe("what may be typed", () => {
  test.each([
    [CID, CID],
    [`/ipfs/${CID}`, CID],
    [`https://gateway.test/ipfs/${CID}?filename=a.png`, CID],
    ["https://example.org/kitten.jpg", null],
    ["kitten", null],
  ])("given %s, when a CID is looked for in it, then it is %s", (text, cid) => {
    expect(readCid(text)).toBe(cid);
  });

  test("given addresses of other kinds, when read, then only those of the web are taken", () => {
    expect(readUrl(" https://example.org/a ")).toBe("https://example.org/a");
    for (const text of ["javascript:alert(1)", "file:///etc/passwd", "data:image/png;base64,AA", "example.org"]) {
      expect(readUrl(text)).toBeNull();
    }
  });
});
