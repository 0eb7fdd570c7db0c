/** Reads progress aloud, politely; empty while there is nothing to say. Shows nothing. */
export function LiveRegion({ children }: { children?: string | undefined }) {
  return (
    <p className="visually-hidden" role="status" aria-live="polite" aria-atomic="true">
      {children}
    </p>
  );
}
