/** Commands that run a node, or look at one without a node: `init`, `serve`, `dev`, `verify`, `doctor`, `bench`. */
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Api, type Kernel, layout, openKernel, serveApi } from '@cardinal/kernel'
import { manifestJsonSchema } from '@cardinal/manifests'
import { ModuleHost } from '@cardinal/middleware'
import { verifyLog } from '@cardinal/oplog'
import { ownFunction } from '@cardinal/tools'
import { type Command, InvalidArgumentError } from 'commander'
import { ask, dataFolder, type Endpoint, findEndpoint } from '../client.ts'
import { CliError } from '../errors.ts'
import { formatOf, whole } from '../options.ts'
import { indented, note, print, table } from '../output.ts'
import { type OwnFile, ownCode, ownFile } from '../own-files.ts'
import { readProject } from '../project.ts'
import { type SecretOptions, secretOptions, secretsOf } from '../secret-sources.ts'
import { MANIFEST, PROGRAM } from '../templates/hello.ts'

interface ServeOptions extends SecretOptions {
  readonly middleware?: readonly OwnFile[]
  readonly tool?: readonly OwnFile[]
  readonly auditLog?: string
  readonly packages?: string
  readonly data?: string
  readonly port: number
  readonly connections?: number
  readonly acceptLoss?: number
}

const EX_FATAL = 70
/** A clock that is behind by less is nobody's business. */
const CLOCK_SLACK_MS = 1000
const WATCH_SETTLE_MS = 150
const MAX_PORT = 65_535

export function addNodeCommands(program: Command): void {
  program
    .command('init <folder>')
    .description('make a folder with a first agent in it')
    .action((folder: string) => init(folder))
  serveOptions(program.command('serve').description('run a node until it is told to stop')).action(
    async (options: ServeOptions) => {
      await running(options, secretsOf(options, undefined))
    },
  )
  serveOptions(
    program
      .command('dev [path]')
      .description('run a node, apply the manifests here, and apply them again when they change'),
  ).action(dev)
  program
    .command('verify [data]')
    .description('check a data folder with nothing but a public key')
    .option(
      '--key <hex>',
      'the public key that must have signed; without it the log only proves that it is consistent',
      publicKey,
    )
    .option('--anchor <file...>', 'heads kept elsewhere that the log must reach')
    .action((data: string | undefined, options: { key?: string; anchor?: string[] }, command: Command) =>
      verify(dataFolder(data), options, command),
    )
  program.command('doctor').description('look for what would keep a node from working well').action(doctor)
  program
    .command('schema')
    .description('print the JSON Schema of manifests, for editors')
    .action(() => print('json', manifestJsonSchema()))
  program
    .command('bench')
    .description('measure this machine; `cardinal bench --help` lists the options')
    .allowUnknownOption()
    .helpOption(false)
    .argument('[options...]')
    .action((given: string[]) => {
      const script = path.resolve(
        path.dirname(fileURLToPath(import.meta.url)),
        '../../../../bench/src/main.ts',
      )
      process.exitCode = spawnSync(process.execPath, [script, ...given], { stdio: 'inherit' }).status ?? 1
    })
}

function serveOptions(command: Command): Command {
  return secretOptions(command)
    .option('--data <folder>', 'the data folder; `.cardinal/data` here if left out')
    .option('--port <number>', 'port on loopback; 0 takes a free one', whole(0, MAX_PORT), 7700)
    .option('--connections <number>', 'connections to one origin at a time', whole(1))
    .option(
      '--middleware <name=file>',
      'a TypeScript module that manifests call by its name; may be repeated',
      ownFile,
    )
    .option(
      '--tool <name=file>',
      'a TypeScript function that manifests of tools call by its name; may be repeated',
      ownFile,
    )
    .option('--packages <folder>', 'where packages of MCP servers lie, each in a folder of its own')
    .option('--audit-log <file>', 'where middleware of kind `audit` writes its lines of JSON')
    .option('--accept-loss <position>', 'go on although the log ends earlier than it once did', whole(0))
}

/** A node that is started here keeps its data here, whatever other node a folder above may have. */
function ownData(given?: string): string {
  return path.resolve(given ?? path.join('.cardinal', 'data'))
}

