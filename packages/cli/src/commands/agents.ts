/** Commands that talk to agents: invoke one, and look at what it did. */
import fs from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { Argument, type Command } from 'commander'
import { type Answer, ask, type Endpoint, send } from '../client.ts'
import { CliError, exitCode } from '../errors.ts'
import { duration, endpointOf, formatOf, requestKey, whole } from '../options.ts'
import { clean, indented, note, print, table } from '../output.ts'

const DEFAULT_TENANT = 'default'

interface Audit {
  readonly entries: number
  readonly agents: number
  readonly verdicts: number
  readonly unreadable: number
  readonly mismatches: readonly { at: string; what: string; recorded: unknown; derived: unknown }[]
}

export function addAgentCommands(program: Command): void {
  program
    .command('invoke <agent> <method> [args]')
    .description('call a method; args are JSON, @file, or - for standard input')
    .option('--key <key>', 'idempotency key: the same call again gives the same answer', requestKey)
    .option('--detach', 'print the invocation id and do not wait')
    .option('--wait <seconds>', 'wait so long', whole(0), 30)
    .option('--as <person>', 'in whose name; who approves may not have asked')
    .option('--under <card>', 'what is done for the call must lie in what this card allows')
    .action(invoke)
  program
    .command('result <invocation>')
    .description('the answer of an invocation')
    .option('--wait <seconds>', 'wait so long for it', whole(0), 0)
    .action(async (id: string, options: { wait: number }, command: Command) => {
      showAnswer(command, await waitFor(endpointOf(command), id, options.wait))
    })
  program
    .command('cancel <invocation>')
    .description('cancel an invocation')
    .option('--why <text>', 'what the agent is told')
    .action(async (id: string, options: { why?: string }, command: Command) => {
      const query = options.why === undefined ? '' : `?why=${encodeURIComponent(options.why)}`
      const { body } = await ask(endpointOf(command), `/v1/invocations/${encodeURIComponent(id)}${query}`, {
        method: 'DELETE',
      })
      print(formatOf(command), body, () => `cancelled ${id}`)
    })
  program
    .command('emit <agent> <event> [value]')
    .description('send an event to an agent')
    .action(
      async (
        agent: string,
        event: string,
        value: string | undefined,
        _options: unknown,
        command: Command,
      ) => {
        const { body } = await ask(endpointOf(command), `${route(agent)}/emit/${encodeURIComponent(event)}`, {
          body: readArgs(value),
        })
        print(formatOf(command), body, () => `emitted ${event}`)
      },
    )
  addReading(program)
}

interface Frame {
  readonly effect: string
  readonly seq: number
  readonly text: string
}

/** Until it is interrupted, or the node closes. */
async function watch(agent: string, _options: unknown, command: Command): Promise<void> {
  const isJson = formatOf(command) === 'json'
  const answer = await send(endpointOf(command), `${route(agent)}/progress`, { method: 'GET' })
  let buffered = ''
  let last = ''
  for await (const chunk of (answer.body as ReadableStream<Uint8Array>).pipeThrough(
    new TextDecoderStream(),
  )) {
    buffered += chunk
    const events = buffered.split('\n\n')
    buffered = events.pop() ?? ''
    for (const event of events) {
      const [, kind, data] = /^event: (\w+)\ndata: (.*)$/s.exec(event) ?? []
      if (kind === 'lost') note(`${data} frames were lost: this reads too slowly`)
      if (kind !== 'progress') continue
      const frame = JSON.parse(data as string) as Frame
      if (isJson) process.stdout.write(`${data}\n`)
      else {
        // A new effect, or a new attempt of it, begins on a line of its own.
        if (frame.effect !== last || frame.seq === 0)
          process.stdout.write(`${last === '' ? '' : '\n'}${frame.effect}: `)
        process.stdout.write(clean(frame.text))
      }
      last = frame.effect
    }
  }
  if (last !== '' && !isJson) process.stdout.write('\n')
}

/** Call by call, so that whoever stops it begins again with what is left. */
async function drain(_options: unknown, command: Command): Promise<void> {
  const left: { agent: string; why: string }[] = []
  let saved = 0
  for (let after: number | undefined = 0; after !== undefined; ) {
    const { body } = await ask(endpointOf(command), '/v1/drain', { method: 'POST', body: { after } })
    const some = body as unknown as { saved: number; left: typeof left; next?: number }
    saved += some.saved
    left.push(...some.left)
    after = some.next
    if (after !== undefined) note(`${saved} agents saved, and looking on`)
  }
  print(formatOf(command), { saved, left }, () =>
    table([
      [left.length === 0 ? 'drained' : 'NOT DRAINED', `${saved} agents saved, ${left.length} left`],
      ...left.map(({ agent, why }) => [agent, why]),
    ]),
  )
  if (left.length > 0) process.exitCode = exitCode('Unavailable')
}

