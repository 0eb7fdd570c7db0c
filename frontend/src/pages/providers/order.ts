import type { Provider } from "../../api/types";

export const ORDERS = ["reputation", "picture", "speed", "seen", "name"] as const;
export type Order = (typeof ORDERS)[number];

/** The best first; what is not known comes last, and equals stand by name. */
export function sorted(providers: readonly Provider[], order: Order): Provider[] {
  const keys: Record<Order, (provider: Provider) => number> = {
    reputation: (provider) => -provider.reputation,
    picture: (provider) => (provider.picture_glm === null ? Infinity : Number(provider.picture_glm)),
    speed: (provider) => -(provider.images_per_second ?? -Infinity),
    seen: (provider) => -(provider.last_seen ?? -Infinity),
    name: () => 0,
  };
  const key = keys[order];
  return [...providers].sort((a, b) => {
    const [left, right] = [key(a), key(b)];
    return left === right ? a.name.localeCompare(b.name) || a.id.localeCompare(b.id) : left - right;
  });
}
