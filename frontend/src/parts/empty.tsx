import type { ReactNode } from "react";

import { Icon, type IconName } from "./icon";

import "./note.css";

/** Says what will be here and how to make the first. */
export function Empty({
  title,
  children,
  action,
  icon = "picture",
}: {
  title: string;
  children?: ReactNode;
  action?: ReactNode;
  icon?: IconName;
}) {
  return (
    <div className="empty">
      <Icon name={icon} size={28} />
      <strong>{title}</strong>
      {children && <div className="soft">{children}</div>}
      {action}
    </div>
  );
}