function addReading(program: Command): void {
  program
    .command('history <agent>')
    .description('what an agent was asked, did and was told')
    .option('--limit <n>', 'the newest so many', whole(1), 100)
    .option('--since <duration>', 'as 10m, 2h or 7d', duration)
    .option('-f, --follow', 'go on as it happens')
    .option('--tree', 'with the agents that it made, in the order of time')
    .action(history)
  program
    .command('logs <agent>')
    .description('what an agent logged')
    .option('--limit <n>', 'the newest so many', whole(1), 100)
    .action(async (agent: string, options: { limit: number }, command: Command) => {
      const { body } = await ask(endpointOf(command), `${route(agent)}/logs?limit=${options.limit}`)
      const lines = body.logs as { time: string; level: string; text: string }[]
      print(formatOf(command), lines, () =>
        lines.map((l) => `${l.time} ${l.level.padEnd(5)} ${indented(l.text)}`).join('\n'),
      )
    })
  program
    .command('watch <agent>')
    .description('the words of models that an agent asks, while they come; nothing of it is kept')
    .action(watch)
  program
    .command('why <effect>')
    .description('why an effect was allowed or refused; `last` is the newest refusal')
    .action(async (effect: string, _options: unknown, command: Command) => {
      const ref = effect === 'last' ? effect : full(effect)
      const { body } = await ask(endpointOf(command), `/v1/why/${encodeURIComponent(ref)}`)
      print(formatOf(command), body, () => showWhy(body))
    })
  program
    .command('audit')
    .description('decide everything anew that was ever decided, from the log alone, and compare')
    .action(async (_options: unknown, command: Command) => {
      const { body } = await ask(endpointOf(command), '/v1/audit', { method: 'POST' })
      const { entries, agents, verdicts, unreadable, mismatches } = body as unknown as Audit
      const erased = unreadable > 0 ? `, ${unreadable} agents erased and unreadable` : ''
      print(formatOf(command), body, () =>
        table([
          [
            mismatches.length === 0 ? 'as recorded' : 'DIFFERS',
            `${verdicts} decisions, ${entries} entries, ${agents} agents${erased}`,
          ],
          ...mismatches.map((m) => [
            m.at,
            `${m.what}: recorded ${JSON.stringify(m.recorded)}, derived ${JSON.stringify(m.derived)}`,
          ]),
        ]),
      )
      if (mismatches.length > 0) process.exitCode = exitCode('Diverged')
    })
  program
    .command('drain')
    .description(
      'save every agent of which turns would have to be repeated: before another version of the node',
    )
    .action(drain)
  program
    .command('replay <agent>')
    .description('repeat its recorded life beside it and compare every turn')
    .option('--to <seq>', 'stop after this entry', whole(1))
    .action(async (agent: string, options: { to?: number }, command: Command) => {
      const query = options.to === undefined ? '' : `?to=${options.to}`
      const { body } = await ask(endpointOf(command), `${route(agent)}/replay${query}`, { method: 'POST' })
      print(
        formatOf(command),
        body,
        () => `${String(body.turns)} turns reproduced, ${String(body.entries)} entries`,
      )
    })
  const effects = program.command('effects').description('effects that were or are in doubt')
  const list = effects.command('list').description('effects that were ever in doubt')
  list.option('--in-doubt', 'only those that nobody has resolved yet')
  list.action(async (options: { inDoubt?: true }, command: Command) => {
    const { body } = await ask(endpointOf(command), '/v1/effects')
    const all = body.effects as { effect: string; resolved: string | null }[]
    const rows = options.inDoubt ? all.filter(({ resolved }) => resolved === null) : all
    print(formatOf(command), rows, () => table(rows.map((e) => [e.effect, e.resolved ?? 'in doubt'])))
  })
  effects
    .command('resolve <effect>')
    .description('say what became of it: done or failed')
    .addArgument(new Argument('<outcome>').choices(['done', 'failed']))
    .action(async (effect: string, outcome: string, _options: unknown, command: Command) => {
      const { body } = await ask(endpointOf(command), '/v1/effects/resolve', {
        body: { effect: full(effect), outcome },
      })
      print(formatOf(command), body, () => `${effect} is resolved as ${outcome}`)
    })
}

/** `type/key` means the default tenant, or the one that `CARDINAL_TENANT` names. */
export function full(address: string): string {
  return address.split('@')[0]?.split('/').length === 2 ? `${defaultTenant()}/${address}` : address
}

