/** One file beside the CUDA addon and the sample, for a machine with nothing but Node. */
import { cpSync, existsSync } from "node:fs";
import { defineConfig } from "tsup";

const addon = "../../packages/cuda/build/Release/fused_topk_cuda.node";
/** Found at run time, or done without: Dawn may come from $DAWN_NODE, and the software adapter is for development. */
const external = ["webgpu", "@fused-topk/conformance/software-adapter"];

export default defineConfig({
  entry: { bench: "src/cli.ts" },
  outDir: "dist/standalone",
  outExtension: () => ({ js: ".mjs" }),
  format: "esm",
  target: "node20",
  platform: "node",
  splitting: false,
  noExternal: [new RegExp(`^(?!(${external.join("|")})$)`)],
  external,
  onSuccess: async () => {
    cpSync("data", "dist/standalone/data", { recursive: true });
    cpSync("src/peers/torch_peer.py", "dist/standalone/torch_peer.py");
    if (existsSync(addon)) cpSync(addon, "dist/standalone/fused_topk_cuda.node");
  },
});
