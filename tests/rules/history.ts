/**
 * Random histories of a small world in which everything often meets: two tenants, a handful of agents,
 * six tools, three hosts. What an operation names may exist or not; most of it does.
 */
import { Random } from './random.ts'

export type Op = { op: string } & Record<string, unknown>

export interface Wishes {
  readonly ops: number
  /** Budgets, expiry and re-roots tell agents of one another; properties about influence leave them out. */
  readonly budgets: boolean
  readonly reroots: boolean
  /** Methods that admit anything spell bits in what does not happen. */
  readonly openMethods: boolean
  /** A fork names what is held, so the host's act depends on the agent's. */
  readonly forks: boolean
}

export const TOOLS: readonly Op[] = [
  { op: 'tool', tool: 'db.read', yields: ['private'] },
  { op: 'tool', tool: 'db.list' },
  { op: 'tool', tool: 'web.get', sinks: ['{host}'] },
  { op: 'tool', tool: 'mail.send', sinks: ['mail.z'] },
  { op: 'tool', tool: 'model.ask', sinks: ['model:m', 'log'], yields: ['untrusted'] },
]

const TYPES: readonly Op[] = ['t/p', 't/q', 'u/p'].map((type) => ({
  op: 'type',
  type,
  methods: {
    run: {},
    own: { authority: 'own' },
    some: { admits: { labels: ['private'], flow: ['log', 'mail.z'] } },
  },
}))

const HOSTS = ['a.x', 'b.x', 'c.y']
const HOST_CELLS = ['a.x', 'b.x', 'c.y', '*.x', '*']
const FLOWS = [
  ['log'],
  ['log', 'caller:*'],
  ['*.x', 'log', 'caller:*'],
  ['mail.z', 'model:m', 'log'],
  ['*'],
  [],
]
const LABELS = [['untrusted'], ['private'], ['private', 'untrusted'], []]
const PRINCIPALS = ['ann', 'bob']

/** All requests that histories make and properties look at. */
export const REQUESTS: readonly Record<string, unknown>[] = [
  { tool: 'db.read' },
  { tool: 'db.list' },
  { tool: 'db.list', args: { n: 1 } },
  { tool: 'db.list', args: { n: 7 } },
  ...HOSTS.map((host) => ({ tool: 'web.get', host })),
  ...['/a', '/a/b', '/c'].map((path) => ({ tool: 'web.get', host: 'a.x', path })),
  { tool: 'mail.send' },
  { tool: 'model.ask' },
  { tool: 'agent.send', resource: 'p/1', method: 'run' },
  { tool: 'agent.spawn', resource: 'q/2' },
]

/** What is read and carried out most often: without it little would flow. */
const COMMON = [
  { tool: 'db.read' },
  { tool: 'db.read' },
  { tool: 'model.ask' },
  { tool: 'web.get', host: 'a.x' },
]

function grant(r: Random): Record<string, unknown> {
  const tool = r.pick([
    'db.*',
    'db.read',
    'db.list',
    'web.get',
    'web.get',
    'mail.send',
    'model.*',
    'agent.*',
    '*',
  ])
  const shape: Record<string, unknown> = { tool }
  if (tool === 'web.get') {
    shape.host = r.pick(HOST_CELLS)
    if (r.chance(40)) shape.path = r.pick(['/a', '/a/*', '/*', '*'])
  }
  if (tool === 'db.list' || tool === 'db.*') {
    const args = r.pick([undefined, { n: [1] }, { n: { min: 0, max: 5, optional: true } }, '*'])
    if (args) shape.args = args
  }
  if (tool === 'agent.*') Object.assign(shape, { resource: '*', method: '*' })
  if (tool === '*') Object.assign(shape, { resource: '*', host: '*', method: '*', path: '*', args: '*' })
  if (r.chance(30)) shape.flow = r.pick(FLOWS)
  if (r.chance(15)) shape.labels = r.pick(LABELS)
  if (r.chance(12)) shape.ask = r.pick([['boss'], ['boss', 'peer'], ['peer']])
  return shape
}

const PLAIN = [
  { tool: 'db.read', flow: ['log'] },
  { tool: 'web.get', host: '*' },
  { tool: 'model.*', flow: ['mail.z', 'log', 'caller:*'] },
]
const TALK = { tool: 'agent.*', resource: '*', method: '*' }

function grants(r: Random, talk = 80): Record<string, unknown>[] {
  const all = Array.from({ length: 1 + r.below(4) }, () => grant(r))
  if (r.chance(35)) all.push(r.pick(PLAIN))
  return r.chance(talk) ? [...all, TALK] : all
}

/** What the generator believes to exist; an operation may have been refused. */
class Names {
  readonly agents: string[] = []
  readonly cards: { id: string; owner: string }[] = []
  readonly turns: { id: string; agent: string }[] = []
  readonly effects: string[] = []
  readonly offers: { id: string; owner: string }[] = []
  readonly minted: { id: string; by: string }[] = []
  #next = 0

