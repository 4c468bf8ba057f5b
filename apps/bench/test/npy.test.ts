import { readFileSync } from "node:fs";
import { softmaxTopKReference } from "@fused-topk/core";
import { describe, expect, it } from "vitest";
import { parseNpy } from "../src/npy.js";
import { UsageError } from "../src/usage-error.js";

interface Parts {
  descr?: string;
  order?: string;
  shape?: string;
  major?: number;
  data?: ArrayBufferView;
}

/** The bytes of a .npy file, as NumPy lays them out. */
function npy({ descr = "<f4", order = "False", shape = "(2, 3)", major = 1, data }: Parts): Uint8Array {
  const body = data ?? Float32Array.of(1, 2, 3, 4, 5, 6);
  const lengthSize = major === 1 ? 2 : 4;
  const dict = `{'descr': '${descr}', 'fortran_order': ${order}, 'shape': ${shape}, }`;
  const header = `${dict.padEnd(Math.ceil((9 + lengthSize + dict.length) / 64) * 64 - 9 - lengthSize)}\n`;
  const bytes = new Uint8Array(8 + lengthSize + header.length + body.byteLength);
  bytes.set([0x93, ...new TextEncoder().encode("NUMPY"), major, 0]);
  new DataView(bytes.buffer).setUint16(8, header.length, true);
  bytes.set(new TextEncoder().encode(header), 8 + lengthSize);
  bytes.set(new Uint8Array(body.buffer, body.byteOffset, body.byteLength), 8 + lengthSize + header.length);
  return bytes;
}

describe("a .npy file", () => {
  it.each([1, 2, 3])("of format version %i is read", (major) => {
    const { rows, vocab, dtype, logits } = parseNpy(npy({ major }), "a.npy");
    expect({ rows, vocab, dtype, logits: [...logits] }).toEqual({
      rows: 2,
      vocab: 3,
      dtype: "f32",
      logits: [1, 2, 3, 4, 5, 6],
    });
  });

  it("of float16 gives the bits", () => {
    const data = Uint16Array.of(0x3c00, 0xbc00);
    const { dtype, logits } = parseNpy(npy({ descr: "<f2", shape: "(1, 2)", data }), "a.npy");
    expect(dtype).toBe("f16");
    expect(logits).toEqual(data);
  });

  it("of uint16 holds what the caller says", () => {
    const file = npy({ descr: "<u2", shape: "(1, 2)", data: Uint16Array.of(0x3f80, 0) });
    expect(parseNpy(file, "a.npy", "bf16").dtype).toBe("bf16");
    expect(parseNpy(file, "a.npy", "f16").dtype).toBe("f16");
    expect(() => parseNpy(file, "a.npy")).toThrow(/uint16.*--dtype bf16 or --dtype f16/);
  });

  it("is read at any alignment of its bytes", () => {
    const file = npy({});
    const shifted = new Uint8Array(file.length + 1);
    shifted.set(file, 1);
    expect([...parseNpy(shifted.subarray(1), "a.npy").logits]).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it("is read from a Buffer of Node, whose slice is a view", () => {
    expect([...parseNpy(Buffer.from(npy({})), "a.npy").logits]).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it("of the sample holds real logits", () => {
    const file = readFileSync(new URL("../data/tiny-code-lm.npy", import.meta.url));
    const { rows, vocab, dtype, logits } = parseNpy(file, "tiny-code-lm.npy");
    expect({ rows, vocab, dtype, length: logits.length }).toEqual({
      rows: 8,
      vocab: 50257,
      dtype: "f16",
      length: 8 * 50257,
    });
    // What a program model wrote: nearly all of the probability lies on a few tokens, in every row.
    const { probs } = softmaxTopKReference(logits, { rows, vocab, k: 50, dtype });
    for (let r = 0; r < rows; r++) {
      const mass = probs.subarray(r * 50, (r + 1) * 50).reduce((a, b) => a + b, 0);
      expect(mass).toBeGreaterThan(0.75);
    }
    expect(file.length).toBeLessThan(1e6);
  });
});

describe("a file that is not one is refused by name", () => {
  it.each<[string, Uint8Array, RegExp]>([
    ["empty", new Uint8Array(0), /a\.npy: not a \.npy file/],
    ["something else", new TextEncoder().encode("PK\x03\x04 a zip archive of arrays"), /not a \.npy file/],
    ["a later format", npy({ major: 9 }), /version 9/],
    ["cut in its header", npy({}).subarray(0, 40), /ends within its header/],
    ["cut before its header", npy({ major: 2 }).subarray(0, 11), /ends within its header/],
    ["cut in its data", npy({}).subarray(0, -1), /expected 24 bytes of data.*but it has 23/],
    ["too long", npy({ shape: "(1, 3)" }), /expected 12 bytes of data.*but it has 24/],
    ["stored by columns", npy({ order: "True" }), /column by column.*ascontiguousarray/],
    ["of doubles", npy({ descr: "<f8" }), /received <f8.*astype/],
    ["big-endian", npy({ descr: ">f4" }), /received >f4/],
    ["of one dimension", npy({ shape: "(6,)" }), /shape \[rows, vocab\] but received \(6,\)/],
    ["of three dimensions", npy({ shape: "(1, 2, 3)" }), /received \(1, 2, 3\)/],
    ["without rows", npy({ shape: "(0, 3)", data: new Float32Array(0) }), /received \(0, 3\)/],
    ["of records", npy({ descr: "x', 'y" }).map((byte) => (byte === 0x64 ? 0x65 : byte)), /no descr/],
  ])("%s", (_, bytes, message) => {
    expect(() => parseNpy(bytes, "a.npy")).toThrow(message);
    expect(() => parseNpy(bytes, "a.npy")).toThrow(UsageError);
  });
});
