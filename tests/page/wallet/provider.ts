/** The half of a wallet that runs inside a page: EIP-1193, announced by EIP-6963. `window.ethereum` is never touched. */

export interface Info {
  readonly uuid: string;
  readonly name: string;
  readonly icon: string;
  readonly rdns: string;
}

export interface Reply {
  readonly result?: unknown;
  readonly error?: { readonly code: number; readonly message: string; readonly data?: unknown };
}

export type Handler = (payload: unknown) => void;

export interface Channel {
  /** Bring a call to the wallet. */
  readonly call: (method: string, params: unknown) => Promise<Reply>;
  /** Hear the wallet's events. */
  readonly listen: (heard: (event: string, payload: unknown) => void) => void;
}

/** Announce a provider now, and whenever a page asks. Self-contained, since its source is carried into the page. */
export function announce(info: Info, channel: Channel): void {
  const handlers = new Map<string, Set<Handler>>();
  const provider = {
    request: async ({ method, params }: { method: string; params?: unknown }): Promise<unknown> => {
      const { result, error } = await channel.call(method, params);
      if (error) throw Object.assign(new Error(error.message), { code: error.code, data: error.data });
      return result;
    },
    on: (event: string, handler: Handler): unknown => {
      handlers.set(event, (handlers.get(event) ?? new Set<Handler>()).add(handler));
      return provider;
    },
    removeListener: (event: string, handler: Handler): unknown => {
      handlers.get(event)?.delete(handler);
      return provider;
    },
  };
  channel.listen((event, payload) => {
    for (const handler of handlers.get(event) ?? []) handler(payload);
  });
  const detail = Object.freeze({ info: Object.freeze({ ...info }), provider });
  const tell = (): boolean => window.dispatchEvent(new CustomEvent("eip6963:announceProvider", { detail }));
  window.addEventListener("eip6963:requestProvider", tell);
  tell();
}
