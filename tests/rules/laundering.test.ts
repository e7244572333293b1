/** A secret of 64 random bits does not leave by any channel of results; rules that are wrong in one place let it. */
import { Sim } from '@cardinal/cards'
import { describe, expect, it } from 'vitest'
import { CHANNELS, recovered } from './laundering.ts'
import { buildMutant, MUTANTS, type Mutant } from './mutants.ts'
import { Random } from './random.ts'

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31))
const random = new Random(seed)
/** Channels that no rule about what was read closes: each is closed by a rule of its own, whose mutant is below. */
const NEVER_SEEN = new Set([
  'acceptance',
  'what a refusal says of what its sender has read since',
  'a card that is dropped before its offer is taken',
])
const bits = Array.from({ length: 64 }, () => random.below(2) as 0 | 1)

describe(`64 bits (SEED=${seed})`, () => {
  for (const channel of CHANNELS) {
    it(`do not leave by ${channel.name}`, () => {
      expect(recovered(() => new Sim(), channel, bits)).toBe(0)
    })
    // What nobody may ever see of another, whatever it has read, carries nothing either way.
    if (NEVER_SEEN.has(channel.name)) continue
    it(`do leave by ${channel.name} where the sender made them up and has read nothing`, () => {
      expect(recovered(() => new Sim(), channel, bits, true)).toBe(64)
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
    ['offers that count until they are accepted', 'acceptance'],
    ['a floor that sinks with the receiver', 'what a refusal says of what its sender has read since'],
    ['offers that end with the card of their offerer', 'a card that is dropped before its offer is taken'],
  ]
  const MORE: readonly Mutant[] = [
    {
      name: 'offers that count until they are accepted',
      file: 'rules/acts-on-cards.ts',
      from: '(o) => o.by === by && o.card.owner === to && !lapsed(world, o)',
      to: '(o) => o.by === by && o.card.owner === to && !to.held.has(o.card) && !lapsed(world, o)',
    },
    {
      name: 'offers that end with the card of their offerer',
      file: 'rules/acts-on-cards.ts',
      from: '  agent.held.delete(card)\n',
      to: '  agent.held.delete(card)\n  for (const c of world.offers.keys()) if (c.parent === card) world.offers.delete(c)\n',
    },
  ]
  for (const [name, by] of LEAKS) {
    it(`would leave by ${by} with ${name}`, async () => {
      const mutant = [...MUTANTS, ...MORE].find((m) => m.name === name)
      const channel = CHANNELS.find((c) => c.name === by)
      if (!mutant || !channel) throw new Error('no such mutant or channel')
      expect(recovered(await buildMutant(mutant), channel, bits)).toBeGreaterThan(0)
    })
  }
})
