/** SIGTERM while work is under way: what runs ends or is gone on with, and nothing acknowledged is lost. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { tempFolder } from '../support/kernel.ts'

const main = path.join(import.meta.dirname, '../../packages/cli/src/main.ts')
const folder = tempFolder()
const env = {
  ...process.env,
  XDG_STATE_HOME: path.join(folder, 'state'),
  CARDINAL_URL: '',
  CARDINAL_TOKEN: '',
}
const project = path.join(folder, 'project')

const PROGRAM = `import { Agent, sleep } from "@cardinal/sdk";
export default class Busy extends Agent {
  static methods = { spin: {}, nap: {}, rest: {} };
  done = 0;
  spin() {
    let x = 0;
    for (let i = 0; i < 10_000_000; i++) x += i % 7;
    return { x, done: ++this.done };
  }
  async nap() {
    await sleep("1500ms");
    return { done: ++this.done };
  }
  async rest() {
    await sleep("10s");
    return { done: ++this.done };
  }
}
`
const MANIFEST = `apiVersion: cardinal/v1
kind: Agent
metadata: { tenant: default, name: busy }
spec:
  program: ./busy.ts
  card: { now: [] }
`

/** A node, once it has said `until`. */
async function node(command: string, until: string): Promise<ChildProcess> {
  const child = spawn(process.execPath, [main, command, '--port', '0'], {
    cwd: project,
    env,
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  await new Promise<void>((resolve) => {
    let said = ''
    child.stderr?.on('data', (chunk) => {
      said += String(chunk)
      if (said.includes(until)) resolve()
    })
  })
  return child
}

function cardinal(...args: string[]): string {
  const done = spawnSync(process.execPath, [main, ...args], { cwd: project, env, encoding: 'utf8' })
  if (done.status !== 0) throw new Error(done.stderr)
  return done.stdout.trim()
}

function ended(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve) => child.once('exit', (code) => resolve(code)))
}

beforeAll(() => {
  fs.mkdirSync(project)
  fs.writeFileSync(path.join(project, 'busy.ts'), PROGRAM)
  fs.writeFileSync(path.join(project, 'cardinal.yaml'), MANIFEST)
})
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }))

it('a turn that spins and a wait that goes on are both answered, before or after the restart, once', async () => {
  const first = await node('dev', 'applied')
  const spin = cardinal('invoke', 'busy/a', 'spin', '--detach')
  const nap = cardinal('invoke', 'busy/b', 'nap', '--detach')
  const gone = ended(first)
  first.kill('SIGTERM')
  expect(await gone).toBe(0)
  const second = await node('serve', 'listening on')
  expect(JSON.parse(cardinal('result', spin, '--wait', '30', '--format', 'json'))).toMatchObject({
    value: { done: 1 },
  })
  expect(JSON.parse(cardinal('result', nap, '--wait', '30', '--format', 'json'))).toMatchObject({
    value: { done: 1 },
  })
  expect(cardinal('replay', 'busy/a')).toMatch(/turn/)
  const closed = ended(second)
  second.kill('SIGTERM')
  expect(await closed).toBe(0)
})

it('whoever waits for an answer at that moment is given the id of the invocation', async () => {
  const first = await node('serve', 'listening on')
  const waiting = spawn(process.execPath, [main, 'invoke', 'busy/c', 'rest'], {
    cwd: project,
    env,
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let said = ''
  waiting.stderr?.on('data', (chunk) => {
    said += String(chunk)
  })
  // It waits from the moment on at which its agent is there.
  while (spawnSync(process.execPath, [main, 'agents', 'get', 'busy/c'], { cwd: project, env }).status !== 0);
  const [gone, answered] = [ended(first), ended(waiting)]
  first.kill('SIGTERM')
  expect(await answered).not.toBe(0)
  expect(await gone).toBe(0)
  const id = /inv_[0-9a-f]{24}/.exec(said)?.[0] ?? ''
  const second = await node('serve', 'listening on')
  expect(JSON.parse(cardinal('result', id, '--wait', '30', '--format', 'json'))).toMatchObject({
    value: { done: 1 },
  })
  const closed = ended(second)
  second.kill('SIGTERM')
  await closed
})
