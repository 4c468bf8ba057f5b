/// <reference types="node" />
/** Unpacks what the npm package @sparticuz/chromium carries, once, into `node_modules/.cache` beside it. */
import { createReadStream, createWriteStream } from "node:fs";
import { access, chmod, mkdir, mkdtemp, readFile, rename, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { createBrotliDecompress } from "node:zlib";
import { extract } from "tar";

/** A file of the package's `bin` folder: an archive, or one executable. */
type Member = "swiftshader.tar.br" | "al2023.tar.br" | "chromium.br" | "fonts.tar.br";

/**
 * The path of the folder `name` of the cache, with the members unpacked in it.
 *
 * Several processes may ask at once: each unpacks under a name of its own, and the first rename wins.
 */
export async function unpacked(name: string, members: readonly Member[]): Promise<string> {
  const home = dirname(dirname(createRequire(import.meta.url).resolve("@sparticuz/chromium")));
  const { version } = JSON.parse(await readFile(join(home, "package.json"), "utf8"));
  const cache = join(dirname(dirname(home)), ".cache", "fused-topk", version);
  const target = join(cache, name);
  if (await exists(target)) return target;

  await mkdir(cache, { recursive: true });
  const folder = await mkdtemp(join(cache, ".unpacking-"));
  try {
    for (const member of members) await unpack(join(home, "bin", member), folder);
    await chmod(folder, 0o755);
    await rename(folder, target).catch(async (error) => {
      if (!(await exists(target))) throw error;
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  return target;
}

async function unpack(file: string, folder: string): Promise<void> {
  if (file.endsWith(".tar.br")) {
    await extract({ file, brotli: true, cwd: folder });
  } else {
    const executable = createWriteStream(join(folder, basename(file, ".br")), { mode: 0o755 });
    await pipeline(createReadStream(file), createBrotliDecompress(), executable);
  }
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
