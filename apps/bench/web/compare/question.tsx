/** A question, what the figures answer, and behind it, when it is opened, how they come to it. */
import type { ComponentChildren } from "preact";

interface Props {
  question: string;
  answer: string;
  isOpen: boolean;
  onToggle(isOpen: boolean): void;
  children: ComponentChildren;
}

export function Question({ question, answer, isOpen, onToggle, children }: Props) {
  return (
    <details class="card question" open={isOpen} onToggle={(event) => onToggle(event.currentTarget.open)}>
      <summary>
        <h3>{question}</h3>
        <p>{answer}</p>
      </summary>
      {children}
    </details>
  );
}
