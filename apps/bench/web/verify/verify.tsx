/** The tab Verify: the conformance cases on the backends of this browser, live. */
import { useState } from "preact/hooks";
import { formatCount } from "../../src/format.js";
import type { CaseGroupRecord, ResultFile, VerificationRecord } from "../../src/schema.js";
import { useSetting } from "../link.js";
import { useBackends } from "../parts/devices-view.js";
import { JobView } from "../parts/job-view.js";
import { addResult } from "../parts/results.js";
import { SaveResult } from "../parts/save-result.js";
import { useJob } from "../worker/job.js";
import { VerificationView } from "./verification-view.js";

interface Running {
  configuration: string;
  groups: CaseGroupRecord[];
}

export function Verify() {
  const { backends, choice } = useBackends("verify");
  const [set, chooseSet] = useSetting("verify", "set", "quick", (value) => value === "full");
  const [result, setResult] = useState<ResultFile>();
  const [running, setRunning] = useState<Running>();
  const { state, start, cancel } = useJob((event) => {
    if (event.type === "result") {
      setResult(event.result);
      setRunning(undefined);
      addResult({ name: "verify, this browser", file: event.result });
    }
    if (event.type === "group") {
      setRunning((last) => ({
        configuration: event.configuration,
        groups: [...(last?.configuration === event.configuration ? last.groups : []), event.group],
      }));
    }
  });

  const submit = (event: Event) => {
    event.preventDefault();
    setResult(undefined);
    setRunning(undefined);
    start({ type: "verify", backends, set: set === "full" ? "full" : "quick" });
  };

  return (
    <>
      <form class="card" onSubmit={submit}>
        {choice}
        <label class="field">
          <span>Cases</span>
          <select value={set} onChange={(event) => chooseSet(event.currentTarget.value)}>
            <option value="quick">quick: every promise, about half a minute</option>
            <option value="full">full: the whole matrix, up to an hour</option>
          </select>
        </label>
        <JobView action="Verify" state={state} isBlocked={backends.length === 0} onCancel={cancel}>
          {state.status !== "running" && <SaveResult name="verify.json" result={result} />}
        </JobView>
      </form>
      {state.status === "done" && result !== undefined && <Total records={result.verifications} />}
      {result?.verifications.map((record) => (
        <VerificationView key={record.configuration} {...record} />
      ))}
      {running !== undefined && (
        <VerificationView {...running} extent={state.status === "running" ? "running" : "stopped"} />
      )}
    </>
  );
}

function Total({ records }: { records: readonly VerificationRecord[] }) {
  const sum = (key: "passed" | "failed") => records.reduce((total, record) => total + record[key], 0);
  const isGood = sum("failed") === 0;
  return (
    <p class="card">
      <strong class={isGood ? "verdict good" : "verdict bad"}>
        {isGood ? "✓ The contract holds." : "✕ The contract is broken."}
      </strong>{" "}
      {formatCount(sum("passed"))} cases passed and {formatCount(sum("failed"))} failed, in {records.length}{" "}
      {records.length === 1 ? "configuration" : "configurations"} of the backends.
    </p>
  );
}
