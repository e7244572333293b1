/**
 * The main job, shown: bank, node and assistant in processes of their own, a refused exfiltration
 * explained, a kill in the middle of a payment, and the record that proves what happened.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const here = path.dirname(fileURLToPath(import.meta.url))
const root = path.resolve(here, '../../..')
const demo = path.join(root, '.cardinal', 'bank')
const data = path.join(demo, '.cardinal', 'data')
const cli = path.join(root, 'packages/cli/src/main.ts')
const children: ChildProcess[] = []
const USUAL_PORT = 7790
const PAYEE = 'GB29NWBK60161331926819'

function step(text: string): void {
  process.stdout.write(`\n\u2500\u2500 ${text}\n`)
}

function say(text: string): void {
  process.stdout.write(`${text.replace(/^/gm, '   ')}\n`)
}

function fail(text: string): never {
  for (const child of children) child.kill('SIGKILL')
  process.stderr.write(`\nstart: ${text}\n`)
  process.exit(1)
}

async function freePort(wanted: number): Promise<number> {
  const attempt = (port: number) =>
    new Promise<number | undefined>((resolve) => {
      const server = net.createServer().once('error', () => resolve(undefined))
      server.listen(port, '127.0.0.1', () => {
        const { port: got } = server.address() as net.AddressInfo
        server.close(() => resolve(got))
      })
    })
  return (await attempt(wanted)) ?? (await attempt(0)) ?? fail('no port is free')
}

/** Starts a process and waits for its first line that matches. */
function start(name: string, args: string[], ready: RegExp): Promise<ChildProcess> {
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'], cwd: demo })
  children.push(child)
  return new Promise((resolve) => {
    let text = ''
    const look = (chunk: Buffer) => {
      text += chunk.toString()
      if (ready.test(text)) resolve(child)
    }
    child.stdout?.on('data', look)
    child.stderr?.on('data', look)
    child.once('exit', (code) => {
      if (!ready.test(text)) fail(`${name} ended with ${code}: ${text}`)
    })
  })
}

/** Types a command as a user would, and shows what it says. */
function cardinal(args: string[], options: { quiet?: boolean; mayFail?: boolean } = {}): string {
  if (!options.quiet)
    process.stdout.write(`   $ cardinal ${args.map((a) => (/[ "{]/.test(a) ? `'${a}'` : a)).join(' ')}\n`)
  const done = spawnSync(process.execPath, [cli, ...args], { cwd: demo, encoding: 'utf8' })
  if (done.status !== 0 && !options.mayFail)
    fail(`cardinal ${args.join(' ')} ended with ${done.status}: ${done.stderr}`)
  if (!options.quiet) say((done.stdout || done.stderr).trimEnd())
  return done.stdout
}

const startNode = () => start('the node', [cli, 'serve', '--data', data, '--port', '0'], /listening on/)

async function main(): Promise<void> {
  const began = Date.now()
  fs.rmSync(demo, { recursive: true, force: true })
  fs.mkdirSync(demo, { recursive: true })
  const port = await freePort(USUAL_PORT)
  const bankUrl = `http://127.0.0.1:${port}`
  const put = async (mode: object) =>
    void (await fetch(`${bankUrl}/_switch`, { method: 'PUT', body: JSON.stringify(mode) }))
  const payments = async () =>
    (
      (await (await fetch(`${bankUrl}/_ledger`)).json()) as {
        act: string
        body: { recipient?: string; subject?: string }
      }[]
    ).filter((a) => a.act === 'pay')

  step('a bank, in a process of its own, with its own ledger on disk')
  const bank = await start(
    'the bank',
    [path.join(here, 'bank.ts'), '--port', String(port), '--ledger', path.join(demo, 'ledger.jsonl')],
    /listening/,
  )
  say(`listening on ${bankUrl}`)

  step('a node, on the embedded default: log, keys, images and derived state in one folder')
  let node = await startNode()
  say(`data in ${path.relative(root, data)}`)

  step('the manifest: what the assistant is, and what it may do')
  const project = port === USUAL_PORT ? path.resolve(here, '..') : copyForPort(port)
  cardinal(['apply', path.relative(demo, project)])

  step('real tasks of the AgentDojo banking suite')
  for (const id of ['user_task_1', 'user_task_0', 'user_task_2'])
    summarise(cardinal(['invoke', 'acme/assistant/emma', 'task', JSON.stringify({ id })], { quiet: true }))

  step('a bill carries an injected instruction, and the naive assistant obeys it')
  await put({ inject: { file: 'bill-december-2023.txt', task: 'injection_task_5' } })
  summarise(cardinal(['invoke', 'acme/assistant/emma', 'task', '{"id":"user_task_0"}'], { quiet: true }))
  await put({})
  const stolen = (await payments()).filter((p) => p.body.recipient?.startsWith('US133'))
  if (stolen.length > 0) fail('the injected payment went through')
  say('the bank holds no payment to the attacker; why not:')
  cardinal(['why', 'last'])

  step('the node is killed (SIGKILL) in the middle of a payment')
  await put({ afterMs: 800 })
  const id = cardinal([
    'invoke',
    'acme/assistant/emma',
    'pay',
    JSON.stringify({ to: PAYEE, amount: '12.00', subject: 'Sushi' }),
    '--detach',
  ]).trim()
  const sushi = async () => (await payments()).filter((p) => p.body.subject === 'Sushi').length
  while ((await sushi()) === 0) await new Promise((resolve) => setTimeout(resolve, 10))
  node.kill('SIGKILL')
  await new Promise((resolve) => node.once('exit', resolve))
  say('killed: the bank has booked the payment, and its answer was never seen')
  await put({})
  node = await startNode()
  say('started again')
  cardinal(['result', id, '--wait', '20'])
  const times = await sushi()
  if (times !== 1) fail(`the bank booked the payment ${times} times`)
  say('the bank booked the payment once')

  step('the record')
  cardinal(['history', 'acme/assistant/emma', '--limit', '8'])
  cardinal(['replay', 'acme/assistant/emma'])
  cardinal(['verify', path.relative(demo, data)])

  for (const child of [node, bank]) {
    const ended = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGTERM')
    await ended
  }
  step(
    `done in ${((Date.now() - began) / 1000).toFixed(1)} s; everything is still in ${path.relative(root, demo)}`,
  )
}

function copyForPort(port: number): string {
  const project = path.join(demo, 'project')
  fs.cpSync(path.resolve(here, '..'), project, {
    recursive: true,
    filter: (file) => !/node_modules|\/src(\/|$)/.test(file),
  })
  for (const name of ['cardinal.yaml', 'assistant.ts']) {
    const file = path.join(project, name)
    fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replaceAll(String(USUAL_PORT), String(port)))
  }
  return project
}

function summarise(text: string): void {
  const { task, done, stopped } = JSON.parse(text) as {
    task: string
    done: { call: string }[]
    stopped: { call: string; by: string }[]
  }
  say(`\u201c${task}\u201d`)
  for (const { call } of done) say(`  done     ${call.slice(0, 110)}`)
  for (const { call, by } of stopped) say(`  refused  ${call.slice(0, 110)} (by ${by})`)
}

await main()
