/**
 * Attacks by name, as histories with the answers that must come. Each has a twin: the same history with
 * one fact changed, in which the last operation is allowed. Numbers are those of the list of threats.
 */

/** An operation, and what its answer must contain. */
export type Line = readonly [op: string, answer: string]

export interface Scenario {
  readonly name: string
  readonly lines: readonly Line[]
  /** What shows that the attack left everything as it was. */
  readonly after?: readonly Line[]
  /** The line that differs in the twin, what stands there instead, and what the last line then answers. */
  readonly twin: { readonly at: number; readonly op: string; readonly last: string }
}

const OK = '{"ok":true}'
const ALLOW = '{"ok":true,"verdict":"allow"}'
const refuse = (by: string) => `{"ok":true,"verdict":"refuse","by":"${by}"}`

const PRIVATE: Line = ['{"op":"tool","tool":"db.read","yields":["private"]}', OK]
const HTTP: Line = ['{"op":"tool","tool":"http.get","sinks":["{host}"]}', OK]
const TALK = '{"tool":"agent.*","resource":"*","method":"*"}'
const READ = '{"tool":"db.read","flow":["log"]}'
const OUT = '{"tool":"http.get","host":"*.x"}'

/** Two roots that may talk, read what is private, and go out. */
const TWO: readonly Line[] = [
  PRIVATE,
  HTTP,
  [`{"op":"root","agent":"t/p/1","card":"p","now":[${TALK},${READ},${OUT}],"limits":{"depth":4}}`, OK],
  [`{"op":"root","agent":"t/q/1","card":"q","now":[${TALK},${READ},${OUT}],"limits":{"depth":4}}`, OK],
]

const doing = (id: string, agent: string, q: string, rest = '') =>
  `{"op":"do","id":"${id}","agent":"${agent}","q":${q}${rest}}`
const reads = (id: string, agent: string): Line[] => [
  [doing(id, agent, '{"tool":"db.read"}'), ALLOW],
  [`{"op":"receipt","id":"${id}"}`, OK],
]
const decides = (agent: string, q: string, rest = '') => `{"op":"decide","agent":"${agent}","q":${q}${rest}}`
const GET = '{"tool":"http.get","host":"a.x"}'
const TICK = '{"op":"tick","ms":0}'
const send = (id: string, from: string, to: string, rest = '') =>
  `{"op":"send","id":"${id}","from":"${from}","to":"${to}","method":"run"${rest}}`

