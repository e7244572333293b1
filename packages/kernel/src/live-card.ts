/** A card that somebody outside names, for what is done or approved to lie within. */
import { isLive, type World } from '@cardinal/cards'
import { KernelError } from './errors.ts'

/** Throws `NoSuchCard` or `NotLive`. */
export function requireLiveCard(world: World, id: string): void {
  const card = world.cards.get(id)
  if (!card) throw new KernelError('NotFound', 'NoSuchCard', `no card \`${id}\` in this tenant`)
  if (!isLive(world, card)) throw new KernelError('Refused', 'NotLive', `card \`${id}\` is dead`)
}
