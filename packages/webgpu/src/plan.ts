/** Decides what runs for a shape: the kernel, how rows are cut into parts, and the dispatches with their parameters. */
import { bytesPerElement, FusedTopKError, type ResolvedOptions } from "@fused-topk/core";
import { fixedWorkgroupBytes, heldWorkgroupBytes, type Kernel, LOADS } from "./shader.js";

/** What a device can do, as far as a plan cares. */
export interface Capabilities {
  /** Whether a CPU plays the GPU. */
  isSoftware: boolean;
  subgroups: boolean;
  /** Invocations of the smallest and of the largest subgroup, where it has them. */
  subgroupSizes: { least: number; most: number };
  /** Invocations a workgroup. */
  invocations: number;
  /** Bytes of workgroup memory. */
  workgroupBytes: number;
  /** Bytes of one storage binding. */
  bindingBytes: number;
}

/** Forces a path where several would do. For tests and measurement. */
export interface PathOptions {
  /** Whether to use subgroup operations; by default, if the device has them. */
  subgroups?: boolean;
  /** Invocations a workgroup: a power of two from 16 to the device's limit. */
  workgroupSize?: number;
  /** Parts that every row is cut into, as far as it is long enough; too few for a row of millions cost accuracy. */
  parts?: number;
  /** Where the candidate buffer lives; workgroup memory is taken only if K fits. */
  candidates?: "workgroup" | "storage";
  /** Whether rows of a small vocabulary share a workgroup; by default, if there are many. */
  gating?: boolean;
}

/** A stretch of a buffer, in bytes: the offset fits a binding's alignment, the length is a multiple of 4. */
export interface Range {
  offset: number;
  length: number;
}

export type EntryPoint =
  | "gate_rows"
  | "small_rows"
  | "scan_rows"
  | "scan_parts"
  | "merge_parts"
  | "hold_parts"
  | "merge_held";

export interface Dispatch {
  entry: EntryPoint;
  workgroups: number;
  /** The words of Params in params.wgsl. */
  params: Uint32Array<ArrayBuffer>;
  /** Where it reads logits; absent for merge_parts. */
  logits?: Range;
  /** Where it writes, in probs and in indices. */
  results: Range;
  logSumExp: Range;
}

export interface Plan {
  kernel: Kernel;
  dispatches: Dispatch[];
  /** Bytes of scratch storage. */
  slabBytes: number;
  partStateBytes: number;
  partTopBytes: number;
}

/** The largest K: its candidate buffer takes 256 KiB a workgroup. */
export const MAX_K = 16384;

interface Profile {
  /** Invocations a workgroup; for rows that fit one tile of a small one; and where each processor has at most one row. */
  workgroup: number;
  smallWorkgroup: number;
  largeWorkgroup: number;
  candidates: "workgroup" | "storage";
  /** So few rows are cut into parts: together about `fill`, of a row at most `parts`. */
  fewRows: number;
  fill: number;
  parts: number;
  /** The words of workgroup memory, of which one size is asked for: so many, and then in steps. */
  words: number;
  wordStep: number;
}

const gpuProfile: Profile = {
  workgroup: 256,
  smallWorkgroup: 64,
  largeWorkgroup: 1024,
  candidates: "workgroup",
  fewRows: 16,
  fill: 256,
  parts: 16,
  words: 1280,
  wordStep: 512,
};
/** A CPU pays for each invocation at a barrier, and for clearing workgroup memory. */
const softwareProfile: Profile = {
  workgroup: 32,
  smallWorkgroup: 16,
  largeWorkgroup: 32,
  candidates: "storage",
  fewRows: 4,
  fill: 4,
  parts: 4,
  // Its compiler takes 0.3 ms for each word that it clears, and a second for a kernel of another size.
  words: 512,
  wordStep: 2048,
};

function profileOf({ isSoftware }: Capabilities): Profile {
  return isSoftware ? softwareProfile : gpuProfile;
}

/** Below it, logits that differ by less than the smallest normal float32 differ in their weights. */
const TINY_TEMPERATURE = 2 ** -100;
/** A workgroup of its own for each processor is large for up to so many rows, and for a K beyond this. */
const MIDDLING_ROWS = 128;
const LARGE_K = 512;
/**
 * Up to so many rows, of up to so many parts, are held in registers: 32 logits an invocation, HELD_LOADS in decode.wgsl. So
 * few are the K that are ranked by counting, and so few the invocations whose candidates fit 16 KiB with all else.
 */
