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

/** See `createBackend` of the main entry. */
export async function createBackend(options?: SelectOptions): Promise<Backend> {
  return (await selectBackend(options)).backend;
}

/** See `selectBackend` of the main entry. */
export async function selectBackend(options?: SelectOptions): Promise<Selection> {
  return selectFrom(loaders, options);
}
