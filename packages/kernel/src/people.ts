/**
 * People who approve: each with a token of their own, roles, and a card within which whatever they approve
 * must lie. Nothing else of the node is open to them.
 */
import type { Context } from './context.ts'
import { KernelError } from './errors.ts'
import { requireLiveCard } from './live-card.ts'
import { digestOfToken, newToken } from './tokens.ts'

export interface Person {
  readonly tenant: string
  readonly name: string
  readonly roles: readonly string[]
  /** They approve what this card allows, and no more. */
  readonly card: string
}

/** A person as on record; of the token only the digest is. */
export interface RecordedPerson extends Person {
  /** SHA-256, hexadecimal. */
  readonly token: string
}

const NAME = /^[a-z0-9][a-z0-9._-]{0,62}$/
const ROLE = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/

/** The principal that a person is on record as. */
export function principalOf({ name }: Pick<Person, 'name'>): string {
  return `person.${name}`
}

export class People {
  readonly #ctx: Pick<Context, 'control' | 'authority' | 'log'>

  constructor(ctx: Pick<Context, 'control' | 'authority' | 'log'>) {
    this.#ctx = ctx
  }

  list(tenant?: string): Person[] {
    return this.#ctx.control
      .listPeople()
      .filter((person) => tenant === undefined || person.tenant === tenant)
      .map(({ token: _token, ...person }) => person)
  }

  /**
   * Declares a person, whose token is told here and never again; durable when the promise resolves. From then
   * on only people approve in this tenant. Throws `BadPerson`, `PersonExists`, `NoSuchCard` or `NotLive`, and
   * changes nothing.
   */
  async add(person: Person, by: string): Promise<{ token: string }> {
    const { control, log, authority } = this.#ctx
    const { tenant, name, roles, card: id } = person
    if (!NAME.test(name)) throw bad(`\`${name}\` is no name: small letters, digits, \`.\`, \`_\` and \`-\``)
    if (roles.length === 0) throw bad('somebody without a role could approve nothing')
    const odd = roles.find((role) => !ROLE.test(role))
    if (odd !== undefined) throw bad(`\`${odd}\` is no role: letters, digits, \`.\`, \`_\` and \`-\``)
    requireLiveCard(authority.of(tenant), id)
    if (control.findPerson(tenant, name))
      throw new KernelError(
        'Conflict',
        'PersonExists',
        `\`${tenant}\` has a person \`${name}\`; \`cardinal people rm ${name}\` ends that`,
      )
    const token = newToken('cper')
    const kept = { tenant, name, roles: [...new Set(roles)], card: id, token: digestOfToken(token) }
    await log.untilDurable(control.addPerson(kept, by))
    return { token }
  }

  /** The token is worth nothing from then on; what was approved stays approved. */
  async remove(tenant: string, name: string, by: string): Promise<void> {
    const { control, log } = this.#ctx
    this.require(tenant, name)
    await log.untilDurable(control.removePerson(tenant, name, by))
  }

  require(tenant: string, name: string): Person {
    const person = this.#ctx.control.findPerson(tenant, name)
    if (!person) throw new KernelError('NotFound', 'NoSuchPerson', `\`${tenant}\` has no person \`${name}\``)
    return person
  }

  /** Whose token this is: the very record, by which it is known whether it still stands. */
  authenticate(token: string): RecordedPerson | undefined {
    const digest = digestOfToken(token)
    return this.#ctx.control.listPeople().find((one) => one.token === digest)
  }
}

function bad(message: string): KernelError {
  return new KernelError('Malformed', 'BadPerson', message)
}
