import { defineConfig } from "vitest/config";

const shooting = process.env["SIBYL_SCREENS"] !== undefined;

export default defineConfig({
  root: import.meta.dirname,
  test: {
    include: shooting ? ["screens.ts"] : ["*.test.ts"],
    globalSetup: ["harness/global.ts"],
    // One chain and one oracle serve all files, and two processors must do.
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 150_000,
    teardownTimeout: 60_000,
    sequence: { sequencer: (await import("./harness/order.js")).Order },
  },
});