async function running(
  options: ServeOptions,
  secrets: ReturnType<typeof secretsOf>,
): Promise<{ kernel: Kernel; api: Api }> {
  const { port, connections, acceptLoss } = options
  const data = ownData(options.data)
  const kernel = await openKernel({
    data,
    ...secrets,
    ...(options.packages !== undefined && { packages: path.resolve(options.packages) }),
    modules: await ownCode(options.middleware ?? [], 'middleware', (code) => new ModuleHost(code)),
    functions: await ownCode(options.tool ?? [], 'tool', ownFunction),
    ...(options.auditLog !== undefined && { onAudit: auditTo(options.auditLog) }),
    ...(connections !== undefined && { connections }),
    ...(acceptLoss !== undefined && { acceptLoss }),
    onTurn: (event) => {
      for (const [level, text] of event.logs) note(`${event.address}@${event.seq} ${level} ${indented(text)}`)
      for (const refused of event.refused) note(`${refused.effect} refused: ${refused.message}`)
      for (const effect of event.asked) note(`${effect} asks a person: see \`cardinal approvals list\``)
      if (event.failed)
        note(
          `${event.address}@${event.seq} turn failed and was undone: ${event.failed.kind}: ${event.failed.detail}`,
        )
    },
    onFatal: (error) => {
      note(`cardinal: the node stops: ${error.message}`)
      process.exit(EX_FATAL)
    },
  })
  let api: Api
  try {
    api = await serveApi({ kernel, port })
  } catch (error) {
    await kernel.close()
    throw error
  }
  fs.writeFileSync(path.join(data, 'endpoint.json'), JSON.stringify({ url: api.url }), { mode: 0o600 })
  note(
    `cardinal: listening on ${api.url}; data in ${path.relative(process.cwd(), data) || data}; public key ${kernel.publicKey}`,
  )
  const { clockBehindMs } = kernel.stats()
  if (clockBehindMs > CLOCK_SLACK_MS)
    note(
      `cardinal: the clock is ${Math.ceil(clockBehindMs / 1000)} s behind the last entry of the log; time stands still until it has caught up`,
    )
  let stopping = false
  const stop = () => {
    if (stopping) return
    stopping = true
    note('cardinal: closing')
    api
      .close()
      .then(() => kernel.close())
      .then(() => process.exit(0))
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, stop)
  whenLauncherGoes(stop)
  return { kernel, api }
}

/** Authority follows an apply; the code of an agent that lives does not. */
function older({ generation }: { generation?: number }): string {
  return generation !== undefined && generation > 1
    ? ' (agents that already live have the new card, and go on with the code that they were born with)'
    : ''
}

const LAUNCHER_FD = 3

/** Who ends `./cardinal`, however, means the node: it must not go on unseen and hold its folder. */
function whenLauncherGoes(stop: () => void): void {
  if (Number(process.env.CARDINAL_LAUNCHER) !== process.ppid) return
  const pipe = new net.Socket({ fd: LAUNCHER_FD, readable: true, writable: false })
  pipe.on('error', () => {})
  pipe.on('close', stop)
  pipe.resume()
  pipe.unref()
}

/** Lines for whoever collects them; the record is the log. */
function auditTo(file: string): (line: object) => void {
  const stream = fs.createWriteStream(file, { flags: 'a', mode: 0o600 })
  stream.on('error', (error) => note(`cardinal: the audit log cannot be written: ${error.message}`))
  return (line) => void stream.write(`${JSON.stringify(line)}\n`)
}

/** Beside the data and not in it: who copies the folder has no secret. */
function devKey({ data }: ServeOptions): string {
  return path.join(path.dirname(ownData(data)), 'vault.key')
}

const WATCHED = /\.([cm]?[jt]sx?|json|ya?ml)$/

async function dev(at: string | undefined, options: ServeOptions): Promise<void> {
  const folder = at ?? '.'
  const { api } = await running(options, secretsOf(options, devKey(options)))
  const watched = new Map<string, fs.FSWatcher>()
  const files = new Set<string>()
  let timer: NodeJS.Timeout | undefined
  let busy = false
  let again = false
  const run = async () => {
    // What changes while an apply runs is applied after it.
    again = true
    if (busy) return
    busy = true
    while (again) {
      again = false
      await applyOnce(folder, { url: api.url, token: api.token }, files)
      const settled = () => {
        clearTimeout(timer)
        timer = setTimeout(() => void run(), WATCH_SETTLE_MS)
      }
      // What changed in a folder between being read and being watched was seen by nobody.
      if (watchMore(folder, files, watched, settled)) again = true
    }
    busy = false
  }
  await run()
}

async function applyOnce(folder: string, endpoint: Endpoint, files: Set<string>): Promise<void> {
  try {
    const body = await readProject(folder, files)
    const { body: answer } = await ask(endpoint, '/v1/apply', { body })
    for (const a of answer.applied as { name: string; generation?: number; changed: boolean }[]) {
      if (a.changed)
        note(`cardinal: applied ${a.name}${a.generation ? `, generation ${a.generation}` : ''}${older(a)}`)
    }
  } catch (error) {
    note(`cardinal: not applied: ${(error as Error).message}`)
  }
}

/**
 * Watches the folders of all files that were read and are not watched yet; says whether there were any.
 * A watcher is never replaced: what it has been told and not yet said would be lost with it.
 */
function watchMore(
  folder: string,
  files: ReadonlySet<string>,
  watched: Map<string, fs.FSWatcher>,
  changed: () => void,
): boolean {
  const places = new Set([path.resolve(folder), ...[...files].map((file) => path.dirname(file))])
  const fresh = [...places].filter(
    (place) => !watched.has(place) && fs.existsSync(place) && fs.statSync(place).isDirectory(),
  )
  for (const place of fresh) {
    const watcher = fs.watch(place, (_event, name) => {
      if (name && (files.has(path.join(place, name)) || WATCHED.test(name))) changed()
      if (fs.existsSync(place)) return
      // The folder is gone; one that takes its name is watched anew.
      watcher.close()
      watched.delete(place)
    })
    watched.set(place, watcher)
  }
  return fresh.length > 0
}

