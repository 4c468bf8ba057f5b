/**
 * The catalogue: every case that every backend passes, as data.
 *
 * A family is the product of its axes. `quick` is what a software adapter can do in seconds; `full` adds every size.
 */
import type { DType } from "@fused-topk/core";
import { type DistributionName, distributions } from "./distributions.js";

/** How the logits are held. */
export type ArrayKind = "f32" | "f16 bits" | "bf16 bits" | "Float16Array";

/** Cases that one promise of the contract is about: the product of their axes. */
export interface Family {
  /** What the contract promises here; a sentence. */
  promise: string;
  distributions: readonly DistributionName[];
  /** [rows, vocab] */
  shapes: readonly (readonly [number, number])[];
  /** Those above a shape's vocab are left out; Infinity stands for vocab itself. */
  k: readonly number[];
  arrays?: readonly ArrayKind[];
  offsets?: readonly number[];
  /** rowStride - vocab. */
  paddings?: readonly number[];
  temperatures?: readonly number[];
}

export const dtypeOf: Readonly<Record<ArrayKind, DType>> = {
  f32: "f32",
  "f16 bits": "f16",
  "bf16 bits": "bf16",
  Float16Array: "f16",
};

const everyDistribution = Object.keys(distributions) as DistributionName[];
const everyArray: readonly ArrayKind[] = ["f32", "f16 bits", "bf16 bits", "Float16Array"];
const everyTemperature = [0.01, 0.7, 1, 3, 1.2e-38, 1e38];
const everyVocab = [1, 2, 31, 32, 33, 255, 1000, 4097, 32000, 50257, 128256, 151936, 262144, 1000003];
const everyK = [1, 2, 7, 50, 256, 1000, 1024, 4096, Number.POSITIVE_INFINITY];
const V = Number.POSITIVE_INFINITY;

const quick: readonly Family[] = [
  {
    promise: "the order is exact on every distribution",
    distributions: everyDistribution,
    shapes: [[2, 1000]],
    k: [1, 7, 50, 256],
  },
  {
    promise: "the order is exact on every distribution of 16-bit logits",
    distributions: everyDistribution,
    shapes: [[2, 333]],
    k: [50],
    arrays: ["f16 bits", "bf16 bits"],
  },
  {
    promise: "the order is exact when a row has more tiles than one",
    distributions: everyDistribution,
    shapes: [[1, 9001]],
    k: [100],
  },
  {
    promise: "a mask of the lowest finite number comes before -inf, and after all else",
    distributions: ["lowestFinite"],
    shapes: [[1, 4097]],
    k: [50, 100, 256, 1000],
    arrays: ["f32", "bf16 bits"],
  },
  {
    promise: "every vocab is right",
    distributions: ["random", "fewValues"],
    shapes: [1, 2, 31, 32, 33, 255, 4097].map((vocab) => [3, vocab] as const),
    k: [1, 2, 7],
  },
  {
    promise: "every k is right, up to all of vocab",
    distributions: ["random", "ties"],
    shapes: [
      [1, 33],
      [1, 1000],
      [1, 5000],
    ],
    k: everyK,
  },
  {
    promise: "every number of rows is right, none included",
    distributions: ["random", "nan"],
    shapes: [
      [0, 9],
      [1, 9],
      [3, 257],
      [64, 65],
    ],
    k: [3],
  },
  {
    promise: "more rows than one dispatch has workgroups are right",
    distributions: ["nan"],
    shapes: [[65537, 4]],
    k: [2],
  },
  {
    promise: "every dtype is right, as typed array and as raw bits",
    distributions: ["random", "nanAndInfinity"],
    shapes: [[3, 1023]],
    k: [7, 64],
    arrays: everyArray,
  },
  {
    promise: "rows begin where offset and rowStride say, and nothing beside them is read",
    distributions: ["random"],
    shapes: [
      [4, 31],
      [3, 1001],
    ],
    k: [5],
    arrays: ["f32", "f16 bits", "bf16 bits"],
    offsets: [0, 1, 7],
    paddings: [0, 1, 5],
  },
  {
    promise: "every temperature divides the logits",
    distributions: ["random", "staircase", "huge", "mostlyMasked"],
    shapes: [[2, 500]],
    k: [20],
    temperatures: everyTemperature,
  },
  {
    promise: "the temperature holds where the maximum rises along the row",
    distributions: ["ascending", "staircase"],
    shapes: [[1, 9001]],
    k: [10],
    temperatures: [0.3, 3],
  },
  {
    promise: "the vocabularies of real models are right",
    distributions: ["random", "dust", "ascending"],
    shapes: [[2, 50257]],
    k: [50, 256],
  },
  {
    promise: "a row of 128256 is right, and its sum is no long chain",
    distributions: ["random", "dust"],
    shapes: [[1, 128256]],
    k: [50],
    arrays: ["f32", "bf16 bits"],
  },
];

