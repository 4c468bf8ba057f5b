/**
 * The result file: what a run measured, on what, and how it was checked. Versioned; every consumer reads it through
 * `parseResultFile`, which names the field that is wrong. No Node here: a web page reads the same files.
 */
import type { BackendName, DType } from "@fused-topk/core";
import type { Variant } from "@fused-topk/core/measure";

/**
 * The version this file describes. A field that is added is optional, so that old files stay readable; only a change that
 * breaks a reader raises the version, and then `parseResultFile` brings older files up to it.
 */
export const SCHEMA_VERSION = 1;

/** `end-to-end` is a call of the public API on a host array: upload, kernel and readback, by the wall clock. */
export type MeasuredVariant = Variant | "end-to-end";

/** `gpu`: hardware. `software`: a GPU API that runs on the CPU; its figures say nothing about a GPU. `cpu`: JavaScript. */
export type DeviceKind = "gpu" | "software" | "cpu";

export interface ResultFile {
  schema: typeof SCHEMA_VERSION;
  /** When the run began, ISO 8601, UTC. */
  date: string;
  /** Version of the packages that were measured. */
  version: string;
  /** The options of the run, as typed. */
  command: string[];
  /** Seed of the generated logits. */
  seed: number;
  host: HostRecord;
  devices: DeviceRecord[];
  /** Backends that could not run here. */
  rejected: RejectedRecord[];
  measurements: MeasurementRecord[];
  /** What was asked for but could not be measured. */
  skipped: SkippedRecord[];
  /** Conformance runs. */
  verifications: VerificationRecord[];
  /** Other ways to the same result beside this project's, in the run that was asked for them. */
  peers?: PeerRecord[];
  /** Peers that are not installed or do not run here. */
  absentPeers?: AbsentPeerRecord[];
}

export interface HostRecord {
  os: string;
  cpu: string;
  cores: number;
  memoryBytes: number;
  /** The JavaScript runtime and its version. */
  runtime: string;
}

export interface DeviceRecord {
  backend: BackendName;
  /** What a person calls it. */
  name: string;
  kind: DeviceKind;
  /** Driver, adapter, library versions and limits that matter, by name. */
  details: Record<string, string>;
}

export interface RejectedRecord {
  backend: BackendName;
  code: string;
  message: string;
}

/** What is measured: K best of `rows x vocab` logits of one kind. */
export interface ScenarioRecord {
  /** The group the shape came from, e.g. `bulk`; `custom` for a shape typed by hand. */
  group: string;
  rows: number;
  vocab: number;
  k: number;
  dtype: DType;
  /** A kind of generated logits, or the name of the file the logits came from. */
  data: string;
}

export interface MeasurementRecord extends ScenarioRecord {
  backend: BackendName;
  deviceKind: DeviceKind;
  variant: MeasuredVariant;
  /** The path of the kernel that ran. */
  path: string;
  /** Input sets that the calls rotated through, against warm caches. */
  sets: number;
  /** Microseconds a call, one a repeat, in the order they were taken. */
  samples: number[];
  /** Of the samples, in microseconds. */
  median: number;
  p10: number;
  p90: number;
  /** Bytes of logits over the median, in GB/s. */
  gigabytesPerSecond: number;
  /**
   * The median over that of the variant's floor on the same device in the same run: `read-floor`, but for `end-to-end`
   * `pinned-copy`; none for `pinned-copy` itself.
   */
  floorRatio?: number;
  /** The median of `unfused` on the same device in the same run over this one: how many times faster this is. */
  unfusedRatio?: number;
  /** Kernel launches or dispatches a call. */
  launches?: number;
  /** Bytes a call wrote to memory: results and intermediates, counted. */
  bytesWritten?: number;
  /** Bytes of memory a call needs beyond logits and results. */
  scratchBytes?: number;
  /** The comparison with the float64 reference; absent where nothing but a time came out. */
  check?: CheckRecord;
}

export interface CheckRecord {
  /** Rows of the result that were compared. */
  rows: number;
  /** Rows of those whose indices differ from the reference. */
  rowsWithOtherIndices: number;
  /** Largest relative error of a probability above 1e-30, over the rows compared. */
  maxRelativeError: number;
  passed: boolean;
}

export interface SkippedRecord extends ScenarioRecord {
  backend: BackendName;
  variant: MeasuredVariant;
  reason: string;
  /** It should have worked. Otherwise the device cannot do it, for want of memory or because K is too large. */
  fault: boolean;
}

/** Where the logits of a peer lie: in an array of the program, warm, or in memory of a GPU, cold. */
export type PeerMemory = "host" | "device";

