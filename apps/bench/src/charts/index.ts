/**
 * Result files as charts, each with the table of its figures: on the page and in the report. What is drawn depends on the
 * files and the width alone. No Node here: the caller gives the document to draw in.
 */

import type { NamedResult } from "../device-labels.js";
import type { Chart } from "./chart.js";
import { growthChart } from "./curves.js";
import { bandwidthChart, hostileChart, memoryChart, peersChart, placed, timesFloorChart } from "./scenarios.js";

export type { Chart } from "./chart.js";

/** The charts that the files have figures for. */
export function chartsOf(results: readonly NamedResult[]): Chart[] {
  const measured = placed(results);
  const plain = measured.filter(({ random }) => random === undefined); // the others have a chart of their own
  return [
    timesFloorChart(plain),
    bandwidthChart(plain),
    memoryChart(plain),
    hostileChart(measured),
    peersChart(results),
    growthChart("vocab", results),
    growthChart("rows", results),
    growthChart("k", results),
  ].filter(({ table }) => table.rows.length > 0);
}
