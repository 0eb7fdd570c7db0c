import type { CSSProperties, ReactNode } from "react";

import { useWords } from "../words";

import "./skeleton.css";

/** A grey shape of what is coming. Width and height as CSS lengths. */
export function Bone({ width = "100%", height = "1em" }: { width?: string; height?: string }) {
  return <span className="bone" style={{ width, height } satisfies CSSProperties} />;
}

/** Lines of text to come, or `children` made of bones in the real shape. Says once that it loads. */
export function Skeleton({ lines = 3, children }: { lines?: number; children?: ReactNode }) {
  const words = useWords().common;
  return (
    <div className="skeleton" role="status" aria-busy="true">
      <span className="visually-hidden">{words.loading}</span>
      <div aria-hidden="true">
        {children ??
          Array.from({ length: lines }, (_, line) => (
            <Bone key={line} width={line === lines - 1 && lines > 1 ? "60%" : "100%"} />
          ))}
      </div>
    </div>
  );
}
