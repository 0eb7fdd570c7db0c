import { useEffect, useState } from "react";

import { useWords } from "../words";
import { Icon } from "./icon";

import "./copy-button.css";

const SAID_MS = 2_000;

/** Copies `value` and says so. `what` names it for those who do not see it. */
export function CopyButton({ value, what }: { value: string; what: string }) {
  const words = useWords().common;
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), SAID_MS);
    return () => clearTimeout(timer);
  }, [copied]);
  return (
    <button
      type="button"
      className="copy-button"
      aria-label={words.copyOf(what)}
      title={words.copy}
      onClick={() => void copy(value).then(setCopied)}
    >
      <Icon name={copied ? "check" : "copy"} size={14} />
      <span role="status" className={copied ? "copy-said" : "visually-hidden"}>
        {copied && words.copied}
      </span>
    </button>
  );
}

/** True when the text is in the clipboard; pages without a secure origin have only the old way. */
export async function copy(value: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(value);
    return true;
  } catch {
    const field = document.createElement("textarea");
    field.value = value;
    field.className = "visually-hidden";
    document.body.append(field);
    field.select();
    try {
      // eslint-disable-next-line @typescript-eslint/no-deprecated -- the only way without navigator.clipboard
      return document.execCommand("copy");
    } finally {
      field.remove();
    }
  }
}
