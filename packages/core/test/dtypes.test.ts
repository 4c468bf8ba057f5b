import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bytesPerElement, decodeBFloat16, decodeFloat16, encodeBFloat16, encodeFloat16 } from "../src/index.js";
import { fromBits } from "./arbitrary.js";

const everyPattern = Array.from({ length: 65536 }, (_, bits) => bits);
const isNaN16 = (bits: number, infinity: number) => (bits & 0x7fff) > infinity;

test("bytesPerElement", () => {
  expect(bytesPerElement).toEqual({ f32: 4, f16: 2, bf16: 2 });
});

describe("f16", () => {
  test("decodes all 65536 patterns as the definition of binary16 says", () => {
    for (const bits of everyPattern) {
      const exponent = (bits >> 10) & 31;
      const fraction = (bits & 1023) / 1024;
      const magnitude = exponent === 0 ? fraction * 2 ** -14 : (1 + fraction) * 2 ** (exponent - 15);
      const special = fraction === 0 ? Number.POSITIVE_INFINITY : Number.NaN;
      const sign = bits >> 15 ? -1 : 1;
      expect(Object.is(decodeFloat16(bits), sign * (exponent === 31 ? special : magnitude)), bits.toString(16)).toBe(
        true,
      );
    }
  });

  test.skipIf(typeof Float16Array === "undefined")("decodes as Float16Array does", () => {
    const values = new Float16Array(Uint16Array.from(everyPattern).buffer);
    for (const bits of everyPattern) expect(Object.is(decodeFloat16(bits), values[bits])).toBe(true);
  });

  test("encode undoes decode on every pattern but NaN, which stays NaN", () => {
    for (const bits of everyPattern) {
      const back = encodeFloat16(decodeFloat16(bits));
      if (isNaN16(bits, 0x7c00)) expect(isNaN16(back, 0x7c00)).toBe(true);
      else expect(back).toBe(bits);
    }
  });

  test("encode rounds to nearest, ties to even: just below, at and just above every midpoint", () => {
    for (let bits = 0; bits < 0x7bff; bits++) {
      const middle = (decodeFloat16(bits) + decodeFloat16(bits + 1)) / 2;
      const step = middle * 2 ** -50;
      expect(encodeFloat16(middle - step)).toBe(bits);
      expect(encodeFloat16(middle)).toBe(bits + (bits & 1));
      expect(encodeFloat16(middle + step)).toBe(bits + 1);
      expect(encodeFloat16(-middle)).toBe(0x8000 + bits + (bits & 1));
    }
  });

  test("encode overflows to infinity from 65520 on", () => {
    expect(encodeFloat16(65519.99)).toBe(0x7bff);
    expect(encodeFloat16(65520)).toBe(0x7c00);
    expect(encodeFloat16(-1e300)).toBe(0xfc00);
  });

  test.skipIf(typeof Float16Array === "undefined")("encode agrees with Float16Array on any number", () => {
    const value = new Float16Array(1);
    const bits = new Uint16Array(value.buffer);
    fc.assert(
      fc.property(fc.oneof(fc.double({ noNaN: true }), fc.double({ min: -70000, max: 70000, noNaN: true })), (x) => {
        value[0] = x;
        expect(encodeFloat16(x)).toBe(bits[0]);
      }),
      { numRuns: 20_000 },
    );
  });
});

describe("bf16", () => {
  test("decodes all 65536 patterns as the upper half of a float32", () => {
    for (const bits of everyPattern) {
      expect(Object.is(decodeBFloat16(bits), fromBits(bits * 65536)), bits.toString(16)).toBe(true);
    }
  });

  test("encode undoes decode on every pattern but NaN, which stays NaN", () => {
    for (const bits of everyPattern) {
      const back = encodeBFloat16(decodeBFloat16(bits));
      if (isNaN16(bits, 0x7f80)) expect(isNaN16(back, 0x7f80)).toBe(true);
      else expect(back).toBe(bits);
    }
  });

  test("encode keeps a NaN whose payload lies in the lower half", () => {
    expect(isNaN16(encodeBFloat16(fromBits(0x7f800001)), 0x7f80)).toBe(true);
  });

  test("encode rounds to nearest, ties to even: just below, at and just above every midpoint", () => {
    for (let bits = 0; bits < 0x7f80; bits++) {
      expect(encodeBFloat16(fromBits(bits * 65536 + 0x7fff))).toBe(bits);
      expect(encodeBFloat16(fromBits(bits * 65536 + 0x8000))).toBe(bits + (bits & 1));
      expect(encodeBFloat16(fromBits(bits * 65536 + 0x8001))).toBe(bits + 1);
    }
  });
});
