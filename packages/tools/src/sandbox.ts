/**
 * Where programs run that are not ours: a namespace of their own for everything, no network but a way out that
 * they may be given, no capability, nothing of the host to be seen but its programs and libraries, and those
 * read-only. They end with the kernel.
 *
 * bubblewrap sets it up; without it no such program is started.
 */
import fs from 'node:fs'
import path from 'node:path'
import { SOCKET, TRUSTED } from './egress-proxy.ts'

export interface Sandboxed {
  /** As seen inside: a name on the path, or below a mount. */
  readonly program: string
  readonly args: readonly string[]
  /** Folders of the host, and where they stand inside, read-only. */
  readonly readOnly: readonly (readonly [host: string, inside: string])[]
  /** Files that stand there from the beginning, in memory: whoever starts it writes the text into the descriptor. */
  readonly files?: readonly (readonly [descriptor: number, inside: string])[]
  /** Files that it may leave in `OUT`, and the descriptor into which each goes at its end, behind a byte `1`. */
  readonly gives?: readonly (readonly [descriptor: number, name: string])[]
  readonly cwd: string
  readonly env: Readonly<Record<string, string>>
  /** The folder of a way out that is open; left out: there is no network at all. */
  readonly out?: string | undefined
  /** Words that the command stands behind, inside. */
  readonly behind?: readonly string[]
}

const SYSTEM = ['/bin', '/sbin', '/lib', '/lib32', '/lib64', '/libx32'] as const
const NODE_INSIDE = '/opt/node/bin'
/** Where the way out stands inside, and the port of loopback that leads there. */
const OUT_INSIDE = '/run/cardinal'
const RELAY = 'egress-relay.mjs'
const PORT = 3128
/** Where files stand that come out of it. */
export const OUT = '/tmp/out'
const PATHS = ['/usr/local/bin', '/usr/bin', '/bin']
/** Of `/tmp` inside, which is memory. */
const TMP_BYTES = 256 << 20

/** The program that makes sandboxes; undefined if this machine has none. */
export function findSandbox(): string | undefined {
  return findProgram('bwrap')
}

/** A program of the machine by its whole path: nobody's `PATH` says which it is. */
export function findProgram(name: string): string | undefined {
  return PATHS.map((folder) => path.join(folder, name)).find((file) => fs.existsSync(file))
}

/** Where a program stands inside; its own `PATH` is for what it starts, and not for finding it. */
function insideOf(program: string): string {
  if (program.includes('/')) return program
  if (program === 'node') return `${NODE_INSIDE}/node`
  const folder = ['/usr/bin', '/bin'].find((at) => fs.existsSync(path.join(at, program)))
  return folder ? `${folder}/${program}` : program
}

/** What the programs that make the sandbox see: nothing of it is a manifest's. */
const OUTSIDE = { PATH: '/usr/bin:/bin', LANG: 'C.UTF-8' }
/** Inside, the program's own variables come out of these, by a shell that is given nothing else to do. */
const CARRIER = 'CARDINAL_ENV_'

/**
 * The command that runs a program in a sandbox. Its variables, of which one may be a secret, are carried under
 * names that mean nothing to the programs outside, and get their own inside; arguments could be read by others.
 */
