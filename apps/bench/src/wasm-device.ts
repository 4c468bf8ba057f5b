/** WebAssembly as a device, in any runtime. No Node here. */
import { hostMemory } from "@fused-topk/core";
import type { WasmBackend } from "@fused-topk/wasm";
import { type Configuration, configuration } from "./configuration.js";
import type { Device } from "./device.js";

/** @param details the engine that runs it. */
export async function findWasm(details: Record<string, string>): Promise<Device> {
  const { createWasmBackend } = await import("@fused-topk/wasm");
  const { createWasmMeter } = await import("@fused-topk/wasm/meter");
  await using backend = await createWasmBackend();
  return {
    backend: "wasm",
    name: backend.device,
    kind: "cpu",
    details,
    createBackend: () => createWasmBackend(),
    createMeter: createWasmMeter,
    configurations: [
      configuration("", () => createWasmBackend()),
      configuration("one thread", () => createWasmBackend({ threads: 1 })),
      inItsMemory(() => createWasmBackend()),
    ],
  };
}

/** Logits that are written to the backend's memory first. */
function inItsMemory(create: () => Promise<WasmBackend>): Configuration {
  const plain = configuration("logits in its memory", create);
  return {
    ...plain,
    open: async () => {
      const open = await plain.open();
      return {
        ...open,
        call: (logits, options) => {
          const { dtype } = hostMemory(logits, options.dtype);
          const held = (open.backend as WasmBackend).alloc(logits.length, dtype);
          const bytes = new Uint8Array(logits.buffer, logits.byteOffset, logits.byteLength);
          new Uint8Array(held.buffer, held.byteOffset, held.byteLength).set(bytes);
          return open.backend.softmaxTopK(held, { ...options, dtype });
        },
      };
    },
  };
}
