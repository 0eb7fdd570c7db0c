import { type ReactNode, useId, useLayoutEffect, useRef } from "react";

import { useWords } from "../words";
import { Button } from "./button";

import "./dialog.css";

/** A modal question. Escape and the cross close it; the focus goes in and comes back by the browser itself. */
export function Dialog({ title, onClose, children }: { title: string; onClose: () => void; children: ReactNode }) {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  const words = useWords().common;
  // While it is still in the page: the browser gives the focus back only then.
  useLayoutEffect(() => {
    const dialog = ref.current;
    if (dialog && !dialog.open) dialog.showModal();
    return () => dialog?.close();
  }, []);
  return (
    <dialog
      ref={ref}
      className="dialog"
      aria-labelledby={id}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
    >
      <header className="dialog-head">
        <h2 id={id}>{title}</h2>
        <Button kind="plain" icon="cross" aria-label={words.close} title={words.close} onClick={onClose} />
      </header>
      {children}
    </dialog>
  );
}
