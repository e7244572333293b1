import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { maskerOf } from './mask.ts'
import { MaskStream } from './mask-stream.ts'

const SECRET = 'sk-live_/4+b"9\\z<é%&Q'
const masker = maskerOf(Buffer.from(SECRET), 'ledger')
const bytes = Buffer.from(SECRET)
const hex = (digits: string, each: string) =>
  [...bytes].map((b) => each.replace('#', b.toString(16).padStart(2, '0'))).join(digits)

/** How services write back what they were sent. */
const FORMS: Record<string, (text: string) => string> = {
  'as it is': (text) => text,
  'as a URL escapes it': encodeURIComponent,
  'with every byte percent-encoded': () => hex('', '%#'),
  'percent-encoded twice': (text) => encodeURIComponent(encodeURIComponent(text)),
  'as a form escapes it': (text) => new URLSearchParams({ a: text }).toString().slice(2),
  'as JSON escapes it': (text) => JSON.stringify(text).slice(1, -1),
  'as JSON in JSON': (text) => JSON.stringify(JSON.stringify(text)),
  'as JSON that escapes slashes': (text) => JSON.stringify(text).replaceAll('/', '\\/'),
  'as HTML escapes it': (text) =>
    text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;'),
  'in hexadecimal': () => bytes.toString('hex'),
  'in upper-case hexadecimal': () => bytes.toString('hex').toUpperCase(),
  'in hexadecimal with colons': () => hex(':', '#'),
  'as source code': () => hex('', '\\x#'),
  'in base64': (text) => Buffer.from(text).toString('base64'),
  'in base64 for URLs': () => bytes.toString('base64url'),
  'in base64 behind one byte': (text) => Buffer.from(`:${text}`).toString('base64'),
  'in base64 behind two bytes and before others': (text) =>
    Buffer.from(`u:${text} and more`).toString('base64'),
  'in base64 in lines': (text) =>
    Buffer.from(`user:${text}`)
      .toString('base64')
      .replace(/(.{7})/g, '$1\r\n'),
  'in base64 in JSON with escaped lines': (text) =>
    JSON.stringify(
      Buffer.from(text)
        .toString('base64')
        .replace(/(.{7})/g, '$1\n'),
    ),
}

