/** TensorFlow.js on its WebAssembly backend. No Node here. */
import type { OpenPeer } from "./peer.js";

/** The part of @tensorflow/tfjs-core that is used. */
export interface TensorFlow {
  version_core: string;
  setBackend(name: "wasm"): Promise<boolean>;
  ready(): Promise<void>;
  tidy<T>(work: () => T): T;
  tensor2d(values: Float32Array, shape: [number, number]): Tensor;
  softmax(logits: Tensor): Tensor;
  topk(x: Tensor, k: number, sorted: boolean): { values: Tensor; indices: Tensor };
}

interface Tensor {
  dataSync(): Float32Array | Int32Array;
}

/** @param tf with the backend "wasm" registered. */
export async function openTensorFlow(tf: TensorFlow): Promise<OpenPeer> {
  if (!(await tf.setBackend("wasm"))) throw new Error("Its wasm backend does not start here.");
  await tf.ready();
  return {
    version: tf.version_core,
    prepare: async ({ rows, vocab, k }) => ({
      run: async (logits) =>
        tf.tidy(() => {
          const { values, indices } = tf.topk(tf.softmax(tf.tensor2d(logits, [rows, vocab])), k, true);
          return { probs: values.dataSync(), indices: indices.dataSync() };
        }),
      close: async () => {},
    }),
  };
}
