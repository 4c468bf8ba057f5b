/** The key of a chart of curves. No Node here. */
import * as Plot from "@observablehq/plot";
import { FONT } from "./chart.js";

/** From the left edge of a chart's frame to the edge of the chart. */
const LEFT = 52;
/** Between the key and the frame, where the label of the axis stands. */
const GAP = 24;

/** The key of a chart of curves, inside it, so that a saved file has it too: devices by shape and colour, variants by dash. */
export function legendMarks(
  devices: readonly string[],
  keys: readonly string[],
  width: number,
): { marks: Plot.Markish[]; height: number } {
  const marks: Plot.Markish[] = [];
  const line = 18;
  const items = [
    ...keys.map((text) => ({ text, device: undefined })),
    ...devices.map((text) => ({ text, device: text })),
  ];
  let x = 0;
  let y = 0;
  const placed = items.map(({ text, device }, i) => {
    const size = text.length * FONT * 0.6 + (device === undefined ? 0 : 14) + 16;
    if (x > 0 && (x + size > width - 20 || i === keys.length)) {
      x = 0;
      y += line;
    }
    const at = { text, device, x, y };
    x += size;
    return at;
  });
  const height = y + line + 4; // room for the ascenders of the first line
  for (const { text, device, x, y } of placed) {
    const dx = x - LEFT;
    const dy = y - height - GAP;
    if (device !== undefined)
      marks.push(
        Plot.dot([device], {
          frameAnchor: "top-left",
          dx: dx + 4,
          dy: dy + 5,
          symbol: (d: string) => d,
          fill: (d: string) => d,
          r: 4.5,
        }),
      );
    marks.push(
      Plot.text([text], {
        frameAnchor: "top-left",
        textAnchor: "start",
        dx: dx + (device === undefined ? 0 : 14),
        dy,
        fill: "currentColor",
      }),
    );
  }
  return { marks, height: height + GAP };
}
