import { useMemo, useSyncExternalStore } from "react";

export type Route =
  | { page: "ask" }
  | { page: "request"; id: string }
  | { page: "history" }
  | { page: "providers" }
  | { page: "statistics" }
  | { page: "publish" }
  | { page: "unknown" };

const PLAIN = ["history", "providers", "statistics", "publish"] as const;

export function parseRoute(hash: string): Route {
  const [page = "", id = "", more] = (hash.replace(/^#?\/?/, "").split("?")[0] ?? "").split("/");
  if (page === "") return { page: "ask" };
  if (page === "request" && /^0x[0-9a-fA-F]{64}$/.test(id) && more === undefined) {
    return { page: "request", id: id.toLowerCase() };
  }
  const plain = PLAIN.find((name) => name === page);
  return plain && id === "" ? { page: plain } : { page: "unknown" };
}

export function href(route: Route): string {
  switch (route.page) {
    case "ask":
    case "unknown":
      return "#/";
    case "request":
      return `#/request/${route.id}`;
    default:
      return `#/${route.page}`;
  }
}

export function go(route: Route): void {
  location.hash = href(route);
}

function subscribe(changed: () => void): () => void {
  addEventListener("hashchange", changed);
  return () => removeEventListener("hashchange", changed);
}

export function useRoute(): Route {
  const hash = useSyncExternalStore(subscribe, () => location.hash);
  return useMemo(() => parseRoute(hash), [hash]);
}
