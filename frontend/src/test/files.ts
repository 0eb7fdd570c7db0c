/** jsdom's files cannot be read the modern way; this lends them `text` and `arrayBuffer`. */
function readBy<T>(blob: Blob, method: "readAsText" | "readAsArrayBuffer"): Promise<T> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result as T);
    reader.onerror = () => reject(reader.error ?? new Error("unreadable"));
    reader[method](blob);
  });
}

if (!("text" in Blob.prototype)) {
  Object.assign(Blob.prototype, {
    text(this: Blob) {
      return readBy<string>(this, "readAsText");
    },
    arrayBuffer(this: Blob) {
      return readBy<ArrayBuffer>(this, "readAsArrayBuffer");
    },
  });
}