describe('masking', () => {
  it.each(Object.keys(FORMS))('finds a secret %s', (form) => {
    const written = (FORMS[form] as (text: string) => string)(SECRET)
    const shown = masker.maskText(`before ${written} after`)
    const around = /^before (.*)\[secret ledger\](.*) after$/s.exec(shown ?? '')
    // The words around it, in base64, or quotes.
    expect(around?.[1]?.length).toBeLessThan(12)
    expect(around?.[2]?.length).toBeLessThan(16)
  })

  it('finds it in UTF-16 and among bytes that are no text', () => {
    const wide = Buffer.concat([Buffer.from([0, 255, 254]), Buffer.from(SECRET, 'utf16le')])
    expect(maskerOf(bytes, 'x').mask(wide)).toBeDefined()
    expect(masker.mask(Buffer.concat([Buffer.from([255, 0]), bytes, Buffer.from([255])]))).toEqual(
      Buffer.concat([Buffer.from([255, 0]), Buffer.from('[secret ledger]'), Buffer.from([255])]),
    )
  })

  it('finds every occurrence', () => {
    expect(masker.maskText(`${SECRET} ${SECRET}`)).toBe('[secret ledger] [secret ledger]')
  })

  it('leaves alone what differs from the secret in one character', () => {
    // In base64 the last digit is not looked at: it may hold bits of what follows.
    for (let at = 0; at < SECRET.length - 1; at++) {
      const other = `${SECRET.slice(0, at)}~${SECRET.slice(at + 1)}`
      for (const form of ['as it is', 'as JSON escapes it', 'in base64'])
        expect(masker.maskText((FORMS[form] as (text: string) => string)(other))).toBeUndefined()
    }
  })

  it('shows nothing of an answer that holds a piece of a long secret', () => {
    const key = Array.from({ length: 3000 }, (_, i) => String.fromCharCode(65 + ((i * i) % 53))).join('')
    const long = maskerOf(Buffer.from(key), 'pem')
    expect(long.maskText(`x ${Buffer.from(key).toString('base64')} y`)).toBe('[secret pem]')
    expect(long.maskText(`x ${key.slice(0, 90)} y`)).toBe('[secret pem]')
    expect(long.maskText('nothing of it')).toBeUndefined()
  })

  const BACKSLASHES = [
    '\\'.repeat(40),
    `begin${'\\"'.repeat(30)}end`,
    `${'\\'.repeat(30)}x${'\\'.repeat(30)}`,
    '\\Domain\\some user\\',
    '\\u0041\\x41\\\\n"n',
  ]
  it.each(BACKSLASHES)('finds a secret of backslashes however it is written: %s', (secret) => {
    const m = maskerOf(Buffer.from(secret), 's')
    const json = (text: string) => JSON.stringify(text).slice(1, -1)
    const units = (text: string) =>
      [...text].map((c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`).join('')
    const points = (text: string) => [...text].map((c) => `&#${c.charCodeAt(0)};`).join('')
    const mixed = (text: string) => text.replace(/[A-Za-z"]/g, units)
    for (const form of [String, json, (t: string) => json(json(t)), encodeURIComponent, units, points, mixed])
      for (const [before, after] of [
        ['a ', ' b'],
        ['a\\', '\\b'],
        ['\\'.repeat(500), '\\'.repeat(500)],
      ])
        expect(m.maskText(`${before}${form(secret)}${after}`)).toContain('[secret s]')
    const wide = Buffer.from(`a ${secret} b`, 'utf16le')
    expect(m.mask(wide)?.toString('latin1')).toContain('[secret s]')
  })

  it.each(BACKSLASHES)(
    'does not hang on what nearly is a secret of backslashes: %s',
    (secret) => {
      const m = maskerOf(Buffer.from(secret), 's')
      const almost = secret.slice(0, -1).replaceAll('\\', '\\'.repeat(5))
      for (const piece of ['\\', `${'\\'.repeat(25)}"x`, `${almost}!`, `${'\\'.repeat(29)}x`, '\\x5c', '%5c'])
        m.mask(Buffer.from(piece.repeat(Math.ceil((1 << 20) / piece.length))))
    },
    30_000,
  )

  /** For every secret, and whatever stands around it: no form of it is left, and what is around stays. */
  it('finds any secret among anything', () => {
    const text = fc.string({ minLength: 12, maxLength: 60, unit: 'grapheme' })
    fc.assert(
      fc.property(text, fc.string(), fc.string(), (secret, before, after) => {
        const m = maskerOf(Buffer.from(secret), 's')
        for (const form of [
          (t: string) => t,
          encodeURIComponent,
          (t: string) => JSON.stringify(t).slice(1, -1),
          (t: string) => Buffer.from(t).toString('hex'),
        ]) {
          const masked = m.maskText(`${before} ${form(secret)} ${after}`)
          expect(masked).toContain('[secret s]')
        }
        const encoded = Buffer.from(`${before}${secret}${after}`).toString('base64')
        expect(m.maskText(encoded)).toContain('[secret s]')
      }),
      { numRuns: 300 },
    )
  })

  it.each([
    ['backslashes', '\\'],
    ['percent signs', '%25'],
    ['ampersands', '&amp;'],
    ['line breaks', 's\n'],
    ['base64', Buffer.from('nothing of it at all').toString('base64')],
    ['hexadecimal digits', 'c0ffee'],
    ['the beginning of the secret', SECRET.slice(0, -1)],
  ])(
    'looks through 4 MiB of %s without hanging',
    (_what, piece) => {
      const bytes = Buffer.from(piece.repeat(Math.ceil((4 << 20) / piece.length)))
      expect(masker.mask(bytes)).toBeUndefined()
    },
    30_000,
  )
})

describe('masking a stream', () => {
  /** However a text is cut into pieces: what is shown of it is the text masked whole, and nothing of it is lost. */
  it('shows what masking the whole would show', () => {
    const secret = fc.string({ minLength: 12, maxLength: 30, unit: 'grapheme-ascii' })
    const pieces = fc.array(
      fc.oneof(fc.string({ maxLength: 400 }), fc.constant('SECRET'), fc.constant('ENCODED')),
      { maxLength: 30 },
    )
    fc.assert(
      fc.property(secret, pieces, fc.integer({ min: 1, max: 50 }), (value, parts, step) => {
        const whole = maskerOf(Buffer.from(value), 's')
        const text = parts
          .map((part) =>
            part === 'SECRET' ? value : part === 'ENCODED' ? Buffer.from(value).toString('hex') : part,
          )
          .join(' ')
        const stream = new MaskStream(whole)
        let shown = ''
        for (let at = 0; at < text.length; at += step) shown += stream.push(text.slice(at, at + step))
        shown += stream.end()
        expect(whole.maskText(shown)).toBeUndefined()
        if (whole.maskText(text) === undefined) expect(shown).toBe(text)
      }),
      { numRuns: 200 },
    )
  })
})
