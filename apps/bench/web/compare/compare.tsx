/** The tab Compare: result files of any machine on the same axes, a section for each question they answer. */
import { useMemo } from "preact/hooks";
import { chartsOf } from "../../src/charts/index.js";
import type { NamedResult } from "../../src/device-labels.js";
import { formatCount } from "../../src/format.js";
import { describeCommand, describeMachine, drawChecks, verificationTotals } from "../../src/result-tables.js";
import type { VerificationRecord } from "../../src/schema.js";
import { ChartView } from "../parts/chart-view.js";
import { useResults } from "../parts/results.js";
import { TableView } from "../parts/table-view.js";
import { useSet } from "../parts/use-set.js";
import { VerificationView } from "../verify/verification-view.js";
import { Changes } from "./changes.js";
import { Files } from "./files.js";
import { FilterView, useFilter } from "./filter.js";
import { Question } from "./question.js";

export function Compare() {
  const results = useResults();
  const [hidden, toggleFile] = useSet("compare", "without");
  const [open, toggleQuestion] = useSet("compare", "open", "time");
  const chosen = useMemo(() => results.filter(({ name }) => !hidden.has(name)), [results, [...hidden].join()]);
  const filter = useFilter(chosen);
  const charts = useMemo(() => chartsOf(filter.kept), [filter.kept]);
  const measured = filter.kept.filter(({ file }) => file.measurements.length > 0);
  const verified = chosen.flatMap(({ name, file }) => file.verifications.map((record) => ({ name, record })));

  const question = (name: string) => ({
    isOpen: open.has(name),
    onToggle: (isOpen: boolean) => toggleQuestion(name, isOpen),
  });
  return (
    <>
      <div class="card">
        <FilterView filter={filter} />
        <Files results={results} hidden={hidden} onToggle={toggleFile} />
      </div>
      {charts.length === 0 && <p class="card">No measurements in what is chosen.</p>}
      {charts.map((chart) => (
        <Question key={chart.name} question={chart.question} answer={chart.answer} {...question(chart.name)}>
          <ChartView chart={chart} />
        </Question>
      ))}
      {measured.length + verified.length > 0 && (
        <Question question="Is it right?" answer={rightness(measured, verified)} {...question("right")}>
          {measured.map(({ name, file }) => (
            <p key={name}>
              <strong>{name}</strong> {drawChecks(file.measurements)}
            </p>
          ))}
          {verified.length > 0 && (
            <TableView
              caption="The conformance cases"
              table={verificationTotals(
                verified.map(({ name, record }) => ({
                  ...record,
                  configuration: `${record.configuration} · ${name}`,
                })),
              )}
            />
          )}
          {verified.map(({ name, record }) => (
            <VerificationView
              key={`${name} ${record.configuration}`}
              configuration={`${record.configuration} · ${name}`}
              groups={record.groups}
              isFolded={record.failed === 0}
            />
          ))}
        </Question>
      )}
      {measured.length > 1 && (
        <Question
          question="What changed from one file to another?"
          answer="Two files of one machine side by side, with the noise of both"
          {...question("changes")}
        >
          <Changes measured={measured} />
        </Question>
      )}
      {chosen.length > 0 && (
        <Question
          question="Where do these figures come from?"
          answer={`${chosen.length} result files, each with its machine and the command that made it`}
          {...question("sources")}
        >
          {chosen.map(({ name, file }) => (
            <section key={name} aria-label={name}>
              <h4>{name}</h4>
              <pre class="machine">{describeMachine(file)}</pre>
              <p>
                Command: <code>{describeCommand(file)}</code>, version {file.version}, seed {file.seed}.
              </p>
            </section>
          ))}
        </Question>
      )}
    </>
  );
}

function rightness(measured: readonly NamedResult[], verified: readonly { record: VerificationRecord }[]): string {
  const checks = measured.flatMap(({ file }) => file.measurements.flatMap(({ check }) => check ?? []));
  const wrong = checks.filter(({ passed }) => !passed).length;
  const sum = (key: "passed" | "failed") => verified.reduce((total, { record }) => total + record[key], 0);
  return [
    ...(checks.length === 0
      ? []
      : [`${formatCount(wrong)} of ${formatCount(checks.length)} measured results are wrong`]),
    ...(verified.length === 0
      ? []
      : [`${formatCount(sum("passed"))} conformance cases passed, ${formatCount(sum("failed"))} failed`]),
  ].join("; ");
}
