/** The code that a wallet itself gave: the deepest one below whatever wraps it, since wrappers invent their own. */
export function walletCode(error: unknown): number | null {
  let code: number | null = null;
  let link: unknown = error;
  for (let depth = 0; depth < 10 && typeof link === "object" && link !== null; depth += 1) {
    const { code: here, cause } = link as { code?: unknown; cause?: unknown };
    if (typeof here === "number") code = here;
    link = cause;
  }
  return code;
}

/** All that the error and its causes say, for the few cases in which wallets tell things apart by words alone. */
export function walletText(error: unknown): string {
  const said: string[] = [];
  let link: unknown = error;
  for (let depth = 0; depth < 10 && typeof link === "object" && link !== null; depth += 1) {
    const { message, details, cause } = link as { message?: unknown; details?: unknown; cause?: unknown };
    for (const one of [message, details]) if (typeof one === "string") said.push(one);
    link = cause;
  }
  return said.join("\n");
}
