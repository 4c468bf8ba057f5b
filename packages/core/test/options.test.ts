/** What resolveOptions and resolveHostOptions accept and fill in, and the whole text of what they refuse. */
import { describe, expect, test } from "vitest";
import {
  allocateResult,
  FusedTopKError,
  type HostLogits,
  hostMemory,
  type LogitsMemory,
  resolveHostOptions,
  resolveOptions,
  type SoftmaxTopKOptions,
} from "../src/index.js";

// Every engine has it; the types of this package name no platform.
declare function structuredClone(value: unknown, options: { transfer: ArrayBuffer[] }): unknown;

const logits = new Float32Array(6);
const good: SoftmaxTopKOptions = { rows: 2, vocab: 3, k: 2 };

/** The message of the FusedTopKError that `action` throws. */
function refusal(action: () => unknown, code = "ERR_INVALID_ARGUMENT"): string {
  try {
    action();
  } catch (error) {
    expect(error).toBeInstanceOf(FusedTopKError);
    expect((error as FusedTopKError).code).toBe(code);
    expect((error as FusedTopKError).message.endsWith((error as FusedTopKError).fix!)).toBe(true);
    return (error as FusedTopKError).message;
  }
  throw new Error("Nothing was refused.");
}

describe("accepts", () => {
  test("the least, and fills in the defaults", () => {
    expect(resolveHostOptions(logits, good)).toEqual({
      rows: 2,
      vocab: 3,
      k: 2,
      dtype: "f32",
      offset: 0,
      rowStride: 3,
      temperature: 1,
    });
  });

  test("options given as undefined as if left out", () => {
    const loose = { ...good, dtype: undefined, offset: undefined, rowStride: undefined, temperature: undefined };
    expect(resolveHostOptions(logits, loose as unknown as SoftmaxTopKOptions)).toEqual(
      resolveHostOptions(logits, good),
    );
  });

  test("rows that end with the array, with offset and rowStride", () => {
    const options = { rows: 2, vocab: 2, k: 1, offset: 1, rowStride: 3 };
    expect(resolveHostOptions(logits, options)).toMatchObject(options);
  });

  test("no rows, at any offset within the array", () => {
    expect(resolveHostOptions(logits, { ...good, rows: 0, offset: 6 })).toMatchObject({ rows: 0, offset: 6 });
  });

  test("memory of unknown length", () => {
    expect(resolveOptions({ ...good, rows: 1e6 }, { dtype: "bf16" })).toMatchObject({ rows: 1e6, dtype: "bf16" });
  });

  test.each([1.1754943508222875e-38, 3.4e38, 0.7])("temperature %s", (temperature) => {
    expect(resolveHostOptions(logits, { ...good, temperature }).temperature).toBe(temperature);
  });

  test("each array with its dtype", () => {
    expect(hostMemory(logits)).toEqual({ length: 6, dtype: "f32" });
    expect(hostMemory(new Uint16Array(3), "bf16")).toEqual({ length: 3, dtype: "bf16" });
    if (typeof Float16Array !== "undefined")
      expect(hostMemory(new Float16Array(3))).toEqual({ length: 3, dtype: "f16" });
    expect(hostMemory(new Float32Array(0))).toEqual({ length: 0, dtype: "f32" });
  });
});

