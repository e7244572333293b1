/** What the other side calls a request, in its own logs: on record with the receipt, so that it can be asked about. */
import type { Masker } from '@cardinal/secrets'
import type { Attempt } from './tool.ts'

const HEADERS = [
  'x-request-id',
  'request-id',
  'x-amzn-requestid',
  'x-amz-request-id',
  'x-ms-request-id',
  'x-correlation-id',
]
/** Nobody else writes into the readable part of the record. */
const SHAPE = /^[A-Za-z0-9][A-Za-z0-9._:/+=-]{0,127}$/

/** The one that an answer names, if it does. */
export function calledIn(headers: Readonly<Record<string, unknown>>): unknown {
  return HEADERS.map((name) => headers[name]).find((value) => value !== undefined)
}

/** `maskers`: of the secrets that the request carried; an id in which one stands is not kept. */
export function noteUpstream(attempt: Attempt, id: unknown, maskers: readonly Masker[]): void {
  if (typeof id !== 'string' || !SHAPE.test(id)) return
  if (maskers.every((masker) => masker.maskText(id) === undefined)) attempt.upstream(id)
}
