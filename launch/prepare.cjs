'use strict'
// Makes a checkout ready to run: dependencies installed, engine built. Plain JavaScript that any
// Node from 18 runs with nothing installed; everything else runs on the project's own Node.

const { createHash } = require('node:crypto')
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')

const root = path.resolve(__dirname, '..')
const MIN_NODE = 18
const RUST_NEEDED = '1.95'

class Stop extends Error {}

function say(text) {
  process.stderr.write(`cardinal: ${text}\n`)
}

/** The folder for everything that is costly to make again; never inside the checkout. */
function cacheFolder() {
  const base = process.env.XDG_CACHE_HOME || path.join(os.homedir(), '.cache')
  return process.env.CARDINAL_CACHE || path.join(base, 'cardinal')
}

function digest(files) {
  const hash = createHash('sha256')
  for (const file of files)
    hash
      .update(`${path.relative(root, file)}\0`)
      .update(fs.readFileSync(file))
      .update('\0')
  return hash.digest('hex').slice(0, 32)
}

function read(file) {
  try {
    return fs.readFileSync(file, 'utf8')
  } catch (error) {
    if (error.code === 'ENOENT') return undefined
    throw error
  }
}

function run(command, args, options, missing) {
  const done = spawnSync(command, args, { stdio: ['ignore', 2, 2], ...options })
  if (done.error && done.error.code === 'ENOENT') throw new Stop(missing)
  if (done.error) throw new Stop(`\`${command}\` did not run: ${done.error.message}`)
  if (done.status !== 0)
    throw new Stop(`\`${command} ${args.join(' ')}\` ended with ${done.status ?? done.signal}`)
}

function checkNode() {
  const major = Number(process.versions.node.split('.')[0])
  if (major >= MIN_NODE) return
  throw new Stop(
    `this is Node ${process.versions.node}; Node ${MIN_NODE} or newer is needed to start (nodejs.org)`,
  )
}

function platform() {
  const name = `${process.platform}-${process.arch}`
  if (name === 'linux-x64' || name === 'linux-arm64') return name
  throw new Stop(`\`${name}\` is not supported; Cardinal runs on linux-x64 and linux-arm64`)
}

function manifests() {
  const folders = fs.readdirSync(path.join(root, 'packages')).map((name) => path.join('packages', name))
  const listed = [
    '.',
    'bench',
    'tests',
    ...folders,
    ...fs.readdirSync(path.join(root, 'examples')).map((n) => path.join('examples', n)),
  ]
  return listed
    .map((folder) => path.join(root, folder, 'package.json'))
    .filter((file) => fs.existsSync(file))
    .sort()
}

/** pnpm itself, at its pinned version, in the cache. */
function findPnpm() {
  const source = path.join(__dirname, 'bootstrap')
  const lock = path.join(source, 'package-lock.json')
  const folder = path.join(cacheFolder(), `pnpm-${digest([lock])}`)
  const pnpm = path.join(folder, 'node_modules', '@pnpm', `exe.${platform()}`, 'pnpm')
  if (fs.existsSync(pnpm)) return pnpm
  say('fetching pnpm')
  fs.mkdirSync(folder, { recursive: true })
  for (const file of ['package.json', 'package-lock.json'])
    fs.copyFileSync(path.join(source, file), path.join(folder, file))
  run(
    'npm',
    ['ci', '--no-fund', '--no-audit', '--loglevel=error'],
    { cwd: folder },
    '`npm` is missing; it comes with Node (nodejs.org)',
  )
  return pnpm
}

const STAMP = path.join(root, 'node_modules', '.cardinal-installed')

/** Names the dependencies that the lock file and the manifests ask for. */
function wantedDependencies() {
  return digest([path.join(root, 'pnpm-lock.yaml'), path.join(root, 'pnpm-workspace.yaml'), ...manifests()])
}

/** Whether exactly these are installed. */
function isInstalled() {
  return read(STAMP) === wantedDependencies() && fs.existsSync(nodePath())
}

