/** A backend whose threads have begun: the first call that is worth them starts them, and does without. */
import type { WasmBackend } from "../src/index.js";

const enough = { rows: 256, vocab: 1024, k: 1 };

export async function startThreads(creating: Promise<WasmBackend>): Promise<WasmBackend> {
  const backend = await creating;
  await backend.softmaxTopK(new Float32Array(enough.rows * enough.vocab), enough);
  await new Promise((resolve) => setTimeout(resolve, 300));
  return backend;
}
