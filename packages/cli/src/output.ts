/** Printing: data on stdout, everything else on stderr. Text that an agent wrote cannot move the cursor. */

export type Format = 'text' | 'json'

// Control characters could repaint a terminal; they are shown, not sent.
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g

function clean(text: string): string {
  return text.replace(CONTROL, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`)
}

export function note(text: string): void {
  process.stderr.write(`${clean(text)}\n`)
}

/** Prints data: as JSON, or by `text` for people. */
export function print(format: Format, data: unknown, text: (() => string) | undefined = undefined): void {
  const shown =
    format === 'json' || !text ? JSON.stringify(data, null, format === 'json' ? undefined : 2) : clean(text())
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