  fresh(prefix: string): string {
    this.#next += 1
    return `${prefix}${this.#next}`
  }
}

export function generate(seed: number, wishes: Wishes): Op[] {
  const r = new Random(seed)
  const names = new Names()
  const ops: Op[] = [...TOOLS]
  ops.push(
    ...TYPES.map((type) =>
      wishes.openMethods
        ? { ...type, methods: { ...(type.methods as object), open: { admits: '*' } } }
        : type,
    ),
  )
  for (const agent of ['t/p/1', 't/q/1', ...(r.chance(30) ? ['u/p/1'] : [])])
    ops.push(rootOp(r, names, wishes, agent))
  while (ops.length < wishes.ops) {
    const op = next(r, names, wishes)
    ops.push(op)
    // What is begun is often ended at once, or it would seldom be ended at all.
    if (op.op === 'do' && r.chance(55)) ops.push(receiptOf(r, op.id as string))
    if (op.op === 'offer' && r.chance(50)) ops.push({ op: 'preview', agent: op.to, card: op.card })
    if (op.op === 'send' && r.chance(35)) ops.push({ op: 'reply', id: op.id })
  }
  return ops.map((op) => JSON.parse(JSON.stringify(op)) as Op)
}

function limits(r: Random, wishes: Wishes, depth: number): Record<string, unknown> {
  const all: Record<string, unknown> = { depth: r.below(depth + 1) + (depth > 2 ? 1 : 0) }
  if (!wishes.budgets) return all
  if (r.chance(30)) all.calls = 2 + r.below(6)
  if (r.chance(30)) all.spend = { EUR: r.pick(['5', '10.50', '3.25']) }
  if (r.chance(15)) all.expires = 10 + r.below(60)
  return all
}

function rootOp(r: Random, names: Names, wishes: Wishes, agent: string): Op {
  const card = names.fresh('c')
  names.agents.push(agent)
  names.cards.push({ id: card, owner: agent })
  const now = grants(r, 95)
  const ever = r.maybe(30, () => [...now, ...grants(r)])
  return { op: 'root', agent, card, now, ever, limits: limits(r, wishes, 4) }
}

function narrow(r: Random, wishes: Wishes): Record<string, unknown> {
  return {
    now: r.maybe(60, () => grants(r)),
    ever: r.maybe(35, () => grants(r)),
    limits: limits(r, wishes, 2),
    clip: r.chance(85) ? true : undefined,
  }
}

function serving(r: Random, names: Names, agent: string): { for?: string[] } {
  const own = names.turns.filter((turn) => turn.agent === agent)
  return own.length > 0 && r.chance(60) ? { for: [...new Set([r.pick(own).id, r.pick(own).id])] } : {}
}

function next(r: Random, names: Names, wishes: Wishes): Op {
  const agent = r.chance(40) ? r.pick(names.agents.slice(0, 3)) : r.pick(names.agents)
  const own = names.cards.filter((card) => card.owner === agent)
  const card = own.length > 0 ? r.pick(own).id : 'c0'
  const via = r.maybe(30, () => card)
  const kinds: [number, () => Op][] = [
    [10, () => spawnOp(r, names, wishes, agent, card)],
    [8, () => offerOp(r, names, wishes, agent, card)],
    [
      10,
      () => ({
        op: 'preview',
        ...offered(r, names),
        admits: r.maybe(30, () => r.pick(['*', { flow: ['log'] }])),
      }),
    ],
    [10, () => ({ op: 'accept', ...offered(r, names), allowLoss: r.chance(70) ? true : undefined })],
    [2, () => ({ op: 'drop', agent, card })],
    [5, () => revokeOp(r, names, agent)],
    [2, () => confineOp(r, agent)],
    [wishes.budgets ? 3 : 0, () => ({ op: 'tick', ms: 1 + r.below(20) })],
    [
      wishes.reroots ? 2 : 0,
      () => ({
        op: 'reroot',
        agent: r.pick(['t/p/1', 't/q/1']),
        now: grants(r, 95),
        limits: limits(r, wishes, 4),
      }),
    ],
    [5, () => inputOp(r, names, agent)],
    [16, () => sendOp(r, names, wishes, agent, card, via)],
    [10, () => ({ op: 'reply', id: names.turns.length > 0 ? r.pick(names.turns).id : 'm0' })],
    [2, () => timerOp(r, names, agent)],
    [18, () => doOp(r, names, wishes, agent, via)],
    [16, () => receiptOp(r, names)],
    [
      3,
      () => ({
        op: 'approve',
        id: names.effects.length > 0 ? r.pick(names.effects) : 'e0',
        role: r.pick(['boss', 'peer']),
      }),
    ],
    [wishes.forks ? 2 : 0, () => forkOp(r, names, agent, own)],
  ]
  let at = r.below(kinds.reduce((sum, [weight]) => sum + weight, 0))
  for (const [weight, make] of kinds) {
    if (at < weight) return make()
    at -= weight
  }
  throw new Error('unreachable')
}

