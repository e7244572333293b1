/** The one piece of cryptography that is not a call of `node:crypto`, against `node:crypto`. */
import { createHmac, randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { hmacSha256 } from './keys.ts'

describe('hmacSha256', () => {
  it('is the HMAC-SHA-256 of node:crypto for every key up to a block, and refuses a longer key', () => {
    for (let n = 0; n < 200; n++) {
      const key = randomBytes(n % 65)
      const bytes = randomBytes(n * 7)
      expect(hmacSha256(key, bytes)).toEqual(createHmac('sha256', key).update(bytes).digest())
    }
    expect(() => hmacSha256(randomBytes(65), randomBytes(1))).toThrow(/fits one block/)
  })
})
