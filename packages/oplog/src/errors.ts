/** Errors of the log. `class` says what stops, `code` is stable, the message names file and position. */

export type LogErrorClass = 'Corrupt' | 'Malformed' | 'Unavailable' | 'Bug'

export type LogErrorCode =
  | 'LogCorrupt'
  | 'LogShort'
  | 'LogVersion'
  | 'LogBusy'
  | 'LogFailed'
  | 'DiskFull'
  | 'EntryTooLarge'
  | 'KeyDestroyed'
  | 'NoSuchAnchor'
  | 'NoSuchEntry'
  | 'WrongKey'

export class LogError extends Error {
  readonly class: LogErrorClass
  readonly code: LogErrorCode
  /** Where in the log, if anywhere. */
  readonly at?: { readonly file: string; readonly offset: number }

  constructor(
    cls: LogErrorClass,
    code: LogErrorCode,
    message: string,
    at?: { file: string; offset: number },
  ) {
    super(at ? `\`${at.file}\` at byte ${at.offset}: ${message}` : message)
    this.name = cls
    this.class = cls
    this.code = code
    if (at) this.at = at
  }
}

export function corrupt(file: string, offset: number, message: string): LogError {
  return new LogError('Corrupt', 'LogCorrupt', message, { file, offset })
}

function bug(message: string): LogError {
  return new LogError('Bug', 'LogFailed', message)
}

/** Stays on in production: a broken invariant ends the process, never the record. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw bug(message)
}
