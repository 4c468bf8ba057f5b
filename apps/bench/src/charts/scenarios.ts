/** The charts of scenarios: time, bandwidth and memory, a bar each. No Node here. */
import { bytesPerElement } from "@fused-topk/core";
import { deviceLabels, type NamedResult } from "../device-labels.js";
import { formatBytes, formatRatio, formatTime } from "../format.js";
import { groupBy, scenarioTitle } from "../result-tables.js";
import type { MeasurementRecord } from "../schema.js";
import { figures, words } from "../table.js";
import { type Bar, barsOf } from "./bars.js";
import { type Chart, percent } from "./chart.js";

export interface Placed extends MeasurementRecord {
  device: string;
  /** The best bandwidth that a read floor reached on this device in this file. */
  ceiling: number;
}

/** The measurements that are no part of a curve, with their device. */
export function placed(results: readonly NamedResult[]): Placed[] {
  const labels = deviceLabels(results);
  return results.flatMap(({ file }) => {
    const ceilings = new Map<string, number>();
    for (const { backend, variant, gigabytesPerSecond } of file.measurements) {
      if (variant === "read-floor") ceilings.set(backend, Math.max(ceilings.get(backend) ?? 0, gigabytesPerSecond));
    }
    return file.measurements
      .filter(({ group }) => !group.startsWith("scaling-"))
      .map((m) => ({
        ...m,
        device: labels.get(file)!.get(m.backend) ?? m.backend,
        ceiling: ceilings.get(m.backend) ?? 0,
      }));
  });
}

const compared = ["fused", "three-pass", "unfused"];

export function timesFloorChart(measured: readonly Placed[]): Chart {
  const groups = grouped(measured, ({ floorRatio, variant }) => floorRatio !== undefined && compared.includes(variant));
  return {
    name: "time",
    title: "Time of a call, in times the read floor",
    note: "The read floor only reads the same logits once, on the same device in the same run: nothing can be faster than 1.",
    table: {
      columns: [
        words("scenario"),
        words("device"),
        words("variant"),
        figures("time a call"),
        figures("x floor"),
        figures("x faster than unfused"),
      ],
      rows: groups
        .flat()
        .map((m) => [
          scenarioTitle(m),
          m.device,
          m.variant,
          formatTime(m.median),
          formatRatio(m.floorRatio!),
          m.unfusedRatio === undefined ? "" : formatRatio(m.unfusedRatio),
        ]),
    },
    draw: barsOf(
      groups.map((ofGroup) => ({
        title: `${scenarioTitle(ofGroup[0]!)} · ${ofGroup[0]!.device}`,
        bars: ofGroup.map((m) =>
          bar(m, m.variant, m.floorRatio!, `${formatRatio(m.floorRatio!)} x · ${formatTime(m.median)}`),
        ),
      })),
      {
        label: "times the read floor, log scale",
        type: "log",
        origin: 1,
        reference: { value: 1, name: "read floor" },
        format: String,
      },
    ),
  };
}

export function bandwidthChart(measured: readonly Placed[]): Chart {
  const fused = measured.filter(({ variant, ceiling }) => variant === "fused" && ceiling > 0);
  const groups = [...groupBy(fused, scenarioTitle).values()];
  const share = (m: Placed) => m.gigabytesPerSecond / m.ceiling;
  return {
    name: "bandwidth",
    title: "Bandwidth of the fused kernel, as a share of the device's own ceiling",
    note: "Bytes of logits over the time of a call. The ceiling is the most that a kernel which only reads reached on that device.",
    table: {
      columns: [words("scenario"), words("device"), figures("GB/s"), figures("ceiling, GB/s"), figures("share")],
      rows: fused.map((m) => [
        scenarioTitle(m),
        m.device,
        formatRatio(m.gigabytesPerSecond),
        formatRatio(m.ceiling),
        percent(share(m)),
      ]),
    },
    draw: barsOf(
      groups.map((ofGroup) => ({
        title: scenarioTitle(ofGroup[0]!),
        bars: ofGroup.map((m) =>
          bar(m, m.device, share(m), `${percent(share(m))} · ${formatRatio(m.gigabytesPerSecond)} GB/s`),
        ),
      })),
      {
        label: "share of the ceiling",
        type: "linear",
        format: wholePercent,
        origin: 0,
        reference: { value: 1, name: "ceiling" },
      },
    ),
  };
}

