/** A list of revocations: signed, dated, and no older than the token that it is asked about (R17, threat 16). */
import fs from 'node:fs'
import path from 'node:path'
import { generateKeys, readRevocations, sealToken, signCards, signRevocations } from '@cardinal/cards'
import { afterAll, describe, expect, it } from 'vitest'
import { parseGrant } from '../../packages/cards/src/grant.ts'
import { commandLine } from '../support/command.ts'

const shell = commandLine()
const { folder } = shell
afterAll(() => shell.remove())

const now = [parseGrant({ tool: 'http.get', host: '*.x' }, 'g', () => undefined)]
const limits = { depth: 0, budgets: new Map<string, bigint>() }

for (const algorithm of ['ed25519', 'p256'] as const)
  describe(`a list of revocations, signed by ${algorithm}`, () => {
    const keys = generateKeys(algorithm)
    const rootKey = Buffer.from(keys.public.key).toString('hex')
    const file = path.join(folder, `${algorithm}.bc`)
    const card = { id: 'c', owner: 't/p/1', now, ever: now, limits, asOf: 500 }
    fs.writeFileSync(file, Buffer.from(sealToken(signCards(keys, [card]))).toString('base64url'))
    const listOf = (asOf: number, issuedMs = Date.now(), ids: readonly string[] = ['aa11']) =>
      signRevocations(keys, { asOf, issuedMs, ids })

    function inspect(list: string, ...more: string[]) {
      const at = path.join(folder, 'list')
      fs.writeFileSync(at, list)
      return shell.run(['cards', 'inspect', file, '--root-key', rootKey, '--revoked', at, ...more])
    }

    it('16: is refused where it is older than the token, and taken where it is as old', () => {
      expect(inspect(listOf(499))).toMatchObject({
        status: 4,
        out: '',
        err: expect.stringContaining('reaches to 499, and the token was signed at 500 [StaleRevocationList]'),
      })
      expect(inspect(listOf(500))).toMatchObject({ status: 0, out: expect.stringMatching(/^verified/) })
    })

    it('16: is refused beyond the age that its user allows, from the future too', () => {
      const hour = 3_600_000
      for (const ms of [-2 * hour, 2 * hour])
        expect(inspect(listOf(600, Date.now() + ms), '--max-age', '1h').err).toContain(
          '[StaleRevocationList]',
        )
      expect(inspect(listOf(600, Date.now() - hour / 2), '--max-age', '1h').status).toBe(0)
      expect(inspect('aa11\n', '--max-age', '1h').err).toContain('signed and dated')
      expect(inspect('aa11\n')).toMatchObject({ status: 0, out: expect.stringContaining('not signed') })
    })

    it('is refused where one byte of it was changed, or another key signed it', () => {
      const text = listOf(600)
      const changes: ((list: string) => string)[] = [
        (list) => list.replace('as-of 600', 'as-of 601'),
        (list) => list.replace(/issued \d{4}/, 'issued 2099'),
        (list) => list.replace('aa11', 'aa12'),
        (list) => list.replace('aa11\n', ''),
        (list) => `${list}bb22\n`,
        (list) => list.replace(/signature ../, 'signature 00'),
        (list) => list.replace(/# signature .*\n/, ''),
        (list) => list.replace('revocations 1', 'revocations 2'),
        (list) => list.replace('# as-of 600\n', ''),
      ]
      for (const change of changes) {
        expect(change(text), String(change)).not.toBe(text)
        expect(inspect(change(text)), String(change)).toMatchObject({
          status: 2,
          err: expect.stringContaining('[BadRevocationList]'),
        })
      }
      const other = signRevocations(generateKeys(algorithm), {
        asOf: 600,
        issuedMs: Date.now(),
        ids: ['aa11'],
      })
      expect(inspect(other).err).toContain('not signed by the root key')
      expect([...readRevocations(text, keys.public).ids]).toEqual(['aa11'])
      expect(inspect(text).status).toBe(0)
    })
  })
