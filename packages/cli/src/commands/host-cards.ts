/** Commands of the host upon cards: look at them, mint, derive, revoke, confine, explain. */
import { type Grant, parseGrantText, parsePlainJson, showGrantText } from '@cardinal/cards'
import { type Command, InvalidArgumentError } from 'commander'
import { ask } from '../client.ts'
import { CliError } from '../errors.ts'
import { duration, endpointOf, formatOf, whole } from '../options.ts'
import { note, print, table } from '../output.ts'
import { tokenIn } from '../tokens.ts'
import { readArgs, route } from './agents.ts'

type Body = Record<string, unknown>

interface Summary {
  readonly id: string
  readonly owner: string
  readonly state: string
  readonly live: boolean
  readonly grants: number
  readonly below?: readonly Summary[]
}

interface Full {
  readonly id: string
  readonly owner: string
  readonly live: boolean
  readonly now: readonly Grant[]
  readonly ever: readonly Grant[]
  readonly limits: object
}

export function addHostCardCommands(cards: Command): void {
  cards
    .command('list')
    .description('cards, in the order of their minting')
    .option('--agent <agent>', 'of one agent')
    .option('--parent <card>', 'minted from one card')
    .option('--after <card>', 'those that were minted after it')
    .option('--limit <n>', 'at most so many', whole(1), 100)
    .action(async (options: Record<string, string | number>, command: Command) => {
      const named =
        options.agent === undefined ? options : { ...options, agent: addressOf(String(options.agent)) }
      const query = new URLSearchParams(
        Object.entries(named).map(([k, v]): [string, string] => [k, String(v)]),
      )
      const { body } = await ask(endpointOf(command), `/v1/cards?${query}`)
      const rows = body.cards as Summary[]
      print(formatOf(command), rows, () =>
        table([
          ['CARD', 'OWNER', 'STATE', 'GRANTS'],
          ...rows.map((c) => [c.id, c.owner, stateOf(c), String(c.grants)]),
        ]),
      )
    })
  cards
    .command('get <card>')
    .description('a card in full, as it is at this moment')
    .action(async (id: string, _options: unknown, command: Command) => {
      const { body } = await ask(endpointOf(command), at(id))
      showCard(command, body)
    })
  cards
    .command('tree <card>')
    .description('a card and those below it')
    .option('--limit <n>', 'at most so many', whole(1), 1000)
    .action(async (id: string, { limit }: { limit: number }, command: Command) => {
      const { body } = await ask(endpointOf(command), `${at(id)}/tree?limit=${limit}`)
      print(formatOf(command), body, () => branches(body as unknown as Summary, '').join('\n'))
    })
  addMinting(cards)
  addTokens(cards)
  addEnding(cards)
}

function addMinting(cards: Command): void {
  const many = (text: string, before: string[] = []) => [...before, text]
  const grants = (text: string, before: Grant[] = []) => [...before, grantOf(text)]
  const options = (command: Command) =>
    command
      .option('--egress <host...>', 'the only hosts that it may carry data to, as `*.acme.example`')
      .option('--expires <duration>', 'it is dead after so long, as 8h', duration)
      .option('--attach [agent]', 'this agent holds it from now on; left out: the owner of the other card')
      .option('--allow-loss', 'even if that leaves the agent no way out')
  options(
    cards
      .command('mint')
      .description('mint a card like another one, limited in egress or time')
      .requiredOption('--like <card>', 'the card whose bounds it takes'),
  ).action(async (given: MintOptions, command: Command) => mint(command, { like: given.like }, given))
  options(
    cards
      .command('derive <card>')
      .description('mint a card below another one: it dies with it and shares its budgets')
      .option(
        '--grant <grant>',
        'what it may do, as `http.fetch host=a.example path=/v1/*`; several times',
        grants,
      )
      .option('--clip', 'narrow what would be too wide instead of refusing it')
      .option('--limit <name=value>', 'a limit, as calls=10 or spend.EUR=5.00; several times', many),
  ).action(async (like: string, given: MintOptions, command: Command) => {
    const narrow = {
      ...(given.grant && { now: given.grant, ever: given.grant }),
      ...(given.limit && { limits: limitsOf(given.limit) }),
      ...(given.clip && { clip: true }),
    }
    await mint(command, { like, below: true, ...(Object.keys(narrow).length > 0 && { narrow }) }, given)
  })
}

interface MintOptions {
  readonly like: string
  readonly egress?: string[]
  readonly expires?: number
  readonly attach?: string | true
  readonly allowLoss?: true
  readonly grant?: Grant[]
  readonly limit?: string[]
  readonly clip?: true
}