const HELD_ROWS = 32;
const MOST_HELD = 64;
const HELD_LOGITS = 32;
const FEW_K = 128;
const MOST_HOLDERS = 256;
/** From here on rows of a small vocabulary share workgroups: with fewer there is nothing to fill a device with. */
const MANY_ROWS = 16;
const ALIGNMENT = 256;
const MAX_WORKGROUPS = 16384;
const SLAB_WORKGROUPS = 256;
const SCRATCH_BYTES = 64 * 2 ** 20;
/** Parts begin on a line of 128 bytes: LINE_VECTORS in logits.wgsl. */
const LINE_VECTORS = 8;
/** Tiles a part may have before its sum is a chain too long: see BLOCK_TILES in softmax_topk.wgsl. */
const MAX_PART_TILES = 512;
const PART_STATE_BYTES = 24;
const CANDIDATE_BYTES = 8;

export function planTopK(options: ResolvedOptions, capabilities: Capabilities, path: PathOptions = {}): Plan {
  const { rows, vocab, k, dtype, offset, rowStride } = options;
  const element = bytesPerElement[dtype];
  const shape = chooseShape(options, capabilities, path);
  const parts = cutRow(options, shape, capabilities, path);
  const memory = cutMemory(k, parts, shape.workgroupSize, capabilities, path);
  const kernel: Kernel = {
    ...shape,
    workWords: shape.gating || shape.small ? 1 : memory.workWords,
    candidates: memory.candidates,
  };
  const bindingLogits = logitsPerBinding(capabilities, element);
  const published = mostPublished(k);
  // Of logits that are all equal, K vectors pass the bar of a held part.
  const partSlots = parts.isHeld ? (16 / element) * k + 128 : published;

  const slabBytes = kernel.candidates === "storage" ? (memory.capacity + published) * CANDIDATE_BYTES : 0;
  const scratch = Math.min(SCRATCH_BYTES, capabilities.bindingBytes);
  const maxWorkgroups = slabBytes
    ? Math.max(1, Math.min(SLAB_WORKGROUPS, Math.floor(scratch / slabBytes)))
    : MAX_WORKGROUPS;

  const tileRows = Math.min(
    rows,
    // Within a binding: the logits, if a row fits at all; the results; the states of the parts.
    Math.max(1, Math.floor((bindingLogits - vocab) / rowStride) + 1),
    Math.max(1, Math.floor((capabilities.bindingBytes - 2 * ALIGNMENT) / (4 * k))),
    parts.count > 1 ? Math.max(1, Math.floor(scratch / (parts.count * partSlots * CANDIDATE_BYTES))) : rows,
  );
  // A row larger than a binding takes a dispatch for as many parts as fit.
  const segmentParts = vocab <= bindingLogits ? parts.count : Math.floor(bindingLogits / parts.length);

  const dispatches: Dispatch[] = [];
  let workgroupsMost = 0;
  for (let row = 0; row < rows; row += tileRows) {
    const count = Math.min(tileRows, rows - row);
    const results = alignedRange(row * k * 4, count * k * 4);
    const logSumExp = alignedRange(row * 4, count * 4);
    const add = (entry: EntryPoint, tasks: number, firstPart: number, partsHere: number, logits?: Range & Start) => {
      const workgroups = Math.min(tasks, maxWorkgroups);
      workgroupsMost = Math.max(workgroupsMost, workgroups);
      const params = packParams(options, {
        rows: count,
        firstLogit: logits?.first ?? 0,
        vectors: logits ? Math.floor(logits.length / 16) : 0,
        parts: parts.count,
        firstPart,
        partsHere,
        partLength: parts.length,
        groupShift: memory.groupShift,
        listBegin: memory.listBegin,
        capacity: memory.capacity,
        sortSize: powerOfTwoFrom(published),
        published,
        firstResult: results.skipped / 4,
        firstLogSumExp: logSumExp.skipped / 4,
        partSlots,
      });
      const range = logits && { logits: { offset: logits.offset, length: logits.length } };
      dispatches.push({ entry, workgroups, params, results, logSumExp, ...range });
    };
    for (let part = 0; part < parts.count; part += segmentParts) {
      const begin = part * parts.length;
      const end = Math.min(vocab, begin + segmentParts * parts.length);
      const first = offset + row * rowStride + begin;
      const covered = alignedRange(first * element, ((count - 1) * rowStride + end - begin) * element);
      const logits = { ...covered, first: (covered.skipped / element - begin) >>> 0 };
      const team = kernel.gating ?? kernel.small;
      if (team) {
        const entry = kernel.gating ? "gate_rows" : "small_rows";
        add(entry, Math.ceil((count * team.lanes) / kernel.workgroupSize), 0, 1, logits);
      } else if (parts.count === 1) {
        add("scan_rows", count, 0, 1, logits);
      } else {
        const partsHere = Math.min(segmentParts, parts.count - part);
        add(parts.isHeld ? "hold_parts" : "scan_parts", count * partsHere, part, partsHere, logits);
      }
    }
    if (parts.count > 1) add(parts.isHeld ? "merge_held" : "merge_parts", count, 0, parts.count);
  }
  const states = parts.count > 1 ? tileRows * parts.count : 0;
  return {
    kernel,
    dispatches,
    slabBytes: slabBytes * workgroupsMost,
    partStateBytes: states * PART_STATE_BYTES,
    partTopBytes: states * partSlots * CANDIDATE_BYTES,
  };
}