const full: readonly Family[] = [
  ...quick,
  {
    promise: "the order is exact on every distribution at every size",
    distributions: everyDistribution,
    shapes: [
      [3, 33],
      [3, 4097],
      [2, 50257],
      [1, 128256],
    ],
    k: everyK,
    arrays: ["f32", "f16 bits", "bf16 bits"],
  },
  {
    promise: "every vocab is right with every k",
    distributions: ["random", "ties"],
    shapes: everyVocab.map((vocab) => [1, vocab] as const),
    k: everyK,
    arrays: ["f32", "f16 bits", "bf16 bits"],
  },
  {
    promise: "the longest rows are right on hostile data",
    distributions: ["dust", "ascending", "equal", "fewFinite", "residue1024", "bitPatterns", "anyBits"],
    shapes: [[1, 1000003]],
    k: [1, 256, 4096],
  },
  {
    promise: "every number of rows is right with every kind of logits",
    distributions: ["random", "allMasked", "nanAndInfinity", "ties"],
    shapes: [
      [64, 32000],
      [64, 50257],
      [1000, 1000],
      [65537, 4],
      [65537, 64],
      [65537, 128],
    ],
    k: [1, 8, 64],
    arrays: ["f32", "f16 bits", "bf16 bits"],
  },
  {
    promise: "every alignment is right at every size",
    distributions: ["random", "ties"],
    shapes: [
      [5, 33],
      [5, 4097],
      [3, 50257],
    ],
    k: [1, 50, 1024],
    arrays: ["f32", "f16 bits", "bf16 bits"],
    offsets: [0, 1, 2, 3, 4, 5, 7, 8],
    paddings: [0, 1, 3, 8],
  },
  {
    promise: "every temperature divides the logits of every distribution",
    distributions: everyDistribution,
    shapes: [
      [2, 1000],
      [1, 50257],
    ],
    k: [1, 256],
    arrays: ["f32", "f16 bits", "bf16 bits"],
    temperatures: everyTemperature,
  },
];

/** The families of each set. */
export const catalogue: Readonly<Record<"quick" | "full", readonly Family[]>> = { quick, full };

/** One input, and the values of k that it is asked for. */
export interface Input {
  distribution: DistributionName;
  rows: number;
  vocab: number;
  array: ArrayKind;
  offset: number;
  rowStride: number;
  temperature: number;
  /** Ascending, at most vocab. */
  ks: number[];
  /** Of the logits. Default: one that goes with the size. */
  seed?: number;
}

/** The inputs of a family, those left out that this engine has no array type for. */
export function* inputsOf(family: Family): Generator<Input> {
  const { arrays = ["f32"], offsets = [0], paddings = [0], temperatures = [1] } = family;
  for (const array of arrays) {
    if (array === "Float16Array" && typeof Float16Array === "undefined") continue;
    for (const [rows, vocab] of family.shapes) {
      const ks = [...new Set(family.k.map((k) => (k === V ? vocab : k)))].filter((k) => k <= vocab);
      ks.sort((a, b) => a - b);
      if (ks.length === 0) continue;
      for (const distribution of family.distributions) {
        for (const offset of offsets) {
          for (const padding of paddings) {
            for (const temperature of temperatures) {
              yield { distribution, rows, vocab, array, offset, rowStride: vocab + padding, temperature, ks };
            }
          }
        }
      }
    }
  }
}
