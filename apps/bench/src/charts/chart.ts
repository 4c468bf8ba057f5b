/** What every chart has, and how all of them look. No Node here. */
import * as Plot from "@observablehq/plot";
import type { Table } from "../table.js";

export interface Chart {
  /** Its name in links and files. */
  name: string;
  /** What it is there to answer, as a reader would ask it. */
  question: string;
  /** What its figures say to that, in a line. */
  answer: string;
  title: string;
  /** How to read it. */
  note: string;
  table: Table;
  /** @param hover shows the figures under the pointer. */
  draw(options: { document: Document; width: number; hover: boolean }): SVGSVGElement;
}

/** Mid tones that stand out on white and on near-black; shapes, dashes and words say the same. */
export const COLORS = ["#2f7fd1", "#c2571a", "#12936b", "#a855b5", "#8a7400", "#d1416f"];
export const SYMBOLS: Plot.SymbolType[] = ["circle", "square2", "triangle2", "diamond2", "star", "wye"];
export const EMPHASIS = COLORS[0]!;
export const QUIET = "#8b95a1";
export const FONT = 12;

export const STYLE = {
  fontSize: `${FONT}px`,
  fontFamily: "system-ui, sans-serif",
  color: "currentColor",
  background: "none",
  overflow: "visible",
};
const TIP = {
  fontSize: FONT,
  lineHeight: 1.3,
  fill: "var(--surface, white)",
  stroke: "currentColor",
  pathFilter: "none",
} as const;

/**
 * A chart without a legend of Plot's own is an SVG element. Plot names every mark for screen readers; here the chart as a
 * whole has a name, and its figures are in the table.
 */
export function svgOf(chart: SVGSVGElement | HTMLElement): SVGSVGElement {
  for (const mark of chart.querySelectorAll("[aria-label]")) mark.removeAttribute("aria-label");
  return chart as SVGSVGElement;
}

/** The figures under the pointer; drawn anew as it moves, so its name goes before it is drawn. */
export function tipOf(data: readonly object[], options: Plot.TipOptions): Plot.Markish {
  return Object.assign(Plot.tip(data, { ...options, title: "hover", ...TIP }), { ariaLabel: null });
}

export function percent(share: number): string {
  const value = 100 * share;
  return `${value >= 10 ? Math.round(value) : value >= 1 ? value.toFixed(1) : value.toPrecision(2)} %`;
}

/** 65536 as "64k": powers of two read best in their own unit. */
export function compact(n: number): string {
  if (n >= 2 ** 20 && n % 2 ** 20 === 0) return `${n / 2 ** 20}M`;
  if (n >= 1024 && n % 1024 === 0) return `${n / 1024}k`;
  return n.toLocaleString("en-US");
}

/** "1.05 to 13.7", or one figure where both ends read the same. */
export function rangeOf(values: readonly number[], format: (value: number) => string): string {
  const [least, most] = [format(Math.min(...values)), format(Math.max(...values))];
  return least === most ? least : `${least} to ${most}`;
}
