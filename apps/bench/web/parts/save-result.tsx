/** The button that saves what a job has measured or verified, once there is something. */
import { formatResultFile, type ResultFile } from "../../src/schema.js";
import { saveText } from "./save.js";

export function SaveResult({ name, result }: { name: string; result: ResultFile | undefined }) {
  if (result === undefined) return null;
  return (
    <button type="button" onClick={() => saveText(name, "application/json", formatResultFile(result))}>
      Save the result file
    </button>
  );
}
