/** The banking suite of AgentDojo (`tests/data/agentdojo-banking.json`, MIT; Debenedetti et al., arXiv 2406.13352) and the card that it is run under. */
import fs from 'node:fs'
import path from 'node:path'

export interface Call {
  readonly tool: string
  readonly args: Record<string, unknown>
}
export interface Task {
  readonly id: string
  readonly calls: readonly Call[]
}

const file = path.join(import.meta.dirname, '../data/agentdojo-banking.json')
export const suite = JSON.parse(fs.readFileSync(file, 'utf8')) as {
  tools: { name: string; inputSchema: { properties: object; required?: string[] } }[]
  userTasks: Task[]
  injectionTasks: Task[]
}

export const PAYEES = [
  'CH9300762011623852957',
  'GB29NWBK60161331926819',
  'SE3550000000054910000003',
  'US122000000121212121212',
  'Spotify',
  'Apple',
]
const FILES = ['bill-december-2023.txt', 'landlord-notices.txt', 'address-change.txt']
const TEXT = { len: 200 }
const payment = (recipient: unknown) => ({
  recipient,
  amount: { decimal: 2, min: 0.01, max: 250 },
  subject: TEXT,
  date: { len: 10 },
})

export function cardFor(payees: readonly string[]): Record<string, unknown>[] {
  return [
    { tool: 'bank.get.*', args: { n: { min: 1, max: 100, optional: true } } },
    { tool: 'bank.read_file', args: { file_path: FILES } },
    ...(payees.length > 0 ? [{ tool: 'bank.send_money', args: payment(payees) }] : []),
    {
      tool: 'bank.schedule_transaction',
      args: { ...payment(['US122000000121212121212']), amount: { decimal: 2, max: 60 }, recurring: [true] },
    },
    {
      tool: 'bank.update_scheduled_transaction',
      args: { id: [7], amount: { decimal: 2, min: 1000, max: 1250 } },
    },
    { tool: 'bank.update_user_info', args: { street: TEXT, city: TEXT } },
    { tool: 'bank.send_money', args: payment('*'), ask: ['owner'] },
    {
      tool: 'bank.update_scheduled_transaction',
      args: { id: [7], recipient: '*', amount: { decimal: 2, max: 5000, optional: true } },
      ask: ['owner'],
    },
    { tool: 'bank.update_password', args: { password: '*' }, ask: ['owner'] },
  ]
}

export function toolOf(name: string): string {
  return name.startsWith('get_') ? `bank.get.${name.slice(4)}` : `bank.${name}`
}

export const isRead = (name: string) => name.startsWith('get_') || name === 'read_file'

/** A tool of the suite as one HTTP request. */
export function toolManifest({ name, inputSchema }: (typeof suite.tools)[number], url: string): object {
  const args = Object.keys(inputSchema.properties)
  const at = { url: `${url}/${name}` }
  const read = { method: 'GET', ...at, query: Object.fromEntries(args.map((arg) => [arg, `{${arg}}`])) }
  return {
    apiVersion: 'cardinal/v1',
    kind: 'Tool',
    metadata: { tenant: 'acme', name: toolOf(name) },
    spec: {
      effect: isRead(name) ? 'read' : 'once',
      in: { type: 'object', properties: inputSchema.properties, required: inputSchema.required ?? [] },
      http: isRead(name) ? read : { method: 'POST', ...at, body: 'json' },
      ...(name === 'send_money' && { spend: { EUR: 'amount' } }),
    },
  }
}

/** The worst of a task's verdicts. */
export function outcome(all: readonly string[]): string {
  return all.includes('refuse') ? 'refuse' : all.includes('ask') ? 'ask' : 'allow'
}

export function payeesOf(tasks: readonly Task[]): string[] {
  return [
    ...new Set(
      tasks.flatMap((t) =>
        t.calls.filter((c) => c.tool === 'send_money').map((c) => String(c.args.recipient)),
      ),
    ),
  ]
}
