import { defineConfig } from "tsup";

export default defineConfig({
  entry: ["src/index.ts", "src/cases.ts", "src/runtimes.ts", "src/software-adapter.ts", "src/vitest-setup.ts"],
  format: "esm",
  target: "es2022",
  dts: true,
  clean: true,
  sourcemap: true,
});
