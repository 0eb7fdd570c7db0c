import { beforeEach, describe, expect, test, vi } from "vitest";

import { ApiClient, ApiDown, ApiProblem } from "./client";

const fetched = vi.fn<typeof fetch>();
const api = new ApiClient("https://api.test/base");

beforeEach(() => {
  fetched.mockReset();
  vi.stubGlobal("fetch", fetched);
});

function asked(): { url: string; init: RequestInit } {
  const [url, init] = fetched.mock.calls[0] ?? [];
  return { url: url as string, init: init ?? {} };
}

describe("the API's client", () => {
  test("given a problem, when it arrives, then it is thrown with its words and its slug", async () => {
    const body = { type: "/problems/unknown-request", title: "Unknown", status: 404, detail: "No.", remedy: "Wait." };
    fetched.mockResolvedValue(Response.json(body, { status: 404 }));
    const error: unknown = await api.request("0x1").catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ApiProblem);
    expect(error).toMatchObject({ status: 404, detail: "No.", remedy: "Wait.", slug: "unknown-request" });
  });

  test("given a proxy's page instead of an answer, when read, then the API counts as down", async () => {
    fetched.mockResolvedValue(new Response("<h1>Bad gateway</h1>", { status: 502 }));
    await expect(api.models()).rejects.toBeInstanceOf(ApiDown);
    fetched.mockResolvedValue(new Response("<h1>Welcome</h1>"));
    await expect(api.models()).rejects.toBeInstanceOf(ApiDown);
  });

  test("given no connection, when asked, then the API counts as down; a call that was dropped does not", async () => {
    fetched.mockRejectedValue(new TypeError("Failed to fetch"));
    await expect(api.config()).rejects.toBeInstanceOf(ApiDown);
    const controller = new AbortController();
    controller.abort(new Error("dropped"));
    await expect(api.config(controller.signal)).rejects.not.toBeInstanceOf(ApiDown);
  });

  test("given an API that is ill, when its health is read, then 503 is an answer", async () => {
    fetched.mockResolvedValue(Response.json({ ok: false }, { status: 503 }));
    expect(await api.health()).toEqual({ ok: false });
  });

  test("given a picture, when uploaded, then it goes as a form without cookies", async () => {
    fetched.mockResolvedValue(Response.json({ cid: "bafk" }, { status: 201 }));
    expect((await api.upload(new Blob(["x"]), "seven.png")).cid).toBe("bafk");
    expect(asked().url).toBe("https://api.test/base/v1/images");
    expect(asked().init.credentials).toBe("omit");
    expect((asked().init.body as FormData).get("image")).toMatchObject({ name: "seven.png" });
  });

  test("given a provider that was chosen, when it is said, then it goes with its time and signature", async () => {
    fetched.mockResolvedValue(new Response(null, { status: 204 }));
    await api.wish({ requester: "0xab", imageCid: "bafk", provider: "oak", signedAt: 7, signature: "0xcd" });
    expect(asked()).toMatchObject({ url: "https://api.test/base/v1/requests/wish", init: { method: "PUT" } });
    expect(JSON.parse(asked().init.body as string)).toEqual({
      requester: "0xab",
      image_cid: "bafk",
      provider: "oak",
      signed_at: 7,
      signature: "0xcd",
    });
  });

  test("given filters, when requests are listed, then only those that are set are asked for", async () => {
    fetched.mockResolvedValue(Response.json({ items: [], next: null }));
    await api.requests({ account: "0xab", limit: 5 });
    expect(asked().url).toBe("https://api.test/base/v1/requests?account=0xab&limit=5");
  });

  test("given text of strangers, when it becomes part of an address, then it stays one part", () => {
    expect(api.content("../v1/evil?x")).toBe("https://api.test/base/ipfs/..%2Fv1%2Fevil%3Fx");
  });
});
