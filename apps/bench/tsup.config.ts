import { cpSync } from "node:fs";
import { defineConfig } from "tsup";

export default defineConfig({
  entry: ["src/cli.ts", "src/probe.ts"],
  format: "esm",
  target: "node20",
  platform: "node",
  clean: ["!web/**"], // the page is a build of its own
  onSuccess: async () => {
    cpSync("data", "dist/data", { recursive: true });
    cpSync("src/peers/torch_peer.py", "dist/torch_peer.py");
  },
});
