/** The peers that Node can run. The others' packages are optional: what is not installed is absent. */
import { createRequire } from "node:module";
import { createCpuBackend } from "@fused-topk/core";
import { createWasmBackend } from "@fused-topk/wasm";
import packageJson from "../../package.json" with { type: "json" };
import { carefulJavaScript, fusedTopK, naiveJavaScript } from "./javascript.js";
import { type OnnxRuntime, openOnnxRuntime } from "./onnxruntime.js";
import type { Peer } from "./peer.js";
import { openTensorFlow, type TensorFlow } from "./tfjs.js";

const require = createRequire(import.meta.url);
const packages = Object.entries(packageJson.peerDependencies).map(([name, version]) => `${name}@${version}`);
/** Without their install scripts: what these fetch is not needed on a CPU. */
const fix = `npm install --no-save --ignore-scripts ${packages.join(" ")}`;

/** In the order of the table; the first is what the ratios are of. */
export const peers: readonly Peer[] = [
  fusedTopK("fused-topk wasm", "wasm", () => createWasmBackend()),
  fusedTopK("fused-topk wasm, 1 thread", "wasm", () => createWasmBackend({ threads: 1 })),
  fusedTopK("fused-topk cpu", "cpu", createCpuBackend),
  {
    name: "onnxruntime-node",
    fix,
    open: async () => {
      const { default: ort } = (await load("onnxruntime-node")) as { default: OnnxRuntime };
      return openOnnxRuntime(ort, "cpu", `${ort.env.versions.node ?? versionOf("onnxruntime-node")}, all threads`);
    },
  },
  {
    name: "onnxruntime-web wasm",
    fix,
    open: async () => {
      const ort = (await load("onnxruntime-web")) as OnnxRuntime;
      ort.env.wasm.numThreads = 1;
      return openOnnxRuntime(ort, "wasm", `${ort.env.versions.web ?? versionOf("onnxruntime-web")}, 1 thread`);
    },
  },
  {
    name: "tfjs wasm",
    fix,
    open: async () => {
      const tf = (await load("@tensorflow/tfjs-core")) as TensorFlow;
      await load("@tensorflow/tfjs-backend-wasm");
      return openTensorFlow(tf, "wasm");
    },
  },
  carefulJavaScript,
  naiveJavaScript,
];

/** tfjs has to be one instance for both of its packages, so they are required, as CommonJS. */
async function load(name: string): Promise<unknown> {
  return name.startsWith("@tensorflow/") ? require(name) : import(name);
}

function versionOf(name: string): string {
  return (require(`${name}/package.json`) as { version: string }).version;
}
