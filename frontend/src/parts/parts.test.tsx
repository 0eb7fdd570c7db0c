import { cleanup, render, screen } from "@testing-library/react";
import { expect, test, vi } from "vitest";

import { Dialog, Hash } from "./index";

test("given an open dialog, when it goes, then it is closed while it is still in the page, so that the focus comes back", () => {
  const there: boolean[] = [];
  vi.spyOn(HTMLDialogElement.prototype, "close").mockImplementation(function (this: HTMLDialogElement) {
    there.push(this.isConnected);
    this.open = false;
  });
  render(
    <Dialog title="Account" onClose={() => undefined}>
      text
    </Dialog>,
  );
  expect(screen.getByRole("dialog", { name: "Account" })).toBeTruthy();
  cleanup();
  expect(there).toEqual([true]);
});

test("given a hash with and without a link, when it has the focus, then the whole of it can be shown", () => {
  const value = `0x${"12".repeat(32)}`;
  render(
    <>
      <Hash value={value} what="transaction" copy={false} href="#/request" />
      <Hash value={value} what="transaction" copy={false} />
    </>,
  );
  for (const one of [screen.getByRole("link", { name: "0x1212…1212" }), screen.getByRole("note")]) {
    expect(one.className).toBe("hash-focus");
    expect(one.dataset.full).toBe(value);
    expect(one.title).toBe(value);
    expect(one.textContent).toBe("0x1212…1212");
  }
});
