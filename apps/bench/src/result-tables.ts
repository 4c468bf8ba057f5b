/** A result file as tables: for the terminal and, by the same functions, for the documents. No Node here. */
import { formatBytes, formatCount, formatError, formatRatio, formatTime } from "./format.js";
import type {
  CaseGroupRecord,
  DeviceRecord,
  HostRecord,
  MeasurementRecord,
  PeerMemory,
  PeerRecord,
  ResultFile,
  ScenarioRecord,
  SkippedRecord,
  VerificationRecord,
} from "./schema.js";
import { scalingAxes } from "./shapes.js";
import { drawText, figures, type Table, words } from "./table.js";

/** What the columns mean, in one line each. */
export const legend = [
  "spread     half the distance from the 10th to the 90th percentile; the time is the median. ! marks more than 50 %:",
  "           something else was at work, so measure again. one call: it took so long that it was timed once",
  "x floor    times longer than only reading the same logits once, on this device in this run; 1.00 is the limit",
  "x faster   times faster than unfused: softmax written to memory, then top-K over it",
  "three-pass the textbook fused kernel: max, then sum, then top-K, three reads of the logits",
  "written    bytes a call writes to memory: results and intermediates",
  "end-to-end a call on a JavaScript array by the wall clock: upload, kernel, readback; x floor: times longer than",
  "           pinned-copy, which only copies the same logits from pinned memory to the device",
  "indices    rows whose K indices are those of the float64 reference, of the rows compared in this run",
].join("\n");

/** The host and the devices of a run, and the backends that are missing with the reason. */
export function describeMachine({
  host,
  devices,
  rejected,
}: Pick<ResultFile, "host" | "devices" | "rejected">): string {
  return [
    `host     ${describeHostLine(host)}`,
    ...devices.map((device) => `${device.backend.padEnd(8)} ${describeDevice(device)}`),
    ...rejected.map(({ backend, message }) => `${backend.padEnd(8)} not here. ${message}`),
  ].join("\n");
}

/** The options that made a file, without where it was written. */
export function describeCommand({ command }: Pick<ResultFile, "command">): string {
  return ["bench", ...command.filter((word, i) => word !== "--json" && command[i - 1] !== "--json")].join(" ");
}

/** Without what the host does not tell, as a browser does not. */
export function describeHostLine({ cpu, cores, memoryBytes, os, runtime }: HostRecord): string {
  const memory = memoryBytes === 0 ? [] : [formatBytes(memoryBytes)];
  return [cpu, `${cores} cores`, ...memory, os, runtime].join(", ");
}

export function describeDevice({ name, kind, details }: DeviceRecord): string {
  const driver = details.driver === undefined ? "" : `, driver ${details.driver}`;
  return kind === "software" ? `${name}: it runs on the CPU, so its times say nothing about a GPU` : `${name}${driver}`;
}

/** e.g. "1024 x 50257, K 256, f32, random". */
export function scenarioTitle({ rows, vocab, k, dtype, data }: ScenarioRecord): string {
  return `${rows} x ${vocab}, K ${k}, ${dtype}, ${data}`;
}

/** The backend, marked where a GPU's name would mislead: "webgpu (software)". */
export function backendLabel({ backend, deviceKind }: MeasurementRecord): string {
  return deviceKind === "software" ? `${backend} (software)` : backend;
}

/** All variants of one scenario, on every device. */
export function scenarioTable(measurements: readonly MeasurementRecord[]): Table {
  return {
    columns: [
      words("backend"),
      words("variant"),
      figures("time a call"),
      figures("spread"),
      figures("x floor"),
      figures("x faster"),
      figures("GB/s"),
      figures("written"),
      figures("launches"),
      words("indices"),
    ],
    rows: measurements.map((m) => [
      backendLabel(m),
      m.variant,
      formatTime(m.median),
      spreadCell(m),
      m.floorRatio === undefined ? "" : formatRatio(m.floorRatio),
      m.unfusedRatio === undefined || m.variant === "read-floor" ? "" : formatRatio(m.unfusedRatio),
      formatRatio(m.gigabytesPerSecond),
      m.bytesWritten === undefined ? "" : formatBytes(m.bytesWritten),
      m.launches === undefined ? "" : String(m.launches),
      indicesCell(m),
    ]),
  };
}

