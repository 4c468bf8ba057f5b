/**
 * The ONNX model Softmax, then TopK over its probabilities, as bytes: onnxruntime loads nothing else. No Node here.
 *
 * Source: the protobuf encoding (varints, and fields of a known length), and onnx.proto for the field numbers.
 */
import type { Shape } from "../shapes.js";

const OPSET = 13;
const FLOAT = 1;
const INT64 = 7;
const ATTRIBUTE_INT = 2;

/** Input `logits`, float32 `[rows, vocab]`; outputs `probs`, float32, and `indices`, int64, `[rows, k]`. */
export function softmaxTopKModel({ rows, vocab, k }: Shape): Uint8Array {
  const softmax = [
    text(1, "logits"),
    text(2, "softmax"),
    text(4, "Softmax"),
    field(5, [text(1, "axis"), integer(3, -1), integer(20, ATTRIBUTE_INT)]),
  ];
  const topK = [text(1, "softmax"), text(1, "k"), text(2, "probs"), text(2, "indices"), text(4, "TopK")];
  const graph = [
    field(1, softmax),
    field(1, topK),
    text(2, "softmax_topk"),
    field(5, [integer(1, 1), integer(2, INT64), integer(7, k), text(8, "k")]),
    field(11, tensor("logits", FLOAT, [rows, vocab])),
    field(12, tensor("probs", FLOAT, [rows, k])),
    field(12, tensor("indices", INT64, [rows, k])),
  ];
  return Uint8Array.from([integer(1, 8), field(7, graph), field(8, [text(1, ""), integer(2, OPSET)])].flat());
}

type Bytes = number[];

function tensor(name: string, type: number, sizes: number[]): Bytes[] {
  const shape = sizes.map((size) => field(1, [integer(1, size)]));
  return [text(1, name), field(2, [field(1, [integer(1, type), field(2, shape)])])];
}

function integer(number: number, value: number): Bytes {
  return [...varint(number << 3), ...varint(value)];
}

function text(number: number, value: string): Bytes {
  return field(number, [[...new TextEncoder().encode(value)]]);
}

function field(number: number, parts: Bytes[]): Bytes {
  const bytes = parts.flat();
  return [...varint((number << 3) | 2), ...varint(bytes.length), ...bytes];
}

/** Negative numbers as 64 bits in two's complement. */
function varint(value: number): Bytes {
  const bytes: Bytes = [];
  for (let rest = BigInt.asUintN(64, BigInt(value)); ; ) {
    const low = Number(rest & 127n);
    rest >>= 7n;
    if (rest === 0n) return [...bytes, low];
    bytes.push(low | 128);
  }
}
