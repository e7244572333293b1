/** Row 13: what a decision costs, and what a revocation does, by the rules alone. */
import { addCard, judge, NumberText, newWorld, revoke, root, type World } from '@cardinal/cards'
import { each, type Row } from './measure.ts'

const GRANTS = 64
const AT_ONCE = 1000
const FAN = 1000
const CARDS = FAN * FAN

type Asked = Parameters<typeof judge>[1]

/** Half of the grants are places of one tool, half bound arguments of several. */
function grantsOf(n: number): object[] {
  const amount = { decimal: new NumberText('2'), max: '500.00' }
  return Array.from({ length: n }, (_, i) =>
    i % 2 === 0
      ? { tool: `t${(i / 2) % 8}.call`, resource: `r${i}/*`, args: { amount, to: [`x${i}`, `y${i}`] } }
      : { tool: 'http.get', host: `h${i}.example`, path: `/a${i}/*`, method: ['GET'] },
  )
}

function requestsOf(n: number): Asked['request'][] {
  return Array.from({ length: n }, (_, i) => {
    const args = new Map<string, unknown>([
      ['amount', '12.50'],
      ['to', `x${i}`],
    ])
    const q =
      i % 2 === 0
        ? { tool: [`t${(i / 2) % 8}`, 'call'], resource: [`r${i}`, 'k'], args }
        : {
            tool: ['http', 'get'],
            host: ['example', `h${i}`],
            path: [`a${i}`, 'k'],
            method: 'GET',
            args: new Map(),
          }
    return { q, tool: q.tool.join('.'), spend: new Map() }
  })
}

function worldWith(grants: number): World {
  const world = newWorld()
  world.tools.set('http.get', { place: ['http', 'get'], sinks: ['host'], yields: [] })
  for (let i = 0; i < 8; i++)
    world.tools.set(`t${i}.call`, { place: [`t${i}`, 'call'], sinks: [], yields: [] })
  const made = root(world, { agent: 't/p/1', card: 'root', now: grantsOf(grants), limits: {} })
  if (!made.ok) throw new Error(made.code)
  return world
}

function asker(world: World): (request: Asked['request']) => string {
  const agent = world.agents.get('t/p/1') as Asked['agent']
  const cost = new Map([['calls', 1n]])
  const base = { agent, via: undefined, turns: [], approved: new Set<string>(), cost }
  return (request) => judge(world, { ...base, request }).verdict
}

export async function decisions(): Promise<Row[]> {
  const ask = asker(worldWith(GRANTS))
  const requests = requestsOf(GRANTS)
  const thousand = await each(500, 100, async () => {
    for (let i = 0; i < AT_ONCE; i++)
      if (ask(requests[i % GRANTS] as Asked['request']) !== 'allow') throw new Error('refused')
  })
  const micros = (ms: number) => Number(((ms / AT_ONCE) * 1000).toFixed(3))
  const p50 = micros(thousand.p50)
  const { afterMs, cards } = revocation()
  return [
    {
      row: 13,
      name: 'decide one effect, 64 grants held',
      unit: 'us',
      n: thousand.n * AT_ONCE,
      p50,
      p95: micros(thousand.p95),
      p99: micros(thousand.p99),
      goal: 'p50 <= 0.5',
      met: p50 <= 0.5,
      note: 'the whole verdict: card, ceiling, labels, flow, budget; means of 1,000; half of the requests carry exact decimals',
    },
    {
      row: 13,
      name: `revoke a root over ${cards.toLocaleString('en')} cards, until a leaf is refused`,
      unit: 'ms',
      n: 1,
      value: Number(afterMs.toFixed(3)),
      goal: '<= 1',
      met: afterMs <= 1,
      note: 'in the rules, all cards in memory; not durable',
    },
  ]
}

/** A root, a thousand below it, a thousand below each of those; the last leaf is asked before and after. */
function revocation(): { afterMs: number; cards: number } {
  const world = worldWith(4)
  const top = world.cards.get('root')
  const owner = world.agents.get('t/p/1')
  if (!top || !owner) throw new Error('the root is there')
  const below = (id: string, parent: typeof top) => {
    const { now, ever, limits } = parent
    return addCard(world, { id, owner, minter: owner, parent, now, ever, limits })
  }
  let leaf = top
  for (let i = 0; i < FAN; i++) {
    const middle = below(`c${i}`, top)
    for (let j = 0; j < FAN; j++) leaf = below(`c${i}.${j}`, middle)
  }
  owner.held.add(leaf)
  const [request] = requestsOf(1)
  const base = { agent: owner, via: leaf.id, turns: [], approved: new Set<string>(), cost: undefined }
  const ask = () => judge(world, { ...base, request: request as Asked['request'] }).verdict
  if (ask() !== 'allow') throw new Error('the leaf was refused before')
  const began = performance.now()
  revoke(world, 'root', undefined)
  const verdict = ask()
  const afterMs = performance.now() - began
  if (verdict !== 'refuse') throw new Error('the leaf was allowed after')
  return { afterMs, cards: CARDS + FAN + 1 }
}