export function defaultTenant(): string {
  return process.env.CARDINAL_TENANT ?? DEFAULT_TENANT
}

export function route(agent: string): string {
  const parts = full(agent).split('/')
  if (parts.length !== 3 || parts.some((p) => /^\.*$/.test(p)))
    throw new CliError('Usage', 'BadAddress', `\`${agent}\` is no address; write [tenant/]type/key`)
  return `/v1/agents/${parts.map(encodeURIComponent).join('/')}`
}

/** `type` means one of the default tenant, or of the one that `CARDINAL_TENANT` names. */
export function typeRoute(type: string): string {
  const parts = type.includes('/') ? type.split('/') : [defaultTenant(), type]
  if (parts.length !== 2 || parts.some((p) => /^\.*$/.test(p)))
    throw new CliError('Usage', 'BadAddress', `\`${type}\` is no type; write [tenant/]type`)
  return `/v1/types/${parts.map(encodeURIComponent).join('/')}`
}

const STDIN = 0

export function readArgs(given: string | undefined, read: (text: string) => unknown = JSON.parse): unknown {
  if (given === undefined) return null
  const from = given === '-' || given === '@-' ? STDIN : given.startsWith('@') ? given.slice(1) : undefined
  const name = from === STDIN ? 'standard input' : (from ?? 'the arguments')
  try {
    return read(from === undefined ? given : fs.readFileSync(from, 'utf8'))
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code !== undefined)
      throw new CliError('NotFound', 'NoSuchFile', `\`${name}\` cannot be read: ${code}`)
    throw new CliError('Usage', 'BadJson', `${name}: ${message}`)
  }
}

async function invoke(
  agent: string,
  method: string,
  args: string | undefined,
  options: { key?: string; detach?: boolean; wait: number; under?: string; as?: string },
  command: Command,
): Promise<void> {
  const endpoint = endpointOf(command)
  const waitS = options.detach ? 0 : Math.min(options.wait, SLICE_S)
  const headers = {
    prefer: waitS === 0 ? 'respond-async' : `wait=${waitS}`,
    ...(options.key !== undefined && { 'idempotency-key': options.key }),
  }
  const began = Date.now()
  const said = Object.entries({ under: options.under, as: options.as }).filter(
    ([, value]) => value !== undefined,
  )
  const query = said.length === 0 ? '' : `?${new URLSearchParams(said as [string, string][])}`
  const first = await ask(endpoint, `${route(agent)}/invoke/${encodeURIComponent(method)}${query}`, {
    body: readArgs(args),
    headers,
  })
  const id = String(first.body.invocation)
  if (options.detach && formatOf(command) === 'text') return print('text', null, () => id)
  if (options.detach) return print('json', first.body)
  const leftS = options.wait - (Date.now() - began) / 1000
  showAnswer(command, first.status === 202 && leftS > 0 ? await waitFor(endpoint, id, leftS) : first)
}

/** A request waits no longer than this at a time; what lies between us and the node may cut it. */
const SLICE_S = 50

async function waitFor(endpoint: Endpoint, id: string, seconds: number): Promise<Answer> {
  const until = Date.now() + seconds * 1000
  for (;;) {
    const leftS = Math.max(0, Math.ceil((until - Date.now()) / 1000))
    const at = `/v1/invocations/${encodeURIComponent(id)}?wait=${Math.min(leftS, SLICE_S)}`
    const answer = await ask(endpoint, at).catch((error: CliError) => {
      // The node went away; what it took in is on its record, and is found there by this.
      if (error.class === 'Unavailable') note(`ask again later with \`cardinal result ${id} --wait 60\``)
      throw error
    })
    if (answer.status !== 202 || Date.now() >= until) return answer
  }
}

function showAnswer(
  command: Command,
  { status, body }: { status: number; body: Record<string, unknown> },
): void {
  if (status === 202) {
    note(`still working; ask again with \`cardinal result ${String(body.invocation)} --wait 60\``)
    process.exitCode = exitCode('TimedOut')
  }
  if (formatOf(command) === 'json') print('json', body)
  else if (status !== 202) print('text', body.value)
}

interface HistoryLine {
  /** Where several agents are shown. */
  readonly address?: string
  readonly seq: number
  readonly time: string
  readonly kind: string
  readonly text: string
  readonly effects?: readonly {
    effect: string
    tool: string
    verdict: string
    args: unknown
    message?: string
  }[]
}

const FOLLOW_MS = 500

