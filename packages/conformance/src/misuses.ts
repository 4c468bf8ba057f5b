/** Every way to call a backend wrongly, with what it must answer. */
import type { FusedTopKErrorCode, HostLogits } from "@fused-topk/core";

export interface Misuse {
  /** Completes "refuses ...". */
  name: string;
  logits?: () => HostLogits;
  options?: Record<string, unknown> | null;
  code?: FusedTopKErrorCode;
  /** Names the argument, what was expected and what was received; ends with the fix. */
  message: RegExp;
}

/** The correct call that each misuse changes. */
export const goodCall = {
  logits: (): HostLogits => Float32Array.of(3, 1, 2, 0, 5, 4),
  options: { rows: 2, vocab: 3, k: 2 },
} as const;

const bits = () => new Uint16Array(6);

export const misuses: readonly Misuse[] = [
  { name: "k = 0", options: { k: 0 }, message: /^Expected an integer >= 1 for k but received 0\. Pass .+\.$/ },
  { name: "negative k", options: { k: -1 }, message: /^Expected an integer >= 1 for k but received -1\./ },
  { name: "fractional k", options: { k: 1.5 }, message: /^Expected an integer >= 1 for k but received 1\.5\./ },
  { name: "k that is no number", options: { k: "2" }, message: /for k but received "2"\./ },
  { name: "missing k", options: { k: undefined }, message: /for k but received undefined\./ },
  { name: "k above vocab", options: { k: 4 }, message: /^Expected at most vocab \(3\) for k but received 4\. Lower k/ },

  { name: "negative rows", options: { rows: -1 }, message: /^Expected an integer >= 0 for rows but received -1\./ },
  { name: "fractional rows", options: { rows: 0.5 }, message: /for rows but received 0\.5\./ },
  { name: "vocab = 0", options: { vocab: 0 }, message: /^Expected an integer from 1 to 4294967295 for vocab but / },
  { name: "vocab of NaN", options: { vocab: Number.NaN }, message: /for vocab but received NaN\./ },
  { name: "vocab of 2^32", options: { vocab: 2 ** 32 }, message: /for vocab but received 4294967296\./ },

  { name: "temperature 0", options: { temperature: 0 }, message: /for temperature but received 0\. Pass 1 .+k = 1\.$/ },
  { name: "negative temperature", options: { temperature: -1 }, message: /for temperature but received -1\./ },
  { name: "temperature NaN", options: { temperature: Number.NaN }, message: /for temperature but received NaN\./ },
  {
    name: "infinite temperature",
    options: { temperature: Number.POSITIVE_INFINITY },
    message: /for temperature but received Infinity\./,
  },
  {
    name: "a temperature that is subnormal in float32",
    options: { temperature: 1e-40 },
    message: /for temperature but received 1e-40\./,
  },
  {
    name: "a temperature that float32 cannot hold",
    options: { temperature: 1e39 },
    message: /for temperature but received 1e\+39\./,
  },

  {
    name: "rows x vocab past the array",
    options: { rows: 3 },
    message:
      /^Expected logits to hold 9 elements \(rows 3, vocab 3, offset 0, rowStride 3\) but they have 6\. Pass more/,
  },
  { name: "rowStride past the array", options: { rowStride: 4 }, message: /to hold 7 elements .* but they have 6\./ },
  { name: "rowStride below vocab", options: { rowStride: 2 }, message: /^Expected an integer >= 3 for rowStride but / },
  { name: "fractional rowStride", options: { rowStride: 3.5 }, message: /for rowStride but received 3\.5\./ },
  {
    name: "offset past the end",
    options: { offset: 7 },
    message: /^Expected at most the length of logits \(6\) for offset but received 7\. Lower offset\.$/,
  },
  {
    name: "offset that leaves too few logits",
    options: { offset: 1 },
    message: /to hold 7 elements .* but they have 6\./,
  },
  {
    name: "negative offset",
    options: { offset: -1 },
    message: /^Expected an integer >= 0 for offset but received -1\./,
  },

  {
    name: "a Uint16Array without dtype",
    logits: bits,
    message: /^Expected "f16" or "bf16" for dtype but received undefined\. .+ say which with options\.dtype\.$/,
  },
  {
    name: "a Uint16Array said to be f32",
    logits: bits,
    options: { dtype: "f32" },
    message: /for dtype but received "f32"\. Pass f32 logits as a Float32Array\.$/,
  },
  {
    name: "a Float32Array said to be f16",
    options: { dtype: "f16" },
    message: /^Expected "f32", the type of logits, for dtype but received "f16"\./,
  },
  {
    name: "an unknown dtype",
    logits: bits,
    options: { dtype: "f64" },
    message: /^Expected "f32", "f16" or "bf16" for dtype but received "f64"\./,
  },

  {
    name: "a Float64Array",
    logits: () => new Float64Array(6) as unknown as HostLogits,
    message:
      /^Expected a Float32Array, a Float16Array or a Uint16Array for logits but received an object of type Float64/,
  },
  {
    name: "a plain array",
    logits: () => [1, 2, 3, 4, 5, 6] as unknown as HostLogits,
    message: /for logits but received an object of type Array\. .+Float32Array\.from\.$/,
  },
  {
    name: "no logits",
    logits: () => undefined as unknown as HostLogits,
    message: /for logits but received undefined\./,
  },
  {
    name: "a detached ArrayBuffer",
    logits: () => {
      const logits = new Float32Array(6);
      structuredClone(logits.buffer, { transfer: [logits.buffer] });
      return logits;
    },
    message: /^The ArrayBuffer of logits is detached.+ pass a copy\.$/,
  },
  { name: "no options", options: null, message: /^Expected an object for options but received (null|undefined)\./ },
];
