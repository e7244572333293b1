/**
 * The kill sweep: agents pay through a real bank while their node is killed, at random moments and
 * at every named crash point; after each restart the claims are checked.
 *
 * The claims: the bank's own ledger holds each payment once, whether an agent made it or a child of
 * its own; every acknowledged invocation is answered; a turn that fails is answered and undone; an
 * erasure that was asked for is ended; children have ended with what they were made for; a card that was
 * revoked stays dead; an agent that was wiped remembers nothing; what an agent has in its home and what it
 * has in memory are of one moment; `verify`, `replay` and `audit` pass.
 */
import fs from 'node:fs'
import path from 'node:path'
import Database from 'better-sqlite3'
import { tempFolder } from '../support/kernel.ts'
import { rng } from '../support/seed.ts'
import { type NodeProcess, payer, startBank, startNode } from './processes.ts'

export const CRASH_POINTS = [
  'accepted.durable',
  'turn.before',
  'turn.appended',
  'turn.durable',
  'turn.failed',
  'effect.mediated',
  'effect.before',
  'effect.started',
  'effect.performed',
  'effect.back',
  'receipt.appended',
  'snapshot.before',
  'snapshot.saved',
  'erase.durable',
  'erase.destroyed',
  'spawn.born',
  'message.accepted',
  'message.sent',
  'revoke.appended',
  'revoke.durable',
  'wipe.begun',
  'wipe.done',
] as const

export interface SweepOptions {
  readonly seed: number
  readonly kills: number
  readonly agents: number
  readonly payments: number
  readonly onKill?: (done: number, at: string) => void
}

export interface SweepResult {
  readonly kills: number
  readonly points: Record<string, number>
  readonly payments: number
  readonly problems: readonly string[]
}

/** Runs until so many kills happened; a new folder of agents whenever the last one has paid all. */
export async function killSweep(options: SweepOptions): Promise<SweepResult> {
  const random = rng(options.seed)
  const points: Record<string, number> = {}
  const problems: string[] = []
  let kills = 0
  let payments = 0
  for (let round = 0; kills < options.kills && problems.length === 0; round++) {
    const done = await oneRound(
      { ...options, mediated: (options.seed + round) % 2 === 0, crowded: (options.seed + round) % 3 === 0 },
      random,
      options.kills - kills,
      (at) => {
        points[at] = (points[at] ?? 0) + 1
        kills++
        options.onKill?.(kills, at)
      },
    )
    payments += done.payments
    problems.push(...done.problems.map((p) => `seed ${options.seed}, round ${round}: ${p}`))
  }
  return { kills, points, payments, problems }
}

async function oneRound(
  options: SweepOptions & { readonly mediated: boolean; readonly crowded: boolean },
  random: () => number,
  kills: number,
  killed: (at: string) => void,
): Promise<{ payments: number; problems: string[] }> {
  const folder = tempFolder()
  const bank = await startBank(folder)
  const names = Array.from({ length: options.agents }, (_, i) => `a${i}`)
  const acked = new Map<string, string>()
  const base = {
    data: path.join(folder, 'data'),
    anchor: path.join(folder, 'anchor'),
    bankPort: bank.port,
    program: payer,
    keyed: true,
    // Every other round, whatever the seed.
    mediated: options.mediated,
    idleMs: random() < 0.5 ? 0 : 50,
    // Every third round, whoever wakes has another saved and put to sleep first.
    ...(options.crowded && { maxLive: 4 }),
  }
  try {
    await bank.set({ afterMs: Math.floor(random() * 8) })
    for (let i = 0; i < Math.min(kills, 30); i++) {
      const atPoint = random() < 0.6
      const crashAt = CRASH_POINTS[Math.floor(random() * CRASH_POINTS.length)] as string
      const config = atPoint ? { ...base, crashAt, crashOn: 1 + Math.floor(random() * 15) } : base
      const node = startNode(config)
      const startedUp = await node.ready
      if (node.fatal()) return { payments: 0, problems: [`start ${i}: ${node.fatal()}`] }
      if (startedUp) {
        // Not awaited: the kill must be able to come in the middle of it.
        void askOdd(node)
        await askAll(node, names, options.payments, acked)
      }
      const timer = setTimeout(() => node.kill(), atPoint ? 700 : Math.floor(random() * 400))
      await node.exited
      clearTimeout(timer)
      killed(atPoint ? crashAt : 'random')
      if (node.fatal()) return { payments: 0, problems: [`run ${i}: ${node.fatal()}`] }
    }
    return await check(base, names, options.payments, acked, bank)
  } finally {
    await bank.stop()
    fs.rmSync(folder, { recursive: true, force: true })
  }
}

