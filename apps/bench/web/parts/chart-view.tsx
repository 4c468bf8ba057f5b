/** A chart with its table, and the ways to save it. It is drawn anew when its width changes. */
import { useEffect, useRef, useState } from "preact/hooks";
import type { Chart } from "../../src/charts/index.js";
import { serializeChart } from "../../src/charts/serialize.js";
import { saveText } from "./save.js";
import { TableView } from "./table-view.js";

const SAVED_WIDTH = 900;

/** @param isCard it stands by itself, and not under a question that it answers. */
export function ChartView({ chart, isCard = false }: { chart: Chart; isCard?: boolean }) {
  const place = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);

  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(Math.floor(entry!.contentRect.width)));
    observer.observe(place.current!);
    return () => observer.disconnect();
  }, []);

  useEffect(() => {
    if (width < 100) return; // not shown
    const drawn = chart.draw({ document, width, hover: true });
    drawn.setAttribute("role", "img");
    drawn.setAttribute("aria-label", `${chart.title}. The table below the chart has its figures.`);
    place.current!.replaceChildren(drawn);
  }, [chart, width]);

  const saveSvg = () => {
    const drawn = chart.draw({ document, width: SAVED_WIDTH, hover: false });
    saveText(`${chart.name}.svg`, "image/svg+xml", serializeChart(drawn, chart));
  };
  const saveJson = () => {
    const { name, title, note, table } = chart;
    const columns = table.columns.map(({ head }) => head);
    saveText(
      `${chart.name}.json`,
      "application/json",
      `${JSON.stringify({ name, title, note, columns, rows: table.rows }, null, 1)}\n`,
    );
  };

  return (
    <figure class={isCard ? "card" : ""}>
      <figcaption>
        {isCard ? <h3>{chart.title}</h3> : <h4>{chart.title}</h4>}
        {isCard && <p>{chart.answer}</p>}
        <p class="faint">{chart.note}</p>
      </figcaption>
      <div ref={place} class="chart" />
      <details>
        <summary>Table of “{chart.title}”</summary>
        <TableView caption={chart.title} table={chart.table} />
      </details>
      <div class="buttons">
        <button type="button" onClick={saveSvg}>
          Save SVG <span class="unseen">of “{chart.title}”</span>
        </button>
        <button type="button" onClick={saveJson}>
          Save JSON <span class="unseen">of “{chart.title}”</span>
        </button>
      </div>
    </figure>
  );
}