export function memoryChart(measured: readonly Placed[]): Chart {
  const groups = grouped(
    measured,
    ({ bytesWritten, variant }) => bytesWritten !== undefined && compared.includes(variant),
  );
  const share = (m: Placed) => m.bytesWritten! / (m.rows * m.vocab * bytesPerElement[m.dtype]);
  return {
    name: "memory",
    title: "Memory written by a call, as a share of the logits",
    note: "Results and intermediates, counted. What a call needs beyond logits and results is in the table.",
    table: {
      columns: [
        words("scenario"),
        words("device"),
        words("variant"),
        figures("written"),
        figures("share of the logits"),
        figures("needed beside them"),
      ],
      rows: groups
        .flat()
        .map((m) => [
          scenarioTitle(m),
          m.device,
          m.variant,
          formatBytes(m.bytesWritten!),
          percent(share(m)),
          formatBytes(m.scratchBytes ?? 0),
        ]),
    },
    draw: barsOf(
      groups.map((ofGroup) => ({
        title: `${scenarioTitle(ofGroup[0]!)} · ${ofGroup[0]!.device}`,
        bars: ofGroup.map((m) => bar(m, m.variant, share(m), `${percent(share(m))} · ${formatBytes(m.bytesWritten!)}`)),
      })),
      {
        label: "share of the logits",
        type: "linear",
        format: wholePercent,
        origin: 0,
        reference: { value: 1, name: "as large as the logits" },
      },
    ),
  };
}

/** What other libraries take for the same logits, beside this project. */
export function peersChart(results: readonly NamedResult[]): Chart {
  const records = results.flatMap(({ name, file }) => (file.peers ?? []).map((m) => ({ ...m, file: name })));
  const groups = [...groupBy(records, (m) => `${scenarioTitle(m)} · ${m.file}`)];
  const origin = 10 ** Math.floor(Math.log10(Math.min(...records.map(({ median }) => median))));
  return {
    name: "peers",
    title: "Time of a call beside other libraries",
    note: "Float32 logits in an array of the program, softmax and the K best as an array of it: what a program waits for.",
    table: {
      columns: [
        words("scenario"),
        words("peer"),
        words("version"),
        figures("time a call"),
        figures("times the fastest"),
        words("file"),
      ],
      rows: groups.flatMap(([, ofGroup]) => {
        const fastest = Math.min(...ofGroup.map(({ median }) => median));
        return ofGroup.map((m) => [
          scenarioTitle(m),
          m.peer,
          m.version,
          formatTime(m.median),
          formatRatio(m.median / fastest),
          m.file,
        ]);
      }),
    },
    draw: barsOf(
      groups.map(([title, ofGroup]) => ({
        title,
        bars: ofGroup.map((m) => ({
          name: m.peer,
          value: m.median,
          text: formatTime(m.median),
          isOurs: m.peer.startsWith("fused-topk"),
          hover: `${m.peer}, ${m.version}\n${scenarioTitle(m)}\n${formatTime(m.median)} (${formatTime(m.p10)} to ${formatTime(m.p90)})`,
        })),
      })),
      { label: "time a call, log scale", type: "log", origin, format: formatTime },
    ),
  };
}

/** The variants of each scenario on each device, in the order fused, three-pass, unfused. */
function grouped(measured: readonly Placed[], keep: (m: Placed) => boolean): Placed[][] {
  const kept = measured.filter(keep).sort((a, b) => compared.indexOf(a.variant) - compared.indexOf(b.variant));
  const groups = groupBy(measured, (m) => `${scenarioTitle(m)} ${m.device}`);
  return [...groups.keys()]
    .map((key) => kept.filter((m) => `${scenarioTitle(m)} ${m.device}` === key))
    .filter(({ length }) => length > 0);
}

function bar(m: Placed, name: string, value: number, text: string): Bar {
  const hover = `${m.device}, ${m.variant}\n${scenarioTitle(m)}\n${formatTime(m.median)} (${formatTime(m.p10)} to ${formatTime(m.p90)})\n${text}`;
  return { name, value, text, isOurs: m.variant === "fused", hover };
}

function wholePercent(share: number): string {
  return `${Math.round(100 * share)} %`;
}