/** A peer on the logits of a scenario. */
export interface PeerRecord extends ScenarioRecord {
  /** What a person calls it. */
  peer: string;
  /** Its version, and what it ran on. */
  version: string;
  /** Absent in a file from before there were peers on a GPU: host. */
  memory?: PeerMemory;
  /** Microseconds a call: on the host the median of each turn, on a device the mean of each replay. */
  samples: number[];
  median: number;
  p10: number;
  p90: number;
  /** The median of the first peer, one of this project's backends, over this one. */
  firstRatio: number;
  check: CheckRecord;
}

export interface AbsentPeerRecord {
  peer: string;
  reason: string;
  /** How to get it. */
  fix?: string;
}

/** The conformance cases on one backend in one configuration. */
export interface VerificationRecord {
  backend: BackendName;
  /** What a person calls it, e.g. "webgpu, subgroups off". */
  configuration: string;
  set: "quick" | "full";
  /** Calls that were beyond a forced path and took the ordinary one. */
  outside: number;
  passed: number;
  failed: number;
  /** Cases with k above the backend's maxK. */
  skipped: number;
  groups: CaseGroupRecord[];
}

/** The cases behind one promise of the contract. */
export interface CaseGroupRecord {
  promise: string;
  passed: number;
  failed: number;
  skipped: number;
  /** Largest relative error of a probability. */
  probabilityError: number;
  /** Largest error of a logSumExp, relative to max(1, |logSumExp|). */
  logSumExpError: number;
  /** The case that failed first, in full. */
  firstFailure?: string;
}

/**
 * Checks that a parsed JSON value is a result file.
 *
 * @param name what to call it in an error.
 * @throws {TypeError} that names the field, what was expected and what is there.
 */
export function parseResultFile(value: unknown, name = "result file"): ResultFile {
  const version = (value as { schema?: unknown } | null)?.schema;
  if (version !== SCHEMA_VERSION) {
    const isNewer = typeof version === "number" && version > SCHEMA_VERSION;
    throw new TypeError(
      `Expected schema ${SCHEMA_VERSION} in ${name} but received ${show(version)}. ` +
        (isNewer ? "A later version of fused-topk wrote it: read it with that one." : "Pass what --json wrote."),
    );
  }
  resultFile(value, name);
  return value as ResultFile;
}

/**
 * Reads the text of a result file.
 *
 * @param name what to call it in an error.
 * @throws {TypeError} that names the field, what was expected and what is there.
 */
export function parseResultText(text: string, name: string): ResultFile {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new TypeError(`Expected JSON in ${name} but could not read it: ${(error as Error).message}.`);
  }
  return parseResultFile(value, name);
}

/** The text of a result file: a field a line, but the samples of a measurement on one. */
export function formatResultFile(file: ResultFile): string {
  const text = JSON.stringify(file, null, 1);
  return `${text.replace(/\[\s+([\d.,\s]+?)\s+\]/g, (_, list: string) => `[${list.replace(/\s+/g, " ")}]`)}\n`;
}

type Check = (value: unknown, path: string) => void;

const text: Check = (value, path) => require(typeof value === "string", "a string", value, path);
const amount: Check = (value, path) =>
  require(typeof value === "number" && Number.isFinite(value) && value >= 0, "a number >= 0", value, path);
const count: Check = (value, path) => require(Number.isInteger(value) && Number(value) >= 0, "a count", value, path);
const size: Check = (value, path) =>
  require(Number.isInteger(value) && Number(value) >= 1, "a count >= 1", value, path);
const time: Check = (value, path) =>
  require(typeof value === "number" && Number.isFinite(value) && value > 0, "a number > 0", value, path);
const flag: Check = (value, path) => require(typeof value === "boolean", "true or false", value, path);

function oneOf(...allowed: readonly unknown[]): Check {
  return (value, path) => require(allowed.includes(value), allowed.map(show).join(" or "), value, path);
}

function optional(check: Check): Check {
  return (value, path) => {
    if (value !== undefined) check(value, path);
  };
}

function list(check: Check): Check {
  return (value, path) => {
    require(Array.isArray(value), "an array", value, path);
    (value as unknown[]).forEach((item, i) => {
      check(item, `${path}[${i}]`);
    });
  };
}

/** The checks one after another. */
function all(...checks: readonly Check[]): Check {
  return (value, path) => {
    for (const check of checks) check(value, path);
  };
}

