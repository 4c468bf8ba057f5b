/** How the time of a call grows along an axis: the points of each curve, and the exponent fitted to them. No Node here. */

import { deviceLabels, type NamedResult } from "./device-labels.js";
import type { MeasurementRecord } from "./schema.js";
import type { Shape } from "./shapes.js";
import { figures, type Table, words } from "./table.js";

export type GrowthVariant = "fused" | "unfused" | "read-floor";

const variants: readonly GrowthVariant[] = ["fused", "unfused", "read-floor"];

export interface Curve {
  /** The device, and the file where that tells two apart. */
  device: string;
  variant: GrowthVariant;
  /** In the order of the axis. */
  points: { x: number; measurement: MeasurementRecord }[];
  /** b of the power law `time = a * x^b` that fits best; none for a single point. */
  exponent: number | undefined;
}

/** The curves of the scaling group of an axis, by device, then variant. */
export function curvesOver(axis: keyof Shape, results: readonly NamedResult[]): Curve[] {
  const labels = deviceLabels(results);
  const curves: Curve[] = [];
  for (const { file } of results) {
    const measurements = file.measurements.filter(({ group }) => group === `scaling-${axis}`);
    for (const [backend, device] of labels.get(file)!) {
      for (const variant of variants) {
        for (const data of new Set(measurements.map((m) => `${m.dtype} ${m.data}`))) {
          const points = measurements
            .filter(
              (m) => m.median > 0 && m.backend === backend && m.variant === variant && `${m.dtype} ${m.data}` === data,
            )
            .map((measurement) => ({ x: measurement[axis], measurement }))
            .sort((a, b) => a.x - b.x);
          const suffix = data === "f32 random" ? "" : `, ${data}`;
          if (points.length > 0)
            curves.push({
              device: `${device}${suffix}`,
              variant,
              points,
              exponent: fitExponent(points.map(({ x, measurement }) => [x, measurement.median])),
            });
        }
      }
    }
  }
  return tellApart(curves, axis);
}

/** Names the sizes beside the axis where they are not the same on every device: a GPU takes more rows than a CPU. */
function tellApart(curves: Curve[], axis: keyof Shape): Curve[] {
  const sizes = { rows: "rows", vocab: "vocabulary", k: "K" } as const;
  const names = (Object.keys(sizes) as (keyof Shape)[]).filter((name) => {
    const values = new Set(curves.map(({ points }) => points[0]!.measurement[name]));
    return name !== axis && values.size > 1;
  });
  return curves.map((curve) => {
    const told = names.map((name) => `, ${sizes[name]} ${curve.points[0]!.measurement[name].toLocaleString("en-US")}`);
    return { ...curve, device: `${curve.device}${told.join("")}` };
  });
}

/** b of the power law `y = a * x^b`, by least squares on the logarithms; none where all x are the same. */
export function fitExponent(points: readonly (readonly [x: number, y: number])[]): number | undefined {
  const logs = points.map(([x, y]) => [Math.log(x), Math.log(y)] as const);
  const mean = (i: 0 | 1) => logs.reduce((sum, point) => sum + point[i], 0) / logs.length;
  const [meanX, meanY] = [mean(0), mean(1)];
  const spread = logs.reduce((sum, [x]) => sum + (x - meanX) ** 2, 0);
  if (spread === 0 || logs.length < 2) return undefined;
  return logs.reduce((sum, [x, y]) => sum + (x - meanX) * (y - meanY), 0) / spread;
}

/** The exponent of every curve. */
export function growthTable(results: readonly NamedResult[]): Table {
  const axes = ["vocab", "rows", "k"] as const;
  return {
    columns: [words("device"), words("variant"), words("over"), figures("from"), figures("to"), figures("exponent")],
    rows: axes.flatMap((axis) =>
      curvesOver(axis, results).map(({ device, variant, points, exponent }) => [
        device,
        variant,
        axis === "k" ? "K" : axis,
        points[0]!.x.toLocaleString("en-US"),
        points.at(-1)!.x.toLocaleString("en-US"),
        exponent === undefined ? "" : exponent.toFixed(2),
      ]),
    ),
  };
}