export function sandboxCommand(
  bwrap: string,
  { program, args, readOnly, files = [], gives = [], cwd, env, out, behind = [] }: Sandboxed,
): { readonly command: string; readonly args: string[]; readonly env: Record<string, string> } {
  const system = SYSTEM.flatMap((place) => {
    const stat = fs.lstatSync(place, { throwIfNoEntry: false })
    if (stat?.isSymbolicLink()) return ['--symlink', fs.readlinkSync(place), place]
    return stat?.isDirectory() ? ['--ro-bind', place, place] : []
  })
  const inside = {
    PATH: `${NODE_INSIDE}:/usr/bin:/bin`,
    HOME: '/tmp',
    TMPDIR: '/tmp',
    LANG: 'C.UTF-8',
    ...(out !== undefined && variablesOfWayOut()),
    ...env,
  }
  const relay =
    out === undefined
      ? []
      : [`${NODE_INSIDE}/node`, `${OUT_INSIDE}/${RELAY}`, `${OUT_INSIDE}/door/${SOCKET}`, String(PORT)]
  const carried = Object.entries(inside).map(
    ([name, value], i) => [`${CARRIER}${i}`, `${name}=${value}`] as const,
  )
  const names = carried.map(([name]) => name)
  const script = `export ${names.map((name) => `"$${name}"`).join(' ')}; unset ${names.join(' ')}; ${running(gives)}`
  return {
    command: bwrap,
    env: { ...OUTSIDE, ...Object.fromEntries(carried) },
    args: [
      '--unshare-all',
      '--die-with-parent',
      '--new-session',
      // What those who start programs hand down without being asked.
      ...['SHELL', 'TERM', 'USER', 'LOGNAME'].flatMap((name) => ['--unsetenv', name]),
      '--cap-drop',
      'ALL',
      '--uid',
      '65534',
      '--gid',
      '65534',
      '--hostname',
      'sandbox',
      '--ro-bind',
      '/usr',
      '/usr',
      ...system,
      // Where Debian's names for programs lead.
      '--ro-bind-try',
      '/etc/alternatives',
      '/etc/alternatives',
      '--ro-bind',
      process.execPath,
      `${NODE_INSIDE}/node`,
      '--proc',
      '/proc',
      '--dev',
      '/dev',
      '--size',
      String(TMP_BYTES),
      '--tmpfs',
      '/tmp',
      ...readOnly.flatMap(([host, place]) => ['--ro-bind', host, place]),
      ...(out === undefined
        ? []
        : [
            ...['--ro-bind', out, `${OUT_INSIDE}/door`],
            ...['--ro-bind', path.join(import.meta.dirname, RELAY), `${OUT_INSIDE}/${RELAY}`],
          ]),
      ...(readOnly.some(([, place]) => place === cwd) ? [] : ['--dir', cwd]),
      ...files.flatMap(([descriptor, place]) => ['--ro-bind-data', String(descriptor), place]),
      // What may be written is `/tmp` alone, which is bounded.
      '--remount-ro',
      '/',
      '--chdir',
      cwd,
      '--',
      '/bin/sh',
      '-c',
      script,
      'sandbox',
      ...relay,
      ...behind,
      insideOf(program),
      ...args,
    ],
  }
}

/** What the shell does in the end: become the program, or wait for it and give what it left. */
function running(gives: NonNullable<Sandboxed['gives']>): string {
  if (gives.length === 0) return 'exec "$@"'
  const each = gives.map(
    ([fd, name]) => `if [ -f ${OUT}/${name} ]; then { printf 1; cat ${OUT}/${name}; } >&${fd}; fi`,
  )
  return `mkdir -p ${OUT}; "$@"; code=$?; ${each.join('; ')}; exit $code`
}

/** By these most programs find a proxy, and what to trust. */
function variablesOfWayOut(): Record<string, string> {
  const proxy = `http://127.0.0.1:${PORT}`
  const trusted = `${OUT_INSIDE}/door/${TRUSTED}`
  return {
    HTTP_PROXY: proxy,
    HTTPS_PROXY: proxy,
    ALL_PROXY: proxy,
    http_proxy: proxy,
    https_proxy: proxy,
    all_proxy: proxy,
    NODE_USE_ENV_PROXY: '1',
    NODE_EXTRA_CA_CERTS: trusted,
    SSL_CERT_FILE: trusted,
    CURL_CA_BUNDLE: trusted,
    GIT_SSL_CAINFO: trusted,
    REQUESTS_CA_BUNDLE: trusted,
  }
}

/** Whether a value can be a variable of the environment, and comes out of it as it went in. */
export function isPlainText(value: Buffer): boolean {
  return !value.includes(0) && Buffer.from(value.toString()).equals(value)
}
