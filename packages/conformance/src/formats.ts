/** What the generators need to know of a dtype: its bits, its landmarks, and how an array of it is made. */
import { type DType, decodeBFloat16, decodeFloat16, encodeBFloat16, encodeFloat16 } from "@fused-topk/core";

export interface Format {
  /** Bits an element. */
  readonly width: 16 | 32;
  /** The bits of 1. Those of the next larger number are one more. */
  readonly one: number;
  /** The bits of +inf. */
  readonly infinity: number;
  /** The largest finite value. */
  readonly largest: number;
  /** The smallest positive value, a subnormal. */
  readonly smallest: number;
  /** The bits of the value nearest to a float32. */
  encode(value: number): number;
  decode(bits: number): number;
}

const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);

export const formats: Readonly<Record<DType, Format>> = {
  f32: {
    width: 32,
    one: 0x3f800000,
    infinity: 0x7f800000,
    largest: (2 - 2 ** -23) * 2 ** 127,
    smallest: 2 ** -149,
    encode: (value) => {
      float[0] = value;
      return word[0]!;
    },
    decode: (bits) => {
      word[0] = bits;
      return float[0]!;
    },
  },
  f16: {
    width: 16,
    one: 0x3c00,
    infinity: 0x7c00,
    largest: 65504,
    smallest: 2 ** -24,
    encode: encodeFloat16,
    decode: decodeFloat16,
  },
  bf16: {
    width: 16,
    one: 0x3f80,
    infinity: 0x7f80,
    largest: (2 - 2 ** -7) * 2 ** 127,
    smallest: 2 ** -133,
    encode: encodeBFloat16,
    decode: decodeBFloat16,
  },
};
