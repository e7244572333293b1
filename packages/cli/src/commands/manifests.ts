/** Commands of whoever deploys: plan, apply, generations, rollback. */
import { type Grant, showGrantText } from '@cardinal/cards'
import type { Command } from 'commander'
import { ask } from '../client.ts'
import { endpointOf, formatOf, whole } from '../options.ts'
import { note, print, table } from '../output.ts'
import { readProject } from '../project.ts'
import { typeRoute } from './agents.ts'

interface Changed {
  readonly bound: string
  readonly grant: Grant
}

interface Planned {
  readonly kind: string
  readonly name: string
  readonly generation?: number
  readonly changed: boolean
  readonly agents?: number
  readonly program?: string
  readonly card?: {
    readonly limits: object
    readonly limitsBefore?: object
    readonly added: readonly Changed[]
    readonly removed: readonly Changed[]
    readonly warnings: readonly string[]
  }
}

export function addManifestCommands(program: Command): void {
  program
    .command('plan [path]')
    .description('show what `apply` would change: every grant in full form, and what to think of')
    .action(async (at: string | undefined, _options: unknown, command: Command) => {
      const project = await readProject(at ?? '.')
      const { body } = await ask(endpointOf(command), '/v1/plan', { body: project })
      const planned = body.planned as Planned[]
      print(formatOf(command), planned, () => planned.flatMap(planLines).join('\n'))
      if (planned.some(({ changed }) => changed))
        note(`nothing is applied yet: \`cardinal apply ${at ?? '.'}\``)
    })
  program
    .command('apply [path]')
    .description('apply a manifest, or all manifests of a folder')
    .action(async (at: string | undefined, _options: unknown, command: Command) => {
      const project = await readProject(at ?? '.')
      const { body } = await ask(endpointOf(command), '/v1/apply', { body: project })
      const applied = body.applied as Planned[]
      print(formatOf(command), applied, () =>
        table(applied.map((a) => [a.kind, a.name, generationOf(a), a.changed ? 'applied' : 'unchanged'])),
      )
    })
  program
    .command('generations <type>')
    .description('the applied versions of a manifest, the newest first')
    .action(async (type: string, _options: unknown, command: Command) => {
      const { body } = await ask(endpointOf(command), `${typeRoute(type)}/generations`)
      const rows = body.generations as {
        generation: number
        applied: string
        image: string
        current: boolean
      }[]
      print(formatOf(command), rows, () =>
        table([
          ['GENERATION', 'APPLIED', 'PROGRAM', ''],
          ...rows.map((row) => [
            String(row.generation),
            row.applied,
            row.image.slice(0, 12),
            row.current ? 'in force' : '',
          ]),
        ]),
      )
    })
  program
    .command('rollback <type>')
    .description('apply an earlier version again, as a new generation')
    .option('--to <generation>', 'which; the one before the current if left out', whole(1))
    .option('--dry-run', 'show what would change, and change nothing')
    .action(async (type: string, options: { to?: number; dryRun?: true }, command: Command) => {
      const { body } = await ask(endpointOf(command), `${typeRoute(type)}/rollback`, { body: options })
      const planned = body as unknown as Planned
      print(formatOf(command), planned, () => planLines(planned).join('\n'))
      if (options.dryRun && planned.changed) note('nothing is rolled back yet; leave out `--dry-run`')
    })
}

function generationOf({ generation }: Planned): string {
  return generation === undefined ? '' : `generation ${generation}`
}

function planLines(planned: Planned): string[] {
  const { kind, name, changed, agents = 0, program, card } = planned
  if (!changed) return [`${kind} ${name}  unchanged`]
  const code = program === undefined || program === 'same' ? '' : `, ${program} program`
  const decides = agents === 0 ? '' : `, decides ${agents} agents that live`
  return [
    `${kind} ${name}  ${generationOf(planned)}${code}${decides}`.trimEnd(),
    ...(card
      ? [
          ...grantLines('-', card.removed),
          ...grantLines('+', card.added),
          ...limitLines(card),
          ...card.warnings.map((text) => `  ! ${text}`),
        ]
      : []),
  ]
}

/** One line a grant, also where both bounds gain or lose it. */
function grantLines(sign: string, list: readonly Changed[]): string[] {
  const bounds = new Map<string, string[]>()
  for (const { bound, grant } of list) {
    const text = showGrantText(grant)
    bounds.set(text, [...(bounds.get(text) ?? []), bound])
  }
  return [...bounds].map(([text, of]) => `  ${sign} ${of.join(' and ').padEnd(12)} ${text}`)
}

function limitLines({ limits, limitsBefore }: NonNullable<Planned['card']>): string[] {
  const [now, before] = [limits, limitsBefore].map((one) => JSON.stringify(one))
  if (before === undefined || before === now) return [`    limits       ${now}`]
  return [`  - limits       ${before}`, `  + limits       ${now}`]
}
