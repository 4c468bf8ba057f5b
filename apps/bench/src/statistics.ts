/** Order statistics of a handful of timings, and the digits of them that are kept. */

/** The value below which the fraction `q` of the samples lies, by linear interpolation between neighbours. */
export function quantile(samples: readonly number[], q: number): number {
  const sorted = [...samples].sort((a, b) => a - b);
  const at = q * (sorted.length - 1);
  const low = sorted[Math.floor(at)]!;
  return low + (at % 1) * (sorted[Math.ceil(at)]! - low);
}

/** To five significant digits, as a result file holds it. */
export function rounded(value: number): number {
  return Number(value.toPrecision(5));
}
