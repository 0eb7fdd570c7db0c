import { cleanup } from "@testing-library/react";
import { afterEach } from "vitest";

// jsdom knows the dialog element but neither its modal way nor object URLs.
if (typeof HTMLDialogElement.prototype.showModal !== "function") {
  HTMLDialogElement.prototype.showModal = function () {
    this.open = true;
  };
  HTMLDialogElement.prototype.close = function () {
    this.open = false;
  };
}
if (typeof URL.createObjectURL !== "function") {
  let count = 0;
  URL.createObjectURL = () => `blob:test/${++count}`;
  URL.revokeObjectURL = () => undefined;
}
globalThis.scrollTo = () => undefined;
globalThis.matchMedia = (query) =>
  Object.assign(new EventTarget(), { matches: false, media: query, onchange: null }) as unknown as MediaQueryList;

afterEach(() => {
  cleanup();
  localStorage.clear();
  location.hash = "";
});
