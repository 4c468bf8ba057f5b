/** A chart as the text of an SVG file, readable on light and dark pages alike. No Node here. */
import type { Chart } from "./chart.js";

/** @param drawn what `chart.draw` gave; it is changed, so do not show it. */
export function serializeChart(drawn: SVGSVGElement, { title, note }: Pick<Chart, "title" | "note">): string {
  const { ownerDocument } = drawn;
  drawn.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  drawn.setAttribute("role", "img");
  drawn.setAttribute("style", `${drawn.getAttribute("style") ?? ""};color:#1b1f24;background:white`);
  const titleElement = ownerDocument.createElementNS("http://www.w3.org/2000/svg", "title");
  titleElement.textContent = `${title}. ${note}`;
  drawn.insertBefore(titleElement, drawn.firstChild);
  return `${drawn.outerHTML}\n`;
}
