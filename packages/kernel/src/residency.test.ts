/** Who sleeps first when there is no room. */
import { expect, it } from 'vitest'
import type { Declarations } from './declarations.ts'
import type { Address } from './ids.ts'
import { Limits } from './limits.ts'
import { Residency } from './residency.ts'

const nothingSet: Pick<Declarations, 'of'> = { of: () => [] }
const limits = new Limits(() => nothingSet, {})
const address = (key: string): Address => ({ tenant: 'acme', type: 'crowd', key })

/** A resident that rests unless it is said to be at work. */
const resident = (key: string) => ({ address: address(key), name: `acme/crowd/${key}`, quiet: true })

function open(most: number) {
  const gone: string[] = []
  const awake = new Map<string, ReturnType<typeof resident>>()
  const suspend = async (name: string) => {
    const agent = awake.get(name)
    if (!agent) return
    awake.delete(name)
    gone.push(agent.address.key)
    residency.left(agent)
  }
  const residency = new Residency(limits, suspend, { most, memoryBytes: Number.POSITIVE_INFINITY })
  const enter = (key: string) => {
    const agent = resident(key)
    awake.set(agent.name, agent)
    residency.entered(agent)
    residency.rested(agent)
    return agent
  }
  return { residency, enter, gone }
}

it('the quiet one that was used longest ago sleeps first', async () => {
  const { residency, enter, gone } = open(3)
  const [a] = ['a', 'b', 'c'].map(enter)
  if (!a) throw new Error('nobody entered')
  residency.wanted(a)
  residency.rested(a)
  ;(await residency.room(address('d'))).give()
  expect(gone).toEqual(['b'])
  enter('d')
  await residency.room(address('e'))
  expect(gone).toEqual(['b', 'c'])
})

it('whoever is at work does not sleep for another, and may once it rests, whoever tells of that', async () => {
  const { residency, enter, gone } = open(2)
  const a = enter('a')
  const b = enter('b')
  Object.assign(a, { quiet: false })
  Object.assign(b, { quiet: false })
  await expect(residency.room(address('c'), true)).rejects.toMatchObject({ code: 'Busy' })
  Object.assign(a, { quiet: true })
  await residency.room(address('c'), true)
  expect(gone).toEqual(['a'])
})

it('room that is given counts until somebody enters with it or it is given back', async () => {
  const { residency, enter } = open(2)
  Object.assign(enter('a'), { quiet: false })
  const room = await residency.room(address('b'), true)
  await expect(residency.room(address('c'), true)).rejects.toMatchObject({ code: 'Busy' })
  room.give()
  room.give()
  await residency.room(address('c'), true)
  await expect(residency.room(address('d'), true)).rejects.toMatchObject({ code: 'Busy' })
})

it('goes ahead of need where many are awake, and stops there', async () => {
  const { enter, gone } = open(1000)
  for (let i = 0; i < 1000; i++) enter(`k${i}`)
  await new Promise((resolve) => setImmediate(resolve))
  expect(gone).toEqual(['k0', 'k1', 'k2', 'k3', 'k4'])
})
