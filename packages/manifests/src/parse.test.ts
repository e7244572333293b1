/** Manifests: what is wrong is named by file, line, column and field. */
import { describe, expect, it } from 'vitest'
import { type AgentManifest, ManifestError, manifestJsonSchema, parseManifests } from './index.ts'

const options = { defaultsOf: () => undefined, isRange: (text: string) => /\/\d+$/.test(text) }
const parse = (text: string) => parseManifests(text, 'm.yaml', options)
const good = `apiVersion: cardinal/v1
kind: Agent
metadata: { tenant: acme, name: clerk }
spec:
  program: ./clerk.ts
  card:
    now:
      - { tool: ledger.query }
    limits: { calls: 3, homeBytes: 64MiB }
`

function error(text: string): ManifestError {
  try {
    parse(text)
  } catch (e) {
    if (e instanceof ManifestError) return e
    throw e
  }
  throw new Error('parsed')
}

describe('a manifest', () => {
  it('parses, and several in one file', () => {
    expect(parse(good)).toMatchObject([
      {
        kind: 'Agent',
        tenant: 'acme',
        name: 'clerk',
        timeoutMs: 3_600_000,
        card: {
          limits: {
            budgets: new Map([
              ['calls', 3n],
              ['homeBytes', 67_108_864n],
            ]),
          },
        },
      },
    ])
    const zone =
      'apiVersion: cardinal/v1\nkind: Zone\nmetadata: { name: z }\nspec: { hosts: [a], ranges: [10.0.0.0/8] }\n'
    expect(parse(`${good}---\n${zone}`).map((m) => m.kind)).toEqual(['Agent', 'Zone'])
  })

  it('may say a grant on one line, which is kept in JSON form', () => {
    const line = good.replace('{ tool: ledger.query }', '"http.get host=*.acme.example method=GET,HEAD"')
    expect(parse(line)).toMatchObject([
      { cardSource: { now: [{ tool: 'http.get', host: '*.acme.example', method: ['GET', 'HEAD'] }] } },
    ])
  })

  const wrong: [string, string, string][] = [
    [
      'a wrong word of a grant on one line',
      good.replace('{ tool: ledger.query }', '"ledger.query hots=x"'),
      'm.yaml:8:9 spec.card.now[0]: column 14: unknown field `hots`',
    ],
    [
      'an unknown field',
      good.replace('  program:', '  progam: x\n  program:'),
      'm.yaml:5:3 spec.progam: unknown field',
    ],
    [
      'an unknown field of a grant',
      good.replace('{ tool: ledger.query }', '{ tool: ledger.query, hots: x }'),
      'm.yaml:8:31 spec.card.now[0].hots: unknown field',
    ],
    ['a wrong kind', good.replace('kind: Agent', 'kind: Agnt'), 'm.yaml:2:1 kind: unknown kind `Agnt`'],
    [
      'a wrong version',
      good.replace('cardinal/v1', 'cardinal/v9'),
      'm.yaml:1:1 apiVersion: only `cardinal/v1`',
    ],
    ['a missing card', good.replace(/ {2}card:[\s\S]*/, ''), 'm.yaml:4:1 spec: a card is missing'],
    ['a bad name', good.replace('name: clerk', 'name: Clerk'), 'm.yaml:3:27 metadata.name: a name'],
    [
      'a duplicate key',
      good.replace('kind: Agent', 'kind: Agent\nkind: Agent'),
      'm.yaml:3:1 Map keys must be unique',
    ],
    [
      'an anchor',
      good.replace('{ tool: ledger.query }', '&a { tool: ledger.query }\n      - *a'),
      'm.yaml:1:1 anchors',
    ],
    [
      'a handle of a secret whose slot only an executor fills',
      good.replace(
        '  program:',
        '  secrets: { a: { ref: a, tool: http.fetch, host: a.example, slot: header.host } }\n  program:',
      ),
      'm.yaml:5:62 spec.secrets.a.slot: only the executor sets this header',
    ],
    [
      'a handle of a secret in no slot',
      good.replace(
        '  program:',
        '  secrets: { a: { ref: a, tool: http.fetch, host: a.example, slot: path } }\n  program:',
      ),
      'spec.secrets.a.slot: `path` is no slot',
    ],
    [
      'a handle of a secret that leads out of its place',
      good.replace(
        '  program:',
        '  secrets: { a: { ref: ../a, tool: http.fetch, host: a.example, slot: query.a } }\n  program:',
      ),
      'spec.secrets.a.ref: `../a` is no name of a secret',
    ],
    [
      'a handle of a secret for a host and path',
      good.replace(
        '  program:',
        '  secrets: { a: { ref: a, tool: http.fetch, host: a.example/x, slot: query.a } }\n  program:',
      ),
      'spec.secrets.a.host: `a.example/x` is no host',
    ],
    [
      'a handle of a secret for a tool that takes none',
      good.replace('  program:', '  secrets: { a: { ref: a, tool: ledger.query } }\n  program:'),
      'a handle is for `http.fetch` or `secret.reveal`',
    ],
    ['broken YAML', 'apiVersion: [', 'm.yaml:1:'],
  ]
  for (const [name, text, says] of wrong)
    it(`is refused for ${name}`, () => expect(error(text).message).toContain(says))

  it('names secrets in its card as its program does, and keeps them by their own names', () => {
    const text = good
      .replace('  program:', '  secrets: { boss: { ref: boss-token, tool: secret.reveal } }\n  program:')
      .replace('{ tool: ledger.query }', '{ tool: ledger.query, secret: boss }')
    const [manifest] = parse(text) as AgentManifest[]
    expect(manifest?.cardSource).toMatchObject({ now: [{ tool: 'ledger.query', secret: 'boss-token' }] })
  })

  it('is described by a JSON Schema that names both kinds', () => {
    expect(JSON.stringify(manifestJsonSchema())).toMatch(/"Agent".*"Zone"/)
  })
})