async function mint(command: Command, wish: Body & { like: string }, given: MintOptions): Promise<void> {
  const endpoint = endpointOf(command)
  const attach =
    given.attach === true ? ((await ask(endpoint, at(wish.like))).body.owner as string) : given.attach
  const body = {
    ...wish,
    ...(given.egress && { egress: given.egress }),
    ...(given.expires !== undefined && { expiresInMs: given.expires }),
    ...(attach !== undefined && { attach: addressOf(attach) }),
    ...(given.allowLoss && { allowLoss: true }),
  }
  showCard(command, (await ask(endpoint, '/v1/cards', { body })).body)
}

function addTokens(cards: Command): void {
  cards
    .command('export [card]')
    .description('print a card and those above it as a sealed Biscuit, which anybody verifies offline')
    .option('--revoked', 'print the list of what was exported and revoked instead, signed and dated')
    .action(async (id: string | undefined, options: { revoked?: true }, command: Command) => {
      if (options.revoked) {
        const { body } = await ask(endpointOf(command), '/v1/revocations')
        return print(formatOf(command), body, () => String(body.list).trimEnd())
      }
      if (id === undefined) throw new CliError('Usage', 'Usage', 'which card?')
      const { body } = await ask(endpointOf(command), `${at(id)}/export`, { method: 'POST' })
      print(formatOf(command), body, () => String(body.token))
      if (formatOf(command) === 'text') note(`verify it with \`--root-key ${String(body.rootKey)}\``)
    })
  cards
    .command('import <file>')
    .description('take a token: of this node, the card that it is; of another one, a card within one of ours')
    .option('--root-key <hex>', 'the key that must have signed it; left out: this node’s own')
    .option('--like <card>', 'of a foreign token: the card within whose bounds it is taken')
    .option('--attach <agent>', 'of a foreign token: the agent that holds it from now on')
    .option('--allow-loss', 'even if that leaves the agent no way out')
    .action(async (file: string, options: Record<string, string | true>, command: Command) => {
      const token = Buffer.from(tokenIn(file)).toString('base64url')
      const attach = options.attach === undefined ? {} : { attach: addressOf(String(options.attach)) }
      const { body } = await ask(endpointOf(command), '/v1/cards/import', {
        body: { ...options, ...attach, token },
      })
      showCard(command, body)
    })
}

function addEnding(cards: Command): void {
  cards
    .command('revoke <card>')
    .description('kill a card and all below it, at once')
    .option('--dry-run', 'only say how many cards and agents that would reach')
    .action(async (id: string, options: { dryRun?: true }, command: Command) => {
      const body = options.dryRun ? { dryRun: true } : {}
      const { body: done } = await ask(endpointOf(command), `${at(id)}/revoke`, { body })
      const reached = `${done.cards} cards of ${done.agents} agents`
      print(formatOf(command), done, () =>
        options.dryRun
          ? [`would revoke ${reached}`, ...(done.owners as string[]).map((name) => `  ${name}`)].join('\n')
          : `revoked ${reached}`,
      )
    })
  addConfine(cards)
  cards
    .command('explain <agent> <tool> [args]')
    .description('what would be decided now on a call of a tool')
    .option('--via <card>', 'by this card')
    .action(
      async (
        agent: string,
        tool: string,
        args: string | undefined,
        options: { via?: string },
        command: Command,
      ) => {
        const { body } = await ask(endpointOf(command), '/v1/explain', {
          body: { agent: addressOf(agent), tool, args: readArgs(args, parsePlainJson) ?? {}, ...options },
        })
        print(formatOf(command), body, () => table(Object.entries(body).map(([k, v]) => [k, shown(v)])))
      },
    )
}

interface Confined {
  readonly id: string
  readonly target: string
  readonly ceiling?: readonly Grant[]
  readonly flow?: readonly string[]
}

function boundsOf({ ceiling, flow }: Confined): string {
  const grants = ceiling?.map(showGrantText) ?? []
  return [...grants, ...(flow ? [`flow ${flow.join(', ') || 'nowhere'}`] : [])].join('; ')
}

/** Also there without `cards`, for that is what people type. */
export function addConfine(parent: Command, hidden = false): void {
  parent
    .command('confine [agent]', { hidden })
    .description('lower what an agent may ever do, or all of a type or tenant; without any: what is confined')
    .option('--type <type>', 'all agents of `tenant/type` instead')
    .option('--tenant <tenant>', 'all agents of a tenant instead')
    .option('--egress <host...>', 'data may go to these hosts only')
    .option('--grant <grant>', 'nothing but this; several times', (text: string, before: Grant[] = []) => [
      ...before,
      grantOf(text),
    ])
    .option('--flow <sink...>', 'data may flow to these sinks only')
    .option('--lift <id>', 'take a confinement away')
    .action(confine)
}

