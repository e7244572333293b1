/**
 * Ways out for 64 bits: an agent that holds a secret tells it by doing something or not, another sees
 * what it can see, and puts that into a request that leaves the node. What the request says is a
 * result; silence is not (`docs/cards.md`, not guaranteed).
 */
import type { NewRules, Rules } from './run.ts'

type Answer = { ok: boolean; code?: string; verdict?: string } & Record<string, unknown>

/** One world: the sender `t/s/1`, the receiver `t/r/1`, a helper `t/h/1` that takes whatever it is told. */
class Stage {
  readonly #rules: Rules
  #next = 0

  constructor(newRules: NewRules) {
    this.#rules = newRules()
    const talk = { tool: 'agent.*', resource: '*', method: '*' }
    const now = [
      talk,
      { tool: 'db.read', flow: ['log'] },
      { tool: 'web.read', flow: ['*.x'] },
      { tool: 'sealed.read', flow: [] },
      { tool: 'http.get', host: '*.x' },
    ]
    for (const op of [
      { op: 'tool', tool: 'db.read', yields: ['private'] },
      { op: 'tool', tool: 'web.read' },
      { op: 'tool', tool: 'sealed.read' },
      { op: 'tool', tool: 'http.get', sinks: ['{host}'] },
      { op: 'type', type: 't/h', methods: { run: { admits: '*' } } },
      ...['s', 'r', 'h'].map((type) => ({
        op: 'root',
        agent: `t/${type}/1`,
        card: type,
        now,
        limits: { depth: 4 },
      })),
    ])
      this.do(op)
  }

