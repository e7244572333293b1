/**
 * Rules that are wrong in one place each. The properties must find every one of them, or they prove
 * nothing: each is the source with one text exchanged, which must stand there exactly once.
 */
import fs from 'node:fs'
import path from 'node:path'
import { build } from 'esbuild'
import { tempFolder } from '../support/kernel.ts'
import type { NewRules, Rules } from './run.ts'

export interface Mutant {
  readonly name: string
  /** Below `packages/cards/src`. */
  readonly file: string
  readonly from: string
  readonly to: string
}

export const MUTANTS: readonly Mutant[] = [
  {
    name: 'no ceiling',
    file: 'rules/judge.ts',
    from: 'for (const bound of ceilingTerms(world, agent))',
    to: 'for (const bound of [] as never[])',
  },
  {
    name: 'a ceiling by birth only',
    file: 'rules/ceiling.ts',
    from: '...(agent.accepted ? [agent.accepted] : []), ',
    to: '',
  },
  {
    name: 'a ceiling that recovers on drop',
    file: 'rules/acts-on-cards.ts',
    from: '  agent.held.delete(card)\n',
    to: '  agent.held.delete(card)\n  agent.accepted = undefined\n',
  },
  {
    name: 'no clip by the delegator',
    file: 'rules/mint.ts',
    from: '[...own, ...ceilingTerms(world, minter), ...scopes]',
    to: '[...own, ...scopes]',
  },
  {
    name: 'no cascade',
    file: 'rules/live.ts',
    from: 'for (let at: Card | undefined = card; at; at = at.parent)\n    if (at.revocations.length > 0',
    to: 'for (let at: Card | undefined = card; at; at = undefined)\n    if (at.revocations.length > 0',
  },
  {
    name: 'spawn without inheritance',
    file: 'rules/acts-on-cards.ts',
    from: 'spawner: by }, influenceOf(world, by))',
    to: 'spawner: by }, UNTOUCHED)',
  },
  {
    name: 'untainted receipts',
    file: 'rules/effects.ts',
    from: "if (of.learned ?? of.outcome === 'done') join(effect.agent, learned(world, effect))",
    to: '',
  },
  {
    name: 'untainted messages',
    file: 'rules/acts-between.ts',
    from: 'if (!stopped) join(to, influence)',
    to: '',
  },
  {
    name: 'untainted replies',
    file: 'rules/acts-between.ts',
    from: "  if (caller?.kind === 'agent') join(caller.agent, answered.influence)\n",
    to: '',
  },
  {
    name: 'a ceiling that rises on accept',
    file: 'rules/acts-on-cards.ts',
    from: 'agent.accepted ? meet(agent.accepted, ever) : ever',
    to: 'agent.accepted ? normalise([...agent.accepted, ...ever]) : ever',
  },
  {
    name: 'now that is not met with ever',
    file: 'rules/mint.ts',
    from: "const bounds = { now: fitting(oneOf(meet(wanted, ever), ever), 'now'), ever: fitting(ever, 'ever') }\n    const limits",
    to: "const bounds = { now: fitting(wanted, 'now'), ever: fitting(ever, 'ever') }\n    const limits",
  },
  {
    name: 'no check of tenants',
    file: 'rules/taint.ts',
    from: '  if (asker.tenant !== other.tenant) return false\n',
    to: '',
  },
  {
    name: 'a ceiling of the cards held at this moment',
    file: 'rules/ceiling.ts',
    from: '...(agent.accepted ? [agent.accepted] : [])',
    to: '...[...agent.held].map((card) => card.ever)',
  },
  {
    name: 'a card that arguments choose',
    file: 'rules/judge.ts',
    from: "  return agent.held.has(card) ? card : 'NoSuchCard'",
    to: '  return [...agent.held].find((held) => held.now.some((box) => cellHas(box.tool, q.tool) && cellHas(box.host, q.host))) ?? card',
  },
  {
    name: 'ask that is lost on derive',
    file: 'box.ts',
    from: 'ask: new Set([...a.ask, ...b.ask])',
    to: 'ask: b.ask',
  },
  {
    name: 'no second decision',
    file: 'rules/effects.ts',
    from: '  effect.approved.add(role)\n  const verdict = attempt(world, effect)\n',
    to: `  effect.approved.add(role)
  let verdict = attempt(world, effect)
  const card = effect.agent.births[0]
  if (verdict.verdict === 'refuse' && card && effect.via === undefined) {
    verdict = { verdict: 'allow', card, flows: [] }
    effect.open = { card, reserved: new Map(), flows: [] }
  }
`,
  },
  {
    name: 'no scope in a timer',
    file: 'rules/acts-between.ts',
    from: 'scope: turns.flatMap((turn) => turn.scope), caller: undefined',
    to: 'scope: [], caller: undefined',
  },
  // Lines of §2a, each built otherwise.
  {
    name: 'a card that is minted beyond the scope of its turn',
    file: 'rules/mint.ts',
    from: '[...own, ...ceilingTerms(world, minter), ...scopes]',
    to: '[...own, ...ceilingTerms(world, minter)]',
  },
  {
    name: 'messages that may lower anybody',
    file: 'rules/acts-between.ts',
    from: "  if (loss) return no('WouldTaint', { sinks: showSinks(loss.sinks), labels: loss.labels })\n  const stopped",
    to: '  const stopped',
  },
  {
    name: 'a floor that sinks with the receiver',
    file: 'rules/taint.ts',
    from: 'ceilingSinks(flowOf(world, agent, agent.birth), reachOf(world))',
    to: 'ceilingSinks(flowOf(world, agent), reachOf(world))',
  },
  {
    name: 'addresses that everybody sees',
    file: 'rules/taint.ts',
    from: '  if (costOf(world, floorOf(world, asker), other.birth)) return false\n',
    to: '  if (costOf(world, floorOf(world, asker), other.birth)) return true\n',
  },
  {
    name: 'offers that may lower anybody',
    file: 'rules/acts-on-cards.ts',
    from: "  if (costOf(world, floorOf(world, agent), offered.influence, admits)) return no('NoSuchOffer')\n",
    to: '',
  },
  {
    name: 'revocations that tell nothing of the revoker',
    file: 'rules/acts-on-cards.ts',
    from: 'for (const held of agent.held) if (below(held)) join(agent, influence)',
    to: '',
  },
  {
    name: 'a stop that everybody sees',
    file: 'rules/acts-between.ts',
    from: '  if (!isStoppedTo(world, stopped, free)) return undefined\n',
    to: '',
  },
  {
    name: 'a stop that is hidden by a second revocation',
    file: 'rules/acts-between.ts',
    from: '  if (!isStoppedTo(world, stopped, free)) return undefined\n',
    to: '  if (!stoppingRevocations(stopped).every(free)) return undefined\n',
  },
  {
    name: 'an offer whose death tells nothing of the revoker',
    file: 'rules/acts-on-cards.ts',
    from: '    for (const { influence } of guestRevocations(card)) join(agent, influence)\n',
    to: '',
  },
  {
    name: 'streams that outlive their authority',
    file: 'rules/effects.ts',
    from: "if (open ? verdict.verdict === 'allow' : verdict.verdict !== 'refuse') continue",
    to: "if (open || verdict.verdict !== 'refuse') continue",
  },
  {
    name: 'an agent that lives while its spawner is stopped',
    file: 'rules/live.ts',
    from: 'export function isStopped(world: World, agent: Agent): boolean {\n  for (let at: Agent | undefined = agent; at; at = at.spawner)',
    to: 'export function isStopped(world: World, agent: Agent): boolean {\n  for (let at: Agent | undefined = agent; at; at = undefined)',
  },
  {
    name: 'budgets of the card alone',
    file: 'rules/budget.ts',
    from: 'for (const at of chainOf(card)) for (const [name, amount] of amounts) add(counterOf(at, name), amount)',
    to: 'for (const [name, amount] of amounts) add(counterOf(card, name), amount)',
  },
  {
    name: 'an unknown outcome that gives back',
    file: 'rules/effects.ts',
    from: "of.outcome === 'failed' ? new Map()",
    to: "of.outcome !== 'done' ? new Map()",
  },
  {
    name: 'cards that forget a root made anew',
    file: 'rules/ceiling.ts',
    from: 'if (at.generation > 1) cards.push(at)',
    to: 'if (at.generation > 99) cards.push(at)',
  },
  {
    name: 'clearance that nobody asks for',
    file: 'rules/judge.ts',
    from: 'const cleared = counted ? clearing(boxes, labels) : boxes',
    to: 'const cleared = counted && clearing(boxes, labels) ? boxes : boxes',
  },
  {
    name: 'flow that nobody asks for',
    file: 'rules/judge.ts',
    from: 'if (missing.length > 0) return',
    to: 'if (missing.length > 99) return',
  },
]

const SOURCES = path.join(import.meta.dirname, '../../packages/cards/src')

/** Builds the rules with one text exchanged. */
export async function buildMutant({
  file,
  from,
  to,
}: Pick<Mutant, 'file' | 'from' | 'to'>): Promise<NewRules> {
  const target = path.join(SOURCES, file)
  const parts = fs.readFileSync(target, 'utf8').split(from)
  if (parts.length !== 2)
    throw new Error(`the text of the mutant stands ${parts.length - 1} times in ${file}`)
  const folder = tempFolder()
  const out = path.join(folder, 'rules.mjs')
  await build({
    entryPoints: [path.join(SOURCES, 'index.ts')],
    bundle: true,
    format: 'esm',
    platform: 'node',
    outfile: out,
    logLevel: 'silent',
    plugins: [
      {
        name: 'mutant',
        setup(plugin) {
          plugin.onLoad({ filter: /\.ts$/ }, (args) =>
            args.path === target ? { contents: parts.join(to), loader: 'ts' } : undefined,
          )
        },
      },
    ],
  })
  const { Sim } = (await import(out)) as { Sim: new () => Rules }
  fs.rmSync(folder, { recursive: true, force: true })
  return () => new Sim()
}