function spreadCell({ samples, p10, p90, median }: MeasurementRecord | PeerRecord): string {
  if (samples.length === 1) return "one call";
  const percent = Math.round((50 * (p90 - p10)) / median);
  return `${percent > 50 ? "! " : ""}${percent} %`;
}

/** The growth of the fused kernel over one axis, beside the floor and the unfused pair, on every device. */
export function scalingTable(measurements: readonly MeasurementRecord[], axis: "rows" | "vocab" | "k"): Table {
  const fused = measurements.filter(({ variant }) => variant === "fused");
  const twin = (m: MeasurementRecord, variant: string) => {
    const other = measurements.find((o) => o.variant === variant && o.backend === m.backend && sameScenario(o, m));
    return other === undefined ? "" : formatTime(other.median);
  };
  return {
    columns: [
      words("backend"),
      figures(axis === "k" ? "K" : axis),
      words("shape"),
      figures("fused"),
      figures("read-floor"),
      figures("unfused"),
      figures("x floor"),
      figures("x faster"),
      words("indices"),
    ],
    rows: fused.map((m) => [
      backendLabel(m),
      formatCount(m[axis]),
      scenarioTitle(m),
      formatTime(m.median),
      twin(m, "read-floor"),
      twin(m, "unfused"),
      m.floorRatio === undefined ? "" : formatRatio(m.floorRatio),
      m.unfusedRatio === undefined ? "" : formatRatio(m.unfusedRatio),
      indicesCell(m),
    ]),
  };
}

/** The measurements of a run in the terminal: a table a scenario, and one for each axis of growth. */
export function drawMeasurements(measurements: readonly MeasurementRecord[]): string {
  const blocks: string[] = [];
  for (const [group, ofGroup] of groupBy(measurements, ({ group }) => group)) {
    const axis = scalingAxes[group];
    if (axis === undefined) {
      for (const [title, ofScenario] of groupBy(ofGroup, scenarioTitle)) {
        blocks.push(`${group}: ${title}\n${drawText(scenarioTable(ofScenario))}`);
      }
    } else {
      const byBackend = [...groupBy(ofGroup, ({ backend }) => backend).values()].flat();
      blocks.push(`growth over ${axis === "k" ? "K" : axis}\n${drawText(scalingTable(byBackend, axis))}`);
    }
  }
  return blocks.join("\n\n");
}

/** Where the logits of a peer lie, in words. */
export const peerMemory: Readonly<Record<PeerMemory, string>> = {
  host: "in an array, warm",
  device: "on the GPU, cold",
};

/** The peers on one scenario, and how many times slower each is than the first. */
export function peersTable(records: readonly PeerRecord[]): Table {
  return {
    columns: [
      words("peer"),
      words("version"),
      words("logits"),
      figures("time a call"),
      figures("spread"),
      figures(`x ${records[0]?.peer}`),
      words("indices"),
    ],
    rows: records.map((m) => [
      m.peer,
      m.version,
      peerMemory[m.memory ?? "host"],
      formatTime(m.median),
      spreadCell(m),
      formatRatio(1 / m.firstRatio),
      indicesCell(m),
    ]),
  };
}

/** Whether some result of the fused kernel was compared with the reference. */
export function isFusedChecked(measurements: readonly MeasurementRecord[]): boolean {
  return measurements.some(({ variant, check }) => variant === "fused" && check !== undefined);
}