export const SCENARIOS: readonly Scenario[] = [
  {
    name: '13: a card of depth 0 spawns',
    lines: [
      [`{"op":"root","agent":"t/p/1","card":"p","now":[${TALK}],"limits":{"depth":0}}`, OK],
      [
        '{"op":"spawn","agent":"t/p/2","by":"t/p/1","cards":[{"card":"c","from":"p"}]}',
        '{"ok":false,"code":"NoDepth"}',
      ],
    ],
    twin: {
      at: 0,
      op: `{"op":"root","agent":"t/p/1","card":"p","now":[${TALK}],"limits":{"depth":1}}`,
      last: OK,
    },
  },
  {
    name: '13: a child keeps the depth of its parent',
    lines: [
      ...TWO,
      [
        '{"op":"spawn","agent":"t/p/2","by":"t/p/1","cards":[{"card":"c","from":"p","limits":{"depth":4}}]}',
        '{"ok":false,"code":"OverWide","missing":{"limit":"depth"}}',
      ],
    ],
    twin: {
      at: 4,
      op: '{"op":"spawn","agent":"t/p/2","by":"t/p/1","cards":[{"card":"c","from":"p","limits":{"depth":3}}]}',
      last: OK,
    },
  },
  {
    name: '15: a card is used at the moment of its expiry',
    lines: [
      HTTP,
      [`{"op":"root","agent":"t/p/1","card":"p","now":[${OUT}],"limits":{"expires":10}}`, OK],
      ['{"op":"tick","ms":10}', '{"ok":true,"now":10}'],
      [decides('t/p/1', GET), refuse('stopped')],
    ],
    twin: { at: 2, op: '{"op":"tick","ms":9}', last: ALLOW },
  },
  {
    name: '15: an expiry lies beyond what numbers hold',
    lines: [
      HTTP,
      [
        `{"op":"root","agent":"t/p/1","card":"p","now":[${OUT}],"limits":{"expires":9007199254740992}}`,
        '{"ok":false,"code":"BadGrant"}',
      ],
    ],
    twin: {
      at: 1,
      op: `{"op":"root","agent":"t/p/1","card":"p","now":[${OUT}],"limits":{"expires":9007199254740991}}`,
      last: OK,
    },
  },
  {
    name: '16: an accepted card is used after it was revoked',
    lines: [
      ...TWO,
      ['{"op":"offer","card":"c","by":"t/p/1","from":"p","to":"t/q/1"}', OK],
      ['{"op":"preview","agent":"t/q/1","card":"c"}', OK],
      ['{"op":"accept","agent":"t/q/1","card":"c"}', OK],
      ['{"op":"revoke","card":"c"}', OK],
      [decides('t/q/1', GET, ',"via":"c"'), refuse('revoked')],
    ],
    after: [[decides('t/q/1', GET), ALLOW]],
    twin: { at: 7, op: TICK, last: ALLOW },
  },
  ...(
    [
      ['dots', '/mine/../theirs', 'BadGrant'],
      ['an empty segment', '/mine//a', 'BadGrant'],
      ['a slash at its end', '/mine/a/', 'BadGrant'],
      ['capitals', '/Mine/a', 'OverWide'],
      ['a percent sign', '/mine%2f..%2ftheirs', 'OverWide'],
      ['a letter in two parts', '/mine/e\u0301', 'BadGrant'],
    ] as const
  ).map(
    ([how, at, code]): Scenario => ({
      name: `12: a child is made wider by ${how} in a path`,
      lines: [
        [
          `{"op":"root","agent":"t/p/1","card":"p","now":[${TALK},{"tool":"file.read","path":"/mine/*"}],"limits":{"depth":1}}`,
          OK,
        ],
        [
          `{"op":"spawn","agent":"t/p/2","by":"t/p/1","cards":[{"card":"c","from":"p","now":[{"tool":"file.read","path":"${at}"}]}]}`,
          `{"ok":false,"code":"${code}"}`,
        ],
      ],
      twin: {
        at: 1,
        op: '{"op":"spawn","agent":"t/p/2","by":"t/p/1","cards":[{"card":"c","from":"p","now":[{"tool":"file.read","path":"/mine/a"}]}]}',
        last: OK,
      },
    }),
  ),
  {
    name: '24: an offer is accepted in another tenant',
    lines: [
      ...TWO,
      [`{"op":"root","agent":"u/q/1","card":"u","now":[${TALK},${OUT}],"limits":{"depth":4}}`, OK],
      ['{"op":"offer","card":"c","by":"t/p/1","from":"p","to":"t/q/1"}', OK],
      ['{"op":"accept","agent":"u/q/1","card":"c"}', '{"ok":false,"code":"NotPreviewed"}'],
      ['{"op":"preview","agent":"u/q/1","card":"c"}', '{"ok":false,"code":"NoSuchOffer"}'],
    ],
    twin: { at: 7, op: '{"op":"preview","agent":"t/q/1","card":"c"}', last: OK },
  },
  {
    name: '27: three children of a purse of 10,000 spend 10,000 each',
    lines: [
      ['{"op":"tool","tool":"pay"}', OK],
      [
        `{"op":"root","agent":"t/p/1","card":"p","now":[${TALK},{"tool":"pay"}],"limits":{"depth":1,"spend":{"EUR":"10000.00"}}}`,
        OK,
      ],
      ...['2', '3', '4'].map(
        (n): Line => [
          `{"op":"spawn","agent":"t/p/${n}","by":"t/p/1","cards":[{"card":"c${n}","from":"p","limits":{"spend":{"EUR":"10000.00"}}}]}`,
          OK,
        ],
      ),
      [doing('e2', 't/p/2', '{"tool":"pay","spend":{"EUR":"10000.00"}}'), ALLOW],
      ['{"op":"receipt","id":"e2"}', OK],
      [
        doing('e3', 't/p/3', '{"tool":"pay","spend":{"EUR":"10000.00"}}'),
        '{"ok":true,"verdict":"refuse","by":"limit","code":"BudgetSpent"}',
      ],
    ],
    after: [
      [
        doing('e4', 't/p/4', '{"tool":"pay","spend":{"EUR":"0.01"}}'),
        '{"ok":true,"verdict":"refuse","by":"limit","code":"BudgetSpent"}',
      ],
    ],
    twin: { at: 6, op: '{"op":"receipt","id":"e2","outcome":"failed"}', last: ALLOW },
  },
  {
    name: '27: a refund is claimed for what was done already',
    lines: [
      ['{"op":"tool","tool":"pay"}', OK],
      ['{"op":"root","agent":"t/p/1","card":"p","now":[{"tool":"pay"}],"limits":{"calls":1}}', OK],
      [doing('e', 't/p/1', '{"tool":"pay"}'), ALLOW],
      ['{"op":"receipt","id":"e"}', OK],
      ['{"op":"receipt","id":"e","outcome":"failed"}', '{"ok":false,"code":"NoSuchEffect"}'],
      [doing('f', 't/p/1', '{"tool":"pay"}'), refuse('limit')],
    ],
    twin: { at: 3, op: '{"op":"receipt","id":"e","outcome":"failed"}', last: ALLOW },
  },
  {
    name: '27: a receipt gives back more than was reserved, by a spend below nothing or above it',
    lines: [
      ['{"op":"tool","tool":"pay"}', OK],
      ['{"op":"root","agent":"t/p/1","card":"p","now":[{"tool":"pay"}],"limits":{"spend":{"EUR":"10"}}}', OK],
      [doing('e', 't/p/1', '{"tool":"pay","spend":{"EUR":"6"}}'), ALLOW],
      ['{"op":"receipt","id":"e","spend":{"EUR":"-6"}}', '{"ok":false,"code":"BadOp"}'],
      ['{"op":"receipt","id":"e","spend":{"EUR":"6.01"}}', '{"ok":false,"code":"OverReserve"}'],
    ],
    twin: { at: 4, op: '{"op":"receipt","id":"e","spend":{"EUR":"6.00"}}', last: OK },
  },
  {
    name: '28: a card is revoked while an effect by it is under way',
    lines: [
      ...TWO,
      ['{"op":"offer","card":"c","by":"t/p/1","from":"p","to":"t/q/1"}', OK],
      ['{"op":"preview","agent":"t/q/1","card":"c"}', OK],
      ['{"op":"accept","agent":"t/q/1","card":"c"}', OK],
      [doing('e', 't/q/1', GET, ',"via":"c"'), ALLOW],
      ['{"op":"revoke","card":"c"}', OK],
      ['{"op":"receipt","id":"e"}', OK],
      [doing('f', 't/q/1', GET, ',"via":"c"'), refuse('revoked')],
    ],
    twin: { at: 8, op: TICK, last: ALLOW },
  },
  {
    name: '28: a card is revoked while a stream by it is open',
    lines: [
      ...TWO,
      ['{"op":"offer","card":"c","by":"t/p/1","from":"p","to":"t/q/1"}', OK],
      ['{"op":"preview","agent":"t/q/1","card":"c"}', OK],
      ['{"op":"accept","agent":"t/q/1","card":"c"}', OK],
      [doing('s', 't/q/1', GET, ',"via":"c","stream":true'), ALLOW],
      ['{"op":"revoke","card":"c"}', '{"ok":true,"cut":["s"]}'],
      ['{"op":"receipt","id":"s","more":true}', '{"ok":false,"code":"NoSuchEffect"}'],
    ],
    twin: { at: 8, op: TICK, last: OK },
  },
  {
    name: '16: an accepted card is used after its ancestor was revoked',
    lines: [
      ...TWO,
      ['{"op":"offer","card":"c","by":"t/p/1","from":"p","to":"t/q/1"}', OK],
      ['{"op":"preview","agent":"t/q/1","card":"c"}', OK],
      ['{"op":"accept","agent":"t/q/1","card":"c"}', OK],
      ['{"op":"revoke","card":"p"}', OK],
      [decides('t/q/1', GET, ',"via":"c"'), refuse('revoked')],
    ],
    twin: { at: 7, op: '{"op":"drop","agent":"t/p/1","card":"p"}', last: ALLOW },
  },
  {
    name: '19: a private card is accepted, and what it reads goes out by another',
    lines: [
      PRIVATE,
      HTTP,
      [`{"op":"root","agent":"t/p/1","card":"p","now":[${TALK},${READ},${OUT}],"limits":{"depth":1}}`, OK],
      [
        `{"op":"root","agent":"t/q/1","card":"q","now":[${TALK},{"tool":"db.*"},${OUT}],"limits":{"depth":1}}`,
        OK,
      ],
      ['{"op":"offer","card":"c","by":"t/p/1","from":"p","to":"t/q/1"}', OK],
      ['{"op":"preview","agent":"t/q/1","card":"c"}', OK],
      ['{"op":"accept","agent":"t/q/1","card":"c"}', OK],
      [doing('e', 't/q/1', '{"tool":"db.read"}', ',"via":"c"'), ALLOW],
      ['{"op":"receipt","id":"e"}', OK],
      [decides('t/q/1', GET, ',"via":"q"'), refuse('flow')],
    ],
    twin: { at: 8, op: TICK, last: ALLOW },
  },
  ...(
    [
      ['drop', '{"op":"drop","agent":"t/q/1","card":"c"}'],
      ['revocation', '{"op":"revoke","card":"c"}'],
      ['expiry', '{"op":"tick","ms":50}'],
    ] as const
  ).map(
    ([how, op]): Scenario => ({
      name: `20: what a card bound is free again after its ${how}`,
      lines: [
        ...TWO,
        [
          `{"op":"offer","card":"c","by":"t/p/1","from":"p","to":"t/q/1","now":[${READ}],"ever":[${READ}],"limits":{"expires":50}}`,
          OK,
        ],
        ['{"op":"preview","agent":"t/q/1","card":"c"}', OK],
        ['{"op":"accept","agent":"t/q/1","card":"c","allowLoss":true}', OK],
        [op, '{"ok":true}'],
        [decides('t/q/1', GET), refuse('ceiling')],
      ],
      twin: { at: 6, op: TICK, last: ALLOW },
    }),
  ),
  {
    name: '21: a child is spawned to go out before a secret is read, and told it after',
    lines: [
      ...TWO,
      [`{"op":"spawn","agent":"t/p/2","by":"t/p/1","cards":[{"card":"c","from":"p","now":[${OUT}]}]}`, OK],
      ...reads('e', 't/p/1'),
      [
        send('m', 't/p/1', 't/p/2'),
        '{"ok":false,"code":"WouldTaint","missing":{"sinks":["*.x","caller:*"],"labels":[]}}',
      ],
    ],
    twin: { at: 6, op: TICK, last: OK },
  },
  {
    name: '22: a secret is laundered by an answer',
    lines: [
      ...TWO,
      [send('m', 't/p/1', 't/q/1'), OK],
      ...reads('e', 't/q/1'),
      ['{"op":"reply","id":"m"}', '{"ok":false,"code":"WouldTaint"}'],
    ],
    twin: { at: 4, op: send('m', 't/p/1', 't/q/1', ',"admits":"*"'), last: OK },
  },
  {
    name: '22: a secret is laundered by a child that is born with it',
    lines: [
      ...TWO,
      ...reads('e', 't/p/1'),
      ['{"op":"spawn","agent":"t/p/2","by":"t/p/1","cards":[{"card":"c","from":"p"}]}', OK],
      [decides('t/p/2', GET), refuse('flow')],
    ],
    twin: { at: 5, op: TICK, last: ALLOW },
  },
  {
    name: '22: what an answer told goes out',
    lines: [
      ...TWO,
      [send('m', 't/p/1', 't/q/1', ',"admits":"*"'), OK],
      ...reads('e', 't/q/1'),
      ['{"op":"reply","id":"m"}', OK],
      [decides('t/p/1', GET), refuse('flow')],
    ],
    twin: { at: 6, op: TICK, last: ALLOW },
  },
  {
    name: '22: what a message told goes out',
    lines: [
      ['{"op":"type","type":"t/q","methods":{"run":{"admits":"*"}}}', OK],
      ...TWO,
      ...reads('e', 't/p/1'),
      [send('m', 't/p/1', 't/q/1'), OK],
      [decides('t/q/1', GET), refuse('flow')],
    ],
    twin: { at: 6, op: TICK, last: ALLOW },
  },
  {
    name: '23: a colluder without bounds is given a narrow card, and goes out by its own',
    lines: [
      ...TWO,
      [`{"op":"offer","card":"c","by":"t/p/1","from":"p","to":"t/q/1","now":[${READ}],"ever":[${READ}]}`, OK],
      ['{"op":"preview","agent":"t/q/1","card":"c"}', OK],
      ['{"op":"accept","agent":"t/q/1","card":"c","allowLoss":true}', OK],
      [decides('t/q/1', GET, ',"via":"q"'), refuse('ceiling')],
    ],
    twin: { at: 6, op: TICK, last: ALLOW },
  },
  {
    name: '23: a second card that is accepted widens what the first bound',
    lines: [
      ...TWO,
      [`{"op":"offer","card":"c","by":"t/p/1","from":"p","to":"t/q/1","now":[${READ}],"ever":[${READ}]}`, OK],
      [
        `{"op":"offer","card":"d","by":"t/p/1","from":"p","to":"t/q/1","now":[${OUT}],"ever":[${OUT},${READ}]}`,
        OK,
      ],
      ['{"op":"preview","agent":"t/q/1","card":"c"}', OK],
      ['{"op":"preview","agent":"t/q/1","card":"d"}', OK],
      ['{"op":"accept","agent":"t/q/1","card":"c","allowLoss":true}', OK],
      ['{"op":"accept","agent":"t/q/1","card":"d","allowLoss":true}', OK],
      [decides('t/q/1', GET, ',"via":"d"'), refuse('ceiling')],
    ],
    twin: { at: 8, op: TICK, last: ALLOW },
  },
  ...(
    [
      [
        'spawn',
        '{"op":"spawn","agent":"u/p/2","by":"t/p/1","cards":[{"card":"c","from":"p"}]}',
        '{"op":"spawn","agent":"t/p/2","by":"t/p/1","cards":[{"card":"c","from":"p"}]}',
      ],
      ['message', send('m', 't/p/1', 'u/q/1'), send('m', 't/p/1', 't/q/1')],
      [
        'offer',
        '{"op":"offer","card":"c","by":"t/p/1","from":"p","to":"u/q/1"}',
        '{"op":"offer","card":"c","by":"t/p/1","from":"p","to":"t/q/1"}',
      ],
    ] as const
  ).map(
    ([how, across, within]): Scenario => ({
      name: `24: a ${how} crosses tenants`,
      lines: [
        ...TWO,
        [`{"op":"root","agent":"u/q/1","card":"u","now":[${TALK}],"limits":{"depth":1}}`, OK],
        [across, '{"ok":false,"code":"NoSuchAgent"}'],
      ],
      twin: { at: 5, op: within, last: OK },
    }),
  ),
  {
    name: '25: an offer would shrink whoever looks at it',
    lines: [
      ...TWO,
      ...reads('e', 't/p/1'),
      ['{"op":"offer","card":"c","by":"t/p/1","from":"p","to":"t/q/1"}', OK],
      ['{"op":"preview","agent":"t/q/1","card":"c"}', '{"ok":false,"code":"NoSuchOffer"}'],
    ],
    twin: { at: 7, op: '{"op":"preview","agent":"t/q/1","card":"c","admits":"*"}', last: OK },
  },
  {
    name: '25: an offer would take the last way out',
    lines: [
      ...TWO,
      [`{"op":"offer","card":"c","by":"t/p/1","from":"p","to":"t/q/1","now":[${READ}],"ever":[${READ}]}`, OK],
      ['{"op":"preview","agent":"t/q/1","card":"c"}', OK],
      ['{"op":"accept","agent":"t/q/1","card":"c"}', '{"ok":false,"code":"WouldLose"}'],
    ],
    twin: { at: 6, op: '{"op":"accept","agent":"t/q/1","card":"c","allowLoss":true}', last: OK },
  },
  {
    name: '25: a card is accepted unseen',
    lines: [
      ...TWO,
      ['{"op":"offer","card":"c","by":"t/p/1","from":"p","to":"t/q/1"}', OK],
      [TICK, OK],
      ['{"op":"accept","agent":"t/q/1","card":"c"}', '{"ok":false,"code":"NotPreviewed"}'],
    ],
    twin: { at: 5, op: '{"op":"preview","agent":"t/q/1","card":"c"}', last: OK },
  },
  {
    name: '26: a deputy is asked for a path that its caller may not read',
    lines: [
      ['{"op":"tool","tool":"file.read"}', OK],
      [`{"op":"root","agent":"t/d/1","card":"d","now":[{"tool":"file.read","path":"/*"}]}`, OK],
      [`{"op":"root","agent":"t/c/1","card":"c","now":[${TALK},{"tool":"file.read","path":"/mine/*"}]}`, OK],
      [send('m', 't/c/1', 't/d/1'), OK],
      [decides('t/d/1', '{"tool":"file.read","path":"/theirs/a"}', ',"for":["m"]'), refuse('scope')],
    ],
    twin: {
      at: 4,
      op: decides('t/d/1', '{"tool":"file.read","path":"/mine/a"}', ',"for":["m"]'),
      last: ALLOW,
    },
  },
  {
    name: '27: children together spend more than their parent has',
    lines: [
      ['{"op":"tool","tool":"pay"}', OK],
      [
        `{"op":"root","agent":"t/p/1","card":"p","now":[${TALK},{"tool":"pay"}],"limits":{"depth":1,"spend":{"EUR":"10"}}}`,
        OK,
      ],
      ['{"op":"spawn","agent":"t/p/2","by":"t/p/1","cards":[{"card":"c2","from":"p"}]}', OK],
      ['{"op":"spawn","agent":"t/p/3","by":"t/p/1","cards":[{"card":"c3","from":"p"}]}', OK],
      [doing('e2', 't/p/2', '{"tool":"pay","spend":{"EUR":"6.50"}}'), ALLOW],
      ['{"op":"receipt","id":"e2"}', OK],
      [
        doing('e3', 't/p/3', '{"tool":"pay","spend":{"EUR":"3.51"}}'),
        '{"ok":true,"verdict":"refuse","by":"limit","code":"BudgetSpent"}',
      ],
    ],
    twin: { at: 6, op: doing('e3', 't/p/3', '{"tool":"pay","spend":{"EUR":"3.50"}}'), last: ALLOW },
  },
  {
    name: '27: two reserve the same money at once',
    lines: [
      ['{"op":"tool","tool":"pay"}', OK],
      ['{"op":"root","agent":"t/p/1","card":"p","now":[{"tool":"pay"}],"limits":{"spend":{"EUR":"10"}}}', OK],
      [doing('e1', 't/p/1', '{"tool":"pay","spend":{"EUR":"6"}}'), ALLOW],
      [TICK, OK],
      [
        doing('e2', 't/p/1', '{"tool":"pay","spend":{"EUR":"6"}}'),
        '{"ok":true,"verdict":"refuse","by":"limit","code":"BudgetBusy"}',
      ],
    ],
    twin: { at: 3, op: '{"op":"receipt","id":"e1","outcome":"failed"}', last: ALLOW },
  },
  {
    name: '27: a fork starts with a full purse',
    lines: [
      ['{"op":"tool","tool":"pay"}', OK],
      ['{"op":"root","agent":"t/p/1","card":"p","now":[{"tool":"pay"}],"limits":{"spend":{"EUR":"10"}}}', OK],
      [doing('e1', 't/p/1', '{"tool":"pay","spend":{"EUR":"6"}}'), ALLOW],
      ['{"op":"receipt","id":"e1"}', OK],
      ['{"op":"fork","agent":"t/p/1","as":"t/p/2","cards":{"p":"p2"}}', OK],
      [
        doing('e2', 't/p/2', '{"tool":"pay","spend":{"EUR":"6"}}'),
        '{"ok":true,"verdict":"refuse","by":"limit","code":"BudgetSpent"}',
      ],
    ],
    twin: { at: 3, op: '{"op":"receipt","id":"e1","spend":{"EUR":"4"}}', last: ALLOW },
  },
  {
    name: '28: an approval comes after the card was revoked',
    lines: [
      ['{"op":"tool","tool":"pay"}', OK],
      ['{"op":"root","agent":"t/p/1","card":"p","now":[{"tool":"pay","ask":["boss"]}]}', OK],
      [doing('e', 't/p/1', '{"tool":"pay"}'), '{"ok":true,"verdict":"ask","ask":[["boss"]]}'],
      ['{"op":"revoke","card":"p"}', '{"ok":true,"cut":["e"]}'],
      ['{"op":"approve","id":"e","role":"boss"}', '{"ok":false,"code":"NoSuchEffect"}'],
    ],
    twin: { at: 3, op: TICK, last: ALLOW },
  },
  {
    name: '28: an approval comes after the budget was spent',
    lines: [
      ['{"op":"tool","tool":"pay"}', OK],
      [
        '{"op":"root","agent":"t/p/1","card":"p","now":[{"tool":"pay","ask":["boss"]}],"limits":{"calls":1}}',
        OK,
      ],
      [doing('e', 't/p/1', '{"tool":"pay"}'), '{"ok":true,"verdict":"ask"}'],
      [doing('f', 't/p/1', '{"tool":"pay"}'), '{"ok":true,"verdict":"ask"}'],
      ['{"op":"approve","id":"f","role":"boss"}', ALLOW],
      ['{"op":"approve","id":"e","role":"boss"}', '{"ok":true,"verdict":"refuse","by":"limit"}'],
    ],
    twin: { at: 4, op: TICK, last: ALLOW },
  },
  {
    name: '61: a revocation spells a bit to whoever holds the card',
    lines: [
      ...TWO,
      ['{"op":"offer","card":"c","by":"t/p/1","from":"p","to":"t/q/1"}', OK],
      ['{"op":"preview","agent":"t/q/1","card":"c"}', OK],
      ['{"op":"accept","agent":"t/q/1","card":"c"}', OK],
      ...reads('e', 't/p/1'),
      ['{"op":"revoke","card":"c","by":"t/p/1"}', OK],
      [decides('t/q/1', GET, ',"via":"q"'), refuse('flow')],
    ],
    twin: { at: 9, op: TICK, last: ALLOW },
  },
  {
    name: '61: an offer that is dead spells a bit to whoever accepts it',
    lines: [
      ...TWO,
      ['{"op":"offer","card":"c","by":"t/p/1","from":"p","to":"t/q/1"}', OK],
      ['{"op":"preview","agent":"t/q/1","card":"c"}', OK],
      ...reads('e', 't/p/1'),
      ['{"op":"revoke","card":"c","by":"t/p/1"}', OK],
      ['{"op":"accept","agent":"t/q/1","card":"c"}', '{"ok":false,"code":"NotLive"}'],
      [decides('t/q/1', GET), refuse('flow')],
    ],
    twin: { at: 9, op: TICK, last: ALLOW },
  },
  {
    name: '61: an agent that exists spells a bit to whoever asks',
    lines: [
      ...TWO,
      ...reads('e', 't/p/1'),
      ['{"op":"spawn","agent":"t/p/2","by":"t/p/1","cards":[{"card":"c","from":"p"}]}', OK],
      [send('m', 't/q/1', 't/p/2'), '{"ok":false,"code":"NoSuchAgent"}'],
    ],
    twin: { at: 5, op: TICK, last: OK },
  },
  {
    name: '61: an agent that is stopped spells a bit to whoever calls it',
    lines: [
      ...TWO,
      [`{"op":"root","agent":"t/p/9","card":"r","now":[${TALK}],"limits":{"depth":1}}`, OK],
      ['{"op":"spawn","agent":"t/p/2","by":"t/p/1","cards":[{"card":"c","from":"p"}]}', OK],
      ...reads('e', 't/p/1'),
      ['{"op":"revoke","card":"c","by":"t/p/1"}', OK],
      [send('m', 't/q/1', 't/p/2'), OK],
    ],
    twin: { at: 8, op: '{"op":"revoke","card":"c"}', last: '{"ok":false,"code":"Stopped"}' },
  },
  {
    name: '61: a second revocation hides the first from whoever calls',
    lines: [
      ...TWO,
      ['{"op":"spawn","agent":"t/p/2","by":"t/p/1","cards":[{"card":"c","from":"p"}]}', OK],
      ['{"op":"revoke","card":"c","by":"t/p/1"}', OK],
      ...reads('e', 't/p/1'),
      ['{"op":"revoke","card":"c","by":"t/p/1"}', OK],
      [send('m', 't/q/1', 't/p/2'), '{"ok":false,"code":"Stopped"}'],
    ],
    twin: { at: 5, op: TICK, last: OK },
  },
  {
    name: '62: a message is sent only to lower its receiver',
    lines: [
      ...TWO,
      ...reads('e', 't/p/1'),
      [send('m', 't/p/1', 't/q/1'), '{"ok":false,"code":"WouldTaint"}'],
    ],
    after: [
      [decides('t/q/1', GET), ALLOW],
      [decides('t/p/1', GET), refuse('flow')],
    ],
    twin: { at: 5, op: TICK, last: OK },
  },
  {
    name: '62: a reply is sent only to lower its caller',
    lines: [
      ...TWO,
      [send('m', 't/q/1', 't/p/1'), OK],
      ...reads('e', 't/p/1'),
      ['{"op":"reply","id":"m"}', '{"ok":false,"code":"WouldTaint"}'],
    ],
    after: [[decides('t/q/1', GET), ALLOW]],
    twin: { at: 6, op: TICK, last: OK },
  },
  {
    name: '62: a refusal tells what its receiver has read',
    lines: [
      ...TWO,
      ['{"op":"tool","tool":"note","sinks":[],"yields":[]}', OK],
      [
        '{"op":"reroot","agent":"t/p/1","now":[{"tool":"agent.*","resource":"*","method":"*"},{"tool":"note","flow":["log","caller:*"]}]}',
        OK,
      ],
      [doing('n', 't/p/1', '{"tool":"note"}'), ALLOW],
      ['{"op":"receipt","id":"n"}', OK],
      ...reads('e', 't/q/1'),
      [
        send('m', 't/p/1', 't/q/1'),
        '{"ok":false,"code":"WouldTaint","missing":{"sinks":["*.x"],"labels":[]}}',
      ],
    ],
    twin: { at: 7, op: TICK, last: OK },
  },
  {
    name: '63: a grandchild sheds the ask of its ancestor',
    lines: [
      ['{"op":"tool","tool":"pay"}', OK],
      [
        `{"op":"root","agent":"t/p/1","card":"a","now":[${TALK},{"tool":"pay","ask":["boss"]}],"limits":{"depth":3}}`,
        OK,
      ],
      [
        '{"op":"spawn","agent":"t/p/2","by":"t/p/1","cards":[{"card":"b","from":"a","limits":{"depth":2}}]}',
        OK,
      ],
      [
        '{"op":"spawn","agent":"t/p/3","by":"t/p/2","cards":[{"card":"c","from":"b","now":[{"tool":"pay"}]}]}',
        OK,
      ],
      [decides('t/p/3', '{"tool":"pay"}'), '{"ok":true,"verdict":"ask","ask":[["boss"]]}'],
    ],
    twin: { at: 4, op: decides('t/p/3', '{"tool":"pay"}', ',"approved":["boss"]'), last: ALLOW },
  },
  {
    name: '63: an offer sheds the ask of the card that it is made from',
    lines: [
      ['{"op":"tool","tool":"pay"}', OK],
      [
        `{"op":"root","agent":"t/p/1","card":"a","now":[${TALK},{"tool":"pay","ask":["boss"]}],"limits":{"depth":3}}`,
        OK,
      ],
      [`{"op":"root","agent":"t/p/2","card":"b","now":[${TALK},{"tool":"pay"}],"limits":{"depth":3}}`, OK],
      [
        '{"op":"offer","card":"c","by":"t/p/1","from":"a","to":"t/p/2","now":[{"tool":"pay"}],"limits":{"depth":2}}',
        OK,
      ],
      ['{"op":"preview","agent":"t/p/2","card":"c"}', OK],
      ['{"op":"accept","agent":"t/p/2","card":"c","allowLoss":true}', OK],
      [
        decides('t/p/2', '{"tool":"pay"}', ',"via":"c"'),
        '{"ok":true,"verdict":"ask","via":"c","ask":[["boss"]]}',
      ],
    ],
    twin: {
      at: 6,
      op: decides('t/p/2', '{"tool":"pay"}', ',"via":"c","approved":["boss"]'),
      last: '{"ok":true,"verdict":"allow","via":"c"}',
    },
  },
  {
    name: '63: a fork sheds the ask of what it is a fork of',
    lines: [
      ['{"op":"tool","tool":"pay"}', OK],
      [
        `{"op":"root","agent":"t/p/1","card":"a","now":[${TALK},{"tool":"pay","ask":["boss"]}],"limits":{"depth":3}}`,
        OK,
      ],
      ['{"op":"fork","agent":"t/p/1","as":"t/p/2","cards":{"a":"f"}}', OK],
      [decides('t/p/2', '{"tool":"pay"}'), '{"ok":true,"verdict":"ask","via":"f","ask":[["boss"]]}'],
    ],
    twin: {
      at: 3,
      op: decides('t/p/2', '{"tool":"pay"}', ',"approved":["boss"]'),
      last: '{"ok":true,"verdict":"allow","via":"f"}',
    },
  },
  {
    name: '63: a child asks for a card without the ask',
    lines: [
      ['{"op":"tool","tool":"pay"}', OK],
      [
        `{"op":"root","agent":"t/p/1","card":"a","now":[${TALK},{"tool":"pay","ask":["boss"]}],"limits":{"depth":3}}`,
        OK,
      ],
      [
        '{"op":"spawn","agent":"t/p/2","by":"t/p/1","cards":[{"card":"b","from":"a","ever":[{"tool":"pay","ask":[]}],"clip":false}]}',
        '{"ok":false,"code":"OverWide","missing":{"bound":"ever","grant":0}}',
      ],
    ],
    twin: {
      at: 2,
      op: '{"op":"spawn","agent":"t/p/2","by":"t/p/1","cards":[{"card":"b","from":"a","now":[{"tool":"pay","ask":["boss","peer"]}],"ever":[{"tool":"pay","ask":["boss"]}]}]}',
      last: OK,
    },
  },
  {
    name: '64: an attacker’s path chooses the card',
    lines: [
      ['{"op":"tool","tool":"file.read"}', OK],
      [
        `{"op":"root","agent":"t/p/1","card":"a","now":[${TALK},{"tool":"file.read","path":"/*"}],"limits":{"depth":1}}`,
        OK,
      ],
      [
        '{"op":"spawn","agent":"t/p/2","by":"t/p/1","cards":[{"card":"b","from":"a","now":[{"tool":"file.read","path":"/in/*"}]},{"card":"c","from":"a","now":[{"tool":"file.read","path":"/out/*"}]}]}',
        OK,
      ],
      [
        decides('t/p/2', '{"tool":"file.read","path":"/out/x"}'),
        '{"ok":true,"verdict":"refuse","by":"card","code":"AmbiguousCard"}',
      ],
    ],
    twin: { at: 3, op: decides('t/p/2', '{"tool":"file.read","path":"/out/x"}', ',"via":"c"'), last: ALLOW },
  },
  {
    name: '65: a timer outlives the call whose scope bound it',
    lines: [
      ['{"op":"tool","tool":"file.read"}', OK],
      ['{"op":"root","agent":"t/d/1","card":"d","now":[{"tool":"file.read","path":"/*"}]}', OK],
      [
        '{"op":"input","id":"i","to":"t/d/1","method":"run","principal":"ann","labels":[],"scope":[{"tool":"file.read","path":"/ann/*"}]}',
        OK,
      ],
      ['{"op":"timer","id":"w","agent":"t/d/1","for":["i"]}', OK],
      ['{"op":"reply","id":"i"}', OK],
      [decides('t/d/1', '{"tool":"file.read","path":"/bob/x"}', ',"for":["w"]'), refuse('scope')],
    ],
    twin: {
      at: 5,
      op: decides('t/d/1', '{"tool":"file.read","path":"/ann/x"}', ',"for":["w"]'),
      last: ALLOW,
    },
  },
  {
    name: '66: a stream that was opened before a secret was read goes on after it',
    lines: [
      ...TWO,
      [doing('s', 't/p/1', GET, ',"stream":true'), ALLOW],
      [doing('e', 't/p/1', '{"tool":"db.read"}'), ALLOW],
      ['{"op":"receipt","id":"e"}', '{"ok":true,"cut":["s"]}'],
      ['{"op":"receipt","id":"s","more":true}', '{"ok":false,"code":"NoSuchEffect"}'],
    ],
    twin: { at: 6, op: TICK, last: OK },
  },
  {
    name: 'I5: an agent outlives its spawner, by a card that the spawner accepted',
    lines: [
      ...TWO,
      ['{"op":"offer","card":"c","by":"t/p/1","from":"p","to":"t/q/1","limits":{"depth":2}}', OK],
      ['{"op":"preview","agent":"t/q/1","card":"c"}', OK],
      ['{"op":"accept","agent":"t/q/1","card":"c"}', OK],
      ['{"op":"spawn","agent":"t/q/2","by":"t/q/1","cards":[{"card":"d","from":"c"}]}', OK],
      ['{"op":"revoke","card":"q"}', OK],
      [decides('t/q/2', GET), refuse('stopped')],
    ],
    twin: { at: 8, op: TICK, last: ALLOW },
  },
  {
    name: '27: an outcome that nobody knows gives its budget back',
    lines: [
      ['{"op":"tool","tool":"pay"}', OK],
      ['{"op":"root","agent":"t/p/1","card":"p","now":[{"tool":"pay"}],"limits":{"calls":1}}', OK],
      [doing('e', 't/p/1', '{"tool":"pay"}'), ALLOW],
      ['{"op":"receipt","id":"e","outcome":"unknown"}', OK],
      [
        doing('f', 't/p/1', '{"tool":"pay"}'),
        '{"ok":true,"verdict":"refuse","by":"limit","code":"BudgetSpent"}',
      ],
    ],
    twin: { at: 3, op: '{"op":"receipt","id":"e","outcome":"failed"}', last: ALLOW },
  },
  {
    name: 'R6: what was read is not cleared by the grant that it is carried out with',
    lines: [
      PRIVATE,
      HTTP,
      [
        '{"op":"root","agent":"t/p/1","card":"p","now":[{"tool":"db.read"},{"tool":"http.get","host":"*.x","labels":["untrusted"]}]}',
        OK,
      ],
      [doing('e', 't/p/1', '{"tool":"db.read"}'), ALLOW],
      ['{"op":"receipt","id":"e"}', OK],
      [decides('t/p/1', GET), refuse('label')],
    ],
    twin: { at: 4, op: TICK, last: ALLOW },
  },
  {
    name: 'R1: a child is minted wider than what its minter accepted',
    lines: [
      ...TWO,
      [
        `{"op":"offer","card":"c","by":"t/p/1","from":"p","to":"t/q/1","now":[${TALK},${READ}],"ever":[${TALK},${READ}]}`,
        OK,
      ],
      ['{"op":"preview","agent":"t/q/1","card":"c"}', OK],
      ['{"op":"accept","agent":"t/q/1","card":"c","allowLoss":true}', OK],
      [
        `{"op":"spawn","agent":"t/q/2","by":"t/q/1","cards":[{"card":"d","from":"q","ever":[${OUT}],"now":[${OUT}]}]}`,
        '{"ok":false,"code":"OverWide","missing":{"bound":"ever","grant":0}}',
      ],
    ],
    twin: { at: 6, op: TICK, last: OK },
  },
  {
    name: 'R1: a card is minted beyond the scope of the turn that asks for it',
    lines: [
      ...TWO,
      [
        `{"op":"input","id":"i","to":"t/p/1","method":"run","principal":"ann","labels":[],"scope":[${TALK},${READ}]}`,
        OK,
      ],
      [
        `{"op":"spawn","agent":"t/p/2","by":"t/p/1","for":["i"],"cards":[{"card":"c","from":"p","ever":[${OUT}],"now":[${OUT}]}]}`,
        '{"ok":false,"code":"OverWide","missing":{"bound":"ever","grant":0}}',
      ],
    ],
    twin: {
      at: 4,
      op: `{"op":"input","id":"i","to":"t/p/1","method":"run","principal":"ann","labels":[],"scope":[${TALK},${OUT}]}`,
      last: OK,
    },
  },
  {
    name: 'R1: a child may do now what it may never do',
    lines: [
      ...TWO,
      [
        `{"op":"spawn","agent":"t/p/2","by":"t/p/1","cards":[{"card":"c","from":"p","ever":[${READ}],"clip":true}]}`,
        OK,
      ],
      ['{"op":"get","card":"c"}', '{"ok":true,"now":[{"tool":"db.read"}],"ever":[{"tool":"db.read"}]}'],
      [decides('t/p/2', GET), refuse('card')],
    ],
    twin: {
      at: 4,
      op: '{"op":"spawn","agent":"t/p/2","by":"t/p/1","cards":[{"card":"c","from":"p","clip":true}]}',
      last: ALLOW,
    },
  },
  {
    name: '64: an accepted card is used although nobody named it',
    lines: [
      PRIVATE,
      HTTP,
      [`{"op":"root","agent":"t/p/1","card":"p","now":[${TALK},${OUT}],"limits":{"depth":1}}`, OK],
      [
        `{"op":"root","agent":"t/q/1","card":"q","now":[${TALK}],"ever":[${TALK},${OUT}],"limits":{"depth":1}}`,
        OK,
      ],
      ['{"op":"offer","card":"c","by":"t/p/1","from":"p","to":"t/q/1"}', OK],
      ['{"op":"preview","agent":"t/q/1","card":"c"}', OK],
      ['{"op":"accept","agent":"t/q/1","card":"c"}', OK],
      [decides('t/q/1', GET), refuse('card')],
    ],
    twin: { at: 7, op: decides('t/q/1', GET, ',"via":"c"'), last: ALLOW },
  },
  {
    name: 'R18: a child keeps what the next generation of its root no longer has',
    lines: [
      ...TWO,
      ['{"op":"spawn","agent":"t/p/2","by":"t/p/1","cards":[{"card":"c","from":"p"}]}', OK],
      [`{"op":"reroot","agent":"t/p/1","now":[${TALK}],"ever":[${TALK},${OUT}],"limits":{"depth":4}}`, OK],
      [decides('t/p/2', GET), refuse('card')],
    ],
    twin: { at: 5, op: TICK, last: ALLOW },
  },
]
