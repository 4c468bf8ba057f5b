/** One line of progress: rewritten in place on a terminal, a plain line for each step in a pipe. Goes to stderr. */
import type { WriteStream } from "node:tty";

export class Progress {
  readonly #stream: NodeJS.WriteStream | WriteStream;
  #shown = false;
  #lastStep = "";

  constructor(stream: NodeJS.WriteStream = process.stderr) {
    this.#stream = stream;
  }

  /** Shows `step`, and on a terminal `detail` behind it. In a pipe a step is written once, whatever its details. */
  update(step: string, detail = ""): void {
    if (this.#stream.isTTY) {
      const line = detail === "" ? step : `${step}  ${detail}`;
      this.#stream.write(`\r\x1b[2K${line.slice(0, (this.#stream.columns || 80) - 1)}`);
      this.#shown = true;
    } else if (step !== this.#lastStep) {
      this.#stream.write(`${step}\n`);
    }
    this.#lastStep = step;
  }

  /** Takes the line away, before other output. */
  clear(): void {
    if (this.#shown) this.#stream.write("\r\x1b[2K");
    this.#shown = false;
  }
}
