/** Errors as callers of the kernel meet them; the HTTP status is a function of the class. */

export type KernelErrorClass =
  | 'Malformed'
  | 'Refused'
  | 'Unavailable'
  | 'Diverged'
  | 'Corrupt'
  | 'Bug'
  | 'NotFound'
  | 'Conflict'
  | 'TimedOut'
  | 'Busy'
  | 'Cancelled'
  | 'Thrown'
  | 'Indeterminate'
  | 'Withheld'
  | 'Stopped'

/** An error with a stable code. `Thrown` is a program's own error; everything else is the kernel's word. */
export class KernelError extends Error {
  readonly class: KernelErrorClass
  readonly code: string
  readonly details: Readonly<Record<string, unknown>>

  constructor(
    cls: KernelErrorClass,
    code: string,
    message: string,
    details: Readonly<Record<string, unknown>> = {},
  ) {
    super(message)
    this.name = cls
    this.class = cls
    this.code = code
    this.details = details
  }

  /** As it stands in an answer. */
  toReply(): { class: string; code: string; message: string } {
    return { class: this.class, code: this.code, message: this.message }
  }
}

export function wasErased(address: string): KernelError {
  return new KernelError('Stopped', 'KeyDestroyed', `\`${address}\` was erased`)
}

export function isClosing(): KernelError {
  return new KernelError('Unavailable', 'Closing', 'the node is closing')
}

const STATUS: Record<KernelErrorClass, number> = {
  Malformed: 400,
  Refused: 403,
  NotFound: 404,
  TimedOut: 504,
  Conflict: 409,
  Stopped: 410,
  Thrown: 422,
  Indeterminate: 424,
  Withheld: 424,
  Cancelled: 499,
  Bug: 500,
  Diverged: 500,
  Corrupt: 500,
  Unavailable: 503,
  Busy: 429,
}

export function statusOf(cls: KernelErrorClass): number {
  return STATUS[cls]
}

function bug(message: string): KernelError {
  return new KernelError('Bug', 'Bug', message)
}

/** Stays on in production. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw bug(message)
}
