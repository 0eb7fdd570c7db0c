/** The wallet itself, in the extension's service worker. Key and network come from the extension's own storage. */
import type { Hex } from "viem";

import { ProviderError, Wallet } from "../core.js";
import type { Call, Network } from "../core.js";
import "./chrome.js";

const tabs = new Set<number>();

let opened: Promise<Wallet> | undefined;

/** The key is put into the storage after the worker has started, so it is read when it is first needed. */
async function open(): Promise<Wallet> {
  const { key, network } = await chrome.storage.local.get(["key", "network"]);
  if (typeof key !== "string" || network === undefined) throw new Error("the wallet has no key yet");
  const { id, name, rpcUrl } = network as Network;
  const wallet = new Wallet([key as Hex], [{ id, name, rpcUrl }], id);
  wallet.emit = (event, payload) => {
    for (const tab of tabs) chrome.tabs.sendMessage(tab, { event, payload }).catch(() => tabs.delete(tab));
  };
  return wallet;
}

chrome.runtime.onMessage.addListener((call, sender, respond) => {
  if (sender.tab?.id !== undefined) tabs.add(sender.tab.id);
  opened ??= open();
  opened
    .then((wallet) => wallet.request(call as Call))
    .then((result) => respond({ result }))
    .catch((error: unknown) => {
      const { code, message, data } =
        error instanceof ProviderError ? error : { code: -32603, message: String(error), data: undefined };
      respond({ error: { code, message, data } });
    });
  return true;
});
