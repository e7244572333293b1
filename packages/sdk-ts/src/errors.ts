/** What a program can catch. Each carries a stable code, and the effect that `cardinal why` explains. */

/** The shape in which the kernel reports an error to a guest. */
export interface WireError {
  readonly class: string
  readonly code: string
  readonly message: string
  readonly effect?: string
  readonly by?: RefusedBy
  readonly missing?: Grant
  readonly retryAfterMs?: number
}

export type RefusedBy =
  | 'card'
  | 'ceiling'
  | 'flow'
  | 'label'
  | 'scope'
  | 'limit'
  | 'middleware'
  | 'person'
  | 'revoked'

/** One box of authority, as people write it in a manifest. */
export interface Grant {
  tool: string
  resource?: string
  scheme?: string[]
  host?: string
  port?: number[]
  method?: string[] | '*'
  path?: string
  args?: Record<string, unknown> | '*'
  secret?: string
  labels?: string[] | '*'
  flow?: string[] | '*'
  ask?: string[]
}

/** Any error that the kernel reports; `code` is stable, `message` is for people. */
export class CardinalError extends Error {
  readonly code: string
  declare readonly effect?: string
  constructor(wire: WireError) {
    super(wire.message)
    this.name = new.target.name
    this.code = wire.code
    if (wire.effect !== undefined) this.effect = wire.effect
  }
}

/** No grant allows the effect; it did not happen. Asking again gives the same answer. */
export class Refused extends CardinalError {
  readonly by: RefusedBy
  declare readonly missing?: Grant
  constructor(wire: WireError) {
    super(wire)
    this.by = wire.by ?? 'card'
    if (wire.missing !== undefined) this.missing = wire.missing
  }
}

/** The outside world failed, and the effect is known not to have happened or may be repeated. */
export class Unavailable extends CardinalError {
  declare readonly retryAfterMs?: number
  constructor(wire: WireError) {
    super(wire)
    if (wire.retryAfterMs !== undefined) this.retryAfterMs = wire.retryAfterMs
  }
}

/** The effect was started and nobody knows whether it happened; an operator resolves it. */
export class Indeterminate extends CardinalError {}
/** The effect happened, and its result is held back. */
export class Withheld extends CardinalError {}
/** The invocation was cancelled from outside. */
export class Cancelled extends CardinalError {}
/** The agent called has stopped for good. */
export class Stopped extends CardinalError {}

const classes: Record<string, new (wire: WireError) => CardinalError> = {
  Refused,
  Unavailable,
  Indeterminate,
  Withheld,
  Cancelled,
  Stopped,
}

/** The error class that a wire error stands for. */
export function toError(wire: WireError): CardinalError {
  const known = Object.hasOwn(classes, wire.class) ? classes[wire.class] : undefined
  return new (known ?? CardinalError)(wire)
}
