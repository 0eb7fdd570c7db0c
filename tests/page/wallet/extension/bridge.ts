/** Between the page's world and the service worker: nothing but messages. */
import { EVENT, TO_PAGE, TO_WALLET } from "./chrome.js";

window.addEventListener("message", ({ source, data }: MessageEvent<unknown>) => {
  const message = data as { type?: string; id?: number; call?: unknown } | null;
  if (source !== window || message?.type !== TO_WALLET) return;
  void chrome.runtime.sendMessage(message.call).then((reply) => {
    window.postMessage({ type: TO_PAGE, id: message.id, reply }, location.origin);
  });
});

chrome.runtime.onMessage.addListener((message) => {
  window.postMessage({ type: EVENT, ...(message as object) }, location.origin);
  return undefined;
});
