/** Where the page fetches content from: the API, then gateways. None is trusted. */
import type { Config } from "../../api/types";
import { gateway, type Source } from "../../content/verify";
import { storage } from "../../storage";

/**
 * The API first; then "?gateway=", the meta element sibyl-gateway, the one kept, and those that the API names, each once.
 *
 * Where the API serves the page, its policy lets the page ask nobody but those that it names.
 */
export function sourcesOf(api: string, { gateways = [] }: Pick<Config, "gateways">): Source[] {
  const named = [
    new URLSearchParams(location.search).get("gateway"),
    document.querySelector<HTMLMetaElement>('meta[name="sibyl-gateway"]')?.content,
    storage.get("gateway"),
    ...gateways,
  ];
  const bases = new Set(named.map(baseOf).filter((base) => base !== null && base !== api));
  return [gateway(api, "API"), ...[...bases].map((base) => gateway(base ?? ""))];
}

function baseOf(text: string | null | undefined): string | null {
  if (!text?.trim()) return null;
  try {
    const url = new URL(text.trim());
    if (url.protocol !== "http:" && url.protocol !== "https:") return null;
    // People paste a gateway with and without its path.
    return (url.origin + url.pathname).replace(/\/+$/, "").replace(/\/ipfs$/, "");
  } catch {
    return null;
  }
}
