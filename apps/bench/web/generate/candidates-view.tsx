/** The K best at one token, with their true probabilities as bars. */
import type { Step } from "./protocol.js";

export function CandidatesView({ step: { best, rank } }: { step: Step }) {
  const mass = best.reduce((sum, { probability }) => sum + probability, 0);
  return (
    <>
      <p>
        The {best.length} best of 50,257 hold {percent(mass)} of the probability. Drawn:{" "}
        <code>{visible(best[rank]!.text)}</code>, place {rank + 1}, {percent(best[rank]!.probability)}.
      </p>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: a region that scrolls is reached by the keyboard */}
      <section class="scroll candidates" tabIndex={0} aria-label="The K best and their probabilities">
        <table>
          <thead>
            <tr>
              <th scope="col" class="right">
                place
              </th>
              <th scope="col">token</th>
              <th scope="col" class="right">
                probability
              </th>
              <th scope="col">
                <span class="unseen">as a bar</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {best.map(({ text, probability }, i) => (
              <tr key={`${i} ${text}`} class={i === rank ? "drawn" : ""}>
                <td class="right">
                  {i === rank && <span title="drawn">▸ </span>}
                  {i + 1}
                </td>
                <td>
                  <code>{visible(text)}</code>
                </td>
                <td class="right">{percent(probability)}</td>
                <td class="bar">
                  <div style={{ width: `${100 * probability}%` }} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </section>
    </>
  );
}

/** White space as signs that are seen. */
function visible(text: string): string {
  return text.replaceAll(" ", "␣").replaceAll("\n", "⏎").replaceAll("\t", "⇥");
}

function percent(probability: number): string {
  const value = 100 * probability;
  return `${value >= 0.1 ? value.toFixed(1) : value.toPrecision(1)} %`;
}
