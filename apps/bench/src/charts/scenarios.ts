/** The charts of scenarios: time, bandwidth and memory, a bar each. No Node here. */
import { bytesPerElement } from "@fused-topk/core";
import { dataKinds } from "../data.js";
import { deviceLabels, deviceName, type NamedResult } from "../device-labels.js";
import { formatBytes, formatRatio, formatTime } from "../format.js";
import { groupBy, peerMemory, scenarioTitle } from "../result-tables.js";
import type { MeasurementRecord, PeerRecord, ResultFile } from "../schema.js";
import { isApart } from "../shapes.js";
import { quantile } from "../statistics.js";
import { figures, words } from "../table.js";
import { type Bar, type BarGroup, barsOf } from "./bars.js";
import { type Chart, percent, rangeOf } from "./chart.js";

export interface Placed extends MeasurementRecord {
  device: string;
  /** The best bandwidth that a read floor reached on this device, in any of the files. */
  ceiling: number;
  /** The same on random logits on that device, where these are hostile and a file has both. */
  random: MeasurementRecord | undefined;
}

/** The measurements that stand side by side, with their device. */
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
      .filter(({ group }) => !isApart(group))
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

/** What the figures of each device say: of the GPUs alone, where there are any. */
function answerOf(measured: readonly Placed[], say: (ofDevice: Placed[], device: string) => string): string {
  const onGpu = measured.filter(({ deviceKind }) => deviceKind === "gpu");
  const devices = groupBy(onGpu.length > 0 ? onGpu : measured, ({ device }) => device);
  return [...devices].map(([device, ofDevice]) => `${device}: ${say(ofDevice, device)}`).join("; ");
}

/** A bar for each scenario on each device: the fused kernel, before the two that it replaces. */
function layered(
  measured: readonly Placed[],
  value: (m: Placed) => number | undefined,
  text: (m: Placed) => string,
  unit: (value: number) => string,
): BarGroup[] {
  const groups = new Map<string, Bar[]>();
  for (const ofScenario of groupBy(measured, (m) => `${scenarioTitle(m)} ${m.device}`).values()) {
    const of = (variant: string) => ofScenario.find((m) => m.variant === variant);
    const fused = of("fused");
    const front = fused && value(fused);
    if (fused === undefined || front === undefined) continue;
    const behind = compared.slice(1).map((variant) => {
      const m = of(variant);
      return m && value(m);
    });
    const hover = compared.flatMap((variant) => {
      const m = of(variant);
      const shown = m && value(m);
      return m === undefined || shown === undefined ? [] : [`${variant}: ${unit(shown)}, ${formatTime(m.median)}`];
    });
    const bar: Bar = {
      name: isRandom(fused) ? shapeTitle(fused) : scenarioTitle(fused),
      value: front,
      text: text(fused),
      behind,
      isOurs: true,
      hover: [fused.device, scenarioTitle(fused), ...hover].join("\n"),
    };
    groups.set(fused.device, [...(groups.get(fused.device) ?? []), bar]);
  }
  return [...groups].map(([title, bars]) => ({ title, bars }));
}

function isRandom({ data }: Placed): boolean {
  return data === "random";
}

export function timesFloorChart(measured: readonly Placed[]): Chart {
  const groups = grouped(measured, ({ floorRatio, variant }) => floorRatio !== undefined && compared.includes(variant));
  const fused = groups.flat().filter(({ variant }) => variant === "fused");
  return {
    name: "time",
    question: "How fast is it?",
    answer: answerOf(fused, (ofDevice) => {
      const faster = ofDevice.flatMap(({ unfusedRatio }) => unfusedRatio ?? []);
      const floor = rangeOf(
        ofDevice.map(({ floorRatio }) => floorRatio!),
        formatRatio,
      );
      const median =
        faster.length === 0 ? "" : `, in the median ${formatRatio(quantile(faster, 0.5))} times as fast as unfused`;
      return `${floor} times the read floor${median}`;
    }),
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
      layered(
        groups.flat(),
        ({ floorRatio }) => floorRatio,
        (m) => `${formatRatio(m.floorRatio!)} x · ${formatTime(m.median)}`,
        (ratio) => `${formatRatio(ratio)} x the floor`,
      ),
      {
        label: "times the read floor, log scale",
        type: "log",
        origin: 1,
        reference: { value: 1, name: "read floor" },
        format: String,
        layers: compared,
      },
    ),
  };
}