interface Start {
  /** Where index 0 of row 0 lies in the binding, in logits, modulo 2^32. */
  first: number;
}

type Shape = Omit<Kernel, "workWords" | "candidates">;

function chooseShape(options: ResolvedOptions, capabilities: Capabilities, path: PathOptions): Shape {
  const { dtype, k, temperature } = options;
  const profile = profileOf(capabilities);
  const tinyTemperature = temperature < TINY_TEMPERATURE;
  const mayShare = path.gating ?? (options.rows >= MANY_ROWS && !path.parts && !path.candidates);
  const gating = mayShare ? gatingShape(options) : undefined;
  const small = mayShare && !gating ? smallShape(options) : undefined;
  const team = gating ?? small;
  if (team) {
    const workgroupSize = Math.max(team.lanes, path.workgroupSize ?? profile.smallWorkgroup);
    const { least, most } = capabilities.subgroupSizes;
    const inSubgroups = capabilities.subgroups && least >= team.lanes && most <= workgroupSize;
    const subgroups = gating !== undefined && (path.subgroups ?? true) && inSubgroups;
    return { dtype, subgroups, workgroupSize, ...(gating && { gating }), ...(small && { small }), tinyTemperature };
  }
  const isSmall = vectorsOf(options) <= profile.smallWorkgroup * LOADS && k <= 256;
  const isHeld = heldParts(options, profile.workgroup, capabilities, path) !== undefined;
  const isMiddling = options.rows > profile.fewRows && options.rows <= MIDDLING_ROWS && !isHeld;
  const isLarge = k > LARGE_K || (isMiddling && !path.parts);
  const fitting = isSmall ? profile.smallWorkgroup : isLarge ? profile.largeWorkgroup : profile.workgroup;
  const workgroupSize = path.workgroupSize ?? Math.min(fitting, capabilities.invocations);
  return { dtype, subgroups: path.subgroups ?? capabilities.subgroups, workgroupSize, tinyTemperature };
}

interface MemoryPlan {
  workWords: number;
  candidates: "workgroup" | "storage";
  groupShift: number;
  listBegin: number;
  capacity: number;
}

/** Groups that a list holds: list_length in softmax_topk.wgsl. */
function listLength(k: number): number {
  return k + Math.floor(k / 4) + 32;
}

/** Candidates that are left of a row or of a part: the K best, and some that only an exact cut would tell from them. */
function mostPublished(k: number): number {
  return k + Math.floor(k / 2) + 96;
}

/**
 * Cuts workgroup memory: the maxima of groups first, of 64 bytes of logits if there is place; the list of groups at its
 * end; then the candidate buffer in place of the maxima, and its list by bins in place of that of groups.
 */
