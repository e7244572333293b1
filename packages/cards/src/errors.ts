/** Errors of the card language: what was written, where in it, and what may be written instead. */

export type CardErrorCode = 'BadGrant' | 'NowNotInEver' | 'TooManyGrants'

/** Input that is no card. `path` names the field, as in `now[1].host`. Nothing was changed. */
export class CardError extends Error {
  readonly class = 'Malformed'
  readonly code: CardErrorCode
  readonly path: string

  constructor(code: CardErrorCode, path: string, message: string) {
    super(message)
    this.name = 'Malformed'
    this.code = code
    this.path = path
  }
}

export function badGrant(path: string, message: string): CardError {
  return new CardError('BadGrant', path, message)
}
