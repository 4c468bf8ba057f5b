/** The tab Measure: times in this browser, beside what the fused kernel replaces and beside a kernel that only reads. */
import type { DType } from "@fused-topk/core";
import { useMemo, useState } from "preact/hooks";
import { type DataKind, dataKinds } from "../../src/data.js";
import type { ResultFile } from "../../src/schema.js";
import { checkShapeName, shapeGroups } from "../../src/shapes.js";
import { useSetting } from "../link.js";
import { useBackends } from "../parts/devices-view.js";
import { JobView } from "../parts/job-view.js";
import { addResult } from "../parts/results.js";
import { SaveResult } from "../parts/save-result.js";
import { useSet } from "../parts/use-set.js";
import { peerNames } from "../peers/names.js";
import { useJob } from "../worker/job.js";
import { MeasuredView } from "./measured-view.js";

const SMALL = "1x128256,4x50257:256,1024x256:8";
const presets: readonly (readonly [name: string, shapes: string])[] = [
  ["one shape of each kind, small", SMALL],
  ...Object.entries(shapeGroups)
    .filter(([name]) => name !== "exp")
    .map(([name, { summary }]) => [`${name}: ${summary}`, name] as const),
];
const dtypes: readonly DType[] = ["f32", "f16", "bf16"];
const kindsOfData: readonly (readonly [value: DataKind | "sample", text: string])[] = [
  ["random", "random"],
  ["sample", "real logits (8 rows of a code model, vocabulary 50257)"],
  ...dataKinds.filter((kind) => kind !== "random").map((kind) => [kind, `hostile: ${kind}`] as const),
];

export function Measure() {
  const { backends, choice } = useBackends("measure");
  const [shapes, setShapes] = useSetting("measure", "shapes", SMALL);
  const [k, setK] = useSetting("measure", "k", "");
  const [dtype, setDtype] = useSetting("measure", "dtype", "f32", (value) => dtypes.some((name) => name === value));
  const [data, setData] = useSetting("measure", "data", "random", (value) =>
    kindsOfData.some(([kind]) => kind === value),
  );
  const [effort, setEffort] = useSetting("measure", "effort", "quick", (value) => value === "thorough");
  const [peers, togglePeer] = useSet("measure", "peers");
  const [result, setResult] = useState<ResultFile>();
  const { state, start, cancel } = useJob((event) => {
    if (event.type !== "result") return;
    setResult(event.result);
    addResult({ name: "this browser", file: event.result });
  });
  const wrong = useMemo(() => problemWith(shapes, k), [shapes, k]);

  const submit = (event: Event) => {
    event.preventDefault();
    setResult(undefined);
    start({
      type: "measure",
      backends,
      shapes: split(shapes),
      ...(k.trim() !== "" && { k: split(k).map(Number) }),
      dtypes: [dtype as DType],
      data: data as DataKind | "sample",
      seed: 1,
      quick: effort === "quick",
      peers: peerNames.filter((name) => peers.has(name)),
    });
  };

  return (
    <>
      <form class="card" onSubmit={submit}>
        {choice}
        <div class="fields">
          <label class="field wide">
            <span>Preset</span>
            <select
              value={presets.some(([, value]) => value === shapes) ? shapes : ""}
              onChange={({ currentTarget: { value } }) => value !== "" && setShapes(value)}
            >
              <option value="">shapes of your own</option>
              {presets.map(([name, value]) => (
                <option key={value} value={value}>
                  {name}
                </option>
              ))}
            </select>
          </label>
          <label class="field wide">
            <span>Shapes, as rows x vocabulary : K</span>
            <input
              value={shapes}
              spellcheck={false}
              autocomplete="off"
              aria-invalid={wrong !== undefined}
              aria-describedby="shapes-problem"
              onInput={(event) => setShapes(event.currentTarget.value)}
            />
          </label>
          <label class="field">
            <span>K, for every shape</span>
            <input
              value={k}
              inputMode="numeric"
              autocomplete="off"
              placeholder="its own"
              aria-describedby="shapes-problem"
              onInput={(event) => setK(event.currentTarget.value)}
            />
          </label>
          <label class="field">
            <span>Type</span>
            <select value={dtype} onChange={(event) => setDtype(event.currentTarget.value)}>
              {dtypes.map((name) => (
                <option key={name}>{name}</option>
              ))}
            </select>
          </label>
          <label class="field">
            <span>Logits</span>
            <select value={data} onChange={(event) => setData(event.currentTarget.value)}>
              {kindsOfData.map(([value, text]) => (
                <option key={value} value={value}>
                  {text}
                </option>
              ))}
            </select>
          </label>
          <label class="field">
            <span>Effort</span>
            <select value={effort} onChange={(event) => setEffort(event.currentTarget.value)}>
              <option value="quick">quick, 5 timings</option>
              <option value="thorough">thorough, 20 to 50 timings</option>
            </select>
          </label>
        </div>
        <details class="peers" open={peers.size > 0}>
          <summary>Beside other libraries</summary>
          <fieldset>
            <legend>Peers</legend>
            <p class="faint">Each is loaded when it is asked for. They take float32 logits from an array.</p>
            {peerNames.map((name) => (
              <label key={name}>
                <input
                  type="checkbox"
                  checked={peers.has(name)}
                  onChange={(event) => togglePeer(name, event.currentTarget.checked)}
                />
                <span>{name}</span>
              </label>
            ))}
          </fieldset>
        </details>
        <p id="shapes-problem" class="hint" aria-live="polite">
          {wrong === undefined ? "" : `✕ ${wrong}`}
        </p>
        <JobView
          action="Measure"
          state={state}
          isBlocked={backends.length === 0 || wrong !== undefined}
          onCancel={cancel}
        >
          {state.status !== "running" && <SaveResult name="result.json" result={result} />}
        </JobView>
      </form>
      {result !== undefined && <MeasuredView result={result} />}
    </>
  );
}

function split(list: string): string[] {
  return list.split(",").map((item) => item.trim());
}

/** What is wrong with the shapes or K, in words; undefined when all is well. */
function problemWith(shapes: string, k: string): string | undefined {
  try {
    split(shapes).forEach(checkShapeName);
  } catch (error) {
    return (error as Error).message.replaceAll("--shapes", "shapes"); // the command line calls them by its option
  }
  if (k.trim() === "" || split(k).every((item) => /^[1-9]\d{0,8}$/.test(item))) return undefined;
  return `Expected integers from 1 for K but received "${k}". Write for instance 50, or leave it empty.`;
}
