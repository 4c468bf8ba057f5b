/** The charts of scenarios: time, bandwidth and memory, a bar each. No Node here. */
import { bytesPerElement } from "@fused-topk/core";
import { dataKinds } from "../data.js";
import { deviceLabels, deviceName, type NamedResult } from "../device-labels.js";
import { formatBytes, formatRatio, formatTime } from "../format.js";
import { groupBy, scenarioTitle } from "../result-tables.js";
import type { MeasurementRecord, ResultFile } from "../schema.js";
import { figures, words } from "../table.js";
import { type Bar, barsOf } from "./bars.js";
import { type Chart, percent } from "./chart.js";

export interface Placed extends MeasurementRecord {
  device: string;
  /** The best bandwidth that a read floor reached on this device, in any of the files. */
  ceiling: number;
  /** The same on random logits on that device, where these are hostile and a file has both. */
  random: MeasurementRecord | undefined;
}

/** The measurements that are no part of a curve, with their device. */
export function placed(results: readonly NamedResult[]): Placed[] {
  const labels = deviceLabels(results);
  const ceilings = new Map<string, number>();
  const nameOf = (file: ResultFile, backend: string) => {
    const device = file.devices.find((device) => device.backend === backend);
    return device === undefined ? backend : deviceName(device);
  };
  for (const { file } of results) {
    for (const { backend, variant, gigabytesPerSecond } of file.measurements) {
      const name = nameOf(file, backend);
      if (variant === "read-floor") ceilings.set(name, Math.max(ceilings.get(name) ?? 0, gigabytesPerSecond));
    }
  }
  return results.flatMap(({ file }) =>
    file.measurements
      .filter(({ group }) => !group.startsWith("scaling-"))
      .map((m) => ({
        ...m,
        device: labels.get(file)!.get(m.backend) ?? m.backend,
        ceiling: ceilings.get(nameOf(file, m.backend)) ?? 0,
        random: randomTwin([file, ...results.map((other) => other.file)], nameOf, file, m),
      })),
  );
}

/** Of the first file that has it, on a device of the same name. */
function randomTwin(
  files: readonly ResultFile[],
  nameOf: (file: ResultFile, backend: string) => string,
  own: ResultFile,
  m: MeasurementRecord,
): MeasurementRecord | undefined {
  if (!(dataKinds as readonly string[]).includes(m.data) || m.data === "random") return undefined;
  const fields = ["variant", "rows", "vocab", "k", "dtype"] as const;
  for (const file of files) {
    const twin = file.measurements.find(
      (o) =>
        o.data === "random" &&
        fields.every((field) => o[field] === m[field]) &&
        nameOf(file, o.backend) === nameOf(own, m.backend),
    );
    if (twin !== undefined) return twin;
  }
  return undefined;
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

/** The fused kernel on hostile logits, over its time on random ones of the same shape on the same device. */
export function hostileChart(measured: readonly Placed[]): Chart {
  const fused = measured.filter(({ variant, data, random }) => variant === "fused" && data !== "random" && random);
  const groups = [...groupBy(fused, (m) => `${shapeTitle(m)} · ${m.device}`)];
  const ratio = (m: Placed) => m.median / m.random!.median;
  return {
    name: "hostile",
    title: "Time on hostile logits, in times that on random ones",
    note: "The fused kernel on logits that hurt different designs: sorted, equal, masked, or too close for a probability to tell.",
    table: {
      columns: [words("shape"), words("device"), words("logits"), figures("time a call"), figures("x random")],
      rows: fused.map((m) => [shapeTitle(m), m.device, m.data, formatTime(m.median), formatRatio(ratio(m))]),
    },
    draw: barsOf(
      groups.map(([title, ofGroup]) => ({
        title,
        bars: ofGroup.map((m) => bar(m, m.data, ratio(m), `${formatRatio(ratio(m))} x · ${formatTime(m.median)}`)),
      })),
      { label: "times random", type: "linear", origin: 0, reference: { value: 1, name: "random" }, format: String },
    ),
  };
}

function shapeTitle({ rows, vocab, k, dtype }: Placed): string {
  return `${rows} x ${vocab}, K ${k}, ${dtype}`;
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
