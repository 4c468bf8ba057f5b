/** Decoding of 16-bit floats and what the dtypes have in common. */
import type { DType } from "./types.js";

/** Bytes an element. */
export const bytesPerElement: Readonly<Record<DType, number>> = { f32: 4, f16: 2, bf16: 2 };

const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);

/** The value of the bfloat16 with these 16 bits: the upper half of a float32. */
export function decodeBFloat16(bits: number): number {
  word[0] = bits << 16;
  return float[0]!;
}

/** The value of the IEEE binary16 with these 16 bits. Exact: every binary16 is a float32. */
export function decodeFloat16(bits: number): number {
  const exponent = (bits >>> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  const sign = bits & 0x8000 ? -1 : 1;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  word[0] = ((bits & 0x8000) << 16) | ((exponent + 112) << 23) | (fraction << 13);
  return float[0]!;
}

/** The bfloat16 nearest to a float32, ties to even. */
export function encodeBFloat16(value: number): number {
  float[0] = value;
  const bits = word[0]!;
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

/** The binary16 nearest to a number, ties to even; beyond 65519.99 it is infinite. */
export function encodeFloat16(value: number): number {
  float[0] = value;
  const sign = (word[0]! >>> 16) & 0x8000;
  if (Number.isNaN(value)) return sign | 0x7e00;
  const magnitude = Math.abs(value);
  if (magnitude >= 65520) return sign | 0x7c00;
  if (magnitude < 2 ** -14) return sign | roundHalfEven(magnitude * 2 ** 24);
  const exponent = Math.min(15, Math.floor(Math.log2(magnitude)));
  const scaled = roundHalfEven(magnitude * 2 ** (10 - exponent));
  return sign | (((exponent + 14) << 10) + scaled);
}

function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest < 0.5 || (rest === 0.5 && floor % 2 === 0)) return floor;
  return floor + 1;
}

const float16Values = /* @__PURE__ */ (() => {
  let table: Float32Array | undefined;
  return () => {
    table ??= Float32Array.from({ length: 65536 }, (_, bits) => decodeFloat16(bits));
    return table;
  };
})();

/** Decodes `count` elements of raw bits from `start` into the front of `out`. */
export function decodeInto(
  out: Float32Array,
  bits: Uint16Array,
  dtype: "f16" | "bf16",
  start: number,
  count: number,
): void {
  if (dtype === "f16") {
    const values = float16Values();
    for (let i = 0; i < count; i++) out[i] = values[bits[start + i]!]!;
  } else {
    const words = new Uint32Array(out.buffer, out.byteOffset, count);
    for (let i = 0; i < count; i++) words[i] = bits[start + i]! << 16;
  }
}
