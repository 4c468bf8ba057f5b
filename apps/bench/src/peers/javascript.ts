/** JavaScript as programs have it today, and this project's backends, as peers. No Node here. */
import type { Backend, BackendName } from "@fused-topk/core";
import { threePass, unfused } from "../cpu-meter.js";
import type { Device } from "../device.js";
import { measureKernels } from "../measure.js";
import type { Shape } from "../shapes.js";
import { openDevice } from "../work.js";
import type { DevicePeer, Peer } from "./peer.js";

/** Max, sum, then a heap of the K best. */
export const carefulJavaScript = {
  name: "JavaScript, careful" as const,
  open: async () => ({
    version: "max, sum, a heap",
    prepare: async (shape: Shape) => ({
      run: async (logits: Float32Array) => threePass(logits, { ...shape, dtype: "f32" }),
      close: async () => {},
    }),
  }),
} satisfies Peer;

/** The row mapped to probabilities, then every index sorted by them. */
export const naiveJavaScript = {
  name: "JavaScript, naive" as const,
  open: async () => ({
    version: "map, then sort",
    prepare: async (shape: Shape) => ({
      run: async (logits: Float32Array) => unfused(logits, { ...shape, dtype: "f32" }),
      close: async () => {},
    }),
  }),
} satisfies Peer;

/** One of this project's backends, called as users call it. */
export function fusedTopK(name: string, backend: BackendName, create: () => Promise<Backend>): Peer {
  return {
    name,
    backend,
    open: async () => {
      const backend = await create();
      return {
        version: backend.device,
        prepare: async (shape) => ({
          run: (logits) => backend.softmaxTopK(logits, shape),
          close: async () => {},
        }),
      };
    },
  };
}

/** The kernel of one of this project's backends on logits that lie on its device. */
export function fusedKernel(name: string, device: Device): DevicePeer {
  return {
    name,
    backend: device.backend,
    open: async () => {
      const measured = await openDevice(device);
      return {
        version: device.name,
        measure: async (input, effort) => {
          const { microseconds, result } = await measureKernels(measured, input, effort, "fused");
          return { microseconds, rows: input.scenario.rows, result: result! };
        },
        close: async () => {
          await Promise.all([measured.backendInstance.dispose(), measured.meter.dispose()]);
        },
      };
    },
  };
}
