/** Bars in groups. No Node here. */
import * as Plot from "@observablehq/plot";
import { type Chart, EMPHASIS, FONT, QUIET, STYLE, svgOf, tipOf } from "./chart.js";

export interface Bar {
  name: string;
  value: number;
  /** Its figures, at its end; where bars have others behind them, at the right edge. */
  text: string;
  /** What it is compared with, in the order of `BarAxis.layers`, without the first: broader and paler bars behind it. */
  behind?: (number | undefined)[];
  /** The fused kernel: it stands out. */
  isOurs: boolean;
  /** What a pointer shows. */
  hover: string;
}

export interface BarGroup {
  title: string;
  bars: Bar[];
}

interface BarAxis {
  label: string;
  type: "linear" | "log";
  /** A tick in words. */
  format(value: number): string;
  /** A line to hold the bars against, and what it is. */
  reference?: { value: number; name: string };
  /** Where bars begin. */
  origin: number;
  /** What bars with others behind them are, front to back. */
  layers?: readonly string[];
}

const ROW = 20;
const TOP = 40;
const KEY = 20;
const BOTTOM = 22;
/** Width of a letter of the names, about. */
const LETTER = FONT * 0.62;
/** Room for the figures behind the longest bar. */
const FIGURES = 128;

/** How much of a row's height a layer leaves free on each side, and how pale it is, front to back. */
const INSETS = [4.5, 2, 0];
const PALENESS = [1, 0.75, 0.4];

