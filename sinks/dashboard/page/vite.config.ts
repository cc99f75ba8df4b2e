// Builds the page into `dist/`, which the server embeds. Nothing inline and no source maps: the page runs under a
// strict Content-Security-Policy. Paths are relative, so that it also works behind a proxy under a prefix.
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vitest/config";

const MOCK = "http://127.0.0.1:8099";

export default defineConfig({
  base: "./",
  plugins: [svelte()],
  build: {
    target: "es2022",
    sourcemap: false,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: true,
  },
  server: { proxy: { "/api": { target: MOCK, ws: true } } },
  test: { include: ["src/**/*.test.ts"], environment: "node" },
});