/** Fields of which none is less than the one before. */
function ascending<T>(...fields: readonly (keyof T & string)[]): Check {
  return (value, path) => {
    const numbers = fields.map((field) => (value as Record<string, number>)[field]!);
    const holds = numbers.every((number, i) => i === 0 || numbers[i - 1]! <= number);
    require(holds, fields.join(" <= "), numbers, path);
  };
}

function dictionary(check: Check): Check {
  return (value, path) => {
    require(isObject(value), "an object", value, path);
    for (const [key, item] of Object.entries(value as object)) check(item, `${path}.${key}`);
  };
}

/** The checks of an interface: a field that is added to it and forgotten here does not compile. */
function shape<T>(fields: { [K in keyof Required<T>]: Check }): Check {
  return (value, path) => {
    require(isObject(value), "an object", value, path);
    for (const [key, check] of Object.entries<Check>(fields)) {
      check((value as Record<string, unknown>)[key], `${path}.${key}`);
    }
  };
}

const backendName = oneOf("cuda", "webgpu", "wasm", "cpu");
const deviceKind = oneOf("gpu", "software", "cpu");
const variantName = oneOf(
  "fused",
  "unfused",
  "three-pass",
  "read-floor",
  "read-exp",
  "read-two-exps",
  "pinned-copy",
  "end-to-end",
);

const scenarioFields = {
  group: text,
  rows: size,
  vocab: size,
  k: size,
  dtype: oneOf("f32", "f16", "bf16"),
  data: text,
};

const isScenario = ascending<ScenarioRecord>("k", "vocab");

const samples: Check = (value, path) => {
  list(amount)(value, path);
  require((value as unknown[]).length > 0, "at least one sample", value, path);
};
const isTimed = ascending<MeasurementRecord>("p10", "median", "p90");

const checkRecord = all(
  shape<CheckRecord>({ rows: count, rowsWithOtherIndices: count, maxRelativeError: amount, passed: flag }),
  ascending<CheckRecord>("rowsWithOtherIndices", "rows"),
);

const resultFile = shape<ResultFile>({
  schema: oneOf(SCHEMA_VERSION),
  date: text,
  version: text,
  command: list(text),
  seed: count,
  host: shape<HostRecord>({ os: text, cpu: text, cores: count, memoryBytes: count, runtime: text }),
  devices: list(
    shape<DeviceRecord>({
      backend: backendName,
      name: text,
      kind: deviceKind,
      details: dictionary(text),
    }),
  ),
  rejected: list(shape<RejectedRecord>({ backend: backendName, code: text, message: text })),
  measurements: list(
    all(
      shape<MeasurementRecord>({
        ...scenarioFields,
        backend: backendName,
        deviceKind,
        variant: variantName,
        path: text,
        sets: count,
        samples,
        median: amount,
        p10: amount,
        p90: amount,
        gigabytesPerSecond: amount,
        floorRatio: optional(amount),
        unfusedRatio: optional(amount),
        launches: optional(count),
        bytesWritten: optional(count),
        scratchBytes: optional(count),
        check: optional(checkRecord),
      }),
      isScenario,
      isTimed,
    ),
  ),
  verifications: list(
    shape<VerificationRecord>({
      backend: backendName,
      configuration: text,
      set: oneOf("quick", "full"),
      outside: count,
      passed: count,
      failed: count,
      skipped: count,
      groups: list(
        shape<CaseGroupRecord>({
          promise: text,
          passed: count,
          failed: count,
          skipped: count,
          probabilityError: amount,
          logSumExpError: amount,
          firstFailure: optional(text),
        }),
      ),
    }),
  ),
  peers: optional(
    list(
      all(
        shape<PeerRecord>({
          ...scenarioFields,
          peer: text,
          version: text,
          memory: optional(oneOf("host", "device")),
          samples,
          median: time,
          p10: amount,
          p90: amount,
          firstRatio: amount,
          check: checkRecord,
        }),
        isScenario,
        isTimed,
      ),
    ),
  ),
  absentPeers: optional(list(shape<AbsentPeerRecord>({ peer: text, reason: text, fix: optional(text) }))),
  skipped: list(
    all(
      shape<SkippedRecord>({
        ...scenarioFields,
        backend: backendName,
        variant: variantName,
        reason: text,
        fault: flag,
      }),
      isScenario,
    ),
  ),
});

function require(holds: boolean, expected: string, received: unknown, path: string): void {
  if (!holds) throw new TypeError(`Expected ${expected} for ${path} but received ${show(received)}.`);
}

function isObject(value: unknown): boolean {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function show(value: unknown): string {
  return JSON.stringify(value) ?? String(value);
}
