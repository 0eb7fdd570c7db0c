/** Where an explorer shows a transaction, when one is known: spread it onto a `Hash`. */
export function linkOf(explorer: string | null, hash: string): { href?: string } {
  if (!explorer || !/^https?:\/\//.test(explorer)) return {};
  return { href: `${explorer.replace(/\/+$/, "")}/tx/${hash}` };
}
