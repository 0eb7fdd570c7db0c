import { storage } from "../storage";

export type Theme = "light" | "dark";

const listeners = new Set<() => void>();
const system = matchMedia("(prefers-color-scheme: dark)");

/** The chosen theme, else the system's. */
export function isDark(): boolean {
  const chosen = document.documentElement.dataset.theme;
  return chosen === "dark" || (chosen !== "light" && system.matches);
}

/** Choosing what the system has anyway goes back to following the system. */
export function chooseTheme(theme: Theme): void {
  if ((theme === "dark") === system.matches) {
    delete document.documentElement.dataset.theme;
    storage.remove("theme");
  } else {
    document.documentElement.dataset.theme = theme;
    storage.set("theme", theme);
  }
  for (const listener of listeners) listener();
}

export function subscribeTheme(changed: () => void): () => void {
  listeners.add(changed);
  system.addEventListener("change", changed);
  return () => {
    listeners.delete(changed);
    system.removeEventListener("change", changed);
  };
}