export function bandwidthChart(measured: readonly Placed[]): Chart {
  const fused = measured.filter(({ variant, ceiling }) => variant === "fused" && ceiling > 0);
  const groups = [...groupBy(fused, ({ device }) => device)];
  const share = (m: Placed) => m.gigabytesPerSecond / m.ceiling;
  return {
    name: "bandwidth",
    question: "How much of the memory bandwidth does it use?",
    answer: answerOf(fused, (ofDevice) => `up to ${percent(Math.max(...ofDevice.map(share)))} of the best read`),
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
      groups.map(([title, ofGroup]) => ({
        title,
        bars: ofGroup.map((m) =>
          bar(
            m,
            isRandom(m) ? shapeTitle(m) : scenarioTitle(m),
            share(m),
            `${percent(share(m))} · ${formatRatio(m.gigabytesPerSecond)} GB/s`,
          ),
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
  const sharesOf = (variant: string) => groups.flat().flatMap((m) => (m.variant === variant ? share(m) : []));
  const [fused, unfused] = [sharesOf("fused"), sharesOf("unfused")];
  const most = (shares: number[]) => percent(Math.max(...shares));
  return {
    name: "memory",
    question: "How much does it write to memory?",
    answer: [
      ...(fused.length === 0 ? [] : [`The fused kernel: at most ${most(fused)} of the logits' size`]),
      ...(unfused.length === 0 ? [] : [`unfused: up to ${most(unfused)}`]),
    ].join(", "),
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
      layered(
        groups.flat(),
        (m) => (m.bytesWritten === undefined ? undefined : share(m)),
        (m) => `${percent(share(m))} · ${formatBytes(m.bytesWritten!)}`,
        percent,
      ),
      {
        label: "share of the logits",
        type: "linear",
        format: wholePercent,
        origin: 0,
        reference: { value: 1, name: "as large as the logits" },
        layers: compared,
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
    question: "What do hostile logits cost?",
    answer: answerOf(fused, (ofDevice) => `${rangeOf(ofDevice.map(ratio), formatRatio)} times the time on random ones`),
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
  const groups = [...groupBy(records, (m) => `${scenarioTitle(m)} · ${peerMemory[m.memory ?? "host"]} · ${m.file}`)];
  const origin = 10 ** Math.floor(Math.log10(Math.min(...records.map(({ median }) => median))));
  return {
    name: "peers",
    question: "How long do other libraries take?",
    answer: peersAnswer(groups.map(([, ofGroup]) => ofGroup)),
    title: "Time of a call beside other libraries",
    note:
      "Softmax and the K best of the same logits. In an array: what a program waits for, from an array to an array, warm. " +
      "On the GPU: time on the device, on logits that lie there, cold.",
    table: {
      columns: [
        words("scenario"),
        words("peer"),
        words("version"),
        words("logits"),
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
          peerMemory[m.memory ?? "host"],
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
          isOurs: isOurs(m),
          hover: `${m.peer}, ${m.version}\n${scenarioTitle(m)}\n${formatTime(m.median)} (${formatTime(m.p10)} to ${formatTime(m.p90)})`,
        })),
      })),
      { label: "time a call, log scale", type: "log", origin, format: formatTime },
    ),
  };
}

function isOurs({ peer }: PeerRecord): boolean {
  return peer.startsWith("fused-topk");
}

/** The fastest of others against the fastest of this project, over all scenarios. */
function peersAnswer(groups: readonly PeerRecord[][]): string {
  const fastest = (records: PeerRecord[]) => Math.min(...records.map(({ median }) => median));
  const ratios = groups.flatMap((records) => {
    const [ours, others] = [records.filter(isOurs), records.filter((m) => !isOurs(m))];
    return ours.length === 0 || others.length === 0 ? [] : [fastest(others) / fastest(ours)];
  });
  if (ratios.length === 0) return "Only one side was measured";
  return `The fastest other takes ${rangeOf(ratios, formatRatio)} times as long as the fastest backend here`;
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
