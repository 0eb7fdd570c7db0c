import { shorten } from "../words/format";
import { CopyButton } from "./copy-button";

import "./hash.css";

/**
 * A hash, address or CID: first six, last four, the whole of it on hover and focus, and a button to copy it.
 * `what` names it ("transaction"); `href` makes it a link.
 */
export function Hash({ value, what, href, copy = true }: { value: string; what: string; href?: string; copy?: boolean }) {
  return (
    <span className="hash">
      {href ? (
        <a
          href={href}
          className="hash-focus"
          title={value}
          data-full={value}
          {...(href.startsWith("#") ? {} : { target: "_blank", rel: "noreferrer noopener" })}
        >
          {shorten(value)}
        </a>
      ) : (
        // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- the whole value shows on focus too
        <span tabIndex={0} className="hash-focus" title={value} data-full={value} role="note" aria-label={`${what} ${value}`}>
          {shorten(value)}
        </span>
      )}
      {copy && <CopyButton value={value} what={what} />}
    </span>
  );
}

export function Cid({ value, what = "CID", href }: { value: string; what?: string; href?: string }) {
  return <Hash value={value} what={what} {...(href ? { href } : {})} />;
}
