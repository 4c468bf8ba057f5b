/** Figures as people read them. */

/** Microseconds with three significant digits, in the unit that fits. */
export function formatTime(microseconds: number): string {
  if (microseconds < 1000) return `${digits(microseconds)} us`;
  if (microseconds < 1e6) return `${digits(microseconds / 1e3)} ms`;
  return `${digits(microseconds / 1e6)} s`;
}

/** Bytes with three significant digits, in decimal units. */
export function formatBytes(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  let value = bytes;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${digits(value)} ${units[unit]}`;
}

/** A ratio with three significant digits. */
export function formatRatio(ratio: number): string {
  if (ratio >= 100) return Math.round(ratio).toString();
  if (ratio >= 0.995) return ratio.toFixed(ratio >= 10 ? 1 : 2);
  return ratio.toPrecision(2);
}

/** A relative error, such as 3.1e-7; 0 as it is. */
export function formatError(error: number): string {
  return error === 0 ? "0" : error.toExponential(1);
}

/** A count with thousands separated. */
export function formatCount(count: number): string {
  return count.toLocaleString("en-US");
}

function digits(value: number): string {
  if (value >= 100 || Number.isInteger(value)) return Math.round(value).toString();
  return value.toFixed(value >= 10 ? 1 : 2);
}