function install() {
  if (isInstalled()) return
  say('installing dependencies')
  const began = Date.now()
  run(
    findPnpm(),
    ['install', '--frozen-lockfile', '--reporter=append-only', '--loglevel=warn'],
    { cwd: root },
    '`pnpm` could not be fetched',
  )
  fs.writeFileSync(STAMP, wantedDependencies())
  say(`installed in ${seconds(began)}`)
}

function nodePath() {
  return path.join(root, 'node_modules', `node-${platform()}`, 'bin', 'node')
}

function rustSources(folder) {
  const inside = fs
    .readdirSync(path.join(folder, 'src'))
    .filter((name) => name.endsWith('.rs'))
    .sort()
  return [
    ...['Cargo.toml', 'Cargo.lock', 'build.rs', '.cargo/config.toml']
      .map((name) => path.join(folder, name))
      .filter((file) => fs.existsSync(file)),
    ...inside.map((name) => path.join(folder, 'src', name)),
  ]
}

/** Builds a Rust library of the checkout if its sources changed, and puts it where it is loaded from. */
function buildRust(folder, library, output) {
  const key = digest(rustSources(folder))
  const place = path.join(folder, 'build', output)
  const stamp = path.join(folder, 'build', 'key')
  if (read(stamp) === key && fs.existsSync(place)) return
  const kept = path.join(cacheFolder(), path.basename(folder), key, output)
  if (!fs.existsSync(kept)) {
    const cargo = `\`cargo\` is missing; install Rust ${RUST_NEEDED} (rustup.rs)`
    const version = spawnSync('cargo', ['--version'], { encoding: 'utf8' })
    if (version.error) throw new Stop(cargo)
    say(`building ${path.basename(folder)} with ${version.stdout.trim()} (minutes the first time)`)
    const began = Date.now()
    const target = path.join(
      cacheFolder(),
      `target-${path.basename(folder)}-${digest([path.join(folder, 'Cargo.lock')])}`,
    )
    run(
      'cargo',
      ['build', '--release', '--locked', '--quiet'],
      { cwd: folder, env: { ...process.env, CARGO_TARGET_DIR: target } },
      cargo,
    )
    if (digest(rustSources(folder)) !== key)
      throw new Stop(`sources of ${path.basename(folder)} changed while it was built; start again`)
    fs.mkdirSync(path.dirname(kept), { recursive: true })
    copy(path.join(target, 'release', library), kept)
    say(`built in ${seconds(began)}`)
  }
  fs.mkdirSync(path.dirname(place), { recursive: true })
  copy(kept, place)
  fs.writeFileSync(stamp, key)
}

/** Copies by rename, so that a process which has the old file mapped keeps it. */
function copy(from, to) {
  const temporary = `${to}.${process.pid}`
  fs.copyFileSync(from, temporary)
  fs.renameSync(temporary, to)
}

function seconds(began) {
  return `${((Date.now() - began) / 1000).toFixed(1)} s`
}

/**
 * Live agents outlast many collections of the young, so that those are to be rare; and V8's own threads would take
 * the cores of those that run turns.
 */
const NODE_OPTIONS = ['--disable-warning=ExperimentalWarning', '--max-semi-space-size=32', '--v8-pool-size=1']

/** Prepares the checkout, then runs `script` under the project's Node and ends as it ends. */
function launch(script, args, libraries = []) {
  try {
    checkNode()
    platform()
    install()
    buildRust(path.join(root, 'packages', 'engine'), 'libcardinal_engine.so', 'engine.node')
    for (const { folder, library } of libraries) buildRust(path.join(root, folder), library, library)
  } catch (error) {
    if (!(error instanceof Stop)) throw error
    say(error.message)
    process.exit(1)
  }
  const child = require('node:child_process').spawn(
    nodePath(),
    [...NODE_OPTIONS, path.join(root, script), ...args],
    {
      // The pipe says to the child that this process is gone, however it went.
      stdio: ['inherit', 'inherit', 'inherit', 'pipe'],
      env: { ...process.env, CARDINAL_LAUNCHER: String(process.pid) },
    },
  )
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
  child.on('exit', (code, signal) => {
    if (!signal) process.exit(code)
    process.removeAllListeners(signal)
    process.kill(process.pid, signal)
  })
}

module.exports = { launch, buildRust, isInstalled, root }
