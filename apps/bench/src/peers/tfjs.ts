/** TensorFlow.js on one of its backends. No Node here. */
import type { OpenPeer } from "./peer.js";

/** The part of @tensorflow/tfjs-core that is used. */
export interface TensorFlow {
  version_core: string;
  setBackend(name: string): Promise<boolean>;
  ready(): Promise<void>;
  tidy<T extends object>(work: () => T): T;
  dispose(tensors: object): void;
  tensor2d(values: Float32Array, shape: [number, number]): Tensor;
  softmax(logits: Tensor): Tensor;
  topk(x: Tensor, k: number, sorted: boolean): { values: Tensor; indices: Tensor };
}

interface Tensor {
  data(): Promise<Float32Array | Int32Array | Uint8Array>;
}

/** @param tf with the backend registered. */
export async function openTensorFlow(tf: TensorFlow, backend: "wasm" | "webgpu"): Promise<OpenPeer> {
  if (!(await tf.setBackend(backend))) throw new Error(`Its ${backend} backend does not start here.`);
  await tf.ready();
  return {
    version: tf.version_core,
    prepare: async ({ rows, vocab, k }) => ({
      run: async (logits) => {
        await tf.setBackend(backend); // peers take turns, and it has one backend at a time
        const best = tf.tidy(() => tf.topk(tf.softmax(tf.tensor2d(logits, [rows, vocab])), k, true));
        const [probs, indices] = await Promise.all([best.values.data(), best.indices.data()]);
        tf.dispose(best);
        return { probs, indices };
      },
      close: async () => {},
    }),
  };
}