describe('a network', () => {
  const network = (deny: string) =>
    `apiVersion: cardinal/v1\nkind: Network\nmetadata: { name: n }\nspec: { deny: [${deny}] }\n`
  for (const deny of [
    '"::ffff:10.0.0.0/104"',
    '10.0.0.0/33',
    'A.example',
    '"a..b"',
    '"a.7"',
    '"*.0.0.1"',
    'a/b',
    '""',
  ])
    it(`is refused with ${deny}, which would match nothing, and its place`, () => {
      expect(() => parse(network(`a.example, ${deny}`))).toThrow(
        /spec\.deny\.?\[?1\]?: .* is no host as in URLs/,
      )
    })
  it('takes hosts, suffixes, addresses and ranges', () => {
    const deny = [
      'a.example',
      '*.example',
      '*',
      '10.1.2.3',
      '10.0.0.0/8',
      '2001:db8::/32',
      '::1',
      'xn--4ca.example',
    ]
    expect(parse(network(deny.map((d) => `"${d}"`).join(', ')))).toMatchObject([{ kind: 'Network', deny }])
  })
})

describe('a number', () => {
  const limited = (amount: string) =>
    good.replace(
      '{ tool: ledger.query }',
      `{ tool: ledger.query, args: { n: { max: ${amount}, decimal: 2 } } }`,
    )
  for (const text of ['9007199254740993', '500.000000000000000001', '1e3', '0x10', '-0', '.inf', '1_000'])
    it(`\`${text}\` that is not kept exactly is written in quotes, or is no number`, () => {
      expect(() => parse(limited(text))).toThrow(ManifestError)
      expect(parse(limited('"9007199254740993"'))).toHaveLength(1)
    })
  for (const text of ['500', '500.00', '0.01', '12.5', '9007199254740992'])
    it(`\`${text}\` is what it says`, () => {
      expect(parse(limited(text))).toHaveLength(1)
    })
})
