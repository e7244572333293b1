/** `docs/globals.md` says what a guest finds; this asks a guest. */
import fs from 'node:fs'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { applyPrograms, applyZone, openTestKernel, programFile, type TestKernel } from '../support/kernel.ts'

const table = fs.readFileSync(path.join(import.meta.dirname, '../../docs/globals.md'), 'utf8')
const rows = [...table.matchAll(/^\| (`[^|]+)\| (yes|no) +\|/gm)].flatMap(([, names = '', there]) =>
  [...names.matchAll(/`([^`]+)`/g)].map(([, name = '']) => ({ name, there: there === 'yes' })),
)

describe('the table of globals', () => {
  let t: TestKernel
  beforeAll(async () => {
    t = await openTestKernel([{ name: 'globals', file: programFile('globals.ts'), now: [] }])
  })
  afterAll(() => t.close())

  it('says of every name what a guest sees', async () => {
    expect(rows.length).toBeGreaterThan(30)
    const found = await t.call('globals/g', 'has', { names: rows.map((r) => r.name) })
    if (!found.ok) throw new Error(found.error.message)
    const seen = rows.map((row, i) => ({ name: row.name, there: (found.value as boolean[])[i] }))
    expect(seen).toEqual(rows)
  })

  it('names things that work', async () => {
    expect(await t.call('globals/g', 'works')).toEqual({
      ok: true,
      value: {
        href: 'https://a.example/c/b?x=1&y=%20',
        y: ' ',
        text: 'häßlich 😀',
        cloned: 5,
        aborted: [true, 1],
        header: '1',
        bytes: 4,
      },
    })
  })

  it('writes numbers and dates as Node does, in every locale that it has', async () => {
    const at = new Date(Date.UTC(2026, 10, 21, 14, 5, 9))
    // Which space separates groups and times is a matter of the data's age, not of right and wrong.
    const plain = (o: object) => JSON.parse(JSON.stringify(o).replaceAll(/[\u00a0\u202f\u2009]/g, ' '))
    for (const locale of ['de-DE', 'de-CH', 'de-AT', 'en-US', 'en-GB', 'fr-FR', 'es-ES', 'it']) {
      const found = await t.call('globals/l', 'locales', { locale })
      if (!found.ok) throw new Error(found.error.message)
      expect(plain(found.value as object), locale).toEqual(
        plain({
          number: (1234567.891).toLocaleString(locale),
          money: new Intl.NumberFormat(locale, { style: 'currency', currency: 'EUR' }).format(-1234.5),
          date: at.toLocaleDateString(locale, { timeZone: 'UTC' }),
          time: at.toLocaleTimeString(locale, { timeZone: 'UTC' }),
          zoned: at.toLocaleString(locale, {
            weekday: 'long',
            day: 'numeric',
            month: 'long',
            timeZone: 'Europe/Berlin',
          }),
          clock: at.toLocaleTimeString(locale, {
            hour: '2-digit',
            minute: '2-digit',
            timeZone: 'America/New_York',
          }),
          one: 'one',
        }),
      )
    }
  })

  it('throws for a locale that it does not have, instead of writing as another', async () => {
    for (const locale of ['ja-JP', 'pt-BR', 'en-AU', 'nonsense!'])
      expect(await t.call('globals/l', 'locales', { locale }), locale).toMatchObject({
        ok: false,
        error: { message: expect.stringMatching(/^RangeError/) },
      })
  })

  it('hashes and signs as Node does, and makes no keys', async () => {
    const text = 'häßlich'
    const { createHash, createHmac } = await import('node:crypto')
    expect(await t.call('globals/h', 'hashes', { text })).toEqual({
      ok: true,
      value: {
        digests: ['sha1', 'sha256', 'sha384', 'sha512'].map((n) => createHash(n).update(text).digest('hex')),
        hmac: createHmac('sha256', text).update(text).digest('hex'),
        right: true,
        wrong: false,
        aes: 'NotSupportedError',
      },
    })
  })

  it('keeps forms and files, and sends them as a browser would', async () => {
    expect(await t.call('globals/f', 'parts')).toEqual({
      ok: true,
      value: { names: ['note', 'file'], file: ['x.csv', 3, 'text/csv', 'a,b'] },
    })
    const seen: [string | undefined, string][] = []
    const server = http.createServer(async (request, response) => {
      let body = ''
      for await (const chunk of request) body += String(chunk)
      seen.push([request.headers['content-type'], body])
      response.end('12345')
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as AddressInfo
    const grant = `{ tool: http.fetch, scheme: [http], host: 127.0.0.1, port: [${port}], method: [POST], path: /, args: { body: "*" } }`
    await applyZone(t.kernel, '127.0.0.1', '127.0.0.1/32')
    await applyPrograms(t.kernel, [{ name: 'poster', file: programFile('globals.ts'), now: [grant] }])
    expect(await t.call('poster/p', 'post', { url: `http://127.0.0.1:${port}/` })).toEqual({
      ok: true,
      value: { statuses: [200, 200], size: 5, bytes: 5 },
    })
    server.close()
    const form = seen.find(([type]) => type?.startsWith('multipart/form-data; boundary='))
    expect(form?.[1]).toMatch(/name="note"\r\n\r\ngrüß\r\n/)
    expect(seen.find(([type]) => type === 'application/json')?.[1]).toBe('{"a":1}')
  })
})