function cutMemory(
  k: number,
  { vectors, isHeld }: Parts,
  workgroupSize: number,
  capabilities: Capabilities,
  path: PathOptions,
): MemoryPlan {
  const fixed = fixedWorkgroupBytes(workgroupSize) + (isHeld ? heldWorkgroupBytes(workgroupSize) : 0);
  const most = Math.floor((capabilities.workgroupBytes - fixed) / 4);
  const profile = profileOf(capabilities);
  const list = listLength(k);
  const published = mostPublished(k);
  const sortSize = powerOfTwoFrom(published);
  // The buffer, two words a candidate, and the list of its candidates by bins.
  const fewest = 2 * sortSize + published;
  const inWorkgroup = (path.candidates ?? profile.candidates) === "workgroup" && fewest <= most;
  const mostGroups = inWorkgroup ? most - list : most;
  const groups = (shift: number) => Math.ceil(vectors / 2 ** shift);
  let groupShift = groups(2) < 4 * k && groups(0) <= mostGroups ? 0 : 2;
  // What workgroup memory takes, the first-level cache lacks, and with it the loads in flight: larger groups, as long as no
  // more than a quarter of the row is opened.
  const isCheap = (shift: number) => 4 * list * 2 ** shift <= vectors;
  const few = profile.candidates === "workgroup" ? Math.max(profile.words, fewest) - list : profile.words;
  while (groups(groupShift) > few && groupShift >= 2 && isCheap(groupShift + 1)) groupShift++;
  while (groups(groupShift) > mostGroups) groupShift = Math.max(2, groupShift + 1);
  if (!inWorkgroup) {
    return {
      workWords: Math.min(sizeClass(groups(groupShift), profile), most),
      candidates: "storage",
      groupShift,
      listBegin: 0,
      capacity: Math.max(2048, 2 * sortSize),
    };
  }
  const workWords = Math.min(sizeClass(Math.max(groups(groupShift) + list, fewest), profile), most);
  const capacity = Math.floor((workWords - published) / 2);
  return { workWords, candidates: "workgroup", groupShift, listBegin: workWords - list, capacity };
}

/** A few sizes for all shapes, so that kernels are shared. */
function sizeClass(words: number, profile: Profile): number {
  return words <= profile.words ? profile.words : Math.ceil(words / profile.wordStep) * profile.wordStep;
}

/** Lanes and tiles for the gating kernel; none where the row is too long, or K too large. */
function gatingShape(options: ResolvedOptions): Kernel["gating"] {
  if (options.vocab > 256 || options.k > 8) return undefined;
  const vectors = vectorsOf(options);
  const lanes = vectors <= 32 ? 4 : vectors <= 64 ? 8 : 16;
  return { lanes, tiles: vectors > LOADS * lanes ? 2 : 1 };
}

/** Lanes and loads for a row that a few invocations hold in registers; none where it is too long, or K too large. */
function smallShape(options: ResolvedOptions): Kernel["small"] {
  const vectors = vectorsOf(options);
  const lanes = powerOfTwoFrom(Math.max(8, options.k, Math.ceil(vectors / 8)));
  return lanes > 32 ? undefined : { lanes, loads: powerOfTwoFrom(Math.ceil(vectors / lanes)) };
}

/** Vectors that a row may touch: one more than it fills where it begins within one. */
function vectorsOf({ dtype, vocab, offset, rowStride, rows }: ResolvedOptions): number {
  const element = bytesPerElement[dtype];
  const isAligned = (offset * element) % 16 === 0 && (rows === 1 || (rowStride * element) % 16 === 0);
  return Math.ceil((vocab * element) / 16) + (isAligned ? 0 : 1);
}

interface Parts {
  count: number;
  /** Logits a part, the last excepted. */
  length: number;
  /** Vectors of the tiles that cover a part. */
  vectors: number;
  /** Whether a workgroup holds a part in registers: one of a single tile, of a row of not too many. */
  isHeld: boolean;
}

/** Cuts a row into parts of whole tiles: enough to fill the device, none much shorter than what it has to select. */
function cutRow(
  options: ResolvedOptions,
  { workgroupSize, gating, small }: Shape,
  capabilities: Capabilities,
  path: PathOptions,
): Parts {
  const { dtype, rows, vocab, k } = options;
  const element = bytesPerElement[dtype];
  const perVector = 16 / element;
  const tileVectors = LOADS * workgroupSize;
  const rowVectors = Math.ceil(vocab / perVector);
  if (gating || small) return { count: 1, length: vocab, vectors: rowVectors, isHeld: false };
  const { fewRows, fill, parts } = profileOf(capabilities);
  const held = heldParts(options, workgroupSize, capabilities, path);
  if (held) return held;
  const wanted = rows <= fewRows ? Math.min(parts, Math.ceil(fill / rows), Math.floor(vocab / (4 * k))) : 1;
  const fewest = Math.ceil(rowVectors / (MAX_PART_TILES * tileVectors));
  const bindingTiles = Math.floor(logitsPerBinding(capabilities, element) / (tileVectors * perVector));
  const count = path.parts ?? Math.max(1, wanted, fewest);
  // A part is a line short of whole tiles, so that one which begins within a line needs no tile more.
  const covering = Math.ceil((Math.ceil(rowVectors / count) + LINE_VECTORS) / tileVectors);
  const tiles = Math.min(covering, Math.max(1, bindingTiles));
  const length = Math.min(vocab, (tiles * tileVectors - LINE_VECTORS) * perVector);
  return { count: Math.ceil(vocab / length), length, vectors: tiles * tileVectors, isHeld: false };
}

