/**
 * The tables of the documents. A document marks where one belongs; what stands between the marks is replaced:
 *
 *     <!-- table:NAME -->
 *     <!-- /table -->
 *
 * No Node here.
 */

/**
 * The document with every marked table drawn anew. Drawing twice changes nothing.
 *
 * @param draw the Markdown of the table of a name; throws for a name it does not know.
 * @throws {Error} for a mark that is never closed.
 */
export function drawMarkedTables(document: string, draw: (name: string) => string): string {
  const opened = document.match(/^<!-- table:/gm)?.length ?? 0;
  let drawn = 0;
  const text = document.replace(
    /^<!-- table:(\S+) -->\n(?:(?!<!-- table:)[\s\S])*?^<!-- \/table -->$/gm,
    (_, name: string) => {
      drawn++;
      return `<!-- table:${name} -->\n${draw(name)}\n<!-- /table -->`;
    },
  );
  if (drawn !== opened) {
    throw new Error(`Expected <!-- /table --> on a line of its own after each of ${opened} marks but found ${drawn}.`);
  }
  return text;
}
