/** An oracle that shares nothing with the code under test: softmax of float32 logits in 256-bit fixed-point integers. */

const BITS = 256n;
const ONE = 1n << BITS;

/** A finite number as a fraction of 2^BITS, exact: every float64 is an integer multiple of 2^-1074, these of 2^-200. */
export function toFixed(value: number): bigint {
  let shift = 0n;
  while (!Number.isInteger(value)) {
    value *= 2;
    shift++;
  }
  return (BigInt(value) << BITS) >> shift;
}

/** e^x for x <= 0: the Taylor series of x / 2^16, squared 16 times. */
function exp(x: bigint): bigint {
  const small = x >> 16n;
  let sum = 0n;
  let term = ONE;
  for (let n = 1n; term !== 0n && n < 60n; n++) {
    sum += term;
    term = (term * small) / (ONE * n);
  }
  for (let i = 0; i < 16; i++) sum = (sum * sum) >> BITS;
  return sum;
}

/** The softmax of finite logits at a temperature, each probability rounded once to float64. */
export function exactSoftmax(logits: readonly number[], temperature: number): number[] {
  const fixed = logits.map(toFixed);
  const max = fixed.reduce((a, b) => (b > a ? b : a));
  const divisor = toFixed(temperature);
  const weights = fixed.map((x) => exp(((x - max) << BITS) / divisor));
  const sum = weights.reduce((a, b) => a + b);
  return weights.map((weight) => Number((weight << 200n) / sum) / 2 ** 200);
}

/** The order of the contract over finite logits, by selection: the greatest left, the first of those. */
export function exactOrder(logits: readonly number[]): number[] {
  const left = new Map(logits.map((x, i) => [i, toFixed(x)]));
  const order: number[] = [];
  while (left.size > 0) {
    let best: number | undefined;
    for (const [i, x] of left) if (best === undefined || x > left.get(best)!) best = i;
    order.push(best!);
    left.delete(best!);
  }
  return order;
}
