/** Errors at the command line, and the exit code that each class has. */

export class CliError extends Error {
  readonly class: string
  readonly code: string
  readonly details: Readonly<Record<string, unknown>>

  constructor(cls: string, code: string, message: string, details: Readonly<Record<string, unknown>> = {}) {
    super(message)
    this.class = cls
    this.code = code
    this.details = details
  }
}

const EXIT: Record<string, number> = {
  Usage: 2,
  Malformed: 2,
  NotFound: 3,
  Refused: 4,
  Conflict: 5,
  TimedOut: 6,
  Diverged: 7,
}

/** 0 ok, 1 error, 2 usage, 3 not found, 4 denied, 5 conflict, 6 timeout, 7 divergence. */
export function exitCode(cls: string): number {
  return EXIT[cls] ?? 1
}