  do(op: object): Answer {
    return JSON.parse(this.#rules.run(JSON.stringify(op))) as Answer
  }

  fresh(): string {
    this.#next += 1
    return `x${this.#next}`
  }

  read(agent: string, tool = 'db.read'): void {
    const id = this.fresh()
    this.do({ op: 'do', id, agent, q: { tool } })
    this.do({ op: 'receipt', id })
  }

  send(from: string, to: string, rest: object = {}): Answer & { id: string } {
    const id = this.fresh()
    return { ...this.do({ op: 'send', id, from, to, method: 'run', ...rest }), id }
  }

  /** Whether the agent can put what it knows into a request that leaves. */
  leaves(agent: string): boolean {
    return this.do({ op: 'decide', agent, q: { tool: 'http.get', host: 'a.x' } }).verdict === 'allow'
  }
}

/** What was prepared before the secret was read, the act that spells a bit, and what the receiver then sees. */
export interface Channel {
  readonly name: string
  readonly prepare?: (stage: Stage) => void
  readonly tell: (stage: Stage) => Answer | undefined
  /** Where the other bit is spelled by an act as well. */
  readonly tellZero?: (stage: Stage) => Answer | undefined
  readonly see: (stage: Stage, told: Answer | undefined) => unknown
  /** Who carries it out; the receiver, if left out. */
  readonly carrier?: string
}

const S = 't/s/1'
const R = 't/r/1'
const H = 't/h/1'
const child = (agent: string, by: string) => ({
  op: 'spawn',
  agent,
  by,
  cards: [{ card: `c-${agent}`, from: by.split('/')[1] }],
})
const offerOf = (stage: Stage) => stage.do({ op: 'offer', card: 'o', by: S, from: 's', to: R })
const previewOf = (stage: Stage, admits?: string) => stage.do({ op: 'preview', agent: R, card: 'o', admits })
const acceptOf = (stage: Stage) => stage.do({ op: 'accept', agent: R, card: 'o' })
const revokeOf = (stage: Stage, card: string) => stage.do({ op: 'revoke', card, by: S })
/** A message is seen by whom it reached. */
const reached = (_stage: Stage, told: Answer | undefined) => told?.ok === true

export const CHANNELS: readonly Channel[] = [
  { name: 'its own request', tell: () => undefined, see: () => 'the secret itself', carrier: S },
  { name: 'a message', tell: (s) => s.send(S, R), see: reached },
  {
    name: 'a helper in between',
    tell: (s) => {
      s.send(S, H)
      return s.send(H, R)
    },
    see: reached,
  },
  { name: 'a helper that carries it out', tell: (s) => s.send(S, H), see: reached, carrier: H },
  {
    name: 'a child that was born before',
    prepare: (s) => void s.do(child('t/h/2', S)),
    tell: (s) => s.send(S, 't/h/2'),
    see: reached,
    carrier: 't/h/2',
  },
  {
    name: 'a child that is born of it',
    tell: (s) => s.do({ ...child('t/s/2', S), cards: [{ card: 'one', from: 's' }] }),
    tellZero: (s) => s.do({ ...child('t/s/2', S), cards: [{ card: 'zero', from: 's' }] }),
    see: (s) => s.do({ op: 'show', agent: 't/s/2' }).held,
    carrier: 't/s/2',
  },
  {
    name: 'a child that is born of it, asked by its maker’s friend',
    tell: (s) => s.do(child('t/s/2', S)),
    see: (s) => s.send(R, 't/s/2').code ?? 'taken',
  },
  { name: 'an offer', tell: offerOf, see: (s) => previewOf(s).ok },
  { name: 'an offer that is looked at come what may', tell: offerOf, see: (s) => previewOf(s, '*').ok },
  {
    name: 'the grants of an offer',
    tell: (s) =>
      s.do({ op: 'offer', card: 'o', by: S, from: 's', to: R, now: [{ tool: 'http.get', host: 'b.x' }] }),
    see: (s) => previewOf(s),
  },
  {
    name: 'the revocation of a card that is held',
    prepare: (s) => {
      offerOf(s)
      previewOf(s)
      acceptOf(s)
    },
    tell: (s) => revokeOf(s, 'o'),
    see: (s) => s.do({ op: 'decide', agent: R, via: 'o', q: { tool: 'http.get', host: 'a.x' } }),
  },
  {
    name: 'the revocation of a card that is offered',
    prepare: (s) => {
      offerOf(s)
      previewOf(s)
    },
    tell: (s) => revokeOf(s, 'o'),
    see: (s) => acceptOf(s).code ?? 'taken',
  },
  {
    name: 'a stop of a child',
    prepare: (s) => void s.do(child('t/s/2', S)),
    tell: (s) => revokeOf(s, 'c-t/s/2'),
    see: (s) => s.send(R, 't/s/2').code ?? 'taken',
  },
  {
    name: 'an answer',
    prepare: (s) => void s.do({ op: 'send', id: 'call', from: R, to: S, method: 'run' }),
    tell: (s) => s.do({ op: 'reply', id: 'call' }),
    see: reached,
  },
  {
    name: 'an answer that was asked for come what may',
    prepare: (s) => void s.do({ op: 'send', id: 'call', from: R, to: S, method: 'run', admits: '*' }),
    tell: (s) => s.do({ op: 'reply', id: 'call' }),
    see: reached,
  },
  {
    name: 'acceptance',
    prepare: (s) => void s.do({ op: 'offer', card: 'p', by: R, from: 'r', to: S }),
    tell: (s) => {
      s.do({ op: 'preview', agent: S, card: 'p' })
      return s.do({ op: 'accept', agent: S, card: 'p', allowLoss: true })
    },
    see: (s) => [
      s.send(R, S).code ?? 'taken',
      ...Array.from(
        { length: 8 },
        (_, i) => s.do({ op: 'offer', card: `q${i}`, by: R, from: 'r', to: S }).code,
      ),
    ],
  },
  {
    name: 'what a refusal says of what its sender has read since',
    // What the receiver has read may still leave, and would cost the sender something.
    prepare: (s) => s.read(R, 'web.read'),
    tell: (s) => void s.read(S, 'sealed.read') as undefined,
    see: (s) => s.send(R, S).code ?? 'taken',
  },
  {
    name: 'a card that is dropped before its offer is taken',
    prepare: (s) => void offerOf(s),
    tell: (s) => s.do({ op: 'drop', agent: S, card: 's' }),
    see: (s) => [previewOf(s).ok, acceptOf(s).code ?? 'taken'],
  },
]

/** What leaves the node for one bit: what the carrier saw, if it can send anything at all. */
function emission(newRules: NewRules, channel: Channel, bit: 0 | 1, clean: boolean): string | undefined {
  const stage = new Stage(newRules)
  channel.prepare?.(stage)
  if (!clean) stage.read(S)
  const told = bit === 1 ? channel.tell(stage) : channel.tellZero?.(stage)
  const seen = JSON.stringify(channel.see(stage, told))
  return stage.leaves(channel.carrier ?? R) ? seen : undefined
}

/** How many of the bits whoever reads the outgoing requests can tell. A clean sender made them up, and has read nothing. */
export function recovered(
  newRules: NewRules,
  channel: Channel,
  bits: readonly (0 | 1)[],
  clean = false,
): number {
  // Whoever listens knows the program: what each bit looks like is no secret.
  const [zero, one] = [emission(newRules, channel, 0, clean), emission(newRules, channel, 1, clean)]
  const secretItself = channel.carrier === S && one !== undefined
  if (secretItself) return bits.length
  // Where one of them is heard as silence, it is what did not happen that tells: nobody guarantees that.
  if (zero === undefined || one === undefined || zero === one) return 0
  return bits.filter((bit) => (emission(newRules, channel, bit, clean) === one ? 1 : 0) === bit).length
}
