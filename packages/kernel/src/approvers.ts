/**
 * Who may approve an effect: somebody with a role that it asks for, who did not ask for it, has not approved
 * it already, and may do as much by a card of their own.
 *
 * Where several people are wanted in one role, its further places are named `role#2` and so on; to the rules
 * of cards these are roles like any other.
 */
import { type EffectRequest, isWithinCard } from '@cardinal/cards'
import type { Actor } from './asking.ts'
import type { Context } from './context.ts'
import { KernelError } from './errors.ts'
import { principalOf, type RecordedPerson } from './people.ts'
import { type OpenEffect, principalsOf } from './state.ts'

/** A person with a token of their own; or the operator's token, which names nobody, by whatever name it is on record. */
export type Approver = RecordedPerson | string

/** What an approver is on record as. */
export function nameOf(by: Approver): string {
  return typeof by === 'string' ? by : principalOf(by)
}

/** The roles that an approver has of those that are asked for. */
export function rolesFor(ask: readonly (readonly string[])[], by: Approver): string[] {
  const asked = [...new Set(ask.flat().map(roleOf))]
  return typeof by === 'string' ? asked : asked.filter((role) => by.roles.includes(role))
}

/** The place that an approval takes. `BadRole`, where it is not clear which, or it is none of theirs. */
export function placeFor(
  { ask, approved }: { readonly ask: readonly (readonly string[])[]; readonly approved: readonly string[] },
  role: string | undefined,
  by: Approver,
): string {
  const roles = rolesFor(ask, by)
  const chosen = role ?? (roles.length === 1 ? roles[0] : undefined)
  if (chosen === undefined || !roles.includes(chosen)) {
    const all = [...new Set(ask.flat().map(roleOf))].join(', ')
    const own = roles.length > 0 ? `say as which role: ${roles.join(', ')}` : `it asks for ${all}`
    throw new KernelError('Malformed', 'BadRole', own)
  }
  const places = [...new Set(ask.flat())].filter((place) => roleOf(place) === chosen).sort()
  return places.find((place) => !approved.includes(place)) ?? chosen
}

/** A token is worth nothing once its person was removed, also to whoever had shown it before. */
export function requireStanding(ctx: Pick<Context, 'control'>, by: Approver): void {
  if (typeof by !== 'string' && ctx.control.findPerson(by.tenant, by.name) !== by)
    throw refused('NotForPeople', 'this token is worth nothing any more')
}

/** Throws why somebody may not approve an effect in this place. Called in the step that approves it. */
export function requireApprover(
  ctx: Pick<Context, 'control'>,
  who: Actor,
  effect: OpenEffect,
  request: EffectRequest | undefined,
  place: string,
  by: Approver,
): void {
  const { tenant } = who.row
  requireStanding(ctx, by)
  const before = (effect.approvers ?? []).map((name, i) => [name, effect.approved[i]] as const)
  const name = nameOf(by)
  // Roles of one operator are one another's stand-in; places of one role are there to be taken by several.
  const again = before.some(
    ([one, taken]) => one === name && (typeof by !== 'string' || roleOf(taken ?? '') === roleOf(place)),
  )
  if (again) throw refused('SamePerson', 'it is for somebody else to approve that as well')
  if (typeof by === 'string') {
    if (ctx.control.listPeople().every((person) => person.tenant !== tenant)) return
    throw refused('NotAPerson', `people approve in \`${tenant}\`, each with a token of their own`)
  }
  if (principalsOf(who.state, effect).some((principal) => isOf(principal, by)))
    throw refused('OwnRequest', 'nobody approves what was asked for in their own name')
  const card = who.world.cards.get(by.card)
  if (!card || !request || !isWithinCard(who.world, card, request))
    throw refused(
      'BeyondApprover',
      `it is more than card \`${by.card}\`, by which \`${by.name}\` approves, allows`,
    )
}

/** Under their own name, or as a client of the Model Context Protocol that bears it. */
function isOf(principal: string, by: RecordedPerson): boolean {
  return principal === principalOf(by) || principal.startsWith(`mcp.${by.name}.`)
}

/** Of a place: the role that it is for. */
function roleOf(place: string): string {
  return place.split('#', 1)[0] as string
}

function refused(code: string, message: string): KernelError {
  return new KernelError('Refused', code, message)
}