/** The parts of a row that workgroups hold in registers; none where it has but one, or too many, or K is too large. */
function heldParts(
  { dtype, rows, vocab, k }: ResolvedOptions,
  workgroupSize: number,
  capabilities: Capabilities,
  path: PathOptions,
): Parts | undefined {
  const inWorkgroup = (path.candidates ?? profileOf(capabilities).candidates) === "workgroup";
  const most = Math.min(MOST_HELD, workgroupSize);
  if (path.parts || !inWorkgroup || rows > HELD_ROWS || k > Math.min(FEW_K, workgroupSize)) return undefined;
  if (workgroupSize > MOST_HOLDERS) return undefined;
  const perVector = 16 / bytesPerElement[dtype];
  const vectors = (HELD_LOGITS / perVector) * workgroupSize;
  const length = (vectors - LINE_VECTORS) * perVector;
  const count = Math.ceil(vocab / length);
  return count > 1 && count <= most ? { count, length, vectors, isHeld: true } : undefined;
}

function logitsPerBinding({ bindingBytes }: Capabilities, element: number): number {
  return Math.floor((bindingBytes - 2 * ALIGNMENT) / element);
}

/** The range that covers these bytes, and how many it has before them. */
function alignedRange(begin: number, length: number): Range & { skipped: number } {
  const skipped = begin % ALIGNMENT;
  return { offset: begin - skipped, length: Math.ceil((skipped + length) / 4) * 4, skipped };
}

interface DispatchParams {
  rows: number;
  firstLogit: number;
  vectors: number;
  parts: number;
  firstPart: number;
  partsHere: number;
  partLength: number;
  groupShift: number;
  listBegin: number;
  capacity: number;
  sortSize: number;
  published: number;
  firstResult: number;
  firstLogSumExp: number;
  partSlots: number;
}

/** Params of params.wgsl, word for word. */
function packParams(options: ResolvedOptions, p: DispatchParams): Uint32Array<ArrayBuffer> {
  const { scale, log2eByTemperature, high, low } = scaledTemperature(options.temperature);
  const words = new Uint32Array(22);
  const stride = p.rows > 1 ? options.rowStride : 0;
  words.set([p.rows, options.vocab, options.k, stride, p.firstLogit, p.vectors, p.parts, p.firstPart, p.partsHere]);
  words.set([p.partLength, p.groupShift, p.listBegin, p.capacity, p.sortSize, p.published], 9);
  words.set([p.firstResult, p.firstLogSumExp], 15);
  new Float32Array(words.buffer).set([scale, log2eByTemperature, high, low], 17);
  words[21] = p.partSlots;
  return words;
}

/** Temperature as the kernel takes it: see params.wgsl. */
function scaledTemperature(temperature: number) {
  const scale = temperature >= 2 ** 60 ? 2 ** -64 : temperature < TINY_TEMPERATURE ? 2 ** 24 : 1;
  const scaled = temperature * scale;
  const high = Math.fround(scaled);
  return { scale, log2eByTemperature: Math.LOG2E / scaled, high, low: scaled - high };
}

function powerOfTwoFrom(k: number): number {
  return 2 ** Math.ceil(Math.log2(k));
}

/** Checks a forced path against the device. */
export function requirePath({ subgroups, workgroupSize, parts }: PathOptions, capabilities: Capabilities): void {
  const refuse = (what: string, fix: string) => {
    throw new FusedTopKError("ERR_INVALID_ARGUMENT", what, { fix });
  };
  if (subgroups && !capabilities.subgroups) {
    refuse("Expected a device with subgroups for path.subgroups but this one has none.", "Leave path.subgroups out.");
  }
  if (workgroupSize !== undefined) {
    const powerOfTwo = Number.isInteger(Math.log2(workgroupSize));
    if (!powerOfTwo || workgroupSize < 16 || workgroupSize > capabilities.invocations) {
      refuse(
        `Expected a power of two from 16 to ${capabilities.invocations} for path.workgroupSize but received ${workgroupSize}.`,
        "Pass one, or leave it out.",
      );
    }
  }
  if (parts !== undefined && (!Number.isInteger(parts) || parts < 1)) {
    refuse(`Expected an integer >= 1 for path.parts but received ${parts}.`, "Pass one, or leave it out.");
  }
}
