/// <reference types="node" />
/**
 * WebGPU without a GPU, from npm alone: the SwiftShader driver and the headless Chromium that @sparticuz/chromium carries.
 *
 * Linux on x86-64 only. Elsewhere the system's own adapter and browser have to serve.
 */
import { spawn } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { constants } from "node:os";
import { delimiter, join } from "node:path";
import type { Browser } from "playwright-core";
import { unpacked } from "./unpack.js";

export interface SoftwareAdapterEnvironment {
  LD_LIBRARY_PATH: string;
  VK_DRIVER_FILES: string;
}

/** Whether the software adapter exists for this platform. */
export const softwareAdapterSupported = process.platform === "linux" && process.arch === "x64";

/**
 * The environment in which Dawn finds SwiftShader. The dynamic linker reads LD_LIBRARY_PATH when a process starts, so set
 * it for a child, or call `ensureSoftwareAdapter`.
 *
 * @throws {Error} on a platform without the driver.
 */
export async function softwareAdapterEnvironment(): Promise<SoftwareAdapterEnvironment> {
  if (!softwareAdapterSupported) {
    throw new Error(
      `Expected Linux on x86-64 for the software adapter but this is ${process.platform} on ${process.arch}. ` +
        "Use the adapter of the system.",
    );
  }
  const driver = await unpacked("software-adapter", ["swiftshader.tar.br", "al2023.tar.br"]);
  const own = [driver, join(driver, "lib")];
  const inherited = (process.env.LD_LIBRARY_PATH ?? "").split(delimiter).filter((path) => path && !own.includes(path));
  return {
    LD_LIBRARY_PATH: [...own, ...inherited].join(delimiter),
    VK_DRIVER_FILES: join(driver, "vk_swiftshader_icd.json"),
  };
}

/**
 * Returns at once in a process that was started in the environment of the software adapter; otherwise runs this process's
 * command again in it, with the same streams, and exits as that one does.
 *
 * @throws {Error} on a platform without the driver.
 */
export async function ensureSoftwareAdapter(): Promise<void> {
  const environment = await softwareAdapterEnvironment();
  const { LD_LIBRARY_PATH, VK_DRIVER_FILES } = process.env;
  if (LD_LIBRARY_PATH === environment.LD_LIBRARY_PATH && VK_DRIVER_FILES === environment.VK_DRIVER_FILES) return;
  const [script, ...rest] = process.argv.slice(1);
  const child = spawn(process.execPath, [...process.execArgv, script!, ...rest], {
    stdio: "inherit",
    env: { ...process.env, ...environment },
  });
  // A terminal interrupts both; a SIGTERM is for this process alone. Either way it stays to report how the child ended.
  process.on("SIGINT", () => {});
  process.on("SIGTERM", () => child.kill("SIGTERM"));
  const status = await new Promise<number>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => resolve(code ?? 128 + constants.signals[signal!]));
  });
  process.exit(status);
}

/**
 * A headless Chromium whose pages have `navigator.gpu` on SwiftShader. The caller closes it.
 *
 * @throws {Error} on a platform without the browser.
 */
export async function launchChromium(): Promise<Browser> {
  const environment = await softwareAdapterEnvironment();
  // Chromium looks for the driver beside its executable, and ends at the first text where a machine has no font.
  const folder = await unpacked("chromium-with-fonts", ["chromium.br", "swiftshader.tar.br", "fonts.tar.br"]);
  const { chromium } = await import("playwright-core");
  return chromium.launch({
    executablePath: join(folder, "chromium"),
    headless: true,
    env: {
      ...(process.env as Record<string, string>),
      ...environment,
      FONTCONFIG_FILE: await fontConfiguration(folder),
    },
    args: [
      "--no-sandbox",
      "--enable-unsafe-webgpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

/** A configuration of fontconfig, in `folder`, that finds the fonts there; the one they come with expects them elsewhere. */
async function fontConfiguration(folder: string): Promise<string> {
  const file = join(folder, "own-fonts.conf");
  const text = `<?xml version="1.0"?>
<fontconfig>
  <dir>${join(folder, "fonts")}</dir>
  <cachedir>${join(folder, "fonts-cache")}</cachedir>
</fontconfig>
`;
  await writeFile(file, text);
  return file;
}