/** One line on every comparison with the reference, and one for each that failed or never was. */
export function drawChecks(measurements: readonly MeasurementRecord[]): string {
  const lines: string[] = [];
  const ours = measurements.filter(({ variant, check }) => variant !== "unfused" && check !== undefined);
  const unchecked = measurements.filter(({ variant, check }) => variant === "fused" && check === undefined);
  const rows = ours.reduce((sum, { check }) => sum + check!.rows, 0);
  const largest = Math.max(0, ...ours.map(({ check }) => check!.maxRelativeError));
  const failed = measurements.filter(({ check }) => check?.passed === false);
  if (ours.length === 0) {
    lines.push("Nothing was compared with the float64 reference.");
  } else if (failed.length === 0) {
    lines.push(
      `Checked against the float64 reference: ${formatCount(rows)} rows in ${ours.length} results, every index exact, ` +
        `largest relative error of a probability ${formatError(largest)}.`,
    );
  }
  const nameOf = (m: MeasurementRecord) => `${m.backend} ${m.variant} (${m.path}) on ${scenarioTitle(m)}`;
  for (const m of failed) {
    const { rows, rowsWithOtherIndices, maxRelativeError } = m.check!;
    lines.push(
      rows === 0
        ? `WRONG: ${nameOf(m)}: the result has another size than was asked for.`
        : `WRONG: ${nameOf(m)}: ${rowsWithOtherIndices} of ${rows} rows have other indices; ` +
            `largest relative error ${formatError(maxRelativeError)}.`,
    );
  }
  for (const m of unchecked) lines.push(`Not compared: ${nameOf(m)}.`);
  return lines.join("\n");
}

/** A line for each promise of the contract. */
export function verificationTable({ groups }: { groups: readonly CaseGroupRecord[] }): Table {
  return { columns: [words("promise"), ...caseColumns], rows: groups.map((g) => [g.promise, ...caseCells(g)]) };
}

/** A line for each backend and configuration. */
export function verificationTotals(records: readonly VerificationRecord[]): Table {
  return {
    columns: [words("backend"), words("set"), ...caseColumns],
    rows: records.map((record) => {
      const largest = (key: "probabilityError" | "logSumExpError") => Math.max(0, ...record.groups.map((g) => g[key]));
      const errors = { probabilityError: largest("probabilityError"), logSumExpError: largest("logSumExpError") };
      return [record.configuration, record.set, ...caseCells({ ...record, ...errors })];
    }),
  };
}

const caseColumns = [
  figures("passed"),
  figures("failed"),
  figures("k > maxK"),
  figures("largest error, probs"),
  figures("logSumExp"),
];

function caseCells(cases: Omit<CaseGroupRecord, "promise" | "firstFailure">): string[] {
  return [
    formatCount(cases.passed),
    formatCount(cases.failed),
    formatCount(cases.skipped),
    formatError(cases.probabilityError),
    formatError(cases.logSumExpError),
  ];
}

/** A line for each thing that could not be measured. */
export function drawSkipped(skipped: readonly SkippedRecord[]): string[] {
  return skipped.map((s) => {
    const what = `${s.backend} ${s.variant} on ${scenarioTitle(s)}`;
    return s.fault ? `FAILED: ${what}: ${s.reason}` : `Not measured: ${what}: ${s.reason}`;
  });
}

function indicesCell({ check }: Pick<MeasurementRecord, "check">): string {
  if (check === undefined) return "";
  const exact = `${formatCount(check.rows - check.rowsWithOtherIndices)}/${formatCount(check.rows)} exact`;
  return check.passed ? exact : `WRONG: ${exact}`;
}

function sameScenario(a: ScenarioRecord, b: ScenarioRecord): boolean {
  return a.group === b.group && scenarioTitle(a) === scenarioTitle(b);
}

/** Items by key, keys in the order in which they first appear. */
export function groupBy<T>(items: Iterable<T>, key: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const group = groups.get(key(item)) ?? [];
    group.push(item);
    groups.set(key(item), group);
  }
  return groups;
}
