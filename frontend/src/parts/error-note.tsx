import type { ReactNode } from "react";

import { ApiDown, ApiProblem, OtherBytes } from "../api/client";
import { sayProblem } from "../api/problems";
import { isNoRpc } from "../chain/wagmi";
import { useWords, type Words } from "../words";
import { Icon } from "./icon";

import "./note.css";

export interface Told {
  title: string;
  text: string;
  remedy?: string;
  details?: string;
}

/** What to say about anything that was thrown. Blames nobody, shows no stack. */
export function tell(error: unknown, words: Words): Told {
  const common = words.common;
  if (error instanceof ApiProblem) return sayProblem(error, words);
  if (error instanceof ApiDown) {
    return { title: common.failed, text: common.apiUnreachable, remedy: common.apiRemedy, details: error.message };
  }
  if (error instanceof OtherBytes) return { title: common.failed, text: common.otherBytes, details: error.message };
  if (isNoRpc(error)) return { title: common.failed, text: common.noRpc };
  const message = error instanceof Error ? firstLine(error) : String(error);
  return { title: common.failed, text: common.chainUnreachable, remedy: common.chainRemedy, details: message };
}

function firstLine(error: Error): string {
  const short = (error as { shortMessage?: unknown }).shortMessage;
  return (typeof short === "string" ? short : error.message).split("\n")[0] ?? "";
}

/** What happened, that nothing was lost, what to do, one button. Give `error`, or the words themselves. */
export function ErrorNote({
  error,
  title,
  text,
  remedy,
  details,
  action,
  quiet = false,
}: {
  error?: unknown;
  title?: string;
  text?: ReactNode;
  remedy?: string | undefined;
  details?: string | undefined;
  action?: ReactNode;
  /** A notice rather than an alarm: something was declined or is merely old. */
  quiet?: boolean;
}) {
  const words = useWords();
  const told = error === undefined ? null : tell(error, words);
  const more = details ?? told?.details;
  const next = remedy ?? told?.remedy;
  return (
    <div className={quiet ? "note note-quiet" : "note note-error"} role={quiet ? "status" : "alert"}>
      <Icon name={quiet ? "info" : "alert"} />
      <div className="note-body">
        {(title ?? told?.title) && <strong>{title ?? told?.title}</strong>}
        {(text ?? told?.text) && <p>{text ?? told?.text}</p>}
        {next && <p className="soft">{next}</p>}
        {more && (
          <details>
            <summary>{words.common.details}</summary>
            <p className="mono">{more}</p>
          </details>
        )}
        {action && <div className="row">{action}</div>}
      </div>
    </div>
  );
}

/** What is shown may be old, or only a part is known: says so without hiding it. */
export function StaleNote({ children, action }: { children: ReactNode; action?: ReactNode }) {
  return (
    <div className="note note-warning" role="status">
      <Icon name="clock" />
      <div className="note-body">
        <p>{children}</p>
        {action && <div className="row">{action}</div>}
      </div>
    </div>
  );
}
