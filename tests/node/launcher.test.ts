/** The launcher on a machine that lacks something: it names what, and its twin starts. */
import { spawn, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import { createRequire } from 'node:module'
import os from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { tempFolder } from '../support/kernel.ts'

const root = path.join(import.meta.dirname, '../..')
const { isInstalled } = createRequire(import.meta.url)('../../launch/prepare.cjs') as {
  isInstalled(): boolean
}
const folder = tempFolder()
const checkout = path.join(folder, 'checkout')
const realCache =
  process.env.CARDINAL_CACHE ??
  path.join(process.env.XDG_CACHE_HOME ?? path.join(os.homedir(), '.cache'), 'cardinal')

/** A checkout whose dependencies are installed and whose engine is not built; everything else is the real one. */
beforeAll(() => {
  // What the checkout below installed would be installed here, by way of its links.
  if (!isInstalled())
    throw new Error('the dependencies here are not those of the lock file: `npm start` installs them')
  const copy = (...names: string[]) => {
    for (const name of names)
      fs.cpSync(path.join(root, name), path.join(checkout, name), {
        recursive: true,
        filter: (file) => !/\/(node_modules|build)$/.test(file),
      })
  }
  copy('cardinal', 'launch', 'package.json', 'pnpm-lock.yaml', 'pnpm-workspace.yaml', 'packages')
  copy('bench/package.json', 'tests/package.json')
  for (const name of fs.readdirSync(path.join(root, 'examples'))) copy(`examples/${name}/package.json`)
  fs.symlinkSync(path.join(root, 'node_modules'), path.join(checkout, 'node_modules'))
  for (const name of fs.readdirSync(path.join(root, 'packages'))) {
    const modules = path.join(root, 'packages', name, 'node_modules')
    if (fs.existsSync(modules)) fs.symlinkSync(modules, path.join(checkout, 'packages', name, 'node_modules'))
  }
})
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }))

function start(
  env: NodeJS.ProcessEnv,
  preload: readonly string[] = [],
): { status: number | null; err: string; out: string } {
  const args = [...preload.flatMap((file) => ['-r', file]), path.join(checkout, 'cardinal'), '--help']
  const done = spawnSync(process.execPath, args, { encoding: 'utf8', env: { ...process.env, ...env } })
  return { status: done.status, err: done.stderr, out: done.stdout }
}

it('names Rust when the engine is not built and there is no cargo, and starts when the engine is in the cache', () => {
  const bare = start({ PATH: '/nowhere', CARDINAL_CACHE: path.join(folder, 'empty') })
  expect(bare).toMatchObject({ status: 1, out: '' })
  expect(bare.err).toMatch(/`cargo` is missing; install Rust 1\.95/)
  const built = start({ PATH: '/nowhere', CARDINAL_CACHE: realCache })
  expect(built).toMatchObject({ status: 0, out: expect.stringMatching(/^Usage: cardinal/) })
})

it('names npm when pnpm is not there and npm is not either', () => {
  const lock = path.join(checkout, 'pnpm-lock.yaml')
  const text = fs.readFileSync(lock)
  fs.appendFileSync(lock, '\n')
  const bare = start({ PATH: '/nowhere', CARDINAL_CACHE: path.join(folder, 'empty') })
  expect(bare).toMatchObject({ status: 1, out: '' })
  expect(bare.err).toMatch(/`npm` is missing; it comes with Node/)
  fs.writeFileSync(lock, text)
  expect(start({ CARDINAL_CACHE: realCache })).toMatchObject({ status: 0 })
})

it('names the Node that it needs when it is started by an older one', () => {
  const old = path.join(folder, 'old.cjs')
  const say = (version: string) =>
    fs.writeFileSync(
      old,
      `Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '${version}' } })\n`,
    )
  say('16.20.2')
  expect(start({}, [old])).toMatchObject({
    status: 1,
    out: '',
    err: expect.stringMatching(/Node 18 or newer/),
  })
  say('18.0.0')
  expect(start({}, [old])).toMatchObject({ status: 0 })
})

it('an entry that is run by hand under an older Node says so instead of dying', () => {
  const old = path.join(folder, 'old.cjs')
  const run = (version: string) => {
    fs.writeFileSync(
      old,
      `Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '${version}' } })\n`,
    )
    return spawnSync(process.execPath, ['-r', old, path.join(root, 'packages/cli/src/main.ts'), '--help'], {
      encoding: 'utf8',
    })
  }
  const refused = run('20.19.0')
  expect(refused.status).toBe(1)
  expect(refused.stderr).toMatch(/this is Node 20\.19\.0; Node 24 is needed/)
  expect(run('24.0.0').status).toBe(0)
})

it('a launcher that is killed takes its node along, and the folder is free again', async () => {
  const cwd = path.join(folder, 'orphan')
  fs.mkdirSync(cwd)
  const serve = async () => {
    const child = spawn(process.execPath, [path.join(root, 'cardinal'), 'serve', '--port', '0'], {
      cwd,
      env: { ...process.env, XDG_STATE_HOME: path.join(folder, 'state') },
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    let said = ''
    const listening = await new Promise<boolean>((resolve) => {
      child.stderr.on('data', (chunk) => {
        said += String(chunk)
        if (said.includes('listening on')) resolve(true)
      })
      child.once('exit', () => resolve(false))
    })
    return { child, listening, said }
  }
  const first = await serve()
  expect(first.listening).toBe(true)
  expect((await serve()).said).toMatch(/in use by another kernel/)
  first.child.kill('SIGKILL')
  const until = Date.now() + 15_000
  let second = await serve()
  while (!second.listening && Date.now() < until) second = await serve()
  expect(second.listening).toBe(true)
  const gone = new Promise((resolve) => second.child.once('exit', resolve))
  second.child.kill('SIGTERM')
  await gone
})
