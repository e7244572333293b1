/** Printing: data on stdout, everything else on stderr. Text that an agent wrote cannot move the cursor. */

export type Format = 'text' | 'json'

// Control characters could repaint a terminal, marks of direction reorder a line, and what has no width hides in it; they are shown, not sent.
const CONTROL =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g

export function clean(text: string): string {
  return text.replace(CONTROL, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`)
}

/** JSON that says the same to a parser, and nothing to a terminal. */
function cleanJson(text: string): string {
  return text.replace(CONTROL, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

/** The same text in ASCII: letters that look like others are seen. */
export function inAscii(text: string): string {
  return text.replace(/[^\n\x20-\x7e]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

/** Text of several lines as one item: nobody can write a line that looks like the next item. */
export function indented(text: string): string {
  return text.replaceAll('\n', '\n    | ')
}

export function note(text: string): void {
  process.stderr.write(`${clean(text)}\n`)
}

/** Prints data: as JSON, or by `text` for people. */
export function print(format: Format, data: unknown, text: (() => string) | undefined = undefined): void {
  const json = format === 'json' || !text
  const shown = json
    ? cleanJson(JSON.stringify(data, null, format === 'json' ? undefined : 2))
    : clean(text())
  process.stdout.write(shown === '' ? '' : `${shown}\n`)
}

/** Columns padded to their widest cell. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => (row[i] ?? '').length)))
  return rows
    .map((row) =>
      row.map((cell, i) => (i === row.length - 1 ? cell : cell.padEnd(widths[i] as number))).join('  '),
    )
    .join('\n')
}
