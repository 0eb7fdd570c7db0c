import type { ButtonHTMLAttributes, Ref } from "react";

import { Icon, type IconName } from "./icon";

import "./button.css";

export interface ButtonProps extends ButtonHTMLAttributes<HTMLButtonElement> {
  /** "primary" is the one next step; "plain" has no border. */
  kind?: "primary" | "normal" | "plain";
  icon?: IconName;
  /** Work goes on: the button stays where it is and does nothing. */
  busy?: boolean;
  small?: boolean;
  ref?: Ref<HTMLButtonElement>;
}

export function Button({
  kind = "normal",
  icon,
  busy = false,
  small = false,
  className,
  children,
  onClick,
  ...rest
}: ButtonProps) {
  const names = ["button", `button-${kind}`, small && "button-small", className].filter(Boolean).join(" ");
  return (
    <button
      type="button"
      {...rest}
      className={names}
      aria-busy={busy || undefined}
      aria-disabled={busy || rest["aria-disabled"]}
      onClick={busy ? undefined : onClick}
    >
      {busy ? <span className="button-turning" aria-hidden="true" /> : icon && <Icon name={icon} />}
      {children}
    </button>
  );
}
