/** A job in a worker, as a hook: its progress, the time left, and a way to cancel it at once. */
import { useEffect, useRef, useState } from "preact/hooks";
import type { Job, JobEvent, JobProgress } from "./protocol.js";

export interface JobState {
  status: "idle" | "running" | "done" | "cancelled" | "failed";
  done: number;
  total: number;
  step: string;
  /** Seconds, by the pace so far. */
  left?: number;
  /** Why it failed, or what there is to say of its end. */
  message?: string;
}

const idle: JobState = { status: "idle", done: 0, total: 0, step: "" };

/** One job of the bench at a time, each in a worker of its own. */
export function useJob(onEvent: (event: JobEvent) => void) {
  const open = () => new Worker(new URL("./bench.ts", import.meta.url), { type: "module" });
  return useWorker<Job, JobEvent>(open, onEvent);
}

/**
 * Runs one job at a time; `onEvent` hears everything but progress and the end.
 *
 * @param isKept the worker goes on to the next job, unless one is cancelled or the worker dies.
 */
export function useWorker<Asked, Event extends { type: string }>(
  open: () => Worker,
  onEvent: (event: Event) => void,
  isKept = false,
): {
  state: JobState;
  start(job: Asked): void;
  cancel(): void;
} {
  const [state, setState] = useState(idle);
  const worker = useRef<Worker | undefined>(undefined);
  const stop = () => {
    worker.current?.terminate();
    worker.current = undefined;
  };
  useEffect(() => stop, []);

  const finish = (end: Partial<JobState>, isOver = true) => {
    if (isOver) stop();
    setState(({ left, ...last }) => ({ ...last, ...end }));
  };

  const start = (job: Asked) => {
    if (!isKept) stop();
    setState({ ...idle, status: "running", step: "Starting" });
    let began: number | undefined;
    const current = worker.current ?? open();
    worker.current = current;
    current.onerror = ({ message }) => finish({ status: "failed", message: message || "The worker did not start." });
    current.onmessage = ({ data }: MessageEvent<JobProgress | Event>) => {
      const progress = data as JobProgress;
      switch (progress.type) {
        case "progress": {
          const { done, total, step } = progress;
          if (total > 0) began ??= performance.now();
          const seconds = (performance.now() - (began ?? 0)) / 1000;
          setState((last) => ({
            ...last,
            done,
            total,
            step,
            ...(done > 0 && { left: (seconds / done) * (total - done) }),
          }));
          break;
        }
        case "done":
          finish({ status: "done", ...(progress.note !== undefined && { message: progress.note }) }, !isKept);
          break;
        case "failed":
          finish({ status: "failed", message: progress.message }, !isKept);
          break;
        default:
          onEvent(data as Event);
      }
    };
    current.postMessage(job);
  };

  return { state, start, cancel: () => finish({ status: "cancelled" }) };
}
