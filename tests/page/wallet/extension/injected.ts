/** In the page's own world: the provider, which speaks to the bridge by messages of the window. */
import { announce } from "../provider.js";
import type { Reply } from "../provider.js";
import { EVENT, TO_PAGE, TO_WALLET } from "./chrome.js";

const waiting = new Map<number, (reply: Reply) => void>();
let heard: (event: string, payload: unknown) => void = () => undefined;
let last = 0;

window.addEventListener("message", ({ source, data }: MessageEvent<unknown>) => {
  if (source !== window || typeof data !== "object" || data === null) return;
  const message = data as { type?: string; id?: number; reply?: Reply; event?: string; payload?: unknown };
  if (message.type === TO_PAGE && message.id !== undefined && message.reply) {
    waiting.get(message.id)?.(message.reply);
    waiting.delete(message.id);
  } else if (message.type === EVENT && message.event !== undefined) {
    heard(message.event, message.payload);
  }
});

announce(
  {
    uuid: crypto.randomUUID(),
    name: "Extension Wallet",
    icon: `data:image/svg+xml,${encodeURIComponent('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><circle cx="16" cy="16" r="16" fill="#a40"/></svg>')}`,
    rdns: "test.wallet.extension",
  },
  {
    call: (method, params) =>
      new Promise((resolve) => {
        last += 1;
        waiting.set(last, resolve);
        window.postMessage({ type: TO_WALLET, id: last, call: { method, params } }, location.origin);
      }),
    listen: (handler) => {
      heard = handler;
    },
  },
);
