import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { mapLeaves, parsePath } from './json.ts'
import type { Call } from './middleware.ts'
import { redact } from './redact.ts'

const call = { args: {} } as Call
const signal = new AbortController().signal
const shown = (rules: Parameters<typeof redact>[0]['answer'], value: unknown) =>
  redact({ answer: rules }).response?.(call, value, signal)

describe('redaction', () => {
  it.each([
    ['email', 'to ann.b+c@mail.acme.example.', 'to [redacted].'],
    ['iban', 'DE89370400440532013000 and GB29 NWBK 6016 1331 9268 19', '[redacted] and [redacted]'],
    ['card', 'card 4111 1111 1111 1111, card 4111111111111111', 'card [redacted], card [redacted]'],
    ['phone', 'call +49 (30) 1234-567 now', 'call [redacted] now'],
  ] as const)('knows what a %s looks like', (known, before, after) => {
    expect(shown([{ known }], { a: [before] })).toEqual({ value: { a: [after] } })
  })

  it('leaves alone what is none of them', () => {
    const text = 'order 12-34, room 4111, v1.2.3, ann at acme, DE89'
    for (const known of ['email', 'iban', 'card', 'phone'] as const)
      expect(shown([{ known }], text)).toEqual({ value: text })
  })

  it('takes a value at a path whatever it is, and no other', () => {
    const value = { rows: [{ pin: 1, name: 'a' }, { pin: { x: 2 } }], pin: 3 }
    expect(shown([{ path: 'rows.*.pin', with: '-' }], value)).toEqual({
      value: { rows: [{ pin: '-', name: 'a' }, { pin: '-' }], pin: 3 },
    })
    expect(shown([{ path: '**.pin', with: '-' }], value)).toEqual({
      value: { rows: [{ pin: '-', name: 'a' }, { pin: '-' }], pin: '-' },
    })
  })

  it('takes what is written in place of it as a text and as nothing else', () => {
    expect(shown([{ pattern: '(a)', with: '$1\\1$&' }], 'a')).toEqual({ value: '$1\\1$&' })
  })

  it('looks through what other engines hang on', () => {
    const text = 'a'.repeat(50_000)
    expect(shown([{ pattern: '(a+)+$|(a|a)*b' }], text)).toEqual({ value: '[redacted]' })
  }, 20_000)

  /** Whatever a value is: a change of every leaf changes every leaf, and nothing else of it. */
  it('reaches every leaf and keeps the shape', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const mapped = mapLeaves(value, parsePath('**') ?? [], () => 'x')
        const leaves = JSON.stringify(value, (_key, v) => (typeof v === 'object' && v !== null ? v : 'x'))
        expect(JSON.stringify(mapped)).toBe(leaves)
        expect(mapLeaves(value, parsePath('**') ?? [], (leaf) => leaf)).toEqual(value)
      }),
    )
  })
})
