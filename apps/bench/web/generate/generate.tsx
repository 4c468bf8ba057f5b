/** The tab Generate: a model in the page continues a Python file, and shows what it weighs at each token. */
import { useState } from "preact/hooks";
import { useSetting } from "../link.js";
import { JobView } from "../parts/job-view.js";
import { useWorker } from "../worker/job.js";
import { CandidatesView } from "./candidates-view.js";
import type { GenerateEvent, GenerateRequest, Step } from "./protocol.js";
import { ReadbackView } from "./readback-view.js";

const PROMPT = "import numpy as np\n\n\ndef mean(";

type Ready = Extract<GenerateEvent, { type: "ready" }>;

export function Generate() {
  const [prompt, setPrompt] = useSetting("generate", "prompt", PROMPT);
  const [temperature, setTemperature] = useSetting("generate", "temperature", "0.8", isNumber(0.05, 2));
  const [k, setK] = useSetting("generate", "k", "20", isNumber(1, 200));
  const [seed, setSeed] = useSetting("generate", "seed", "1", isNumber(0, 2 ** 32 - 1));
  const [tokens, setTokens] = useSetting("generate", "tokens", "40", isNumber(1, 200));
  const [engine, setEngine] = useSetting("generate", "engine", "webgpu", (value) => value === "wasm");
  const [ready, setReady] = useState<Ready>();
  const [written, setWritten] = useState<{ prompt: string; steps: Step[] }>({ prompt: "", steps: [] });
  const [chosen, setChosen] = useState<number>();
  const { state, start, cancel } = useWorker<GenerateRequest, GenerateEvent>(
    () => new Worker(new URL("./worker.ts", import.meta.url), { type: "module" }),
    (event) => {
      if (event.type === "ready") setReady(event);
      if (event.type === "step") setWritten(({ prompt, steps }) => ({ prompt, steps: [...steps, event.step] }));
    },
    true, // it holds the model, which a cancelled one takes with it: it is then loaded from the browser's cache
  );

  const submit = (event: Event) => {
    event.preventDefault();
    setWritten({ prompt, steps: [] });
    setChosen(undefined);
    start({
      engine: engine === "wasm" ? "wasm" : "webgpu",
      prompt,
      temperature: Number(temperature),
      k: Number(k),
      seed: Number(seed),
      tokens: Number(tokens),
    });
  };

  const { steps } = written;
  const at = Math.min(chosen ?? steps.length - 1, steps.length - 1);
  const number = (name: string, value: string, set: (value: string) => void, least: number, most: number) => (
    <label class="field">
      <span>{name}</span>
      <input
        type="number"
        required
        min={least}
        max={most}
        step={1}
        value={value}
        onInput={(event) => set(event.currentTarget.value)}
      />
    </label>
  );

  return (
    <>
      <form class="card" onSubmit={submit}>
        <label class="field">
          <span>The start of a Python file</span>
          <textarea
            class="code"
            rows={6}
            spellcheck={false}
            value={prompt}
            onInput={(event) => setPrompt(event.currentTarget.value)}
          />
        </label>
        <div class="fields">
          <label class="field wide">
            <span>Temperature: {Number(temperature).toFixed(2)}</span>
            <input
              type="range"
              min={0.05}
              max={2}
              step={0.05}
              value={temperature}
              onInput={(event) => setTemperature(event.currentTarget.value)}
            />
          </label>
          {number("K, how many are weighed", k, setK, 1, 200)}
          {number("Seed", seed, setSeed, 0, 2 ** 32 - 1)}
          {number("Tokens to write", tokens, setTokens, 1, 200)}
          <label class="field">
            <span>Runs on</span>
            <select value={engine} onChange={(event) => setEngine(event.currentTarget.value)}>
              <option value="webgpu">WebGPU, if it is here</option>
              <option value="wasm">WebAssembly</option>
            </select>
          </label>
        </div>
        <JobView
          action="Generate"
          state={state}
          hint="The model and its engine are 42 MB. They are loaded when you generate."
          onCancel={cancel}
        />
        {ready !== undefined && (
          <p>
            Runs on {ready.runsOn}.{ready.fallback !== undefined && ` Not on WebGPU: ${ready.fallback}`}
          </p>
        )}
      </form>
      {written.prompt !== "" && (
        <section class="card" aria-label="What was written">
          <h3>Written</h3>
          <pre class="code written">
            <span class="prompt">{written.prompt}</span>
            {steps.map(({ text }, i) => (
              // biome-ignore lint/a11y/noStaticElementInteractions: a short cut for the slider below
              // biome-ignore lint/a11y/useKeyWithClickEvents: a short cut for the slider below
              <span key={`${i} ${text}`} class={i === at ? "token chosen" : "token"} onClick={() => setChosen(i)}>
                {text}
              </span>
            ))}
          </pre>
          {steps.length > 0 && (
            <>
              <label class="field">
                <span>
                  Token {at + 1} of {steps.length}
                </span>
                <input
                  type="range"
                  min={1}
                  max={steps.length}
                  value={at + 1}
                  onInput={(event) => setChosen(Number(event.currentTarget.value) - 1)}
                />
              </label>
              <CandidatesView step={steps[at]!} />
            </>
          )}
        </section>
      )}
      {ready !== undefined && steps.length > 0 && <ReadbackView step={steps[at]!} steps={steps} onGpu={ready.onGpu} />}
    </>
  );
}

function isNumber(least: number, most: number): (value: string) => boolean {
  return (value) => value.trim() !== "" && Number(value) >= least && Number(value) <= most;
}
