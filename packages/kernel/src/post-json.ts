/** JSON to a service of the customer's that middleware asks: by the same door as everything else, with no card. */

import { parsePlainJson } from '@cardinal/cards'
import type { Attempt, Tool } from '@cardinal/tools'

const HEADERS = [
  ['content-type', 'application/json'],
  ['accept', 'application/json'],
] as const

/** Posts and gives what is answered; rejects for whatever is no JSON of a success. */
export async function postJson(
  http: Tool,
  url: string,
  body: unknown,
  signal: AbortSignal,
): Promise<unknown> {
  const text = JSON.stringify(body)
  const args = { method: 'POST', url, headers: HEADERS, text, redirect: 'error' }
  const translated = http.translate(args, { idempotency: [], secrets: {}, key: '' })
  if ('bad' in translated) throw new Error(`it was given ${translated.bad}`)
  const never = () => Promise.reject(new Error('this carries no secret'))
  const attempt: Attempt = {
    idempotencyKey: '',
    started: () => Promise.resolve(),
    recorded: Promise.resolve(),
    follows: false,
    decide: async () => ({ class: 'Refused', code: 'Redirected', message: 'it follows no redirect' }),
    egress: never,
    upstream: () => {},
    secret: never,
    masked: () => {},
    capture: never,
    signal,
  }
  const receipt = await http.perform(translated.plan, attempt)
  if (!receipt.ok) throw new Error(receipt.error.message)
  const { status, text: answer } = receipt.value as { status: number; text?: string }
  if (status !== 200) throw new Error(`it answered ${status}`)
  return parsePlainJson(answer ?? '')
}