async function history(
  agent: string,
  options: { limit: number; since?: number; follow?: boolean; tree?: boolean },
  command: Command,
): Promise<void> {
  const endpoint = endpointOf(command)
  /** The last entry of each agent that was shown. */
  const shown = new Map<string, number>()
  const first = new URLSearchParams({
    limit: String(options.limit),
    ...(options.since !== undefined && { since: String(Math.max(0, Date.now() - options.since)) }),
  })
  for (;;) {
    const lines: HistoryLine[] = []
    for (const address of options.tree ? await family(endpoint, agent) : [agent]) {
      const last = shown.get(address)
      const query = last === undefined ? first : `after=${last}`
      const { body } = await ask(endpoint, `${route(address)}/history?${query}`)
      const own = body.history as HistoryLine[]
      shown.set(address, own.at(-1)?.seq ?? last ?? 0)
      lines.push(...(options.tree ? own.map((line) => ({ address, ...line })) : own))
    }
    if (options.tree) lines.sort((a, b) => (a.time < b.time ? -1 : a.time > b.time ? 1 : 0))
    if (lines.length > 0 || !options.follow)
      print(formatOf(command), lines, () => lines.map(showLine).join('\n'))
    if (!options.follow) return
    await pause(FOLLOW_MS)
  }
}

interface Branch {
  readonly address: string
  readonly below: readonly Branch[]
}

/** The agent and those below it. */
async function family(endpoint: Endpoint, agent: string): Promise<string[]> {
  const { body } = await ask(endpoint, `${route(agent)}/tree?limit=${MAX_FAMILY}`)
  const all = ({ address, below }: Branch): string[] => [address, ...below.flatMap(all)]
  return all(body as unknown as Branch)
}

/** So many agents are asked for their history, one after the other. */
const MAX_FAMILY = 1000

const SHOWN = 100

function showLine(line: HistoryLine): string {
  const effects = (line.effects ?? []).map((e) => {
    const args = JSON.stringify(e.args) ?? ''
    return `\n        ${e.effect} ${e.tool} ${args.length > SHOWN ? `${args.slice(0, SHOWN)}…` : args}: ${e.verdict}`
  })
  const whose = line.address === undefined ? '' : `${line.address} `
  return `${whose}${String(line.seq).padStart(5)} ${line.time.slice(11, 23)} ${line.kind.padEnd(9)} ${indented(line.text)}${effects.join('')}`
}

interface Undeclassified {
  readonly by?: string
  readonly code: string
}

function undeclassified({ by = 'card', code }: Undeclassified): string {
  return `refused by ${by} (${code})`
}

function showWhy(why: Record<string, unknown>): string {
  const rows: string[][] = [
    ['effect', String(why.effect)],
    [
      'verdict',
      `${String(why.verdict)}${why.when ? ' while it was performed' : ''}${why.by ? ` by ${String(why.by)} (${String(why.code)})` : ''}`,
    ],
    ['request', `${String(why.tool)} ${JSON.stringify(why.request)}`],
  ]
  if (why.card) rows.push(['card', String(why.card)])
  if (why.message) rows.push(['because', String(why.message)])
  const near = why.nearest as { grant: unknown; misses: string[] } | undefined
  if (near) rows.push(['nearest', `${JSON.stringify(near.grant)} (falls short in ${near.misses.join(', ')})`])
  if (why.missing) rows.push(['needed', JSON.stringify(why.missing)])
  if (why.verdict === 'refuse') rows.push(['given by', String(why.grantedBy)])
  for (const { role, by, time } of (why.approvals ?? []) as { role: string; by: string; time: string }[])
    rows.push(['approved', `by ${by} as ${role}, ${time}`])
  if (why.outcome) rows.push(['outcome', String(why.outcome)])
  if (why.undeclassified) rows.push(['declassify', undeclassified(why.undeclassified as Undeclassified)])
  const kept = why.answer as
    | {
        from: string
        code: string
        costs: { sinks: string[]; labels: string[] }
        undeclassified?: Undeclassified
      }
    | undefined
  if (kept) {
    const { sinks, labels } = kept.costs
    rows.push(['answer', `${kept.from} answered, and that was kept back (${kept.code})`])
    if (kept.undeclassified) rows.push(['declassify', undeclassified(kept.undeclassified)])
    rows.push([
      'admits it',
      `a call with \`admits: "*"\`, or with labels [${labels.join(', ')}] and a flow without the sinks below`,
    ])
    rows.push([
      'the price',
      `could then no longer send to ${sinks.join(', ') || 'fewer places'}${labels.length > 0 ? `, and would carry ${labels.join(', ')}` : ''}`,
    ])
  }
  return table(rows)
}
