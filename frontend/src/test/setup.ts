import { cleanup } from "@testing-library/react";
import { afterEach } from "vitest";

// jsdom knows the dialog element but not its modal way, blobs but not all their ways, no media queries.
if (typeof HTMLDialogElement.prototype.showModal !== "function") {
  HTMLDialogElement.prototype.showModal = function () {
    this.open = true;
  };
  HTMLDialogElement.prototype.close = function () {
    this.open = false;
  };
}
if (typeof Blob.prototype.arrayBuffer !== "function") {
  Blob.prototype.arrayBuffer = function () {
    return new Promise((resolve, reject) => {
      const reader = new FileReader();
      reader.onload = () => resolve(reader.result as ArrayBuffer);
      reader.onerror = () => reject(reader.error ?? new Error("unreadable"));
      reader.readAsArrayBuffer(this);
    });
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