function init(folder: string): void {
  if (fs.existsSync(folder) && fs.readdirSync(folder).length > 0)
    throw new CliError('Conflict', 'FolderNotEmpty', `\`${folder}\` is not empty`)
  fs.mkdirSync(folder, { recursive: true })
  fs.writeFileSync(path.join(folder, 'cardinal.yaml'), MANIFEST)
  fs.writeFileSync(path.join(folder, 'hello.ts'), PROGRAM)
  fs.writeFileSync(path.join(folder, '.gitignore'), '.cardinal/\n')
  note(
    `made ${folder}: now \`cd ${folder}\`, \`cardinal dev\`, and in another shell \`cardinal invoke hello/world greet '{"name":"you"}'\``,
  )
}

function publicKey(text: string): string {
  if (/^[0-9a-fA-F]{64}$/.test(text)) return text.toLowerCase()
  throw new InvalidArgumentError('a public key is 64 hexadecimal digits')
}

function verify(data: string, options: { key?: string; anchor?: string[] }, command: Command): void {
  for (const file of options.anchor ?? [])
    if (!fs.existsSync(file))
      throw new CliError('NotFound', 'NoSuchFile', `the anchor \`${file}\` does not exist`)
  if (!fs.existsSync(layout(data).log)) throw new CliError('NotFound', 'NoSuchFile', `no log in \`${data}\``)
  const report = verifyLog(data, {
    ...(options.key !== undefined && { publicKey: options.key }),
    ...(options.anchor && { anchors: options.anchor }),
  })
  print(formatOf(command), report, () => {
    const rows = [
      [report.ok ? 'verified' : 'NOT VERIFIED', report.problem?.message ?? ''],
      [
        'public key',
        `${report.publicKey}${report.pinned ? '' : ' (as the log says itself; pin it with --key)'}`,
      ],
      [
        'entries',
        `${report.entries} of ${report.agents} chains, in ${report.commits} signed commits, ${report.segments} segments`,
      ],
      [
        'reaches',
        report.heads > 0
          ? `what ${report.heads} head${report.heads > 1 ? 's say' : ' says'} that it must`
          : 'UNKNOWN: no head and no anchor says where it must end',
      ],
      [
        'ends at',
        `${report.end}${report.tornBytes ? `, with ${report.tornBytes} bytes of an unfinished write behind it` : ''}`,
      ],
    ]
    return table(rows)
  })
  if (!report.ok) process.exitCode = 1
}

async function doctor(_options: unknown, command: Command): Promise<void> {
  const checks: { name: string; ok: boolean; detail: string }[] = []
  const add = (name: string, ok: boolean, detail: string) => checks.push({ name, ok, detail })
  add('node', process.versions.node.startsWith('24.'), process.versions.node)
  const maps = readNumber('/proc/sys/vm/max_map_count')
  add('vm.max_map_count', maps === undefined || maps >= 65_530, String(maps ?? 'unknown'))
  add('memory', os.freemem() > 512 << 20, `${(os.freemem() / 2 ** 30).toFixed(1)} GiB free`)
  const data = dataFolder()
  add('data folder', fs.existsSync(data), fs.existsSync(data) ? data : `\`${data}\` does not exist yet`)
  if (fs.existsSync(layout(data).log)) {
    const report = verifyLog(data)
    add('log', report.ok, report.ok ? `${report.entries} entries verified` : (report.problem?.message ?? ''))
  }
  add('fdatasync', true, `${syncMs(fs.existsSync(data) ? data : os.tmpdir()).toFixed(2)} ms (median of 50)`)
  try {
    const { body } = await ask(findEndpoint({}), '/v1/health')
    add('node answers', true, `${String(body.agents)} agents, ${String(body.live)} awake`)
  } catch (error) {
    add('node answers', false, (error as Error).message)
  }
  print(formatOf(command), { checks }, () => table(checks.map((c) => [c.ok ? 'ok' : '--', c.name, c.detail])))
}

function readNumber(file: string): number | undefined {
  return fs.existsSync(file) ? Number(fs.readFileSync(file, 'utf8')) : undefined
}

function syncMs(folder: string): number {
  const file = path.join(folder, `.doctor-${process.pid}`)
  const fd = fs.openSync(file, 'w')
  const times: number[] = []
  try {
    for (let i = 0; i < 50; i++) {
      const began = performance.now()
      fs.writeSync(fd, Buffer.alloc(512), 0, 512, 0)
      fs.fdatasyncSync(fd)
      times.push(performance.now() - began)
    }
  } finally {
    fs.closeSync(fd)
    fs.rmSync(file)
  }
  return times.sort((a, b) => a - b)[25] as number
}
