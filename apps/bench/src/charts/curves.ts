/** The charts of growth: time against vocabulary, rows and K. No Node here. */
import * as Plot from "@observablehq/plot";
import type { NamedResult } from "../device-labels.js";
import { formatRatio, formatTime } from "../format.js";
import { type Curve, curvesOver, type GrowthVariant } from "../growth.js";
import { scenarioTitle } from "../result-tables.js";
import { figures, words } from "../table.js";
import { type Chart, COLORS, compact, STYLE, SYMBOLS, svgOf, tipOf } from "./chart.js";
import { legendMarks } from "./legend.js";

const axisNames = { vocab: "vocabulary", rows: "rows", k: "K" } as const;
const dashes: Readonly<Record<GrowthVariant, { dash: string; key: string }>> = {
  fused: { dash: "none", key: "—— fused" },
  unfused: { dash: "6,4", key: "– – unfused" },
  "read-floor": { dash: "1.5,3.5", key: "····· read floor" },
};

export function growthChart(axis: "vocab" | "rows" | "k", results: readonly NamedResult[]): Chart {
  const curves = curvesOver(axis, results);
  const scenario = curves[0]?.points[0]?.measurement;
  const exponents = curves.flatMap(({ device, variant, exponent }) =>
    variant === "fused" && exponent !== undefined ? [`${device}: as ${axisNames[axis]}^${exponent.toFixed(2)}`] : [],
  );
  return {
    name: `growth-${axis}`,
    question: `How does the time grow with ${axis === "vocab" ? "the " : ""}${axisNames[axis]}?`,
    answer: exponents.join("; ") || "One point tells no growth",
    title: `Time against ${axisNames[axis]}`,
    note: "Both axes are logarithmic. The exponent b in the table is that of time = a times x to the b, fitted to the points.",
    table: {
      columns: [
        words("device"),
        words("variant"),
        figures(axis === "k" ? "K" : axis),
        words("shape"),
        figures("time a call"),
        figures("x floor"),
        figures("exponent of the curve"),
      ],
      rows: curves.flatMap(({ device, variant, points, exponent }) =>
        points.map(({ x, measurement: m }) => [
          device,
          variant,
          x.toLocaleString("en-US"),
          scenarioTitle(m),
          formatTime(m.median),
          m.floorRatio === undefined ? "" : formatRatio(m.floorRatio),
          exponent === undefined ? "" : exponent.toFixed(2),
        ]),
      ),
    },
    draw: ({ document, width, hover }) =>
      drawCurves(curves, `${axisNames[axis]}${scenario === undefined ? "" : othersOf(axis, curves)}`, {
        document,
        width,
        hover,
      }),
  };
}

/** The sizes that do not change along the axis: ", with K 50". */
function othersOf(axis: "vocab" | "rows" | "k", curves: readonly Curve[]): string {
  const parts = (["rows", "vocab", "k"] as const).flatMap((name) => {
    if (name === axis) return [];
    const values = new Set(curves.flatMap(({ points }) => points.map(({ measurement }) => measurement[name])));
    return values.size === 1 ? [`${name === "k" ? "K" : name} ${[...values][0]!.toLocaleString("en-US")}`] : [];
  });
  return parts.length === 0 ? "" : ` (${parts.join(", ")})`;
}

function drawCurves(
  curves: readonly Curve[],
  label: string,
  { document, width, hover }: Parameters<Chart["draw"]>[0],
): SVGSVGElement {
  const devices = [...new Set(curves.map(({ device }) => device))];
  const points = curves.flatMap(({ device, variant, points, exponent }) =>
    points.map(({ x, measurement }) => ({
      x,
      y: measurement.median,
      device,
      variant,
      hover: `${device}, ${variant}\n${scenarioTitle(measurement)}\n${formatTime(measurement.median)}${measurement.floorRatio === undefined ? "" : `, ${formatRatio(measurement.floorRatio)} x floor`}${exponent === undefined ? "" : `\nfitted: time ~ x^${exponent.toFixed(2)}`}`,
    })),
  );
  const of = (variant: GrowthVariant) => points.filter((point) => point.variant === variant);
  const xs = [...new Set(points.map(({ x }) => x))].sort((a, b) => a - b);
  const times = points.map(({ y }) => y);
  const [least, most] = [Math.min(...times) / 1.5, Math.max(...times) * 1.5];
  const decades = Array.from({ length: 14 }, (_, i) => 10 ** (i - 3)).filter((time) => time >= least && time <= most);
  const isNarrow = width < 480;
  const legend = legendMarks(
    devices,
    Object.values(dashes).map(({ key }) => key),
    width,
  );
  return svgOf(
    Plot.plot({
      document,
      width,
      height: 290 + legend.height,
      marginTop: legend.height,
      marginLeft: 56,
      marginRight: 18,
      marginBottom: 46,
      style: STYLE,
      x: { type: "log", axis: null },
      y: { type: "log", axis: null, domain: [least, most] },
      color: { domain: devices, range: COLORS },
      symbol: { domain: devices, range: SYMBOLS },
      marks: [
        Plot.gridY(decades, { stroke: "currentColor", strokeOpacity: 0.1 }),
        // Labels of its own: on a log axis Plot leaves out those that are no powers of its base.
        Plot.axisY(decades, { text: formatTime, label: null }),
        Plot.axisX(isNarrow ? xs.filter((_, i) => i % 2 === 0) : xs, {
          text: compact,
          label,
          labelAnchor: "center",
          labelArrow: "none",
        }),
        Plot.text(["time a call"], {
          frameAnchor: "top-left",
          dx: -52,
          dy: -18,
          textAnchor: "start",
          fill: "currentColor",
        }),
        ...(Object.keys(dashes) as GrowthVariant[]).map((variant) =>
          Plot.line(of(variant), {
            x: "x",
            y: "y",
            z: "device",
            stroke: "device",
            strokeWidth: variant === "fused" ? 2.2 : 1.5,
            strokeDasharray: dashes[variant].dash,
          }),
        ),
        Plot.dot(of("fused"), { x: "x", y: "y", fill: "device", symbol: "device", r: 4 }),
        Plot.dot(of("unfused"), { x: "x", y: "y", stroke: "device", symbol: "device", r: 3.5, fill: "none" }),
        ...legend.marks,
        ...(hover ? [tipOf(points, Plot.pointer({ x: "x", y: "y", maxRadius: Number.POSITIVE_INFINITY }))] : []),
      ],
    }),
  );
}
