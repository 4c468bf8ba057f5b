/** The page: a header, four tabs, and what is under each. A tab that was opened stays, so its work goes on behind others. */
import type { ComponentType } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { version } from "../src/new-result.js";
import { Compare } from "./compare/compare.js";
import { Generate } from "./generate/generate.js";
import { type Tab, tabHref, tabs, useTab } from "./link.js";
import { Measure } from "./measure/measure.js";
import { Verify } from "./verify/verify.js";

const panels: Readonly<Record<Tab, { title: string; summary: string; Panel: ComponentType }>> = {
  measure: { title: "Measure", summary: "How fast it is in this browser, beside what it replaces.", Panel: Measure },
  compare: { title: "Compare", summary: "Result files of any machine on the same axes.", Panel: Compare },
  verify: { title: "Verify", summary: "The contract, case by case, against the float64 reference.", Panel: Verify },
  generate: {
    title: "Generate",
    summary: "A small language model writes Python, and shows what it weighs.",
    Panel: Generate,
  },
};

export function App() {
  const tab = useTab();
  const [opened, setOpened] = useState<ReadonlySet<Tab>>(new Set([tab]));
  if (!opened.has(tab)) setOpened(new Set([...opened, tab]));
  const main = useRef<HTMLElement>(null);
  const isFirst = useRef(true);
  useEffect(() => {
    document.title = `${panels[tab].title} · fused-topk bench`;
    // Who followed a link with the keyboard goes on in what it opened.
    if (!isFirst.current) main.current?.focus({ preventScroll: true });
    isFirst.current = false;
  }, [tab]);

  return (
    <>
      <header>
        <a
          class="skip"
          href={tabHref(tab)}
          onClick={(event) => {
            event.preventDefault();
            main.current?.focus();
          }}
        >
          Skip to the content
        </a>
        <div class="title">
          <h1>fused-topk</h1>
          <p class="faint">Logits in, the K best tokens with their true probabilities out, in one read of memory.</p>
        </div>
        <nav aria-label="Sections">
          {tabs.map((name) => (
            <a
              key={name}
              href={tabHref(name)}
              aria-current={name === tab ? "page" : undefined}
              onClick={({ currentTarget }) => {
                currentTarget.href = tabHref(name);
              }}
            >
              {panels[name].title}
            </a>
          ))}
        </nav>
      </header>
      <main ref={main} tabIndex={-1}>
        {tabs
          .filter((name) => opened.has(name))
          .map((name) => {
            const { title, summary, Panel } = panels[name];
            return (
              <section key={name} hidden={name !== tab} aria-labelledby={`title-${name}`}>
                <h2 id={`title-${name}`}>{title}</h2>
                <p class="faint">{summary}</p>
                <Panel />
              </section>
            );
          })}
      </main>
      <footer class="faint">fused-topk {version}. Everything runs in this page; nothing is sent anywhere.</footer>
    </>
  );
}
