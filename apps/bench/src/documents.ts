/** The marked tables of README.md and ANALYSIS.md, drawn from the files in `apps/bench/results`. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { BackendName } from "@fused-topk/core";
import { expTable, hostileTable, peerSummaryTable, sourceLines, summaryTable } from "./document-tables.js";
import { growthTable } from "./growth.js";
import { drawMarkedTables } from "./marked-tables.js";
import { parseNpy } from "./npy.js";
import { scenarioTable } from "./result-tables.js";
import { type MeasurementRecord, type PeerRecord, parseResultFile, type ResultFile } from "./schema.js";
import { isApart } from "./shapes.js";
import { shortListTable, syntheticRows } from "./short-lists.js";
import { drawMarkdown, type Table } from "./table.js";

const root = new URL("../../../", import.meta.url);
const results = "apps/bench/results";
const sample = new URL("apps/bench/data/tiny-code-lm.npy", root);

/** Result files by what they were measured on. */
const H200 = ["bulk", "middling", "decode", "long", "large-k", "gating"].map((group) => `h200-cuda-${group}.json`);
const H200_HOSTILE = ["sorted", "masked", "16-bit"].map((data) => `h200-cuda-hostile-${data}.json`);
const H200_SCALING = ["vocab", "rows", "k"].map((axis) => `h200-cuda-scaling-${axis}.json`);
const H200_PEERS = ["-decode", "", "-bulk", "-gating", "-16-bit"].map((shapes) => `h200-cuda-peers${shapes}.json`);
const TWO_CORES = ["two-cores.json"];
const TWO_CORES_BROWSER = ["two-cores-browser.json"];

type Keep = (m: MeasurementRecord) => boolean;

const isSideBySide: Keep = ({ group }) => !isApart(group);
/** The shape that the analysis counts. */
const counted: Keep = ({ rows, vocab, k, data }) => rows === 1024 && vocab === 50257 && k === 256 && data === "random";

/** The tables by name. */
const definitions: Readonly<Record<string, () => Promise<string>>> = {
  readme: async () => fromFiles(TWO_CORES, isSideBySide, summaryTable),
  targets: async () => fromFiles(H200, isSideBySide, summaryTable),
  analysis: async () => fromFiles(H200, (m) => counted(m) && m.dtype === "f32", scenarioTable),
  exp: async () => fromFiles(["h200-cuda-exp.json"], ({ group }) => group === "exp", expTable),
  "short-lists": async () => {
    const { logits, rows, vocab, dtype } = parseNpy(readFileSync(sample), "tiny-code-lm.npy");
    const kinds = [...syntheticRows(vocab, 256, 1), { name: "real logits", logits, rows, vocab, dtype }];
    return drawMarkdown(await shortListTable(kinds, 256));
  },
  growth: async () => growthOf(H200_SCALING),
  "peers-cuda": async () => peersFrom(H200_PEERS, () => true),
  "peers-browser": async () => peersFrom(TWO_CORES_BROWSER, ({ peer }) => peer.endsWith("webgpu")),
  hostile: async () => fromFiles([...H200, ...H200_HOSTILE], isSideBySide, hostileTable),
};

/**
 * Draws the marked tables of the documents anew, where there is a checkout.
 *
 * @returns a line on each document.
 * @throws {Error} for a table of a name that is not known, or whose result file is missing or wrong.
 */
export async function refreshDocuments(): Promise<string[]> {
  const lines: string[] = [];
  for (const name of ["README.md", "ANALYSIS.md"]) {
    const path = new URL(name, root);
    if (!existsSync(path)) continue;
    const before = readFileSync(path, "utf8");
    const after = await drawDocument(before);
    if (after !== before) writeFileSync(path, after);
    lines.push(`${name}: ${after === before ? "unchanged" : "drawn"}`);
  }
  return lines;
}

/** A document with its marked tables drawn anew. */
export async function drawDocument(text: string): Promise<string> {
  const drawn = new Map<string, string>();
  for (const [, name] of text.matchAll(/^<!-- table:(\S+) -->$/gm)) {
    const draw = definitions[name!];
    if (draw === undefined) {
      throw new Error(`Expected one of ${Object.keys(definitions).join(", ")} for a table but received "${name}".`);
    }
    drawn.set(name!, await draw());
  }
  return drawMarkedTables(text, (name) => drawn.get(name)!);
}

function fromFiles(
  names: readonly string[],
  keep: Keep,
  build: (measurements: readonly MeasurementRecord[]) => Table,
): string {
  const files = names.map((name) => ({ link: `${results}/${name}`, file: readResult(name) }));
  const measurements = files.flatMap(({ file }) => file.measurements).filter(keep);
  if (measurements.length === 0) throw new Error(`Expected measurements for the table in ${names} but found none.`);
  return [
    drawMarkdown(build(measurements)),
    ...sourceLines(files, (backend) => measurements.some((m) => m.backend === backend)),
  ].join("\n\n");
}

/** The exponent of each curve. */
function growthOf(names: readonly string[]): string {
  const files = names.map((name) => ({ name, link: `${results}/${name}`, file: readResult(name) }));
  return [drawMarkdown(growthTable(files)), ...sourceLines(files, () => true)].join("\n\n");
}

function peersFrom(names: readonly string[], keep: (m: PeerRecord) => boolean): string {
  const files = names.map((name) => ({ link: `${results}/${name}`, file: readResult(name) }));
  const records = files.flatMap(({ file }) => file.peers ?? []).filter(keep);
  return [drawMarkdown(peerSummaryTable(records)), ...sourceLines(files, isAmong(records))].join("\n\n");
}

/** Whether one of this project's peers is of the backend: they have its name as their last word. */
function isAmong(records: readonly PeerRecord[]): (backend: BackendName) => boolean {
  return (backend) => records.some(({ peer }) => peer === `fused-topk ${backend}`);
}

function readResult(name: string): ResultFile {
  const path = new URL(`${results}/${name}`, root);
  if (!existsSync(path)) throw new Error(`Expected the result file ${fileURLToPath(path)} but it is not there.`);
  return parseResultFile(JSON.parse(readFileSync(path, "utf8")), name);
}
