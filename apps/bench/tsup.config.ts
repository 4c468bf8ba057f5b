import { defineConfig } from "tsup";

export default defineConfig({
  entry: ["src/cli.ts", "src/probe.ts"],
  format: "esm",
  target: "node20",
  platform: "node",
  clean: true,
});