/** Sends every agent its order; the idempotency key makes repeating it harmless. Returns when acknowledged or dead. */
export async function askAll(
  node: NodeProcess,
  names: readonly string[],
  payments: number,
  acked: Map<string, string>,
): Promise<void> {
  await Promise.all(
    names.map(async (agent) => {
      const op = isFamily(agent) ? 'family' : 'pay'
      const answer = await node.ask({ op, agent, n: payments }).catch(() => undefined)
      if (typeof answer?.acked === 'string') acked.set(agent, answer.acked)
    }),
  )
}

/** Every fourth agent has its payments made by children. */
function isFamily(agent: string): boolean {
  return Number(agent.slice(1)) % 4 === 3
}

const FAILING = 'failing'
const PARENT = 'parent'
const LONE = `${PARENT}.lone`
const ERASED = 'gone'
const WIPED = 'washed'

/** What also happens in the meantime: a turn that fails, an agent that is erased, one that is wiped, one that is revoked. */
export async function askOdd(node: NodeProcess): Promise<void> {
  const dead = () => undefined
  await node.ask({ op: 'fail', agent: FAILING }).catch(dead)
  const paid = await node.ask({ op: 'pay', agent: ERASED, n: 1 }).catch(dead)
  if (typeof paid?.acked === 'string') {
    await node.ask({ op: 'wait', id: paid.acked }).catch(dead)
    await node.ask({ op: 'erase', agent: ERASED }).catch(dead)
  }
  const lived = await node.ask({ op: 'pay', agent: WIPED, n: 1, key: `life ${Math.random()}` }).catch(dead)
  if (typeof lived?.acked === 'string') await node.ask({ op: 'wipe', agent: WIPED }).catch(dead)
  const made = await node.ask({ op: 'lone', agent: PARENT }).catch(dead)
  if (typeof made?.acked !== 'string') return
  await node.ask({ op: 'wait', id: made.acked }).catch(dead)
  await node.ask({ op: 'revoke', agent: LONE }).catch(dead)
}

/** What became of children, and whether everything is decided again as it was. */
async function checkCards(node: NodeProcess): Promise<string[]> {
  const problems: string[] = []
  const { children } = (await node.ask({ op: 'children' })) as unknown as {
    children: { address: string; state: string }[]
  }
  for (const { address, state } of children)
    if (state !== 'stopped') problems.push(`the child ${address} is ${state}`)
  if (!children.some(({ address }) => address.endsWith(LONE))) problems.push('the lone child is gone')
  const audited = await node.ask({ op: 'audit' })
  if (audited.error) problems.push(`audit: ${audited.error.message}`)
  const { mismatches = [] } = audited as unknown as { mismatches?: unknown[] }
  for (const mismatch of mismatches) problems.push(`audit: ${JSON.stringify(mismatch)}`)
  return problems
}

/** Memory and home are of one moment: what one says of a payment, the other says too. */
async function checkBooks(node: NodeProcess, agent: string, payments: number): Promise<string[]> {
  const { reply } = await node.ask({ op: 'books', agent })
  const { ok, value: books } = reply as { ok: boolean; value: Record<string, number> }
  if (!ok) return [`${agent} has no books: ${JSON.stringify(reply)}`]
  const { paid, rows = paid, lines = paid, spent = 0, pocket = 0, jar = 0, purse = 1000 } = books
  const own = isFamily(agent) ? 0 : payments
  const all = paid === own && rows === paid && lines === paid
  const right = all && spent === pocket && spent === jar && purse + pocket + jar === 1000
  return right ? [] : [`the books of ${agent} are wrong: ${JSON.stringify(books)}`]
}

