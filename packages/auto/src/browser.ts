/**
 * fused-topk in a browser: the same functions, with no import that a bundler could follow to the CUDA addon.
 *
 * @packageDocumentation
 */
import { type Backend, FusedTopKError } from "@fused-topk/core";
import { type Loaders, portableLoaders } from "./loaders.js";
import { type Selection, type SelectOptions, selectFrom } from "./select.js";

export * from "./exports.js";

const loaders: Loaders = {
  ...portableLoaders,
  cuda: async () => {
    throw new FusedTopKError("ERR_BACKEND_UNAVAILABLE", "The cuda backend does not run in a browser.", {
      fix: 'Use "webgpu" here, or "cuda" in Node.',
    });
  },
};

/**
 * Makes the first backend of the order that can run here; with `for`, the fastest of them for that shape. CUDA never can.
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
