import { defineConfig } from "tsup";

export default defineConfig({
  entry: ["src/index.ts", "src/meter.ts"],
  splitting: false, // the meter has a module of its own, and shares no state
  format: "esm",
  target: "es2022",
  dts: true,
  clean: true,
  sourcemap: true,
});
