import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: "@fused-topk/conformance/vitest-setup",
    testTimeout: 60_000,
    // What takes long is to compile kernels, on a thread or two.
    maxWorkers: 2,
    // Dawn keeps a worker alive while its instances are reachable.
    teardownTimeout: 2_000,
  },
});
