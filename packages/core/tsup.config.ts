import { defineConfig } from "tsup";

export default defineConfig({
  entry: ["src/index.ts", "src/measure.ts"],
  format: "esm",
  target: "es2022",
  dts: { banner: '/// <reference lib="esnext.disposable" />' }, // the bundle of the types drops that of the source
  clean: true,
  sourcemap: true,
});
