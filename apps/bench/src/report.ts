/**
 * The command `report`: result files as one Markdown document with charts. Of the repository's own files, in their place, the
 * tables of its documents are drawn anew as well.
 */
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseHTML } from "linkedom";
import type { Options } from "./args.js";
import { chartsOf } from "./charts/index.js";
import { serializeChart } from "./charts/serialize.js";
import { refreshDocuments } from "./documents.js";
import { print } from "./print.js";
import { reportMarkdown } from "./report-markdown.js";
import { readResultFile } from "./result-file.js";
import { UsageError } from "./usage-error.js";

const results = fileURLToPath(new URL("../results/", import.meta.url));
const WIDTH = 880;

/** @returns the exit status: 0, since all that can go wrong is an error. */
export async function report({ files, out }: Options): Promise<number> {
  const paths = files.length > 0 ? files : await ownResults();
  const folder = out ?? join(results, "report");
  const named = await Promise.all(paths.map(readResultFile));
  const charts = chartsOf(named);
  await mkdir(folder, { recursive: true }).catch((error: Error) => {
    throw new UsageError(`Could not make the folder --out ${folder}: ${error.message}. Check the path.`);
  });
  const { document } = parseHTML("<!doctype html><html><body></body></html>");
  for (const chart of charts) {
    const drawn = chart.draw({ document, width: WIDTH, hover: false });
    await writeFile(join(folder, `${chart.name}.svg`), serializeChart(drawn, chart));
  }
  const links = paths.map((path) => relative(folder, resolve(path)).replaceAll("\\", "/"));
  const markdown = reportMarkdown(
    named.map((result, i) => ({ ...result, link: links[i]! })),
    charts,
  );
  await writeFile(join(folder, "README.md"), markdown);
  print(
    `Wrote ${join(folder, "README.md")} with ${charts.length} charts of ${named.map(({ name }) => name).join(", ")}`,
  );
  if (files.length === 0 && out === undefined) for (const line of await refreshDocuments()) print(line);
  return 0;
}

async function ownResults(): Promise<string[]> {
  const names = await readdir(results).catch(() => {
    throw new UsageError(
      "Expected result files for report but received none. Write report a.json b.json --out FOLDER.",
    );
  });
  return names
    .filter((name) => name.endsWith(".json"))
    .sort()
    .map((name) => join(results, name));
}
