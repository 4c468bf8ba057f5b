/** The result files: which of them are shown, and a way to load more. */
import { useEffect, useRef, useState } from "preact/hooks";
import type { NamedResult } from "../../src/device-labels.js";
import type { ResultFile } from "../../src/schema.js";
import { Problem } from "../parts/problem.js";
import { addResultText } from "../parts/results.js";

interface Props {
  results: readonly NamedResult[];
  hidden: ReadonlySet<string>;
  onToggle(name: string, isHidden: boolean): void;
}

export function Files({ results, hidden, onToggle }: Props) {
  const [problems, setProblems] = useState<readonly string[]>([]);
  const [isOver, setOver] = useState(false);
  const input = useRef<HTMLInputElement>(null);

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

  const shown = results.filter(({ name }) => !hidden.has(name)).length;
  return (
    <>
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
        <p>Drop result files of your own here, or</p>
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
      <details>
        <summary>
          {shown} of {results.length} result files are shown
        </summary>
        <fieldset>
          <legend class="unseen">Result files</legend>
          {results.map(({ name, file }) => (
            <label key={name}>
              <input
                type="checkbox"
                checked={!hidden.has(name)}
                onChange={(event) => onToggle(name, !event.currentTarget.checked)}
              />
              <span>
                <strong>{name}</strong> {file.date.slice(0, 10)}, {contentsOf(file)}
              </span>
            </label>
          ))}
        </fieldset>
      </details>
    </>
  );
}

function contentsOf({ measurements, verifications, peers = [] }: ResultFile): string {
  const parts = [
    ...(measurements.length > 0 ? [`${measurements.length} measurements`] : []),
    ...(peers.length > 0 ? [`${peers.length} measurements of peers`] : []),
    ...(verifications.length > 0 ? [`${verifications.length} conformance runs`] : []),
  ];
  return parts.join(", ") || "empty";
}
