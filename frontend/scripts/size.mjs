#!/usr/bin/env node
// Fails when what the page loads first, the entry and all that it imports statically, is too large for slow networks.
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const LIMIT = 180_000;
const dist = new URL("../dist/", import.meta.url);
const manifest = JSON.parse(readFileSync(new URL(".vite/manifest.json", dist), "utf8"));

const files = new Set();
function follow(key) {
  const chunk = manifest[key];
  if (files.has(chunk.file)) return;
  files.add(chunk.file);
  for (const next of chunk.imports ?? []) follow(next);
}
const entries = Object.keys(manifest).filter((key) => manifest[key].isEntry);
if (entries.length === 0) throw new Error("dist/.vite/manifest.json names no entry");
entries.forEach(follow);

const total = [...files].reduce((sum, file) => sum + gzipSync(readFileSync(new URL(file, dist)), { level: 9 }).length, 0);
const told = `first load: ${files.size} file(s) of JavaScript, ${total.toLocaleString("en")} bytes gzipped`;
if (total >= LIMIT) {
  console.error(`${told}; it must stay under ${LIMIT.toLocaleString("en")}. Load what a page needs with that page.`);
  process.exit(1);
}
console.log(`${told} (limit ${LIMIT.toLocaleString("en")})`);
