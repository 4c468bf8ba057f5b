/** What came back from the GPU a token, beside what reading the row back would have moved. */
import { formatBytes, formatCount, formatRatio } from "../../src/format.js";
import type { Step } from "./protocol.js";

/** @param step the token that is looked at. */
export function ReadbackView({ step, steps, onGpu }: { step: Step; steps: readonly Step[]; onGpu: boolean }) {
  const { bytesRead, bytesOfRow } = step;
  const total = steps.reduce((sum, { bytesRead }) => sum + bytesRead, 0);
  if (!onGpu) {
    return (
      <section class="card" aria-label="Readback">
        <h3>Readback</h3>
        <p>
          Nothing is read back: the model runs on the CPU, so its logits, {formatCount(bytesOfRow)} bytes a token, are
          where the kernel reads them.
        </p>
      </section>
    );
  }
  return (
    <section class="card" aria-label="Readback">
      <h3>Readback</h3>
      <dl class="figures">
        <div>
          <dt>read back for this token</dt>
          <dd>{formatCount(bytesRead)} bytes</dd>
        </div>
        <div>
          <dt>a full readback of its logits</dt>
          <dd>{formatCount(bytesOfRow)} bytes</dd>
        </div>
        <div>
          <dt>times less</dt>
          <dd>{formatRatio(bytesOfRow / bytesRead)}</dd>
        </div>
      </dl>
      <p>
        Counted where buffers are mapped for reading, the engine's included: {formatBytes(total)} for {steps.length}{" "}
        tokens instead of {formatBytes(bytesOfRow * steps.length)}.
      </p>
    </section>
  );
}
