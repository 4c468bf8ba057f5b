import { parseHTML } from "linkedom";
import { describe, expect, it } from "vitest";
import { chartsOf } from "../src/charts/index.js";
import { serializeChart } from "../src/charts/serialize.js";
import { deviceLabels } from "../src/device-labels.js";
import { measurement, resultFile } from "./fixtures.js";

const file = {
  ...resultFile(),
  measurements: [
    ...resultFile().measurements,
    measurement({ group: "scaling-vocab", vocab: 4096, median: 40 }),
    measurement({ variant: "read-floor", gigabytesPerSecond: 4000, median: 9 }),
  ],
};
const charts = chartsOf([{ name: "a.json", file }]);
const chart = (name: string) => charts.find((chart) => chart.name === name)!;

describe("charts", () => {
  it("are those that the files have figures for", () => {
    expect(charts.map(({ name }) => name)).toEqual(["time", "bandwidth", "memory", "hostile", "growth-vocab"]);
    expect(chartsOf([{ name: "b.json", file: { ...file, measurements: [] } }])).toEqual([]);
  });

  it("have the same figures as their tables", () => {
    expect(chart("time").table.rows[0]).toEqual([
      "64 x 128256, K 50, f32, random",
      "cuda, A GPU",
      "fused",
      "11 us",
      "1.10",
      "9.09",
    ]);
    // The ceiling is the best read floor of the device.
    expect(chart("bandwidth").table.rows[0]!.slice(1)).toEqual(["cuda, A GPU", "2985", "4000", "75 %"]);
    expect(chart("hostile").table.rows).toEqual([
      ["64 x 128256, K 50, f32", "cuda, A GPU", "ascending", "22 us", "2.00"],
    ]);
    expect(chart("memory").table.rows[0]!.slice(2)).toEqual(["fused", "25.9 kB", "0.079 %", "0 B"]);
  });

  it("answer their question in a line, for the GPUs alone where there are any", () => {
    expect(chart("time").answer).toBe(
      "cuda, A GPU: 1.10 times the read floor, in the median 9.09 times as fast as unfused",
    );
    expect(chart("bandwidth").answer).toBe("cuda, A GPU: up to 75 % of the best read");
    expect(chart("hostile").answer).toBe("cuda, A GPU: 2.00 times the time on random ones");
    expect(chart("growth-vocab").answer).toBe("cuda, A GPU: as vocabulary^0.93");
  });

  it("are drawn the same every time, as SVG that stands alone", () => {
    const { document } = parseHTML("<html><body></body></html>");
    for (const chart of charts) {
      const drawn = () => serializeChart(chart.draw({ document, width: 600, hover: false }), chart);
      expect(drawn()).toBe(drawn());
      expect(drawn()).toMatch(/^<svg [^>]*xmlns="http:\/\/www.w3.org\/2000\/svg"/);
      expect(drawn()).toContain(`<title>${chart.title}. `);
      expect(drawn()).not.toMatch(/NaN|Infinity|undefined/);
    }
  });
});

describe("devices of several files", () => {
  it("are told apart by the file where both measured the same", () => {
    const [a, b] = [resultFile(), resultFile()];
    b.devices[0]!.name = "Another GPU";
    const labels = deviceLabels([
      { name: "a.json", file: a },
      { name: "b.json", file: b },
    ]);
    expect([...labels.get(a)!.values()]).toEqual(["cuda, A GPU", "webgpu (software), a"]);
    expect([...labels.get(b)!.values()]).toEqual(["cuda, Another GPU", "webgpu (software), b"]);
  });
});
