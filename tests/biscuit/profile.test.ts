/** Only what we write ourselves is read as a card: threats 7, 8, 10 and 11, each with the token that passes. */
import fs from 'node:fs'
import path from 'node:path'
import { appendBlock, generateKeys, sealToken, TokenError, verifyToken } from '@cardinal/cards'
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

/** A block of somebody else's Datalog, as the reference writes it. */
async function blockOf(datalog: string): Promise<Buffer> {
  const { Biscuit, KeyPair, SignatureAlgorithm } = await import('@biscuit-auth/biscuit-wasm')
  const keys = new KeyPair(SignatureAlgorithm.Ed25519)
  const builder = Biscuit.builder()
  builder.addCode(datalog)
  const token = builder.build(keys.getPrivateKey())
  const key = Buffer.from(keys.getPublicKey().toString().replace('ed25519/', ''), 'hex')
  const [block] = verifyToken(token.toBytes(), { algorithm: 'ed25519', key }).blocks
  if (!block) throw new Error('a token has a block')
  return Buffer.from(block.block)
}

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
  it('10: is refused in an older or newer version of the language', () => {
    const version = (to: number) => (block: Buffer) => {
      const at = block.indexOf(Buffer.from([0x18, 0x03]))
      expect(at).toBeGreaterThanOrEqual(0)
      const changed = Buffer.from(block)
      changed[at + 1] = to
      return changed
    }
    for (const to of [0, 1, 2, 4, 5, 6, 127])
      expect(() => readAs(withLastBlock(version(to))), String(to)).toThrow(TokenError)
    expect(readAs(withLastBlock(version(3)))).toEqual(chain)
  })
  it('10: is refused in another version of the card', () => {
    for (const to of ['0', '2', '9'])
      expect(() => readAs(withLastBlock(exchange('{"cardinal":1', `{"cardinal":${to}`)))).toThrow(TokenError)
    expect(readAs(withLastBlock(exchange('{"cardinal":1', '{"cardinal":1')))).toEqual(chain)
  })
  const BOMBS: readonly (readonly [name: string, datalog: string])[] = [
    ['a join of four', 'check if n($a), n($b), n($c), n($d), $a + $b + $c + $d > 1000000'],
    [
      'any within any',
      'check if n($a), [1,2,3].any($p -> [1,2,3].any($q -> [1,2,3].any($r -> $p + $q + $r > $a)))',
    ],
    ['100 parentheses', `check if ${'('.repeat(100)}true${')'.repeat(100)}`],
    ['1,100 facts', Array.from({ length: 1100 }, (_, i) => `n(${i})`).join(';\n')],
    ['a rule', 'm($a) <- n($a)'],
    ['a regular expression', 'check if n($a), "aaaa".matches("(a+)+$")'],
  ]
  for (const [name, datalog] of BOMBS)
    it(`11: is refused with ${name}, without evaluating it`, async () => {
      const foreign = await blockOf(datalog)
      // Instead of the card's own Datalog, and behind it.
      for (const change of [() => foreign, (block: Buffer) => Buffer.concat([block, foreign])])
        expect(() => readAs(withLastBlock(change))).toThrow(TokenError)
      expect(readAs(withLastBlock((block) => block))).toEqual(chain)
    })
  it('11: is refused with JSON 10,000 deep, in the place of what the card says', () => {
    const deep = `{"cardinal":1,"now":${'['.repeat(10_000)}${']'.repeat(10_000)}}`
    // context (field 2, its length in three bytes) and version (field 3), and not one fact.
    const said = (text: string) => {
      const bytes = Buffer.from(text)
      const size = [(bytes.length & 127) | 128, ((bytes.length >> 7) & 127) | 128, bytes.length >> 14]
      return Buffer.concat([Buffer.from([0x12, ...size]), bytes, Buffer.from([0x18, 0x03])])
    }
    expect(() => readAs(withLastBlock(() => said(deep)))).toThrow(TokenError)
  })
  it('11: is refused beyond 16 cards', () => {
    const many = Array.from(
      { length: 17 },
      (_, i): TokenCard => ({ ...(chain[0] as TokenCard), id: `c${i}` }),
    )
    expect(() => signCards(root, many)).toThrow(TokenError)
    // Nor where somebody else's code signs one more.
    const block = (token: ReturnType<typeof signCards>, i: number) =>
      Buffer.from(token.blocks[i]?.block ?? [])
    const sixteen = signCards(root, many.slice(0, 16))
    expect(() => readAs(sealToken(appendBlock(sixteen, block(sixteen, 15))))).toThrow(TokenError)
    expect(readAs(sealToken(signCards(root, many.slice(1)))).length).toBe(16)
  })
  it('8: is refused with a block of a third party, here on the token it was made for', () => {
    const sample = fs.readFileSync(path.join(import.meta.dirname, '../data/biscuit/test024_third_party.bc'))
    const key = '1055c750b1a1505937af1537c626ba3263995c33a64758aaafb1275b0312e284'
    const token = verifyToken(sample, { algorithm: 'ed25519', key: Buffer.from(key, 'hex') })
    expect(token.blocks.some((block) => block.external)).toBe(true)
    expect(() => readCards(token)).toThrow(TokenError)
  })
  it('8: is refused with a block that a third party signed for another token', () => {
    const sample = fs.readFileSync(path.join(import.meta.dirname, '../data/biscuit/test024_third_party.bc'))
    const key = '1055c750b1a1505937af1537c626ba3263995c33a64758aaafb1275b0312e284'
    const reference = { algorithm: 'ed25519', key: Buffer.from(key, 'hex') } as const
    const foreign = verifyToken(sample, reference).blocks.find(({ external }) => external)
    if (!foreign?.external) throw new Error('a block of a third party')
    const spliced = appendBlock(signCards(root, chain), Buffer.from(foreign.block))
    const last = spliced.blocks.at(-1)
    if (!last) throw new Error('a block')
    const replayed = {
      ...spliced,
      blocks: [...spliced.blocks.slice(0, -1), { ...last, external: foreign.external }],
    }
    expect(() => verifyToken(sealToken(replayed), root.public)).toThrow(TokenError)
    expect(verifyToken(sample, reference).blocks).toContainEqual(foreign)
    expect(verifyToken(sealToken(signCards(root, chain)), root.public).blocks).toHaveLength(2)
  })
})
