// Compiles the contracts with forge and writes what the Python side needs, ABI and bytecode, to build/contracts/ and to
// oracle/chain/abi/. The latter is committed, so that neither the oracle nor the command line needs a compiler.
//
//     node scripts/abi.mjs            compile and write
//     node scripts/abi.mjs --check    compile and fail when a committed file is not what the sources give
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const CONTRACTS = ["InferenceCoordinator", "DigitReader", "DevnetGlm"];

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const built = path.join(root, "build", "forge");
const ours = path.join(root, "build", "contracts");
const committed = path.join(root, "oracle", "chain", "abi");

/** The file's text: keys in a fixed order, one ABI entry a line, so that a change reads well in a diff. */
function render(name) {
  const artifact = JSON.parse(fs.readFileSync(path.join(built, `${name}.sol`, `${name}.json`), "utf8"));
  const entries = artifact.abi.map((entry) => `    ${JSON.stringify(entry)}`).join(",\n");
  const bytecode = artifact.bytecode.object;
  if (!/^0x[0-9a-f]+$/.test(bytecode)) throw new Error(`${name} has no linked bytecode`);
  return `{\n  "contractName": "${name}",\n  "abi": [\n${entries}\n  ],\n  "bytecode": "${bytecode}"\n}\n`;
}

function readOrEmpty(file) {
  try {
    return fs.readFileSync(file, "utf8");
  } catch {
    return "";
  }
}

/** Replaces the file in one step, and leaves it alone when nothing changed. */
function write(file, text) {
  if (readOrEmpty(file) === text) return;
  fs.mkdirSync(path.dirname(file), { recursive: true });
  const draft = `${file}.${process.pid}`;
  fs.writeFileSync(draft, text);
  fs.renameSync(draft, file);
}

function main() {
  const check = process.argv.includes("--check");
  const forge = path.join(root, "scripts", "forge");
  const run = spawnSync(forge, ["build", "--quiet", "--skip", "test", "--skip", "mocks"], {
    cwd: root,
    stdio: "inherit",
    env: { ...process.env, FOUNDRY_PROFILE: "default" },
  });
  if (run.error) throw run.error;
  if (run.status !== 0) return run.status ?? 1;

  const stale = [];
  for (const name of CONTRACTS) {
    const text = render(name);
    const home = path.join(committed, `${name}.json`);
    write(path.join(ours, `${name}.json`), text);
    if (!check) write(home, text);
    else if (readOrEmpty(home) !== text) stale.push(path.relative(root, home));
  }
  if (stale.length > 0) {
    console.error(`stale: ${stale.join(", ")}; run: node scripts/abi.mjs`);
    return 1;
  }
  return 0;
}

process.exitCode = main();
