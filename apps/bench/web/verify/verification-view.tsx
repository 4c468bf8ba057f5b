/** The outcome of the conformance cases on one backend: counts, largest errors, and the first failing case in full. */
import { formatCount } from "../../src/format.js";
import { verificationTable } from "../../src/result-tables.js";
import type { CaseGroupRecord } from "../../src/schema.js";
import { TableView } from "../parts/table-view.js";

interface Props {
  configuration: string;
  groups: readonly CaseGroupRecord[];
  isRunning?: boolean;
  /** Its table is behind a click. */
  isFolded?: boolean;
}

export function VerificationView({ configuration, groups, isRunning = false, isFolded = false }: Props) {
  const sum = (key: "passed" | "failed" | "skipped") => groups.reduce((total, group) => total + group[key], 0);
  const failures = groups.filter(({ firstFailure }) => firstFailure !== undefined);
  const verdict = sum("failed") > 0 ? "✕ failed" : isRunning ? "… so far" : "✓ passed";
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
        {configuration} <span class={sum("failed") > 0 ? "verdict bad" : "verdict good"}>{verdict}</span>
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
