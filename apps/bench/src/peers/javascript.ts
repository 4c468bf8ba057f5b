/** JavaScript as programs have it today, and this project's backends, as peers. No Node here. */
import type { Backend, BackendName } from "@fused-topk/core";
import { threePass, unfused } from "../cpu-meter.js";
import type { Peer } from "./peer.js";

/** Max, sum, then a heap of the K best. */
export const carefulJavaScript: Peer = {
  name: "JavaScript, careful",
  open: async () => ({
    version: "max, sum, a heap",
    prepare: async (problem) => ({
      run: async (logits) => threePass(logits, { ...problem, dtype: "f32" }),
      close: async () => {},
    }),
  }),
};

/** The row mapped to probabilities, then every index sorted by them. */
export const naiveJavaScript: Peer = {
  name: "JavaScript, naive",
  open: async () => ({
    version: "map, then sort",
    prepare: async (problem) => ({
      run: async (logits) => unfused(logits, { ...problem, dtype: "f32" }),
      close: async () => {},
    }),
  }),
};

/** One of this project's backends, called as users call it. */
export function fusedTopK(name: string, backend: BackendName, create: () => Promise<Backend>): Peer {
  return {
    name,
    backend,
    open: async () => {
      const backend = await create();
      return {
        version: backend.device,
        prepare: async (problem) => ({
          run: (logits) => backend.softmaxTopK(logits, problem),
          close: async () => {},
        }),
      };
    },
  };
}