async function confine(
  agent: string | undefined,
  options: {
    egress?: string[]
    grant?: Grant[]
    flow?: string[]
    lift?: string
    type?: string
    tenant?: string
  },
  command: Command,
): Promise<void> {
  const endpoint = endpointOf(command)
  if (options.lift !== undefined) {
    const { body } = await ask(endpoint, `/v1/confinements/${encodeURIComponent(options.lift)}`, {
      method: 'DELETE',
    })
    return print(formatOf(command), body, () => `lifted ${options.lift}`)
  }
  const { egress, grant, flow } = options
  const targets = [...(agent === undefined ? [] : [addressOf(agent)]), options.type, options.tenant]
  const [target, ...others] = targets.filter((one) => one !== undefined)
  if (others.length > 0)
    throw new CliError('Usage', 'Usage', `\`${[target, ...others].join('` and `')}\`: confine one at a time`)
  const address = egress?.find((host) => host.includes('/'))
  if (address !== undefined)
    throw new CliError('Usage', 'Usage', `\`${address}\` is no host; write the agent before the options`)
  const bounds = egress ?? grant ?? flow
  if (target === undefined && bounds)
    throw new CliError('Usage', 'Usage', 'say who is confined: an agent, --type or --tenant')
  if (target === undefined) {
    const { body } = await ask(endpoint, '/v1/confinements')
    const rows = body.confinements as Confined[]
    return print(formatOf(command), rows, () =>
      table([['CONFINEMENT', 'TARGET', 'TO'], ...rows.map((r) => [r.id, r.target, boundsOf(r)])]),
    )
  }
  if (!bounds) throw new CliError('Usage', 'Usage', 'say what it may still do: --egress, --grant or --flow')
  const wish = { target, ...(egress && { egress }), ...(flow && { flow }), ...(grant && { ceiling: grant }) }
  const { body } = await ask(endpoint, '/v1/confinements', { body: wish })
  print(formatOf(command), body, () => `confined ${target} (${body.id})`)
}

function at(id: string): string {
  return `/v1/cards/${encodeURIComponent(id)}`
}

/** `tenant/type/key`, with the default tenant where it is left out. */
function addressOf(agent: string): string {
  return route(agent)
    .replace(/^\/v1\/agents\//, '')
    .split('/')
    .map(decodeURIComponent)
    .join('/')
}

function grantOf(text: string): Grant {
  try {
    return parseGrantText(text)
  } catch (error) {
    const { path, message } = error as Error & { path?: string }
    throw new InvalidArgumentError(path === undefined ? message : `${path}: ${message}`)
  }
}

function limitsOf(given: readonly string[]): object {
  const limits: Record<string, unknown> = {}
  for (const text of given) {
    const [, name, currency, value] = /^([a-zA-Z]+)(?:\.([A-Za-z]+))?=(.+)$/.exec(text) ?? []
    if (!name || value === undefined)
      throw new CliError('Usage', 'Usage', `\`${text}\` is no limit, as calls=10`)
    const said = currency ? (limits[name] as object | undefined) : limits
    if (said && Object.hasOwn(said, currency ?? name))
      throw new CliError('Usage', 'Usage', `the limit \`${text.split('=')[0]}\` stands there twice`)
    if (currency) limits[name] = { ...(limits[name] as object | undefined), [currency]: value }
    else limits[name] = /^\d+$/.test(value) ? Number(value) : value
  }
  return limits
}

function stateOf({ state, live }: Summary): string {
  return live ? state : `${state}, dead`
}

function branches(node: Summary, indent: string): string[] {
  const line = `${indent}${node.id}  ${node.owner}  ${stateOf(node)}`
  return [line, ...(node.below ?? []).flatMap((child) => branches(child, `${indent}  `))]
}

function shown(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value)
}

function showCard(command: Command, body: Body): void {
  const card = body as unknown as Full
  const grants = (name: string, bound: readonly Grant[]) =>
    bound.length === 0 ? [[name, 'nothing']] : bound.map((grant) => [name, showGrantText(grant)])
  print(formatOf(command), body, () =>
    table([
      ['card', card.id],
      ['owner', card.owner],
      ['live', card.live ? 'yes' : 'NO'],
      ['limits', JSON.stringify(card.limits)],
      ...grants('now', card.now),
      ...grants('ever', card.ever),
    ]),
  )
}
