/** What a run measured: the charts of it, every figure, what could not be measured, and whether all of it was right. */
import { useMemo } from "preact/hooks";
import { chartsOf } from "../../src/charts/index.js";
import { drawChecks, drawSkipped, groupBy, scenarioTable, scenarioTitle } from "../../src/result-tables.js";
import type { ResultFile } from "../../src/schema.js";
import { ChartView } from "../parts/chart-view.js";
import { Problem } from "../parts/problem.js";
import { TableView } from "../parts/table-view.js";

/** Those that need no second device to mean something. */
const shown = ["time", "hostile", "peers", "growth-vocab", "growth-rows", "growth-k"];

export function MeasuredView({ result }: { result: ResultFile }) {
  const charts = useMemo(
    () => chartsOf([{ name: "this browser", file: result }]).filter(({ name }) => shown.includes(name)),
    [result],
  );
  const beyond = drawSkipped(result.skipped.filter(({ fault }) => !fault));
  const wrongPeers = (result.peers ?? []).filter(({ check }) => !check.passed);
  const isSoftware = result.measurements.some(({ deviceKind }) => deviceKind === "software");
  return (
    <>
      <section class="card" aria-label="Checks">
        <p>{drawChecks(result.measurements)}</p>
        {isSoftware && <p>The WebGPU adapter is software: it runs on the CPU, so its times say nothing about a GPU.</p>}
        {drawSkipped(result.skipped.filter(({ fault }) => fault)).map((line) => (
          <Problem key={line} message={line} />
        ))}
        {wrongPeers.map((m) => (
          <Problem key={`${m.peer} ${scenarioTitle(m)}`} message={`WRONG: ${m.peer} on ${scenarioTitle(m)}.`} />
        ))}
        {result.absentPeers?.map(({ peer, reason }) => (
          <Problem key={`${peer} ${reason}`} message={`${peer} does not run here: ${reason}`} />
        ))}
        {beyond.length > 0 && (
          <ul class="skipped">
            {beyond.map((line) => (
              <li key={line}>{line}</li>
            ))}
          </ul>
        )}
      </section>
      {charts.map((chart) => (
        <ChartView key={chart.name} chart={chart} isCard />
      ))}
      {[...groupBy(result.measurements, scenarioTitle)].map(([title, ofScenario]) => (
        <details key={title} class="card">
          <summary>Every figure of {title}</summary>
          <TableView caption={title} table={scenarioTable(ofScenario)} />
        </details>
      ))}
    </>
  );
}
