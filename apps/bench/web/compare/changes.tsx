/** What changed from one result file to another: the table of the command compare. */
import { compareResults, comparisonTable, summarizeComparison } from "../../src/comparison.js";
import type { NamedResult } from "../../src/device-labels.js";
import { drawSkipped } from "../../src/result-tables.js";
import { useSetting } from "../link.js";
import { Problem } from "../parts/problem.js";
import { TableView } from "../parts/table-view.js";

const THRESHOLD = 0.1;

/** @param measured files with measurements, two at least. */
export function Changes({ measured }: { measured: readonly NamedResult[] }) {
  const [beforeName, setBefore] = useSetting("compare", "before", "");
  const [afterName, setAfter] = useSetting("compare", "after", "");
  const before = measured.find(({ name }) => name === beforeName) ?? measured[0];
  const after = measured.find(({ name }) => name === afterName) ?? measured.at(-1);
  if (before === undefined || after === undefined) return null;

  const comparison = compareResults(before, after, THRESHOLD);
  const choice = (label: string, { name }: NamedResult, set: (name: string) => void) => (
    <label class="field">
      <span>{label}</span>
      <select value={name} onChange={(event) => set(event.currentTarget.value)}>
        {measured.map(({ name }) => (
          <option key={name}>{name}</option>
        ))}
      </select>
    </label>
  );
  return (
    <>
      <p class="faint">A change counts when it is past 10 % and past the noise of both files.</p>
      <div class="fields">
        {choice("From", before, setBefore)}
        {choice("To", after, setAfter)}
      </div>
      <p>
        {comparison.changes.length + comparison.broken.length === 0
          ? "They have no measurement in common."
          : summarizeComparison(comparison)}
      </p>
      {drawSkipped(comparison.broken).map((line) => (
        <Problem key={line} message={line} />
      ))}
      {comparison.changes.length > 0 && (
        <TableView caption={`From ${before.name} to ${after.name}`} table={comparisonTable(comparison)} />
      )}
    </>
  );
}
