/** `cardinal dev` applies every change of everything that it read, and goes on after a mistake. */
import { type ChildProcess, spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { tempFolder } from '../support/kernel.ts'

const main = path.join(import.meta.dirname, '../../packages/cli/src/main.ts')
const folder = tempFolder()
const project = path.join(folder, 'project')
const program = path.join(project, 'src', 'one.ts')
const words = path.join(project, 'src', 'lib', 'words.json')

const PROGRAM = `import { Agent } from "@cardinal/sdk";
import words from "./lib/words.json";
export default class One extends Agent {
  static methods = { say: {} };
  say() { return words.text; }
}
`
const MANIFEST = `apiVersion: cardinal/v1
kind: Agent
metadata: { tenant: default, name: one }
spec:
  program: ./src/one.ts
  card: { now: [] }
`

let node: ChildProcess
let said = ''

/** Waits until what was said since `from` matches. */
async function says(what: RegExp, from = 0): Promise<void> {
  const until = Date.now() + 30_000
  while (!what.test(said.slice(from))) {
    if (Date.now() > until) throw new Error(`never said ${what}: ${said}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

async function answer(key: string): Promise<unknown> {
  const child = spawn(process.execPath, [main, 'invoke', `one/${key}`, 'say'], {
    cwd: project,
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  let out = ''
  for await (const chunk of child.stdout) out += String(chunk)
  return JSON.parse(out)
}

beforeAll(async () => {
  fs.mkdirSync(path.dirname(words), { recursive: true })
  fs.writeFileSync(words, '{"text":"first"}')
  fs.writeFileSync(program, PROGRAM)
  fs.writeFileSync(path.join(project, 'cardinal.yaml'), MANIFEST)
  const env = { ...process.env, XDG_STATE_HOME: path.join(folder, 'state') }
  node = spawn(process.execPath, [main, 'dev', '--port', '0'], {
    cwd: project,
    env,
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  node.stderr?.on('data', (chunk) => {
    said += String(chunk)
  })
  await says(/generation 1\b/)
})
afterAll(async () => {
  const gone = new Promise((resolve) => node.once('exit', resolve))
  node.kill('SIGTERM')
  await gone
  fs.rmSync(folder, { recursive: true, force: true })
})

it('a file that a program imports is applied when it changes', async () => {
  expect(await answer('a')).toBe('first')
  fs.writeFileSync(words, '{"text":"second"}')
  await says(/generation 2\b/)
  expect(await answer('b')).toBe('second')
})

it('a change that comes while an apply runs is applied after it', async () => {
  const from = said.length
  fs.writeFileSync(words, '{"text":"third"}')
  // One change every few milliseconds, past the moment at which the first one begins to be applied.
  for (let i = 0; i < 40; i++) {
    await new Promise((resolve) => setTimeout(resolve, i < 20 ? 5 : 25))
    if (i === 0) await new Promise((resolve) => setTimeout(resolve, 160))
    fs.writeFileSync(words, `{"text":"change ${i}"}`)
  }
  fs.writeFileSync(words, '{"text":"last"}')
  await says(/applied/, from)
  const until = Date.now() + 20_000
  let heard: unknown
  for (let i = 0; heard !== 'last' && Date.now() < until; i++) heard = await answer(`c${i}`)
  expect(heard).toBe('last')
})

it('a program in a folder below is applied once its mistake is mended', async () => {
  const from = said.length
  fs.writeFileSync(program, 'export default class {')
  await says(/not applied: .*one\.ts:1:\d+/, from)
  fs.writeFileSync(program, PROGRAM.replace('words.text', '"mended"'))
  await says(/applied default\/one/, from)
  expect(await answer('mended')).toBe('mended')
})
