/** `sibyl up` as a process: the whole real stack on free ports, in a folder of its own. */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";

export const PROJECT = resolve(import.meta.dirname, "../../..");
/** What tells why a run failed: the pages of its tests, and the logs of its stack. */
export const FAILURES = join(PROJECT, "build/page-failures");
export const PYTHON = join(PROJECT, ".venv/bin/python");
const START_MS = 120_000;
const STOP_MS = 40_000;

export interface Facts {
  readonly rpc_url: string;
  readonly chain_id: number;
  readonly coordinator: `0x${string}`;
  readonly ipfs_api: string;
  readonly gateway_url: string;
  readonly api_url: string;
  readonly backend: string;
  readonly data_dir: string;
}

export interface Stack {
  readonly facts: Facts;
  /** Ctrl-C, and wait until nothing runs any more. */
  stop(): Promise<void>;
}

/** Start a stack. `backend` leaves the choice to `sibyl up` where it is undefined. */
export async function startStack(backend?: "local" | "golem"): Promise<Stack> {
  if (!existsSync(join(PROJECT, "frontend/dist/index.html"))) throw new Error("the page is not built: run `make page`");
  const folder = mkdtempSync(join(tmpdir(), "sibyl-page-"));
  const ports = ["--chain-port", "0", "--ipfs-port", "0", "--api-port", "0"];
  const choice = backend === undefined ? [] : ["--backend", backend];
  const child = spawn(
    PYTHON,
    ["-m", "oracle.cli", "up", "--json", ...ports, "--data-dir", join(folder, "stack"), ...choice],
    { cwd: PROJECT, stdio: ["ignore", "pipe", "pipe"] },
  );
  let said = "";
  child.stderr.on("data", (text: Buffer) => (said += text.toString()));
  const stop = async (): Promise<void> => {
    await ended(child);
    const logs = join(folder, "stack", "logs");
    if (existsSync(logs)) cpSync(logs, join(FAILURES, "logs"), { recursive: true });
    rmSync(folder, { recursive: true, force: true });
  };
  const line = await Promise.race([firstLine(child), late(START_MS)]);
  if (line === undefined) {
    await stop();
    throw new Error(`sibyl up did not start:\n${said}`);
  }
  return { facts: JSON.parse(line) as Facts, stop };
}

/** Run `sibyl` beside a stack; its last line of standard output as JSON. */
export async function sibyl(facts: Facts, ...words: string[]): Promise<unknown> {
  const output = await python(["-m", "oracle.cli", ...words, "--json", "--data-dir", facts.data_dir]);
  return JSON.parse(output.trim().split("\n").at(-1) ?? "");
}

/** Run Python of the project; its standard output. */
export async function python(words: readonly string[]): Promise<string> {
  const child = spawn(PYTHON, words, { cwd: PROJECT, stdio: ["ignore", "pipe", "pipe"] });
  let out = "";
  let said = "";
  child.stdout.on("data", (text: Buffer) => (out += text.toString()));
  child.stderr.on("data", (text: Buffer) => (said += text.toString()));
  const code = await new Promise<number | null>((done) => child.once("close", done));
  if (code !== 0) throw new Error(`python ${words.join(" ")} ended with ${code}:\n${said}`);
  return out;
}

/** Stop the oracle's process as if the machine had frozen; the function given back lets it go on. */
export function freezeOracle(facts: Facts): () => void {
  const frozen = processes(
    (words) => words.includes("oracle.cli") && words.includes("oracle") && words.includes(facts.data_dir),
  );
  if (frozen.length === 0) throw new Error("no oracle runs");
  for (const pid of frozen) process.kill(pid, "SIGSTOP");
  return () => {
    for (const pid of frozen) process.kill(pid, "SIGCONT");
  };
}

function processes(wanted: (words: readonly string[]) => boolean): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      try {
        return wanted(readFileSync(`/proc/${name}/cmdline`, "utf8").split("\0"));
      } catch {
        return false; // it has ended meanwhile
      }
    })
    .map(Number);
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const closed = new Promise<void>((done) => child.once("close", () => done()));
  child.kill("SIGINT");
  const timer = setTimeout(() => child.kill("SIGKILL"), STOP_MS);
  await closed;
  clearTimeout(timer);
}

async function firstLine(child: ChildProcess): Promise<string | undefined> {
  if (child.stdout === null) return undefined;
  return new Promise((done) => {
    const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
    lines.once("line", done);
    child.once("exit", () => done(undefined));
  });
}

async function late(milliseconds: number): Promise<undefined> {
  return new Promise((done) => setTimeout(() => done(undefined), milliseconds).unref());
}
