/** The buttons of a job, its progress, the time left, and how it ended. */
import type { ComponentChildren } from "preact";
import type { JobState } from "../worker/job.js";
import { Problem } from "./problem.js";

interface Props {
  /** What the button that starts it says. */
  action: string;
  state: JobState;
  /** What is to be known before it is started. */
  hint?: string;
  /** The job cannot be started yet. */
  isBlocked?: boolean;
  onCancel(): void;
  /** More buttons. */
  children?: ComponentChildren;
}

/** Belongs in a form: the start button submits it. */
export function JobView({ action, state, hint = "", isBlocked = false, onCancel, children }: Props) {
  const isRunning = state.status === "running";
  return (
    <>
      <div class="buttons">
        <button type="submit" class="primary" disabled={isRunning || isBlocked}>
          {action}
        </button>
        <button type="button" disabled={!isRunning} onClick={onCancel}>
          Cancel
        </button>
        {children}
      </div>
      {isRunning && (
        <div class="progress">
          <progress aria-label="Progress" max={1} {...(state.total > 0 && { value: state.done / state.total })} />
          <p>
            <span class="step">{state.step}</span>
            <span class="left">{timeLeft(state)}</span>
          </p>
        </div>
      )}
      <p role="status" class="status">
        {state.status === "idle" ? hint : outcomes[state.status]}
        {state.status === "done" && state.message !== undefined && ` ${state.message}`}
      </p>
      {state.status === "failed" && <Problem message={state.message ?? "unknown"} />}
    </>
  );
}

const outcomes: Readonly<Record<JobState["status"], string>> = {
  idle: "",
  running: "Running.",
  done: "Done.",
  cancelled: "Cancelled. What was finished before is below.",
  failed: "",
};

function timeLeft({ done, total, left }: JobState): string {
  if (total === 0) return "";
  const share = `${Math.floor((100 * done) / total)} %`;
  if (left === undefined) return share;
  const seconds = Math.ceil(left);
  return `${share}, about ${seconds >= 90 ? `${Math.round(seconds / 60)} min` : `${seconds} s`} left`;
}
