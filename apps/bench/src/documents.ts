/** The marked tables of README.md and ANALYSIS.md, drawn from the files in `apps/bench/results`. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expTable, hostileTable, hostTable, sourceLines, summaryTable } from "./document-tables.js";
import { drawMarkedTables } from "./marked-tables.js";
import { parseNpy } from "./npy.js";
import { scalingTable, scenarioTable } from "./result-tables.js";
import { type MeasurementRecord, parseResultFile, type ResultFile } from "./schema.js";
import { shortListTable, syntheticRows } from "./short-lists.js";
import { drawMarkdown, type Table } from "./table.js";

const root = new URL("../../../", import.meta.url);
const results = "apps/bench/results";
const sample = new URL("./data/tiny-code-lm.npy", import.meta.url);

/** Result files by what they were measured on. */
const H200 = ["bulk", "middling", "decode", "long", "large-k"].map((group) => `h200-cuda-${group}.json`);
const H200_HOSTILE = ["sorted", "masked"].map((data) => `h200-cuda-hostile-${data}.json`);
const TWO_CORES = ["two-cores.json"];

type Keep = (m: MeasurementRecord) => boolean;

const scaling: Keep = ({ group }) => group.startsWith("scaling-") || group === "exp";
/** The shape that the analysis counts. */
const counted: Keep = ({ rows, vocab, k, data }) => rows === 1024 && vocab === 50257 && k === 256 && data === "random";

/** The tables by name. */
const definitions: Readonly<Record<string, () => Promise<string>>> = {
  readme: async () => fromFiles(TWO_CORES, (m) => !scaling(m), summaryTable),
  targets: async () => fromFiles(H200, (m) => !scaling(m), summaryTable),
  analysis: async () => fromFiles(H200, (m) => counted(m) && m.dtype === "f32", scenarioTable),
  host: async () => fromFiles(H200, (m) => !scaling(m), hostTable),
  exp: async () => fromFiles(["h200-cuda-exp.json"], ({ group }) => group === "exp", expTable),
  "short-lists": async () => {
    const { logits, rows, vocab, dtype } = parseNpy(readFileSync(sample), "tiny-code-lm.npy");
    const kinds = [...syntheticRows(vocab, 256, 1), { name: "real logits", logits, rows, vocab, dtype }];
    return drawMarkdown(await shortListTable(kinds, 256));
  },
  "scaling-vocab": async () => fromFiles(TWO_CORES, scaling, scalingOver("vocab")),
  "scaling-rows": async () => fromFiles(TWO_CORES, scaling, scalingOver("rows")),
  "scaling-k": async () => fromFiles(TWO_CORES, scaling, scalingOver("k")),
  hostile: async () => fromFiles([...H200, ...H200_HOSTILE], (m) => !scaling(m), hostileTable),
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

async function drawDocument(text: string): Promise<string> {
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
  return [drawMarkdown(build(measurements)), ...sourceLines(files, measurements)].join("\n\n");
}

function scalingOver(axis: "vocab" | "rows" | "k") {
  return (measurements: readonly MeasurementRecord[]) =>
    scalingTable(
      measurements.filter(({ group }) => group === `scaling-${axis}`),
      axis,
    );
}

function readResult(name: string): ResultFile {
  const path = new URL(`${results}/${name}`, root);
  if (!existsSync(path)) throw new Error(`Expected the result file ${fileURLToPath(path)} but it is not there.`);
  return parseResultFile(JSON.parse(readFileSync(path, "utf8")), name);
}
