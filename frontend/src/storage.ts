/** localStorage that may be forbidden or full: what cannot be read is absent, what cannot be kept is let go. */
export const storage = {
  get(key: string): string | null {
    try {
      return localStorage.getItem(`sibyl.${key}`);
    } catch {
      return null;
    }
  },
  set(key: string, value: string): void {
    try {
      localStorage.setItem(`sibyl.${key}`, value);
    } catch {
      // Kept for this visit by whoever holds it in memory.
    }
  },
  remove(key: string): void {
    try {
      localStorage.removeItem(`sibyl.${key}`);
    } catch {
      // Nothing was kept either.
    }
  },
  /** Keys that begin so. */
  keys(prefix: string): string[] {
    try {
      const keys = Object.keys(localStorage).filter((key) => key.startsWith(`sibyl.${prefix}`));
      return keys.map((key) => key.slice("sibyl.".length));
    } catch {
      return [];
    }
  },
  /** Tells each key that begins so when another tab writes it. Gives what ends that. */
  watch(prefix: string, written: (key: string) => void): () => void {
    const heard = ({ key, newValue }: StorageEvent) => {
      if (newValue !== null && key?.startsWith(`sibyl.${prefix}`)) written(key.slice("sibyl.".length));
    };
    window.addEventListener("storage", heard);
    return () => window.removeEventListener("storage", heard);
  },
  json(key: string): unknown {
    const text = this.get(key);
    if (text === null) return null;
    try {
      return JSON.parse(text) as unknown;
    } catch {
      return null;
    }
  },
};
