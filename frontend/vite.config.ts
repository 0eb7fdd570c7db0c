import react from "@vitejs/plugin-react";
import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";

/**
 * The policy for hosts that send no headers of their own. Any RPC endpoint and any API are allowed to be connected to,
 * because a static host cannot know its reader's; where the API serves the page its header is narrower, and both hold.
 */
const POLICY = [
  "default-src 'self'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' blob: data:",
  "connect-src 'self' http: https: ws: wss:",
  "object-src 'none'",
  "base-uri 'none'",
  "form-action 'none'",
].join("; ");

function head(): Plugin {
  return {
    name: "sibyl-head",
    transformIndexHtml: {
      order: "post",
      handler: (_, { server }) => [
        { tag: "script", attrs: { src: "./theme.js" }, injectTo: "head" },
        // The development server writes its styles and its preamble inline, which the policy would forbid.
        ...(server
          ? []
          : [
              {
                tag: "meta",
                attrs: { "http-equiv": "Content-Security-Policy", content: POLICY },
                injectTo: "head-prepend" as const,
              },
            ]),
      ],
    },
  };
}

export default defineConfig({
  base: "./",
  plugins: [react(), head()],
  build: {
    target: ["chrome123", "firefox121", "safari17.5"], // those that know light-dark()
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    manifest: true,
  },
  test: {
    environment: "jsdom",
    include: ["src/**/*.test.{ts,tsx}"],
    setupFiles: ["src/test/setup.ts"],
    restoreMocks: true,
    testTimeout: 10_000,
  },
});
