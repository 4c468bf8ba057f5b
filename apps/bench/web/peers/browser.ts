/** The peers that a browser can run. Their code is fetched when they are opened, and not before. */
import type { BackendName } from "@fused-topk/core";
import { carefulJavaScript, fusedTopK, naiveJavaScript } from "../../src/peers/javascript.js";
import { type OnnxRuntime, openOnnxRuntime } from "../../src/peers/onnxruntime.js";
import type { Peer } from "../../src/peers/peer.js";
import { openTensorFlow, type TensorFlow } from "../../src/peers/tfjs.js";
import type { PeerName } from "./names.js";

export const browserPeers: readonly (Peer & { name: PeerName })[] = [
  {
    name: "onnxruntime-web wasm",
    open: async () => {
      const [ort, { default: wasm }] = await Promise.all([
        import("onnxruntime-web/wasm"),
        import("onnxruntime-web/ort-wasm-simd-threaded.wasm?url"),
      ]);
      return openWeb(ort as unknown as OnnxRuntime, wasm, "wasm");
    },
  },
  {
    name: "onnxruntime-web webgpu",
    open: async () => {
      const [ort, { default: wasm }] = await Promise.all([
        import("onnxruntime-web/webgpu"),
        import("onnxruntime-web/ort-wasm-simd-threaded.asyncify.wasm?url"),
      ]);
      return openWeb(ort as unknown as OnnxRuntime, wasm, "webgpu");
    },
  },
  {
    name: "tfjs wasm",
    open: async () => {
      const [tf, { setWasmPaths }, { default: plain }, { default: simd }, { default: threaded }] = await Promise.all([
        import("@tensorflow/tfjs-core"),
        import("@tensorflow/tfjs-backend-wasm"),
        import("@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm.wasm?url"),
        import("@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm-simd.wasm?url"),
        import("@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm-threaded-simd.wasm?url"),
      ]);
      setWasmPaths({
        "tfjs-backend-wasm.wasm": plain,
        "tfjs-backend-wasm-simd.wasm": simd,
        "tfjs-backend-wasm-threaded-simd.wasm": threaded,
      });
      return openTensorFlow(tf as unknown as TensorFlow, "wasm");
    },
  },
  {
    name: "tfjs webgpu",
    open: async () => {
      const [tf] = await Promise.all([import("@tensorflow/tfjs-core"), import("@tensorflow/tfjs-backend-webgpu")]);
      return openTensorFlow(tf as unknown as TensorFlow, "webgpu");
    },
  },
  carefulJavaScript,
  naiveJavaScript,
];

/** This project's backends, which the peers stand beside. */
export const ownPeers: Readonly<Partial<Record<BackendName, Peer>>> = {
  webgpu: fusedTopK("fused-topk webgpu", "webgpu", async () => {
    const { createWebGPUBackend } = await import("@fused-topk/webgpu");
    return createWebGPUBackend();
  }),
  wasm: fusedTopK("fused-topk wasm", "wasm", async () => {
    const { createWasmBackend } = await import("@fused-topk/wasm");
    return createWasmBackend();
  }),
  cpu: fusedTopK("fused-topk cpu", "cpu", async () => {
    const { createCpuBackend } = await import("@fused-topk/core");
    return createCpuBackend();
  }),
};

/** The packages for the web share what they know in `env`; the one that is opened has paths and threads of its own. */
function openWeb(ort: OnnxRuntime, wasm: string, provider: "wasm" | "webgpu") {
  Object.assign(ort.env.wasm, { wasmPaths: { wasm }, numThreads: 1 });
  return openOnnxRuntime(
    ort,
    provider,
    `${ort.env.versions.web}, ${provider === "wasm" ? "1 thread" : "its own device"}`,
  );
}