const refused: [Partial<Record<keyof SoftmaxTopKOptions, unknown>>, string][] = [
  [
    { rows: -1 },
    "Expected an integer >= 0 for rows but received -1. Pass the number of rows; 0 gives an empty result.",
  ],
  [
    { rows: 1.5 },
    "Expected an integer >= 0 for rows but received 1.5. Pass the number of rows; 0 gives an empty result.",
  ],
  [{ vocab: 0 }, "Expected an integer from 1 to 4294967295 for vocab but received 0. Pass the number of logits a row."],
  [{ k: 0 }, "Expected an integer >= 1 for k but received 0. Pass how many of the best to return, at least 1."],
  [{ k: 1.5 }, "Expected an integer >= 1 for k but received 1.5. Pass how many of the best to return, at least 1."],
  [{ k: 4 }, "Expected at most vocab (3) for k but received 4. Lower k to vocab or less."],
  [{ offset: -1 }, "Expected an integer >= 0 for offset but received -1. Pass the element at which row 0 begins."],
  [{ offset: 7 }, "Expected at most the length of logits (6) for offset but received 7. Lower offset."],
  [
    { rowStride: 2 },
    "Expected an integer >= 3 for rowStride but received 2. Rows may not overlap: pass vocab or more.",
  ],
  [
    { rows: 3 },
    "Expected logits to hold 9 elements (rows 3, vocab 3, offset 0, rowStride 3) but they have 6. Pass more logits, or lower rows, vocab, offset or rowStride.",
  ],
  [{ dtype: "f64" }, 'Expected "f32", "f16" or "bf16" for dtype but received "f64". Pass one of these.'],
  [
    { dtype: "f16" },
    'Expected "f32", the type of logits, for dtype but received "f16". Leave dtype out or pass matching logits.',
  ],
  ...[0, -1, Number.NaN, Number.POSITIVE_INFINITY, 1e-40, 1e39, "1"].map(
    (temperature): [{ temperature: unknown }, string] => [
      { temperature },
      `Expected a finite number > 0 that float32 holds as a normal number (1.2e-38 to 3.4e38) for temperature but received ${typeof temperature === "string" ? '"1"' : temperature}. Pass 1 for the plain softmax; for greedy decoding pass k = 1.`,
    ],
  ),
];

describe("refuses", () => {
  test.each(refused)("%o", (change, message) => {
    const options = { ...good, ...change } as SoftmaxTopKOptions;
    expect(refusal(() => resolveHostOptions(logits, options))).toBe(message);
  });

  test("k above maxK", () => {
    expect(refusal(() => resolveHostOptions(logits, good, 1))).toBe(
      "Expected at most limits.maxK (1) of this backend for k but received 2. Lower k or use the cpu backend.",
    );
  });

  test.each([null, undefined, 3])("options %s", (options) => {
    expect(refusal(() => resolveHostOptions(logits, options as unknown as SoftmaxTopKOptions))).toMatch(
      /^Expected an object for options but received (null|undefined|3)\. Pass \{ rows, vocab, k \}\.$/,
    );
  });

  test("another type of array", () => {
    expect(refusal(() => hostMemory(new Float64Array(1) as unknown as HostLogits))).toBe(
      "Expected a Float32Array, a Float16Array or a Uint16Array for logits but received an object of type Float64Array. Pass one of these; other numbers can be converted with Float32Array.from.",
    );
  });

  test("a GPUBuffer, which only the webgpu backend takes", () => {
    const buffer = { mapAsync() {} } as unknown as HostLogits;
    expect(refusal(() => hostMemory(buffer))).toBe(
      "Expected a Float32Array, a Float16Array or a Uint16Array for logits but received a GPUBuffer. Only the webgpu backend takes one: pass it there, or copy it to a typed array.",
    );
  });

  test("raw bits without a dtype, or said to be f32", () => {
    expect(refusal(() => hostMemory(new Uint16Array(1)))).toBe(
      'Expected "f16" or "bf16" for dtype but received undefined. A Uint16Array holds raw bits: say which with options.dtype.',
    );
    expect(refusal(() => hostMemory(new Uint16Array(1), "f32"))).toBe(
      'Expected "f16" or "bf16" with a Uint16Array for dtype but received "f32". Pass f32 logits as a Float32Array.',
    );
  });

  test("a buffer of unknown dtype", () => {
    const memory: LogitsMemory = { length: 6 };
    expect(refusal(() => resolveOptions(good, memory))).toBe(
      'Expected "f32", "f16" or "bf16" for dtype but received undefined. A buffer does not tell: say which with options.dtype.',
    );
  });

  test("a detached array, and a view of a detached buffer", () => {
    const array = new Float32Array(6);
    const view = array.subarray(2);
    structuredClone(array.buffer, { transfer: [array.buffer] });
    for (const detached of [array, view]) {
      expect(refusal(() => hostMemory(detached))).toBe(
        "The ArrayBuffer of logits is detached, so its length is 0. Do not transfer the buffer to another thread before the call, or pass a copy.",
      );
    }
  });

  test("a result that no memory can hold", () => {
    expect(refusal(() => allocateResult(2 ** 40, 2 ** 20), "ERR_OUT_OF_MEMORY")).toBe(
      "Could not allocate the result of 1099511627776 rows with k = 1048576. Split the rows over several calls.",
    );
  });
});