/** Bars in groups. The title of a group stands above its bars; so does the name of a bar where there is no room beside it. */
export function barsOf(groups: readonly BarGroup[], axis: BarAxis): Chart["draw"] {
  return ({ document, width, hover }) => {
    const isNarrow = width < 480;
    const longest = Math.max(...groups.flatMap(({ bars }) => bars.map(({ name }) => name.length)));
    const isStacked = 16 + longest * LETTER > 0.36 * width;
    const lines: { key: string; title?: string; name?: string; bar?: Bar }[] = groups.flatMap(({ title, bars }, g) => [
      ...(isNarrow ? title.split(" · ") : [title]).map((title, t) => ({ key: `${g} title ${t}`, title })),
      ...bars.flatMap((bar, b) => [
        ...(isStacked ? [{ key: `${g} ${b} name`, name: bar.name }] : []),
        { key: `${g} ${b}`, bar },
      ]),
    ]);
    const bars = lines.filter(({ bar }) => bar !== undefined).map(({ key, bar }) => ({ key, ...bar! }));
    const layers = (axis.layers ?? [""]).map((_, i) =>
      bars.flatMap((bar) => {
        const value = i === 0 ? bar.value : bar.behind?.[i - 1];
        return value === undefined ? [] : [{ ...bar, value }];
      }),
    );
    const isMixed = bars.some(({ isOurs }) => isOurs) && bars.some(({ isOurs }) => !isOurs);
    const reference = axis.reference === undefined ? [] : [axis.reference];
    const least = axis.type === "log" ? 10 * axis.origin : 1;
    const values = layers.flat().map(({ value }) => value);
    const most = Math.max(least, ...reference.map(({ value }) => value), ...values);
    const marginLeft = isStacked ? 16 : 16 + longest * LETTER;
    const top = axis.layers === undefined ? TOP : TOP + KEY;
    const decades = Array.from({ length: 12 }, (_, i) => axis.origin * 10 ** i).filter((value) => value <= most);
    const few = isNarrow ? decades.filter((_, i) => i % Math.ceil(decades.length / 4) === 0) : decades;
    const ticks = axis.type === "log" ? few : Math.max(2, Math.floor(width / 160));
    const label = (kind: "title" | "name", options: Plot.TextOptions) =>
      Plot.text(
        lines.filter((line) => line[kind] !== undefined),
        {
          y: "key",
          text: kind,
          frameAnchor: "left",
          textAnchor: "start",
          dx: 4 - marginLeft,
          dy: 3,
          fill: "currentColor",
          stroke: "var(--plot-background)",
          strokeWidth: 5,
          ...options,
        },
      );
    return svgOf(
      Plot.plot({
        document,
        width,
        height: top + lines.length * ROW + BOTTOM,
        marginTop: top,
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
          labelOffset: TOP - 3,
          ticks,
          tickFormat: axis.format,
        },
        y: { domain: lines.map(({ key }) => key), axis: null, padding: 0.22 },
        marks: [
          Plot.gridX({ stroke: "currentColor", strokeOpacity: 0.1, ticks }),
          ...layers
            .map((layer, i) =>
              Plot.barX(layer, {
                y: "key",
                x1: axis.origin,
                x2: (d: Bar) => Math.max(d.value, axis.origin),
                fill: (d: Bar) => (i === 0 && d.isOurs ? EMPHASIS : QUIET),
                ...(axis.layers !== undefined && {
                  fillOpacity: PALENESS[i]!,
                  insetTop: INSETS[i]!,
                  insetBottom: INSETS[i]!,
                }),
              }),
            )
            .reverse(),
          Plot.ruleX(reference, { x: "value", stroke: "currentColor", strokeDasharray: "3,3", strokeOpacity: 0.7 }),
          Plot.text(reference, {
            x: "value",
            frameAnchor: "bottom",
            dy: 14,
            text: "name",
            textAnchor: axis.type === "log" || (axis.reference?.value ?? 0) < most / 2 ? "start" : "middle",
          }),
          label("title", { fontWeight: 600 }),
          label("name", {}),
          ...(isStacked ? [] : [true, false]).map((isOurs) =>
            Plot.text(
              bars.filter((bar) => bar.isOurs === isOurs),
              {
                y: "key",
                text: "name",
                frameAnchor: "left",
                textAnchor: "end",
                dx: -6,
                fill: "currentColor",
                fontWeight: isOurs && isMixed ? 600 : 400,
              },
            ),
          ),
          Plot.text(bars, {
            y: "key",
            ...(axis.layers === undefined
              ? { x: (d: Bar) => Math.max(d.value, axis.origin), dx: 5 }
              : { frameAnchor: "right", dx: 8 }),
            text: "text",
            textAnchor: "start",
            fill: "currentColor",
            stroke: "var(--plot-background)",
            strokeWidth: 4,
          }),
          ...keyOf(axis.layers ?? [], top, marginLeft),
          ...(hover ? [tipOf(bars, Plot.pointerY({ x: "value", y: "key" }))] : []),
        ],
      }),
    );
  };
}

/** What each layer is, above the axis: a sample as high as its bars, and its name. */
function keyOf(layers: readonly string[], top: number, marginLeft: number): Plot.Markish[] {
  let x = 4 - marginLeft;
  const marks: Plot.Markish[] = layers.flatMap((name, i) => {
    const at = { frameAnchor: "top-left", dy: 10 - top } as const;
    const dx = x;
    x += 34 + name.length * LETTER;
    const half = (ROW * 0.78) / 2 - INSETS[i]!;
    return [
      Plot.dot([name], {
        ...at,
        dx: dx + 8,
        symbol: { draw: (context: CanvasPath) => context.rect(-8, -half, 16, 2 * half) },
        r: 8,
        fill: i === 0 ? EMPHASIS : QUIET,
        fillOpacity: PALENESS[i]!,
      }),
      Plot.text([name], { ...at, dx: dx + 22, lineAnchor: "middle", textAnchor: "start", fill: "currentColor" }),
    ];
  });
  const head = { frameAnchor: "top-right", dx: 8, dy: -36, textAnchor: "start", fill: "currentColor" } as const;
  return [...marks, Plot.text(layers.slice(0, 1), { ...head, fontWeight: 600 })]; // of the figures at the right edge
}
