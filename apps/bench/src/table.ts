/** A table as data, drawn as aligned text or as Markdown. */

export interface Column {
  head: string;
  /** Figures stand right, words left. */
  align: "left" | "right";
}

export interface Table {
  columns: readonly Column[];
  rows: readonly (readonly string[])[];
}

export const words = (head: string): Column => ({ head, align: "left" });
export const figures = (head: string): Column => ({ head, align: "right" });

/** Lines of equal columns, two spaces apart, indented by two. */
export function drawText({ columns, rows }: Table): string {
  const widths = columns.map(({ head }, c) => Math.max(head.length, ...rows.map((row) => row[c]!.length)));
  const draw = (cells: readonly string[]) => {
    const padded = cells.map((cell, c) =>
      columns[c]!.align === "right" ? cell.padStart(widths[c]!) : cell.padEnd(widths[c]!),
    );
    return `  ${padded.join("  ").trimEnd()}`;
  };
  return [draw(columns.map(({ head }) => head)), ...rows.map(draw)].join("\n");
}

export function drawMarkdown({ columns, rows }: Table): string {
  const draw = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  const rule = columns.map(({ align }) => (align === "right" ? "---:" : "---"));
  return [draw(columns.map(({ head }) => head)), draw(rule), ...rows.map(draw)].join("\n");
}
