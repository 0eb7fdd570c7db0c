import type {
  Config,
  Health,
  Model,
  ModelDetail,
  Page,
  Provider,
  RequestQuery,
  RequestView,
  Stats,
  Uploaded,
} from "./types";

/** What the API answered when it did not do what was asked: application/problem+json (RFC 9457). */
export class ApiProblem extends Error {
  override readonly name = "ApiProblem";

  constructor(
    readonly status: number,
    readonly title: string,
    readonly detail: string,
    readonly remedy: string,
    /** Last part of the problem's type, such as "unknown-request". */
    readonly slug: string,
  ) {
    super(detail || title);
  }
}

/** The API did not answer, or what answered is not the API. */
export class ApiDown extends Error {
  override readonly name = "ApiDown";
}

/** The API named other bytes than it was sent. */
export class OtherBytes extends Error {
  override readonly name = "OtherBytes";
}

const READ_MS = 15_000;
const UPLOAD_MS = 120_000;

type Body = Blob | FormData | string;

/** A provider for a requester's picture; signed at that second, as `chain/wish` does. */
export interface Wish {
  requester: string;
  imageCid: string;
  provider: string;
  signedAt: number;
  signature: string;
}

export class ApiClient {
  /** @param base address of the API without "/v1", without a slash at the end */
  constructor(readonly base: string) {}

  config = (signal?: AbortSignal) => this.get<Config>("/v1", signal);

  /** Health also arrives with status 503: it then says what is ill. */
  async health(signal?: AbortSignal): Promise<Health> {
    const answer = await this.send("GET", "/v1/health", { signal, accept: [503] });
    return json<Health>(answer);
  }

  models = (signal?: AbortSignal) => this.get<Page<Model>>("/v1/models", signal);
  model = (id: number, signal?: AbortSignal) => this.get<ModelDetail>(`/v1/models/${id}`, signal);
  providers = (signal?: AbortSignal) => this.get<Page<Provider>>("/v1/providers", signal);

  async example(model: number, signal?: AbortSignal): Promise<Blob> {
    return (await this.send("GET", `/v1/models/${model}/example`, { signal })).blob();
  }

  async upload(picture: Blob, name = "picture", signal?: AbortSignal): Promise<Uploaded> {
    const form = new FormData();
    form.append("image", picture, name);
    return json(await this.send("POST", "/v1/images", { body: form, signal, limit: UPLOAD_MS }));
  }

  async uploadUrl(url: string, signal?: AbortSignal): Promise<Uploaded> {
    const body = JSON.stringify({ url });
    return json(
      await this.send("POST", "/v1/images", { body, type: "application/json", signal, limit: UPLOAD_MS }),
    );
  }

  async manifest(manifest: Blob | string, signal?: AbortSignal): Promise<{ cid: string }> {
    return json(await this.send("POST", "/v1/manifests", { body: manifest, type: "application/json", signal }));
  }

  async weights(
    weights: Blob,
    name: string,
    signal?: AbortSignal,
  ): Promise<{ cid: string; bytes: number; sha256: string }> {
    const path = `/v1/weights${queryOf({ name })}`;
    return json(
      await this.send("POST", path, {
        body: weights,
        type: "application/octet-stream",
        signal,
        limit: UPLOAD_MS,
      }),
    );
  }

  requests(query: RequestQuery = {}, signal?: AbortSignal) {
    return this.get<Page<RequestView>>(`/v1/requests${queryOf({ ...query })}`, signal);
  }

  request = (id: string, signal?: AbortSignal) =>
    this.get<RequestView>(`/v1/requests/${encodeURIComponent(id)}`, signal);

  /** Says before asking which provider is preferred, in the requester's own hand; "" takes back what was said. */
  async wish(wish: Wish, signal?: AbortSignal): Promise<void> {
    const { requester, imageCid, provider, signedAt, signature } = wish;
    const body = JSON.stringify({ requester, image_cid: imageCid, provider, signed_at: signedAt, signature });
    await this.send("PUT", "/v1/requests/wish", { body, type: "application/json", signal });
  }

  stats = (range: number, signal?: AbortSignal) => this.get<Stats>(`/v1/stats${queryOf({ range })}`, signal);
  statsCsv = (range: number) => `${this.base}/v1/stats.csv${queryOf({ range })}`;

  /** Address of a content. Nothing is fetched. */
  content = (cid: string) => `${this.base}/ipfs/${encodeURIComponent(cid)}`;

  private async get<T>(path: string, signal?: AbortSignal): Promise<T> {
    return json<T>(await this.send("GET", path, { signal }));
  }

  private async send(
    method: string,
    path: string,
    options: {
      body?: Body;
      type?: string;
      signal?: AbortSignal | undefined;
      limit?: number;
      accept?: readonly number[];
    } = {},
  ): Promise<Response> {
    const limit = AbortSignal.timeout(options.limit ?? READ_MS);
    const signal = options.signal ? AbortSignal.any([options.signal, limit]) : limit;
    let answer: Response;
    try {
      answer = await fetch(this.base + path, {
        method,
        signal,
        credentials: "omit",
        ...(options.body === undefined ? {} : { body: options.body }),
        ...(options.type ? { headers: { "Content-Type": options.type } } : {}),
      });
    } catch (error) {
      if (options.signal?.aborted) throw error;
      throw new ApiDown(`${method} ${path} was not answered`, { cause: error });
    }
    if (answer.ok || options.accept?.includes(answer.status)) return answer;
    throw await problemOf(answer);
  }
}

/** Reads a problem; a failure that is none, such as a proxy's page, counts as the API being down. */
async function problemOf(answer: Response): Promise<Error> {
  try {
    const body = (await answer.json()) as Record<string, unknown>;
    if (typeof body.title === "string") {
      const text = (name: string) => (typeof body[name] === "string" ? body[name] : "");
      const slug = text("type").split("/").at(-1) ?? "";
      return new ApiProblem(answer.status, body.title, text("detail"), text("remedy"), slug);
    }
  } catch {
    // No JSON: not a problem of the API's own.
  }
  return new ApiDown(`The API answered with status ${answer.status}`);
}

async function json<T>(answer: Response): Promise<T> {
  try {
    return (await answer.json()) as T;
  } catch (error) {
    throw new ApiDown("What answered is not the API", { cause: error });
  }
}

function queryOf(values: Record<string, string | number | undefined>): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    if (value !== undefined) query.set(name, String(value));
  }
  const text = query.toString();
  return text ? `?${text}` : "";
}
