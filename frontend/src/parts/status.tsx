import type { ReactNode } from "react";

import type { RequestStatus } from "../api/types";
import { useWords } from "../words";

import "./status.css";

export type Tone = "good" | "busy" | "warning" | "bad" | "quiet";

const TONES: Record<RequestStatus, Tone> = {
  seen: "busy",
  orphaned: "warning",
  confirmed: "busy",
  ready: "busy",
  computing: "busy",
  computed: "busy",
  failed: "bad",
  posting: "busy",
  fulfilled: "good",
  rejected: "bad",
  expired: "warning",
  refunded: "quiet",
  cancelled: "quiet",
};

/** A coloured dot and its words; the words alone carry the meaning. */
export function Dot({ tone, children }: { tone: Tone; children: ReactNode }) {
  return (
    <span className={`status status-${tone}`}>
      <span className="status-dot" aria-hidden="true" />
      {children}
    </span>
  );
}

export function Status({ value }: { value: RequestStatus }) {
  const words = useWords().common;
  return <Dot tone={TONES[value]}>{words.statuses[value]}</Dot>;
}
