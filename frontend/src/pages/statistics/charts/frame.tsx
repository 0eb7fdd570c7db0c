import { type ReactNode, useEffect, useId, useRef, useState } from "react";

import "./charts.css";

/** Width of an element that follows its column. */
export function useWidth(first: number): [(element: HTMLElement | null) => void, number] {
  const [width, setWidth] = useState(first);
  const observer = useRef<ResizeObserver | null>(null);
  useEffect(() => () => observer.current?.disconnect(), []);
  const [attach] = useState(() => (element: HTMLElement | null) => {
    observer.current?.disconnect();
    if (!element || typeof ResizeObserver === "undefined") return;
    observer.current = new ResizeObserver(([entry]) => {
      if (entry && entry.contentRect.width > 0) setWidth(Math.round(entry.contentRect.width));
    });
    observer.current.observe(element);
  });
  return [attach, width];
}

/** A chart with its caption, and the same numbers as a table for those who want to read them. */
export function Figure({
  caption,
  tableLabel,
  table,
  children,
}: {
  caption?: ReactNode;
  /** What the fold with the table is called. */
  tableLabel: string;
  table: ReactNode;
  children: ReactNode;
}) {
  const id = useId();
  return (
    <figure className="chart" {...(caption ? { "aria-labelledby": id } : {})}>
      {children}
      {caption && (
        <figcaption id={id} className="soft small">
          {caption}
        </figcaption>
      )}
      <details className="chart-table">
        <summary>{tableLabel}</summary>
        {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- a region that scrolls must be reached by keyboard */}
        <div className="chart-scroll" tabIndex={0} role="region" aria-label={tableLabel}>
          {table}
        </div>
      </details>
    </figure>
  );
}

/** Rows of text under headings. */
export function NumberTable({
  label,
  columns,
  rows,
}: {
  label: string;
  columns: readonly string[];
  rows: readonly { key: string; cells: readonly ReactNode[] }[];
}) {
  return (
    <table>
      <caption className="visually-hidden">{label}</caption>
      <thead>
        <tr>
          {columns.map((column) => (
            <th key={column} scope="col">
              {column}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {rows.map((row) => (
          <tr key={row.key}>
            {row.cells.map((cell, i) => (
              <td key={columns[i] ?? i}>{cell}</td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}
