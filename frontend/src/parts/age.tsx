import { useSyncExternalStore } from "react";

import { useLanguage, useWords } from "../words";
import { ago, exactTime } from "../words/format";

const listeners = new Set<() => void>();
let now = Math.floor(Date.now() / 1000);
let timer: ReturnType<typeof setInterval> | undefined;

function subscribe(changed: () => void): () => void {
  listeners.add(changed);
  timer ??= setInterval(() => {
    now = Math.floor(Date.now() / 1000);
    for (const listener of listeners) listener();
  }, 1_000);
  return () => {
    listeners.delete(changed);
    if (listeners.size === 0) {
      clearInterval(timer);
      timer = undefined;
    }
  };
}

/** Unix seconds, whole, that go on while the component stands. */
export function useNow(): number {
  return useSyncExternalStore(subscribe, () => {
    if (timer === undefined) now = Math.floor(Date.now() / 1000);
    return now;
  });
}

/** "12 s ago", with the exact time on hover. */
export function Age({ at }: { at: number }) {
  const seconds = useNow() - at;
  const { language } = useLanguage();
  const words = useWords().common;
  return (
    <time dateTime={new Date(at * 1000).toISOString()} title={exactTime(at, language)}>
      {ago(seconds, language, words.now)}
    </time>
  );
}
