/** Only what we write ourselves is read as a card: threats 7, 8, 10 and 11, each with the token that passes. */
import fs from 'node:fs'
import path from 'node:path'
import { appendBlock, beginToken, generateKeys, sealToken, TokenError, verifyToken } from '@cardinal/cards'
import { describe, expect, it } from 'vitest'
import { readCards, signCards, type TokenCard } from '../../packages/cards/src/biscuit/card-token.ts'
import { parseGrant } from '../../packages/cards/src/grant.ts'

const root = generateKeys('ed25519')
const grant = (given: object) => parseGrant(given, 'g', () => undefined)
const limits = { depth: 2, budgets: new Map<string, bigint>() }
const wide = [grant({ tool: 'http.get', host: '*.x' })]
const narrow = [grant({ tool: 'http.get', host: 'a.x' })]
const chain: TokenCard[] = [
  { id: 'p', owner: 't/p/1', now: wide, ever: wide, limits },
  { id: 'c', owner: 't/p/2', now: narrow, ever: narrow, limits: { ...limits, depth: 1 } },
]

/** The token of the chain, its last block changed before it is signed by its rightful key. */
function withLastBlock(change: (block: Buffer) => Buffer): Uint8Array {
  const parent = signCards(root, chain.slice(0, 1))
  const last = signCards(root, chain).blocks.at(-1)
  return sealToken(appendBlock(parent, change(Buffer.from(last?.block ?? []))))
}

const readAs = (bytes: Uint8Array) => readCards(verifyToken(bytes, root.public))
const exchange = (from: string, to: string) => (block: Buffer) =>
  Buffer.from(block.toString('latin1').replace(from, to), 'latin1')

describe('a chain of cards', () => {
  it('is read back as it was signed', () => {
    expect(readAs(sealToken(signCards(root, chain)))).toEqual(chain)
    expect(readAs(withLastBlock((block) => block))).toEqual(chain)
  })
  it('is refused where a block says more than it checks', () => {
    expect(() => readAs(withLastBlock(exchange('"host":"a.x"', '"host":"b.x"')))).toThrow(TokenError)
  })
  it('is refused where a block checks less than it says', () => {
    expect(() => readAs(withLastBlock(exchange('.a.x', '.b.x')))).toThrow(TokenError)
  })
  it('10: is refused in another version of the language', () => {
    const version = (block: Buffer) => {
      const at = block.indexOf(Buffer.from([0x18, 0x03]))
      const changed = Buffer.from(block)
      changed[at + 1] = 4
      return changed
    }
    expect(() => readAs(withLastBlock(version))).toThrow(TokenError)
  })
  it('10: is refused in another version of the card', () => {
    expect(() => readAs(withLastBlock(exchange('{"cardinal":1', '{"cardinal":2')))).toThrow(TokenError)
  })
  it('11: is refused with Datalog that nobody should evaluate, without evaluating it', () => {
    const bomb = Buffer.concat(Array.from({ length: 3000 }, () => Buffer.from([0x22, 0x02, 0x0a, 0x00])))
    expect(() => readAs(withLastBlock((block) => Buffer.concat([block, bomb])))).toThrow(TokenError)
    expect(() => readAs(sealToken(beginToken(root, Buffer.from('{"cardinal":'.repeat(50_000)))))).toThrow(
      TokenError,
    )
  })
  it('11: is refused beyond 16 cards', () => {
    const many = Array.from(
      { length: 17 },
      (_, i): TokenCard => ({ ...(chain[0] as TokenCard), id: `c${i}` }),
    )
    expect(() => signCards(root, many)).toThrow(TokenError)
    expect(readAs(sealToken(signCards(root, many.slice(1)))).length).toBe(16)
  })
  it('8: is refused with a block of a third party, here on the token it was made for', () => {
    const sample = fs.readFileSync(path.join(import.meta.dirname, '../data/biscuit/test024_third_party.bc'))
    const key = '1055c750b1a1505937af1537c626ba3263995c33a64758aaafb1275b0312e284'
    const token = verifyToken(sample, { algorithm: 'ed25519', key: Buffer.from(key, 'hex') })
    expect(token.blocks.some((block) => block.external)).toBe(true)
    expect(() => readCards(token)).toThrow(TokenError)
  })
})
