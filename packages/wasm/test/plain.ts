/** A backend as on an engine without relaxed SIMD. */
import { createWasmBackend, type WasmBackend } from "../src/index.js";

export async function createPlainBackend(): Promise<WasmBackend> {
  const { validate } = WebAssembly;
  WebAssembly.validate = () => false;
  try {
    return await createWasmBackend();
  } finally {
    WebAssembly.validate = validate;
  }
}
