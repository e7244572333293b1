/**
 * The one database that an agent has, whatever a program calls it.
 *
 * The first name that it is opened by is its name; another one would be another database, and there is
 * none: better an error than two programs that believe in two.
 */
let known: string | undefined

/** The name as it is shown; throws where it cannot be the agent's database. */
export function openByName(name: string): string {
  if (name === ':memory:' || name === '' || /^file:.*mode=memory/.test(name))
    throw new Error(
      'an agent has no database in memory only; open its own by a name, such as "home.db": it is there again after every suspension, and rolls back with the turn',
    )
  known ??= name
  if (name !== known)
    throw new Error(
      `an agent has one database, and this program opened it as "${known}"; "${name}" would be another`,
    )
  return name
}
