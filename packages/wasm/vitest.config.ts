import { defineConfig } from "vitest/config";

export default defineConfig({
  test: { include: ["test/**/*.test.ts"], globalSetup: "@fused-topk/conformance/vitest-setup", testTimeout: 60_000 },
});
