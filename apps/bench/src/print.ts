/** A line of what a command says. */
export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
