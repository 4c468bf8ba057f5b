/** onnxruntime, by the API that its packages for Node and for the web share. No Node here. */
import { softmaxTopKModel } from "./onnx-model.js";
import type { OpenPeer } from "./peer.js";

/** The part of onnxruntime that is used. */
export interface OnnxRuntime {
  InferenceSession: { create(model: Uint8Array, options: object): Promise<Session> };
  Tensor: new (type: "float32", data: Float32Array, shape: number[]) => Tensor;
  env: { versions: Record<string, string | undefined>; wasm: { numThreads?: number } };
}

interface Session {
  run(inputs: { logits: Tensor }): Promise<{ probs: Tensor; indices: Tensor }>;
  release(): Promise<void>;
}

interface Tensor {
  data: Float32Array | BigInt64Array;
}

/** The level at which a session speaks. */
const ERRORS = 3;

/** @param provider the execution provider: "cpu" in Node, "wasm" or "webgpu" on the web. */
export function openOnnxRuntime(
  { InferenceSession, Tensor }: OnnxRuntime,
  provider: string,
  version: string,
): OpenPeer {
  return {
    version,
    prepare: async (asked) => {
      const session = await InferenceSession.create(softmaxTopKModel(asked), {
        executionProviders: [provider],
        logSeverityLevel: ERRORS,
      });
      return {
        run: async (logits) => {
          const shape = [asked.rows, asked.vocab];
          const { probs, indices } = await session.run({ logits: new Tensor("float32", logits, shape) });
          return { probs: probs.data as Float32Array, indices: indices.data as BigInt64Array };
        },
        close: () => session.release(),
      };
    },
  };
}
