/** The outcome of the conformance cases on one backend: counts, largest errors, and the first failing case in full. */
import { formatCount } from "../../src/format.js";
import { verificationTable } from "../../src/result-tables.js";
import type { CaseGroupRecord } from "../../src/schema.js";
import { TableView } from "../parts/table-view.js";

interface Props {
  configuration: string;
  groups: readonly CaseGroupRecord[];
  /** Whether every case was run; "running" where they still are. */
  extent?: "complete" | "running" | "stopped";
  /** Its table is behind a click. */
  isFolded?: boolean;
}

const verdicts = { complete: "✓ passed", running: "… so far", stopped: "✕ stopped" } as const;

export function VerificationView({ configuration, groups, extent = "complete", isFolded = false }: Props) {
  const sum = (key: "passed" | "failed" | "skipped") => groups.reduce((total, group) => total + group[key], 0);
  const failures = groups.filter(({ firstFailure }) => firstFailure !== undefined);
  const isGood = sum("failed") === 0 && extent !== "stopped";
  const verdict = sum("failed") > 0 ? "✕ failed" : verdicts[extent];
  const table = (
    <TableView caption={`Promises of the contract on ${configuration}`} table={verificationTable({ groups })} />
  );
  if (isFolded) {
    return (
      <details>
        <summary>
          {configuration} <span class="verdict good">{verdict}</span>
        </summary>
        {table}
      </details>
    );
  }
  return (
    <article class="card">
      <h3>
        {configuration} <span class={isGood ? "verdict good" : "verdict bad"}>{verdict}</span>
      </h3>
      <p>
        {formatCount(sum("passed"))} passed, {formatCount(sum("failed"))} failed, {formatCount(sum("skipped"))} beyond
        the largest K of the device.
      </p>
      {failures.map(({ promise, firstFailure }) => (
        <div key={promise} class="failure">
          <h4>First failure: {promise}</h4>
          <pre>{firstFailure}</pre>
        </div>
      ))}
      {table}
    </article>
  );
}
