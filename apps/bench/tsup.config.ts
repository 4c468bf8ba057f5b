import { cpSync } from "node:fs";
import { defineConfig } from "tsup";

export default defineConfig({
  entry: ["src/cli.ts", "src/probe.ts", "src/tables.ts"],
  format: "esm",
  target: "node20",
  platform: "node",
  clean: true,
  onSuccess: async () => cpSync("data", "dist/data", { recursive: true }),
});
