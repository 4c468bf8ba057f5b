/** How long a backend takes for a shape, with the logits in CPU memory, as a caller sees it. */
import {
  type Backend,
  encodeBFloat16,
  encodeFloat16,
  FusedTopKError,
  type HostLogits,
  type ResolvedOptions,
  resolveOptions,
  type SoftmaxTopKOptions,
} from "@fused-topk/core";

/** What calls will ask for. */
export type Shape = Pick<SoftmaxTopKOptions, "rows" | "vocab" | "k" | "dtype">;

/** A problem to time backends with. */
export interface Trial {
  logits: HostLogits;
  options: ResolvedOptions;
}

/** Each backend is called for so long, twice at least: the first calls compile, start threads and warm up. */
const MILLISECONDS = 150;
const MOST_CALLS = 40;

/** So many random logits, at most, before they repeat. */
const DISTINCT = 2 ** 20;

/**
 * Random logits of a shape. Rows repeat, and long ones in themselves.
 *
 * @throws {FusedTopKError} `ERR_INVALID_ARGUMENT`, `ERR_OUT_OF_MEMORY`
 */
export function trialOf(shape: Shape): Trial {
  const options = resolveOptions({ dtype: "f32", ...shape }, {});
  const { rows, vocab, dtype } = options;
  try {
    const logits = dtype === "f32" ? new Float32Array(rows * vocab) : new Uint16Array(rows * vocab);
    const random = () => 12 * (Math.random() + Math.random() + Math.random()) - 18;
    const values = Float32Array.from({ length: Math.min(vocab, DISTINCT) }, random);
    const bits = dtype === "f32" ? values : Uint16Array.from(values, dtype === "f16" ? encodeFloat16 : encodeBFloat16);
    for (let at = 0; at < logits.length; at += bits.length) logits.set(bits.subarray(0, logits.length - at), at);
    return { logits, options };
  } catch (cause) {
    throw new FusedTopKError(
      "ERR_OUT_OF_MEMORY",
      `Could not allocate ${rows} x ${vocab} logits to time backends with.`,
      {
        fix: "Pass a smaller shape in for.",
        cause,
      },
    );
  }
}

/**
 * @returns microseconds a call.
 * @throws {FusedTopKError} as a rejection, where the backend cannot take the shape.
 */
export async function timeBackend(backend: Backend, { logits, options }: Trial): Promise<number> {
  const times: number[] = [];
  const end = performance.now() + MILLISECONDS;
  do {
    const begin = performance.now();
    await backend.softmaxTopK(logits, options);
    times.push(performance.now() - begin);
    await new Promise((resolve) => setTimeout(resolve)); // what a call has started comes up between calls
  } while (times.length < 2 || (times.length < MOST_CALLS && performance.now() < end));
  const warm = times.slice(times.length >> 1).sort((a, b) => a - b);
  return Math.round(warm[warm.length >> 1]! * 1e4) / 10;
}
