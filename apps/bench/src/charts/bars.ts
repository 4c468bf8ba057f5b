/** Bars in groups. No Node here. */
import * as Plot from "@observablehq/plot";
import { type Chart, clip, EMPHASIS, FONT, QUIET, STYLE, svgOf, tipOf } from "./chart.js";

export interface Bar {
  name: string;
  value: number;
  /** What stands behind the bar. */
  text: string;
  /** The fused kernel: it stands out. */
  isOurs: boolean;
  /** What a pointer shows. */
  hover: string;
}

export interface BarGroup {
  title: string;
  bars: Bar[];
}

export interface BarAxis {
  label: string;
  type: "linear" | "log";
  /** A tick in words. */
  format(value: number): string;
  /** A line to hold the bars against, and what it is. */
  reference?: { value: number; name: string };
  /** Where bars begin. */
  origin: number;
}

const ROW = 20;
const TOP = 40;
const BOTTOM = 22;
/** Width of a letter of the names, about. */
const LETTER = FONT * 0.62;
/** Room for the figures behind the longest bar. */
const FIGURES = 128;

/** Bars in groups; the title of a group stands above its bars, so that a narrow screen has room for both. */
export function barsOf(groups: readonly BarGroup[], axis: BarAxis): Chart["draw"] {
  return ({ document, width, hover }) => {
    const isNarrow = width < 480;
    const lines: { key: string; title?: string; bar?: Bar }[] = groups.flatMap(({ title, bars }, g) => [
      ...(isNarrow ? title.split(" · ") : [title]).map((title, t) => ({ key: `${g} title ${t}`, title })),
      ...bars.map((bar, b) => ({ key: `${g} ${b}`, bar })),
    ]);
    const bars = lines.filter(({ bar }) => bar !== undefined).map(({ key, bar }) => ({ key, ...bar! }));
    const reference = axis.reference === undefined ? [] : [axis.reference];
    const least = axis.type === "log" ? 10 * axis.origin : 1;
    const most = Math.max(least, ...reference.map(({ value }) => value), ...bars.map(({ value }) => value));
    const names = Math.max(...bars.map(({ name }) => name.length));
    const marginLeft = Math.min(0.36 * width, 16 + names * LETTER);
    const nameWidth = Math.floor((marginLeft - 10) / LETTER);
    const decades = Array.from({ length: 12 }, (_, i) => axis.origin * 10 ** i).filter((value) => value <= most);
    const few = isNarrow ? decades.filter((_, i) => i % Math.ceil(decades.length / 4) === 0) : decades;
    const ticks = axis.type === "log" ? few : Math.max(2, Math.floor(width / 160));
    return svgOf(
      Plot.plot({
        document,
        width,
        height: TOP + lines.length * ROW + BOTTOM,
        marginTop: TOP,
        marginBottom: BOTTOM,
        marginLeft,
        marginRight: FIGURES,
        style: STYLE,
        x: {
          type: axis.type,
          domain: [axis.origin, most],
          axis: "top",
          label: axis.label,
          labelAnchor: "left",
          ticks,
          tickFormat: axis.format,
        },
        y: { domain: lines.map(({ key }) => key), axis: null, padding: 0.22 },
        marks: [
          Plot.gridX({ stroke: "currentColor", strokeOpacity: 0.1, ticks }),
          Plot.ruleX(reference, { x: "value", stroke: "currentColor", strokeDasharray: "3,3", strokeOpacity: 0.7 }),
          Plot.barX(bars, {
            y: "key",
            x1: axis.origin,
            x2: (d: Bar) => Math.max(d.value, axis.origin),
            fill: (d: Bar) => (d.isOurs ? EMPHASIS : QUIET),
          }),
          Plot.text(reference, {
            x: "value",
            frameAnchor: "bottom",
            dy: 14,
            text: "name",
            textAnchor: axis.type === "log" ? "start" : "middle",
          }),
          Plot.text(
            lines.filter(({ title }) => title !== undefined),
            {
              y: "key",
              text: "title",
              frameAnchor: "left",
              textAnchor: "start",
              dx: 4 - marginLeft,
              dy: 3,
              fontWeight: 600,
              fill: "currentColor",
              stroke: "var(--plot-background)",
              strokeWidth: 5,
            },
          ),
          ...[true, false].map((isOurs) =>
            Plot.text(
              bars.filter((bar) => bar.isOurs === isOurs),
              {
                y: "key",
                text: (bar: Bar) => clip(bar.name, nameWidth),
                frameAnchor: "left",
                textAnchor: "end",
                dx: -6,
                fill: "currentColor",
                fontWeight: isOurs ? 600 : 400,
              },
            ),
          ),
          Plot.text(bars, {
            y: "key",
            x: (d: Bar) => Math.max(d.value, axis.origin),
            text: "text",
            textAnchor: "start",
            dx: 5,
            fill: "currentColor",
          }),
          ...(hover ? [tipOf(bars, Plot.pointerY({ x: "value", y: "key" }))] : []),
        ],
      }),
    );
  };
}
