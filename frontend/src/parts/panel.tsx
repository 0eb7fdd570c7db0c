import { type ReactNode, useId } from "react";

import "./panel.css";

/** A part of a page under a heading; without a title it needs a label. */
export function Panel({
  title,
  label,
  actions,
  className,
  children,
}: {
  title?: ReactNode;
  label?: string;
  actions?: ReactNode;
  className?: string;
  children: ReactNode;
}) {
  const id = useId();
  return (
    <section
      className={className ? `panel ${className}` : "panel"}
      {...(title ? { "aria-labelledby": id } : { "aria-label": label })}
    >
      {(title ?? actions) && (
        <header className="panel-head">
          {title && <h2 id={id}>{title}</h2>}
          {actions && <div className="row">{actions}</div>}
        </header>
      )}
      {children}
    </section>
  );
}
