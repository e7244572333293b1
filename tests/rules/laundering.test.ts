/** A secret of 64 random bits does not leave by any channel of results; rules that are wrong in one place let it. */
import { Sim } from '@cardinal/cards'
import { describe, expect, it } from 'vitest'
import { CHANNELS, recovered } from './laundering.ts'
import { buildMutant, MUTANTS } from './mutants.ts'
import { Random } from './random.ts'

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31))
const random = new Random(seed)
const bits = Array.from({ length: 64 }, () => random.below(2) as 0 | 1)

describe(`64 bits (SEED=${seed})`, () => {
  for (const channel of CHANNELS) {
    it(`do not leave by ${channel.name}`, () => {
      expect(recovered(() => new Sim(), channel, bits)).toBe(0)
    })
  }

  const LEAKS: readonly [mutant: string, channel: string][] = [
    ['untainted receipts', 'its own request'],
    ['flow that nobody asks for', 'its own request'],
    ['untainted messages', 'a helper that carries it out'],
    ['spawn without inheritance', 'a child that is born of it'],
    ['addresses that everybody sees', 'a child that is born of it, asked by its maker’s friend'],
    ['revocations that tell nothing of the revoker', 'the revocation of a card that is held'],
    ['an offer whose death tells nothing of the revoker', 'the revocation of a card that is offered'],
    ['a stop that everybody sees', 'a stop of a child'],
    ['untainted replies', 'an answer that was asked for come what may'],
  ]
  for (const [name, by] of LEAKS) {
    it(`would leave by ${by} with ${name}`, async () => {
      const mutant = MUTANTS.find((m) => m.name === name)
      const channel = CHANNELS.find((c) => c.name === by)
      if (!mutant || !channel) throw new Error('no such mutant or channel')
      expect(recovered(await buildMutant(mutant), channel, bits)).toBeGreaterThan(0)
    })
  }
})
