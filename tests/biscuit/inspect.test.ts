/** `cards inspect`: anybody verifies a token offline, with a public key and a list of revoked ids. */
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { generateKeys, sealToken, verifyToken } from '@cardinal/cards'
import { afterAll, describe, expect, it } from 'vitest'
import { signCards } from '../../packages/cards/src/biscuit/card-token.ts'
import { parseGrant } from '../../packages/cards/src/grant.ts'
import { tempFolder } from '../support/kernel.ts'

const main = path.join(import.meta.dirname, '../../packages/cli/src/main.ts')
const folder = tempFolder()
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }))

function inspect(...args: string[]): { status: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, 'cards', 'inspect', ...args], {
    encoding: 'utf8',
  })
  return { status, out: stdout, err: stderr }
}

const keep = (name: string, content: string | Uint8Array) => {
  const file = path.join(folder, name)
  fs.writeFileSync(file, content)
  return file
}

const root = generateKeys('p256')
const key = Buffer.from(root.public.key).toString('hex')
const now = [parseGrant({ tool: 'http.get', host: '*.x' }, 'g', () => undefined)]
const limits = { depth: 2, budgets: new Map<string, bigint>() }
const bytes = sealToken(
  signCards(root, [
    { id: 'p', owner: 't/p/1', now, ever: now, limits },
    { id: 'c', owner: 't/p/2', now, ever: now, limits: { ...limits, depth: 1 } },
  ]),
)
const token = keep('token', bytes)
const [parentId = '', childId = ''] = verifyToken(bytes, root.public).revocationIds

describe('cards inspect', () => {
  it('shows the cards of a token of ours, as bytes and as base64', () => {
    const { status, out } = inspect(token, '--root-key', key)
    expect(status).toBe(0)
    expect(out).toMatch(/verified .*2 blocks, sealed/)
    expect(out).toMatch(/card c of t\/p\/2/)
    expect(out).toMatch(/now +http\.get host=\*\.x/)
    const text = keep('text', Buffer.from(bytes).toString('base64url'))
    const { out: json } = inspect(text, '--root-key', `secp256r1/${key}`, '--format', 'json')
    expect(JSON.parse(json)).toMatchObject({
      ok: true,
      sealed: true,
      blocks: [{ card: { id: 'p' } }, { card: { id: 'c' } }],
    })
  })
  for (const [name, id] of [
    ['block', childId],
    ['ancestor', parentId],
  ])
    it(`ends with 1 where a ${name} is revoked, and with 0 where it is not`, () => {
      const list = keep('revoked', `# ids\n${id?.toUpperCase()}\n`)
      expect(inspect(token, '--root-key', key, '--revoked', list)).toMatchObject({
        status: 1,
        out: expect.stringMatching(/^REVOKED/) as string,
      })
      const other = keep('others', `${'ab'.repeat(32)}\n`)
      expect(inspect(token, '--root-key', key, '--revoked', other).status).toBe(0)
    })
  it('ends with 1 under another key, and says why', () => {
    const stranger = Buffer.from(generateKeys('p256').public.key).toString('hex')
    const { status, out } = inspect(token, '--root-key', stranger, '--format', 'json')
    expect(status).toBe(1)
    expect(JSON.parse(out)).toMatchObject({ ok: false, code: 'BadSignature' })
  })
  it('ends with 1 where a card of it has expired, and shows when; with 0 where it has not', () => {
    const until = (expires: number) =>
      keep(
        'expiring',
        Buffer.from(
          sealToken(
            signCards(root, [{ id: 'e', owner: 't/p/3', now, ever: now, limits: { ...limits, expires } }]),
          ),
        ),
      )
    const ended = inspect(until(Date.now() - 1), '--root-key', key)
    expect(ended).toMatchObject({ status: 1, out: expect.stringMatching(/^EXPIRED/) as string })
    const later = Date.now() + 3_600_000
    const { status, out } = inspect(until(later), '--root-key', key)
    expect(status).toBe(0)
    expect(out).toContain(`expires      ${new Date(later).toISOString()}`)
    expect(out).toMatch(/limits +\{.*"expires":/)
  })
  it('names what is wrong with what it was given', () => {
    const huge = keep('huge', Buffer.alloc(6_000_000, 65))
    expect(inspect(huge, '--root-key', key)).toMatchObject({
      status: 2,
      err: expect.stringContaining('[BadToken]') as string,
    })
    expect(inspect(path.join(folder, 'none'), '--root-key', key)).toMatchObject({ status: 3 })
    expect(inspect(token, '--root-key', 'zz')).toMatchObject({ status: 2 })
    expect(inspect(token)).toMatchObject({ status: 2 })
    const list = keep('bad', 'not hex\n')
    expect(inspect(token, '--root-key', key, '--revoked', list).err).toMatch(/`not hex` is no revocation id/)
    expect(inspect(folder, '--root-key', key)).toMatchObject({
      status: 3,
      err: expect.stringMatching(/is no file/) as string,
    })
  })
})
