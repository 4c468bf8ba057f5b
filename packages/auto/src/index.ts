/**
 * fused-topk: softmax and top-K in one read of the logits, on the first backend that runs here.
 *
 * Importing this module loads no backend and touches no GPU; `createBackend` and `selectBackend` do.
 *
 * @packageDocumentation
 */
import type { Backend } from "@fused-topk/core";
import { type Loaders, portableLoaders } from "./loaders.js";
import { type Selection, type SelectOptions, selectFrom } from "./select.js";

export * from "./exports.js";

const loaders: Loaders = {
  ...portableLoaders,
  cuda: async () => (await import("@fused-topk/cuda")).createCudaBackend(),
};

/**
 * Makes the first backend of the order that can run here; with `for`, the fastest of them for that shape.
 *
 * The environment variable `FUSED_TOPK_BACKEND=name` forces one: if that one cannot run it is an error, and no other
 * takes its place.
 *
 * @throws {FusedTopKError} as a rejection: `ERR_INVALID_ARGUMENT` for an empty order, an unknown name or a bad shape;
 *   `ERR_BACKEND_UNAVAILABLE`, listing every reason, when none can run here.
 */
export async function createBackend(options?: SelectOptions): Promise<Backend> {
  return (await selectBackend(options)).backend;
}

/**
 * `createBackend` that also says which backends were tried and cannot run here, and why; with `for`, how long the others
 * took.
 *
 * @throws {FusedTopKError} as a rejection, like `createBackend`.
 */
export async function selectBackend(options?: SelectOptions): Promise<Selection> {
  return selectFrom(loaders, options);
}
