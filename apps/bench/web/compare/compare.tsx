/** The tab Compare: result files of any machine on the same axes. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { chartsOf } from "../../src/charts/index.js";
import { describeCommand, describeMachine } from "../../src/result-tables.js";
import { ChartView } from "../parts/chart-view.js";
import { Problem } from "../parts/problem.js";
import { addResultText, useResults } from "../parts/results.js";
import { useSet } from "../parts/use-set.js";
import { VerificationView } from "../verify/verification-view.js";
import { Changes } from "./changes.js";
import { FilterView, useFilter } from "./filter.js";

export function Compare() {
  const results = useResults();
  const [hidden, toggle] = useSet("compare", "without");
  const [problems, setProblems] = useState<readonly string[]>([]);
  const [isOver, setOver] = useState(false);
  const input = useRef<HTMLInputElement>(null);
  const chosen = useMemo(() => results.filter(({ name }) => !hidden.has(name)), [results, [...hidden].join()]);
  const filter = useFilter(chosen);
  const charts = useMemo(() => chartsOf(filter.kept), [filter.kept]);

  const load = async (files: Iterable<File>) => {
    const failed: string[] = [];
    for (const file of files) {
      try {
        addResultText(file.name, await file.text());
      } catch (error) {
        failed.push((error as Error).message);
      }
    }
    setProblems(failed);
  };

  // A file dropped beside the box would otherwise take the page's place.
  useEffect(() => {
    const keep = (event: DragEvent) => event.preventDefault();
    addEventListener("dragover", keep);
    addEventListener("drop", keep);
    return () => {
      removeEventListener("dragover", keep);
      removeEventListener("drop", keep);
    };
  }, []);

  return (
    <>
      <div class="card">
        <fieldset>
          <legend>Result files</legend>
          {results.map(({ name, file }) => (
            <label key={name}>
              <input
                type="checkbox"
                checked={!hidden.has(name)}
                onChange={(event) => toggle(name, !event.currentTarget.checked)}
              />
              <span>
                <strong>{name}</strong> {file.date.slice(0, 10)},{" "}
                {contentsOf(file.measurements.length, file.verifications.length)}
              </span>
            </label>
          ))}
        </fieldset>
        {/* biome-ignore lint/a11y/noStaticElementInteractions: the button in it does the same for the keyboard */}
        <div
          class={isOver ? "drop over" : "drop"}
          onDragOver={() => setOver(true)}
          onDragLeave={() => setOver(false)}
          onDrop={(event) => {
            setOver(false);
            void load(event.dataTransfer?.files ?? []);
          }}
        >
          <p>Drop result files here, or</p>
          <button type="button" onClick={() => input.current?.click()}>
            Load result files
          </button>
          <input
            ref={input}
            type="file"
            accept=".json,application/json"
            multiple
            hidden
            onChange={async ({ currentTarget }) => {
              await load(currentTarget.files ?? []);
              currentTarget.value = ""; // the same file may be chosen again
            }}
          />
        </div>
        {problems.map((message) => (
          <Problem key={message} message={message} />
        ))}
        <FilterView filter={filter} />
      </div>
      {chosen.length > 0 && (
        <details class="card">
          <summary>Where these files come from</summary>
          {chosen.map(({ name, file }) => (
            <section key={name} aria-label={name}>
              <h3>{name}</h3>
              <pre class="machine">{describeMachine(file)}</pre>
              <p>
                Command: <code>{describeCommand(file)}</code>, version {file.version}, seed {file.seed}.
              </p>
            </section>
          ))}
        </details>
      )}
      <Changes results={filter.kept} />
      {charts.length === 0 && <p class="card">No measurements in what is chosen.</p>}
      {charts.map((chart) => (
        <ChartView key={chart.name} chart={chart} />
      ))}
      {chosen.flatMap(({ name, file }) =>
        file.verifications.map((record) => (
          <VerificationView
            key={`${name} ${record.configuration}`}
            configuration={`${record.configuration} · ${name}`}
            groups={record.groups}
          />
        )),
      )}
    </>
  );
}

function contentsOf(measurements: number, verifications: number): string {
  const parts = [
    ...(measurements > 0 ? [`${measurements} measurements`] : []),
    ...(verifications > 0 ? [`${verifications} conformance runs`] : []),
  ];
  return parts.join(", ") || "empty";
}
