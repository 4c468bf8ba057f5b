/** Measurement of the CUDA kernels, for the bench. Not public API. */
import { disposedError, hostMemory, invalidArgument } from "@fused-topk/core";
import type { Measurement, MeasureRequest, Meter } from "@fused-topk/core/measure";
import { bytesOf, type CudaBackendOptions, openDevice } from "./backend.js";
import { nativeError } from "./native.js";

/**
 * Creates the meter of a CUDA device: calls are replayed from a CUDA graph that rotates through the input sets.
 *
 * @throws {FusedTopKError} as a rejection: `ERR_BACKEND_UNAVAILABLE`, `ERR_INVALID_ARGUMENT`.
 */
export async function createCudaMeter(options: CudaBackendOptions = {}): Promise<Meter> {
  const { native, context } = await openDevice(options);
  let disposed: Promise<void> | undefined;
  const dispose = () => {
    disposed ??= native.dispose(context);
    return disposed;
  };
  return {
    variants: ["fused", "unfused", "three-pass", "read-floor", "read-exp", "read-two-exps", "pinned-copy"],
    paths: native.regimes,
    async measure({ variant, options, template, sets, repeats, path = "" }: MeasureRequest): Promise<Measurement> {
      if (disposed) throw disposedError("cuda meter");
      const { rows, vocab, k } = options;
      const { length, dtype } = hostMemory(template, options.dtype);
      const templateRows = Math.floor(length / vocab);
      if (!(templateRows >= 1)) {
        throw invalidArgument(
          "template",
          `at least vocab (${vocab}) logits`,
          length,
          "Pass one row of logits or more.",
        );
      }
      const request = { variant, dtype, rows, vocab, k, templateRows, sets, repeats, path };
      try {
        const { microseconds, probs, indices, logSumExp, ...figures } = await native.measure(
          context,
          request,
          bytesOf(template),
        );
        const measurement: Measurement = { microseconds: Array.from(microseconds), ...figures };
        if (probs.length > 0) measurement.result = { rows, k, probs, indices, logSumExp };
        return measurement;
      } catch (failure) {
        throw nativeError(failure);
      }
    },
    dispose,
    [Symbol.asyncDispose]: dispose,
  };
}
