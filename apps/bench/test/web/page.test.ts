/** The built page in a headless Chromium on the software adapter: every tab from end to end, and what may go wrong there. */
import { readFileSync } from "node:fs";
import type { Download, Locator, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { formatResultFile, parseResultFile } from "../../src/schema.js";
import { measurement, resultFile } from "../fixtures.js";
import { inspect } from "./inspect.js";
import { INSECURE, openSite, type Site } from "./site.js";

const isFull = process.env.FUSED_TOPK_FULL === "1";

let site: Site;
beforeAll(async () => {
  site = await openSite();
});
afterAll(() => site.close());

/** The tab that is shown. */
const shown = (page: Page) => page.locator("section[aria-labelledby]:not([hidden])");
const status = (page: Page) => shown(page).getByRole("status");
const press = (page: Page, name: string) => shown(page).getByRole("button", { name, exact: true }).click();
const ended = (page: Page, how: RegExp = /^Done/) => status(page).getByText(how).waitFor({ timeout: 50_000 });

/** Unfolds the list of result files. */
const listFiles = (page: Page) => shown(page).getByText("result files are shown").click();

async function downloadOf(page: Page, button: Locator): Promise<string> {
  const [download] = await Promise.all([page.waitForEvent("download"), button.click()]);
  return readFileSync(await (download as Download).path(), "utf8");
}

/** Kills the GPU process of the browser, as a driver does that crashes. */
async function crashGpu(): Promise<void> {
  const session = await site.browser.newBrowserCDPSession();
  const { processInfo } = await session.send("SystemInfo.getProcessInfo");
  process.kill(processInfo.find(({ type }) => type === "GPU")!.id, "SIGKILL");
}

describe("Measure", () => {
  it("times every backend beside what it replaces, checks the results, and saves a result file", async () => {
    const { page, problems } = await site.open("#/measure?shapes=2x3000%3A7&dtype=f16");
    await press(page, "Measure");
    await ended(page);
    await shown(page).getByText("every index exact").waitFor();
    await shown(page).getByText("it runs on the CPU, so its times say nothing about a GPU").first().waitFor();

    const file = parseResultFile(
      JSON.parse(await downloadOf(page, shown(page).getByRole("button", { name: "Save the result file" }))),
    );
    for (const backend of ["webgpu", "wasm", "cpu"]) {
      const measured = file.measurements.filter((m) => m.backend === backend);
      const variants = measured.map(({ variant }) => variant);
      expect(variants, backend).toEqual(expect.arrayContaining(["fused", "three-pass", "read-floor", "end-to-end"]));
      for (const m of measured) {
        expect(m, backend).toMatchObject({ rows: 2, vocab: 3000, k: 7, dtype: "f16", data: "random" });
        expect(m.median, `${backend} ${m.variant}`).toBeGreaterThan(0); // the clock of a page is coarse
      }
    }
    await inspect(page, "measure");
    expect(problems).toEqual([]);
  });

  it.runIf(isFull)(
    "times peers beside the backends, and loads none that is not asked for",
    { timeout: 120_000 },
    async () => {
      const asked = ["onnxruntime-web wasm", "tfjs wasm", "onnxruntime-web webgpu", "tfjs webgpu", "JavaScript, naive"];
      const { page, problems } = await site.open("#/measure?shapes=2x500:7");
      const loaded: string[] = [];
      page.on("request", (request) => loaded.push(request.url()));
      await press(page, "Measure");
      await ended(page);
      expect(loaded.filter((url) => /ort|tfjs/.test(url))).toEqual([]);
      await page.getByText("Beside other libraries").click();
      for (const name of asked) await page.getByRole("checkbox", { name }).check();
      await press(page, "Measure");
      await ended(page);
      const file = parseResultFile(
        JSON.parse(await downloadOf(page, shown(page).getByRole("button", { name: "Save the result file" }))),
      );
      expect(file.absentPeers).toEqual([]);
      expect(file.peers!.map(({ peer }) => peer)).toEqual(expect.arrayContaining(["fused-topk wasm", ...asked]));
      expect(file.peers!.filter(({ check }) => !check.passed)).toEqual([]);
      expect(await shown(page).getByRole("alert").count()).toBe(0);
      expect(problems).toEqual([]);
    },
  );

  it("says what is wrong with a shape, and measures nothing", async () => {
    const { page, problems } = await site.open("#/measure");
    await page.getByLabel("Shapes, as rows").fill("3x10:11");
    await page.getByText("Expected K of at most 10 for shapes 3x10:11 but received 11").waitFor();
    expect(await page.getByRole("button", { name: "Measure", exact: true }).isDisabled()).toBe(true);
    expect(problems).toEqual([]);
  });

  it("cancels at once, in the middle of a call, and measures again", async () => {
    const { page, problems } = await site.open("#/measure?shapes=200x50257&without=webgpu;wasm&effort=thorough");
    await press(page, "Measure");
    await shown(page).getByText("cpu, unfused").waitFor({ timeout: 20_000 });
    const began = Date.now();
    await press(page, "Cancel");
    await ended(page, /^Cancelled/);
    expect(Date.now() - began).toBeLessThan(1000);
    // Nothing goes on behind the page. A browser gives a script that is busy a moment before it ends it.
    await expect.poll(() => page.workers().length, { timeout: 10_000 }).toBe(0);
    await page.getByLabel("Shapes, as rows").fill("1x100:5");
    await press(page, "Measure");
    await ended(page);
    expect(problems).toEqual([]);
  });

  it("goes on with the other backends when the device is lost, and has it again afterwards", async () => {
    const { page } = await site.open("#/measure?shapes=4x16384,1x64:2&without=wasm");
    await press(page, "Measure");
    await shown(page).getByText("webgpu, fused").waitFor({ timeout: 20_000 });
    await crashGpu();
    await ended(page);
    await shown(page).getByRole("alert").getByText("The WebGPU device was lost").waitFor();
    await shown(page).getByText("every index exact").waitFor();
    await page.getByLabel("Shapes, as rows").fill("1x64:2");
    await press(page, "Measure");
    await ended(page);
    expect(await shown(page).getByRole("alert").count()).toBe(0);
  });

  it("says why WebGPU is missing, and measures without it", async () => {
    const { page, problems } = await site.open("#/measure?shapes=1x64%3A2", { base: INSECURE });
    await page.getByText("webgpu is not here. WebGPU is kept from pages that came over plain HTTP").waitFor();
    await press(page, "Measure");
    await ended(page);
    await shown(page).getByText("every index exact").waitFor();
    expect(problems).toEqual([]);
  });
});

describe("Compare", () => {
  it("shows the results of the repository from the start, each chart with its table, saved as SVG and JSON", async () => {
    const { page, problems } = await site.open("#/compare?open=time%3Bgrowth-vocab%3Bgrowth-k");
    const figures = shown(page).locator("figure");
    await figures.filter({ hasText: "Time against K" }).locator("svg").waitFor();
    const titles = [
      "Time of a call, in times the read floor",
      "Bandwidth of the fused kernel, as a share of the device's own ceiling",
      "Memory written by a call, as a share of the logits",
      "Time on hostile logits, in times that on random ones",
      "Time against vocabulary",
      "Time against rows",
      "Time against K",
    ];
    expect(await figures.locator("h4").allTextContents()).toEqual(expect.arrayContaining(titles));
    const growth = figures.filter({ hasText: "Time against vocabulary" });
    const svg = await downloadOf(page, growth.getByRole("button", { name: /SVG/ }));
    expect(svg).toMatch(/^<svg [^>]*xmlns="http:\/\/www\.w3\.org\/2000\/svg"/);
    const { columns, rows } = JSON.parse(await downloadOf(page, growth.getByRole("button", { name: /JSON/ })));
    expect(columns).toContain("exponent of the curve");
    await growth.locator("summary").click();
    expect(await growth.locator("tbody tr").count()).toBe(rows.length);
    await growth.locator(".chart svg").hover();
    await growth.locator(".chart").getByText("fitted: time").waitFor(); // the figures under the pointer
    expect(problems).toEqual([]);
  });

  it("answers each question in a line, draws what is opened, and links to it", async () => {
    const { page, problems } = await site.open("#/compare");
    const question = (text: string) => shown(page).locator("details.question", { hasText: text });
    await question("How fast is it?")
      .getByText(/times the read floor, .* times as fast as unfused/)
      .waitFor();
    await question("How fast is it?").locator("svg").waitFor(); // the first is open
    expect(await shown(page).locator("details[open]").count()).toBe(1);
    await inspect(page, "compare");
    await question("How long do other libraries take?").locator("summary").first().click();
    await question("How long do other libraries take?").locator("svg").waitFor();
    await page.waitForURL(/open=time%3Bpeers/);
    const { page: other } = await site.open(new URL(page.url()).hash);
    await shown(other).getByRole("heading", { name: "Time of a call beside other libraries" }).waitFor();
    expect(problems).toEqual([]);
  });

  it("loads a result file, and names the field of one that is wrong", async () => {
    const { page, problems } = await site.open("#/compare?open=right%3Bchanges");
    await listFiles(page);
    const choose = (name: string, text: string) =>
      shown(page)
        .locator("input[type=file]")
        .setInputFiles({ name, mimeType: "application/json", buffer: Buffer.from(text) });
    const good = formatResultFile(resultFile());
    await choose("mine.json", good);
    await page.getByLabel("mine.json 2026-11-22, 6 measurements, 1 conformance runs").waitFor();
    await page.getByText("First failure: the order is exact").waitFor();
    await page.getByText("row 0", { exact: true }).waitFor();
    const faster = measurement({ median: 5, p10: 5, p90: 5 });
    await choose("later.json", formatResultFile({ ...resultFile(), measurements: [faster] }));
    await page.getByLabel("From").selectOption("mine.json");
    await page.getByRole("row", { name: /64 x 128256.* cuda fused 11 us 5 us -54\.5 % .* faster/ }).waitFor();
    await choose("bad.json", good.replace('"cores": 2', '"cores": "two"'));
    await page.getByRole("alert").getByText('Expected a count for bad.json.host.cores but received "two".').waitFor();
    await choose("no.json", "{");
    await page.getByRole("alert").getByText("Expected JSON in no.json").waitFor();
    expect(await page.getByLabel("bad.json").count()).toBe(0);
    if (isFull) await inspect(page, "compare-problem");
    expect(problems).toEqual([]);
  });

  it("is linked with what was chosen", async () => {
    const { page } = await site.open("#/compare");
    await listFiles(page);
    await shown(page)
      .getByRole("checkbox", { name: /^two-cores\.json/ })
      .uncheck();
    // Names are separated by semicolons in the link, and one may have a semicolon of its own.
    const buffer = Buffer.from(formatResultFile(resultFile()));
    const file = { name: "a;b.json", mimeType: "application/json", buffer };
    await shown(page).locator("input[type=file]").setInputFiles(file);
    await page.getByRole("checkbox", { name: "a;b.json" }).uncheck();
    expect(await page.getByRole("checkbox", { name: "a;b.json" }).isChecked()).toBe(false);
    await page.getByLabel("Backend").selectOption("cuda");
    await page.waitForURL(/backend=cuda/);
    const link = new URL(page.url()).hash;
    const { page: other } = await site.open(link);
    await listFiles(other);
    expect(
      await shown(other)
        .getByRole("checkbox", { name: /^two-cores\.json/ })
        .isChecked(),
    ).toBe(false);
    expect(await other.getByLabel("Backend").inputValue()).toBe("cuda");
  });
});

describe("Verify", () => {
  it("runs the conformance cases, with counts and the largest error of each promise", async () => {
    const backends = isFull ? "" : "?without=webgpu;wasm";
    const { page, problems } = await site.open(`#/verify${backends}`);
    await press(page, "Verify");
    await status(page)
      .getByText(/^Done/)
      .waitFor({ timeout: isFull ? 400_000 : 50_000 });
    await shown(page)
      .getByText(/The contract holds\. [\d,]+ cases passed and 0 failed/)
      .waitFor();
    expect(await shown(page).getByText("✓ passed").count()).toBe(isFull ? 6 : 1); // each configuration of a backend
    expect(await shown(page).locator("article tbody tr").count()).toBeGreaterThan(10);
    await inspect(page, "verify");
    expect(problems).toEqual([]);
  });

  it("shows progress on WebGPU, and what was cancelled passes for nothing more", async () => {
    const { page, problems } = await site.open("#/verify?without=wasm;cpu");
    await press(page, "Verify");
    await shown(page)
      .getByText(/webgpu, subgroups on: .* left/s)
      .waitFor();
    await shown(page).getByText("… so far").waitFor();
    await press(page, "Cancel");
    await ended(page, /^Cancelled/);
    await shown(page).getByText("✕ stopped").waitFor();
    expect(await shown(page).getByText("✓ passed").count()).toBe(0);
    expect(problems).toEqual([]);
  });
});

describe("Generate", () => {
  it("reads K results back from WebGPU, and writes the same without WebGPU", { timeout: 120_000 }, async () => {
    const tokens = isFull ? 6 : 1;
    const link = `#/generate?tokens=${tokens}&k=10&prompt=import%20numpy%20as%20np%0A`;
    const onGpu = await site.open(link);
    const { page } = onGpu;
    await press(page, "Generate");
    await ended(page);
    expect(await shown(page).locator(".token").count()).toBe(tokens);
    expect(await shown(page).locator(".candidates tbody tr").count()).toBe(10);
    await shown(page).getByText("516 bytes", { exact: true }).waitFor();
    await shown(page).getByText("201,028 bytes", { exact: true }).waitFor();
    await shown(page).getByLabel(`Token ${tokens} of ${tokens}`).press("Home"); // the slider walks the tokens
    await shown(page).getByText(`Token 1 of ${tokens}`).waitFor();
    const written = await shown(page).locator(".written").textContent();
    expect(written).toMatch(/^import numpy as np\n./s);
    await inspect(page, "generate");
    expect(onGpu.problems).toEqual([]);

    const without = await site.open(link, { base: INSECURE });
    await press(without.page, "Generate");
    await ended(without.page);
    await without.page.getByText("Not on WebGPU: This browser has no WebGPU adapter.").waitFor();
    expect(await shown(without.page).locator(".written").textContent()).toBe(written);
    expect(without.problems).toEqual([]);
  });

  it.runIf(isFull)("writes something else from another seed", async () => {
    const { page } = await site.open("#/generate?tokens=6&temperature=1.5&engine=wasm");
    const text = () => shown(page).locator(".written").textContent();
    await press(page, "Generate");
    await ended(page);
    const first = await text();
    await page.getByLabel("Seed").fill("2");
    await press(page, "Generate");
    await ended(page);
    expect(await text()).not.toBe(first);
  });

  it("cancels while the model loads, and between tokens", async () => {
    const { page } = await site.open("#/generate?tokens=200&engine=wasm");
    await press(page, "Generate");
    await shown(page).getByText("Loading the model").waitFor();
    await press(page, "Cancel");
    await ended(page, /^Cancelled/);
    if (!isFull) return;
    await press(page, "Generate");
    await shown(page)
      .getByText(/Token \d+ of 200/)
      .waitFor();
    await press(page, "Cancel");
    await ended(page, /^Cancelled/);
    await page.getByLabel("Tokens to write").fill("1");
    await press(page, "Generate");
    await ended(page);
  });

  it.runIf(isFull)("survives a lost device", { timeout: 120_000 }, async () => {
    const { page } = await site.open("#/generate?tokens=100");
    await press(page, "Generate");
    await shown(page).getByText("Token 2 of 100").waitFor({ timeout: 30_000 });
    await crashGpu();
    await shown(page)
      .getByRole("alert")
      .getByText("Generate again to load the model anew.")
      .waitFor({ timeout: 30_000 });
    await page.getByLabel("Tokens to write").fill("1");
    await press(page, "Generate");
    await ended(page);
  });
});

describe("The page", () => {
  it("keeps the settings of a tab that is chosen again", async () => {
    const { page } = await site.open("#/measure");
    await page.getByLabel("K, for every shape").fill("33");
    await page.waitForURL(/k=33/);
    const tab = (name: string) => page.getByRole("link", { name, exact: true }).click();
    await tab("Measure");
    expect(page.url()).toContain("k=33");
    await tab("Verify");
    await tab("Measure");
    expect(await page.getByLabel("K, for every shape").inputValue()).toBe("33");
  });

  it("is used with the keyboard alone", async () => {
    const { page } = await site.open("");
    await page.getByRole("checkbox", { name: /^cpu/ }).waitFor();
    const focused = () => page.evaluate(() => document.activeElement?.textContent);
    for (const name of ["Skip to the content", "Measure", "Compare", "Verify"]) {
      await page.keyboard.press("Tab");
      expect(await focused()).toBe(name);
    }
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "Verify" }).waitFor();
    expect(page.url()).toContain("#/verify");
    await page.locator("main:focus").waitFor();
    expect(await page.title()).toBe("Verify · fused-topk bench");
  });
});