async function checkOdd(node: NodeProcess): Promise<string[]> {
  await askOdd(node)
  const problems: string[] = []
  const { acked } = await node.ask({ op: 'fail', agent: FAILING })
  const { reply } = await node.ask({ op: 'wait', id: acked })
  const code = (reply as { error?: { code: string } } | undefined)?.error?.code
  if (code !== 'TooManyLogs') problems.push(`the failing turn was answered with ${JSON.stringify(reply)}`)
  const gone = await node.ask({ op: 'agent', agent: ERASED })
  if (gone.state !== 'erased') problems.push(`the erased agent is ${JSON.stringify(gone)}`)
  const { reply: left } = await node.ask({ op: 'memory', agent: WIPED })
  if (JSON.stringify(left) !== '{"ok":true,"value":[]}')
    problems.push(`the wiped agent remembers ${JSON.stringify(left)}`)
  const read = await node.ask({ op: 'pay', agent: ERASED, n: 1 })
  if (read.error?.code !== 'KeyDestroyed') problems.push(`the erased agent answers ${JSON.stringify(read)}`)
  return problems
}

interface SweptNode {
  readonly data: string
  readonly mediated: boolean
}

/** What was taken of budgets is what the log says, and no less than what was paid. */
async function checkBudgets(base: SweptNode, payments: number): Promise<string[]> {
  if (!base.mediated) return []
  const file = path.join(base.data, 'derived.db')
  const read = () => {
    const db = new Database(file, { readonly: true })
    const rows = db.prepare('select counter, what, taken from meters order by counter, what').all()
    db.close()
    return rows as { taken: string }[]
  }
  const kept = read()
  for (const end of ['', '-wal', '-shm']) fs.rmSync(`${file}${end}`, { force: true })
  const node = startNode(base)
  if (!(await node.ready)) return [`it does not start without derived state: ${node.fatal()}`]
  await node.stop()
  const anew = read()
  const taken = anew.reduce((sum, row) => sum + Number(row.taken), 0)
  return [
    ...(JSON.stringify(kept) === JSON.stringify(anew)
      ? []
      : [`budgets are ${JSON.stringify(kept)}, and by the log ${JSON.stringify(anew)}`]),
    ...(taken >= payments ? [] : [`${payments} payments took ${taken} of their budget`]),
  ]
}

export async function check(
  base: object,
  names: readonly string[],
  payments: number,
  acked: Map<string, string>,
  bank: { payments(): Promise<{ body: { subject: string } }[]> },
): Promise<{ payments: number; problems: string[] }> {
  const problems: string[] = []
  const node = startNode(base)
  if (!(await node.ready)) return { payments: 0, problems: [`the last start failed: ${node.fatal()}`] }
  const before = new Map(acked)
  await askAll(node, names, payments, acked)
  for (const [agent, id] of before)
    if (acked.get(agent) !== id) problems.push(`acknowledged invocation ${id} of ${agent} is lost`)
  for (const [agent, id] of acked) {
    const { reply, error } = await node.ask({ op: 'wait', id })
    if (error || !(reply as { ok: boolean }).ok)
      problems.push(`${agent} was not answered: ${JSON.stringify(error ?? reply)}`)
  }
  const booked = new Map<string, number>()
  for (const { body } of await bank.payments()) booked.set(body.subject, (booked.get(body.subject) ?? 0) + 1)
  const ofErased = booked.get(`${ERASED}-0`) ?? 0
  if (ofErased > 1) problems.push(`the payment of the erased agent was booked ${ofErased} times`)
  booked.delete(`${ERASED}-0`)
  // One payment a life, of which nobody counts how many there were.
  booked.delete(`${WIPED}-0`)
  for (const agent of names) {
    for (let i = 0; i < payments; i++) {
      const times = booked.get(`${agent}-${i}`) ?? 0
      if (times !== 1) problems.push(`payment ${agent}-${i} was booked ${times} times`)
    }
  }
  for (const agent of names) problems.push(...(await checkBooks(node, agent, payments)))
  problems.push(...(await checkOdd(node)))
  problems.push(...(await checkCards(node)))
  const replayed = await node.ask({ op: 'replayAll' })
  if (replayed.error) problems.push(`replay: ${replayed.error.message}`)
  const verified = await node.ask({ op: 'verify' })
  if (verified.ok !== true) problems.push(`verify: ${JSON.stringify(verified)}`)
  await node.stop()
  problems.push(...(await checkBudgets(base as SweptNode, booked.size)))
  return { payments: booked.size, problems }
}
