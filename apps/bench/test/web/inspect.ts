/** Looks at a page in light and dark, wide and narrow: no accessibility violation, no sideways scrolling, a screenshot of each. */
import { mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import axe from "axe-core";
import type { Page } from "playwright-core";
import { expect } from "vitest";

/** For a person to look at; ignored by git. */
const screenshots = fileURLToPath(new URL("../../build/screenshots/", import.meta.url));
mkdirSync(screenshots, { recursive: true });

const all = [
  { colorScheme: "light", width: 1100 },
  { colorScheme: "dark", width: 360 },
  { colorScheme: "dark", width: 1100 },
  { colorScheme: "light", width: 360 },
] as const;
/** Two of them show each colour and each width once. */
const looks = process.env.FUSED_TOPK_FULL === "1" ? all : all.slice(0, 2);

/** @param name of the screenshots. */
export async function inspect(page: Page, name: string): Promise<void> {
  await page.evaluate(axe.source);
  for (const { colorScheme, width } of looks) {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width, height: 900 });
    await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 50)))); // charts follow
    await page.screenshot({ path: `${screenshots}${name}-${colorScheme}-${width}.png`, fullPage: true });
    const found = await page.evaluate(async () => {
      const { violations } = await (globalThis as unknown as { axe: typeof axe }).axe.run();
      return {
        violations: violations.flatMap(({ id, nodes }) =>
          nodes.map(({ html, failureSummary }) => ({ id, html, failureSummary })),
        ),
        overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
      };
    });
    expect(found, `${name}, ${colorScheme}, ${width}`).toEqual({ violations: [], overflow: 0 });
  }
}