function offered(r: Random, names: Names): { agent: string; card: string } {
  const offer = names.offers.length > 0 ? r.pick(names.offers) : { id: 'c0', owner: r.pick(names.agents) }
  return { agent: r.chance(95) ? offer.owner : r.pick(names.agents), card: offer.id }
}

function spawnOp(r: Random, names: Names, wishes: Wishes, by: string, from: string): Op {
  const tenant = r.chance(4) ? 'u' : (by.split('/')[0] as string)
  const agent = `${tenant}/${r.pick(['p', 'q'])}/${names.fresh('k')}`
  const cards = Array.from({ length: r.chance(20) ? 2 : 1 }, () => {
    const card = names.fresh('c')
    names.cards.push({ id: card, owner: agent })
    names.minted.push({ id: card, by })
    return { card, from, ...narrow(r, wishes) }
  })
  const op = { op: 'spawn', agent, by, cards, ...serving(r, names, by) }
  names.agents.push(agent)
  return op
}

function offerOp(r: Random, names: Names, wishes: Wishes, by: string, from: string): Op {
  const card = names.fresh('c')
  const to = r.pick(names.agents)
  names.cards.push({ id: card, owner: to })
  names.offers.push({ id: card, owner: to })
  names.minted.push({ id: card, by })
  return { op: 'offer', card, by, from, to, ...narrow(r, wishes), ...serving(r, names, by) }
}

function confineOp(r: Random, agent: string): Op {
  const target = r.pick([agent, 't/q', 't'])
  return r.chance(50)
    ? { op: 'confine', target, flow: r.pick(FLOWS) }
    : { op: 'confine', target, ceiling: [{ ...TALK }, { tool: 'db.*', args: '*' }, ...grants(r)] }
}

function revokeOp(r: Random, names: Names, agent: string): Op {
  const minted = names.minted.filter(({ by }) => by === agent)
  const own = minted.length > 0 && r.chance(60)
  return {
    op: 'revoke',
    card: own ? r.pick(minted).id : r.pick(names.cards).id,
    by: own || r.chance(50) ? agent : undefined,
  }
}

function inputOp(r: Random, names: Names, to: string): Op {
  const id = names.fresh('m')
  names.turns.push({ id, agent: to })
  return {
    op: 'input',
    id,
    to,
    method: r.pick(['run', 'own']),
    principal: r.pick(PRINCIPALS),
    labels: r.maybe(50, () => r.pick(LABELS)),
    scope: r.maybe(50, () => grants(r)),
  }
}

function sendOp(r: Random, names: Names, wishes: Wishes, from: string, card: string, via?: string): Op {
  const id = names.fresh('m')
  const to = r.pick(names.agents)
  const method = r.pick(['run', 'run', 'own', 'some', ...(wishes.openMethods ? ['open', 'open'] : [])])
  const under = r.maybe(30, () => card)
  const admits = r.maybe(wishes.openMethods ? 20 : 0, () => '*')
  const op = { op: 'send', id, from, to, method, via, under, ...serving(r, names, from), admits }
  names.turns.push({ id, agent: to })
  return op
}

function timerOp(r: Random, names: Names, agent: string): Op {
  const id = names.fresh('m')
  const op = { op: 'timer', id, agent, ...serving(r, names, agent) }
  names.turns.push({ id, agent })
  return op
}

function doOp(r: Random, names: Names, wishes: Wishes, agent: string, via?: string): Op {
  const id = names.fresh('e')
  names.effects.push(id)
  const spend = wishes.budgets ? r.maybe(30, () => ({ EUR: r.pick(['1', '2.75', '4']) })) : undefined
  const q = { ...(r.chance(60) ? r.pick(COMMON) : r.pick(REQUESTS)), spend }
  return { op: 'do', id, agent, q, via, ...serving(r, names, agent), stream: r.chance(25) ? true : undefined }
}

function receiptOp(r: Random, names: Names): Op {
  const id =
    names.effects.length > 0
      ? (names.effects.at(-1 - r.below(Math.min(3, names.effects.length))) as string)
      : 'e0'
  return receiptOf(r, id)
}

function receiptOf(r: Random, id: string): Op {
  return {
    op: 'receipt',
    id,
    outcome: r.maybe(25, () => r.pick(['failed', 'unknown'])),
    more: r.chance(20) ? true : undefined,
  }
}

function forkOp(r: Random, names: Names, agent: string, own: readonly { id: string }[]): Op {
  const as = `${agent.split('/').slice(0, 2).join('/')}/${names.fresh('f')}`
  const cards: Record<string, string> = {}
  for (const { id } of r.chance(60) ? own : own.slice(0, 1)) {
    cards[id] = names.fresh('c')
    names.cards.push({ id: cards[id], owner: as })
  }
  names.agents.push(as)
  return { op: 'fork', agent, as, cards }
}
