/** The text of a report: where the figures come from, the charts with their tables, and whether all of it was right. No Node here. */
import type { Chart } from "./charts/index.js";
import type { NamedResult } from "./device-labels.js";
import { growthTable } from "./growth.js";
import { describeCommand, describeMachine, drawChecks, drawSkipped, verificationTotals } from "./result-tables.js";
import { drawMarkdown, type Table } from "./table.js";

export interface LinkedResult extends NamedResult {
  /** Where the file is, seen from the report. */
  link: string;
}

/** Depends on the files alone, so that the same files give the same text. */
export function reportMarkdown(results: readonly LinkedResult[], charts: readonly Chart[]): string {
  const blocks = [
    "# Report",
    "Drawn by `npm run bench -- report` from the result files below; do not edit it by hand.",
    "## Where the figures come from",
    ...results.flatMap(sourceOf),
  ];
  for (const chart of charts) {
    blocks.push(
      `## ${chart.title}`,
      chart.note,
      `![${chart.title}](${chart.name}.svg)`,
      folded("The figures", chart.table),
    );
  }
  const growth = growthTable(results);
  if (growth.rows.length > 0) {
    blocks.push(
      "## Growth",
      "The exponent b of time = a times x to the b, fitted to the points of each curve.",
      drawMarkdown(growth),
    );
  }
  blocks.push("## Right?");
  for (const { name, file } of results) {
    const { measurements, verifications } = file;
    if (measurements.length > 0) blocks.push(`**${name}.** ${drawChecks(measurements)}`);
    if (verifications.length > 0) {
      blocks.push(`**${name}**, the conformance cases:`, drawMarkdown(verificationTotals(verifications)));
    }
    const skipped = drawSkipped(file.skipped);
    if (skipped.length > 0) blocks.push(skipped.map((line) => `- ${line}`).join("\n"));
  }
  return `${blocks.join("\n\n")}\n`;
}

function sourceOf({ name, link, file }: LinkedResult): string[] {
  return [
    `**[${name}](${link})**, ${file.date.slice(0, 10)}, version ${file.version}, \`${describeCommand(file)}\``,
    ["```", describeMachine(file), "```"].join("\n"),
  ];
}

function folded(summary: string, table: Table): string {
  return `<details><summary>${summary}</summary>\n\n${drawMarkdown(table)}\n\n</details>`;
}
