/** The tables that only documents show: a line a shape, and times on hostile logits. No Node here. */
import type { BackendName } from "@fused-topk/core";
import { formatRatio, formatTime } from "./format.js";
import { backendLabel, describeDevice, groupBy, scenarioTitle } from "./result-tables.js";
import type { MeasurementRecord, PeerRecord, ResultFile, ScenarioRecord } from "./schema.js";
import { figures, type Table, words } from "./table.js";

/** Which devices, when, and the files themselves, as lines of Markdown: one for files of one machine and day. */
export function sourceLines(
  files: readonly { file: ResultFile; link: string }[],
  isUsed: (backend: BackendName) => boolean,
): string[] {
  const describe = (file: ResultFile) => {
    const devices = file.devices
      .filter(({ backend }) => isUsed(backend))
      .map((device) => `${device.backend}: ${describeDevice(device)}`);
    return [...devices, `host: ${file.host.cpu}, ${file.host.cores} cores`, file.date.slice(0, 10)].join(" · ");
  };
  return [...groupBy(files, ({ file }) => describe(file))].map(([description, alike]) => {
    const links = alike.map(({ link }) => `[${link.slice(link.lastIndexOf("/") + 1)}](${link})`);
    return `<sub>${description} · ${links.join(", ")}</sub>`;
  });
}

/** A line a shape and backend: the fused kernel between the read floor and what it replaces. */
export function summaryTable(measurements: readonly MeasurementRecord[]): Table {
  const cell = (m: MeasurementRecord | undefined) => (m === undefined ? "" : formatTime(m.median));
  const rows: string[][] = [];
  for (const ofShape of groupBy(measurements, (m) => `${m.backend} ${scenarioTitle(m)}`).values()) {
    const of = (variant: string) => ofShape.find((m) => m.variant === variant);
    const fused = of("fused");
    if (fused === undefined) continue;
    rows.push([
      `${fused.rows} x ${fused.vocab}`,
      String(fused.k),
      fused.dtype,
      fused.data,
      backendLabel(fused),
      cell(of("read-floor")),
      `**${formatTime(fused.median)}**`,
      fused.floorRatio === undefined ? "" : formatRatio(fused.floorRatio),
      cell(of("three-pass")),
      cell(of("unfused")),
      fused.unfusedRatio === undefined ? "" : formatRatio(fused.unfusedRatio),
    ]);
  }
  return {
    columns: [
      words("rows x vocab"),
      figures("K"),
      words("dtype"),
      words("logits"),
      words("backend"),
      figures("read floor"),
      figures("fused"),
      figures("x floor"),
      figures("three-pass"),
      figures("unfused"),
      figures("x faster than unfused"),
    ],
    rows,
  };
}

/** A line a shape: the first peer, and the others with how many times slower they are. */
export function peerSummaryTable(records: readonly PeerRecord[]): Table {
  const names = [...new Set(records.map(({ peer }) => peer))];
  return {
    columns: [words("rows x vocab"), figures("K"), words("dtype"), ...names.map(figures)],
    rows: [...groupBy(records, scenarioTitle).values()].map((ofShape) => {
      const { rows, vocab, k, dtype } = ofShape[0]!;
      const cells = names.map((name) => {
        const m = ofShape.find(({ peer }) => peer === name);
        if (m === undefined) return "";
        return name === names[0]
          ? `**${formatTime(m.median)}**`
          : `${formatTime(m.median)}, x ${formatRatio(m.median / ofShape[0]!.median)}`;
      });
      return [`${rows} x ${vocab}`, String(k), dtype, ...cells];
    }),
  };
}

/** What one and two exp a logit add to a kernel that only reads. */
export function expTable(measurements: readonly MeasurementRecord[]): Table {
  const variants = ["read-exp", "read-two-exps", "fused"];
  const rows: string[][] = [];
  for (const ofShape of groupBy(measurements, (m) => `${m.backend} ${scenarioTitle(m)}`).values()) {
    const of = (variant: string) => ofShape.find((m) => m.variant === variant);
    const floor = of("read-floor");
    if (floor === undefined || of("read-exp") === undefined) continue;
    rows.push([
      `${floor.rows} x ${floor.vocab}`,
      floor.dtype,
      formatTime(floor.median),
      ...variants.map((variant) => formatRatio(of(variant)!.median / floor.median)),
    ]);
  }
  return {
    columns: [
      words("rows x vocab"),
      words("dtype"),
      figures("read"),
      figures("with one exp, x read"),
      figures("with two, x read"),
      figures("fused kernel, x read"),
    ],
    rows,
  };
}

/** The time on each kind of logits over the time on random ones of the same shape. */
export function hostileTable(measurements: readonly MeasurementRecord[]): Table {
  const fused = measurements.filter(({ variant }) => variant === "fused");
  const kindsOfData = [...new Set(fused.map(({ data }) => data))].filter((data) => data !== "random");
  const shapeOf = ({ rows, vocab, k, dtype }: ScenarioRecord) => `${rows} x ${vocab}, K ${k}, ${dtype}`;
  const rows: string[][] = [];
  for (const ofShape of groupBy(fused, (m) => `${m.backend} ${shapeOf(m)}`).values()) {
    const random = ofShape.find(({ data }) => data === "random");
    if (random === undefined || ofShape.length === 1) continue;
    const ratios = kindsOfData.map((kind) => ofShape.find(({ data }) => data === kind));
    rows.push([
      shapeOf(random),
      backendLabel(random),
      formatTime(random.median),
      ...ratios.map((m) => (m === undefined ? "" : formatRatio(m.median / random.median))),
    ]);
  }
  return {
    columns: [
      words("shape"),
      words("backend"),
      figures("random"),
      ...kindsOfData.map((kind) => figures(`${kind}, x random`)),
    ],
    rows,
  };
}
