/** Tokens that others made, and attacks on ours: threats 1 to 10 of the list. */
import { randomBytes } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import {
  type Algorithm,
  appendBlock,
  beginToken,
  generateKeys,
  type OpenToken,
  type PublicKeyBytes,
  sealToken,
  TokenError,
  unsealedToken,
  verifyToken,
} from '@cardinal/cards'
import { describe, expect, it } from 'vitest'

const folder = path.join(import.meta.dirname, '../data/biscuit')
const samples = JSON.parse(fs.readFileSync(path.join(folder, 'samples.json'), 'utf8')) as {
  rootPublicKey: string
  tokens: { file: string; title: string; accepted: boolean; revocationIds: string[]; blocks: number }[]
}
const referenceRoot: PublicKeyBytes = { algorithm: 'ed25519', key: Buffer.from(samples.rootPublicKey, 'hex') }

describe('a token of the reference', () => {
  for (const { file, title, accepted, revocationIds, blocks } of samples.tokens) {
    it(`is ${accepted ? 'accepted' : 'refused'} as there: ${title}`, () => {
      const bytes = fs.readFileSync(path.join(folder, file))
      if (!accepted) return expect(() => verifyToken(bytes, referenceRoot)).toThrow(TokenError)
      const token = verifyToken(bytes, referenceRoot)
      expect(token.revocationIds).toEqual(revocationIds)
      expect(token.blocks.length).toBe(blocks)
    })
  }
  it('is not taken for one of another root', () => {
    const bytes = fs.readFileSync(path.join(folder, 'test001_basic.bc'))
    expect(() => verifyToken(bytes, generateKeys('ed25519').public)).toThrow(/signature of block 0/)
  })
})

const root = generateKeys('ed25519')
const blockOf = (name: string) => Buffer.from(`block ${name}`)

function chain(names: readonly string[], algorithm: Algorithm = 'ed25519'): OpenToken {
  const [first = '', ...rest] = names
  return rest.reduce(
    (token, name) => appendBlock(token, blockOf(name), algorithm),
    beginToken(root, blockOf(first), { algorithm }),
  )
}

const refused = (bytes: Uint8Array, key: PublicKeyBytes = root.public) =>
  expect(() => verifyToken(bytes, key)).toThrow(TokenError)

describe('a token of ours', () => {
  for (const algorithm of ['ed25519', 'p256'] as const)
    it(`is accepted, sealed and not, with ${algorithm}`, () => {
      const token = chain(['a', 'b', 'c'], algorithm)
      expect(verifyToken(sealToken(token), root.public)).toMatchObject({ sealed: true })
      expect(verifyToken(unsealedToken(token), root.public)).toMatchObject({ sealed: false })
    })
  it('1: is not made of random bytes', () => {
    for (let i = 0; i < 200; i++) refused(randomBytes(i))
    // Whole and well formed, but for who signed it: one signature after the other is random.
    const token = chain(['a', 'b', 'c'])
    const signatures = token.blocks.map(({ signature }) => Buffer.from(signature))
    const bytes = Buffer.from(sealToken(token))
    const proof = bytes.subarray(bytes.length - 64)
    for (const signature of [...signatures, proof]) {
      const forged = Buffer.from(bytes)
      randomBytes(signature.length).copy(forged, bytes.lastIndexOf(signature))
      expect(forged.equals(bytes)).toBe(false)
      refused(forged)
    }
    verifyToken(bytes, root.public)
  })
  it('2: is refused with any one bit flipped', () => {
    const bytes = Buffer.from(sealToken(chain(['a', 'b'])))
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const flipped = Buffer.from(bytes)
      flipped[bit >> 3] = (flipped[bit >> 3] as number) ^ (1 << (bit & 7))
      refused(flipped)
    }
    verifyToken(bytes, root.public)
  })
  it('3: is refused under another root key', () => {
    const bytes = sealToken(chain(['a']))
    refused(bytes, generateKeys('ed25519').public)
    refused(bytes, generateKeys('p256').public)
    verifyToken(bytes, root.public)
  })
  it('4: does not choose the key it is verified by', () => {
    const stranger = generateKeys('ed25519')
    const forged = sealToken(beginToken(stranger, blockOf('a'), { rootKeyId: 0 }))
    refused(forged)
    expect(verifyToken(forged, stranger.public).rootKeyId).toBe(0)
  })
  it('5: is refused with blocks reordered, dropped, repeated or spliced from another chain', () => {
    const token = chain(['a', 'b', 'c'])
    const other = chain(['a', 'b', 'c'])
    const [a, b, c] = token.blocks
    const [, d] = other.blocks
    if (!a || !b || !c || !d) throw new Error('three blocks each')
    for (const blocks of [
      [a, c, b],
      [a, c],
      [a, b, b, c],
      [a, d, c],
      [b, c],
      [a, b, c, c],
    ])
      refused(sealToken({ ...token, blocks }))
    verifyToken(sealToken({ ...token, blocks: [a, b, c] }), root.public)
  })
  it('6: is refused when its last blocks are stripped, though the next secret leaked', () => {
    const token = chain(['a', 'b', 'c'])
    refused(unsealedToken({ ...token, blocks: token.blocks.slice(0, 2) }))
    refused(sealToken({ ...token, blocks: token.blocks.slice(0, 2) }))
    verifyToken(unsealedToken(token), root.public)
  })
  it('7: takes no block of whoever holds only its sealed bytes', () => {
    const token = chain(['a', 'b'])
    const mine = appendBlock({ ...token, next: generateKeys('ed25519') }, blockOf('mine'))
    refused(sealToken(mine))
    verifyToken(sealToken(appendBlock(token, blockOf('mine'))), root.public)
  })
  it('9: is refused where a number is written longer than it is, or a field is unknown or repeated', () => {
    const bytes = Buffer.from(sealToken(chain(['a'])))
    refused(Buffer.concat([bytes, Buffer.from([0x28, 0x01])]))
    refused(Buffer.concat([Buffer.from([0x08, 0x80, 0x00]), bytes]))
    refused(Buffer.concat([bytes, bytes.subarray(bytes.length - 68)]))
    const withId = Buffer.from(sealToken(beginToken(root, blockOf('a'), { rootKeyId: 0 })))
    verifyToken(withId, root.public)
    verifyToken(bytes, root.public)
  })
  it('is refused by a key of small order, with which anything is signed', () => {
    const weak: PublicKeyBytes = { algorithm: 'ed25519', key: Buffer.alloc(32) }
    refused(sealToken(chain(['a'])), weak)
  })
  it('11: is refused beyond a megabyte', () => {
    const most = 1 << 20
    const sized = (bytes: number) => sealToken(beginToken(root, Buffer.alloc(bytes, 1)))
    const over = sized(0).length
    // Lengths take more bytes where they are longer, so the edge is looked for.
    let size = most - over - 8
    while (sized(size + 1).length <= most) size++
    expect(verifyToken(sized(size), root.public).blocks).toHaveLength(1)
    refused(sized(size + 1))
  })
})
