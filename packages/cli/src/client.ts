/** The API's client: where the node is, and one request. */

import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { parsePlainJson } from '@cardinal/cards'
import { CliError } from './errors.ts'

export interface Where {
  readonly url?: string
  readonly token?: string
}

export interface Endpoint {
  readonly url: string
  readonly token: string
}

/** The nearest `.cardinal` folder from here upward. */
function findProject(from: string = process.cwd()): string | undefined {
  for (let folder = from; ; folder = path.dirname(folder)) {
    const found = path.join(folder, '.cardinal')
    if (fs.existsSync(found)) return found
    if (path.dirname(folder) === folder) return undefined
  }
}

/** The data of the node that has its place here or above, unless another one is given. */
export function dataFolder(given?: string): string {
  return path.resolve(given ?? path.join(findProject() ?? '.cardinal', 'data'))
}

/**
 * Flags, then `CARDINAL_URL` and `CARDINAL_TOKEN`, then the profile, then `.cardinal` upward. A URL
 * takes its token from the same place, or from a flag or variable that was set for it: a token is
 * never sent to a node that it was not made for.
 */
export function findEndpoint(where: Where): Endpoint {
  const given: Where = {
    ...pick('url', where.url ?? process.env.CARDINAL_URL),
    ...pick('token', where.token ?? process.env.CARDINAL_TOKEN),
  }
  const project = findProject()
  const places = [readJson(profileFile()), project ? readProject(project) : {}]
  const known = places.find((place) => place.url && (!given.url || sameOrigin(place.url, given.url)))
  const url = given.url ?? known?.url
  const token = given.token ?? known?.token
  if (!url)
    throw new CliError(
      'NotFound',
      'NoNode',
      'no node is running here; start one with `cardinal dev` or `cardinal serve`, or name one with `--url` and `--token`',
    )
  if (!URL.canParse(url)) throw new CliError('Usage', 'Usage', `\`${url}\` is no URL`)
  if (!token)
    throw new CliError(
      'Refused',
      'NoToken',
      `no token for \`${url}\`; give one with \`--token\` or CARDINAL_TOKEN`,
    )
  return { url, token }
}

/** An empty variable is one that is not set. */
function pick(name: 'url' | 'token', value: string | undefined): Where {
  return value ? { [name]: value } : {}
}

function sameOrigin(a: string, b: string): boolean {
  return URL.canParse(a) && URL.canParse(b) && new URL(a).origin === new URL(b).origin
}

function profileFile(): string {
  return path.join(
    process.env.XDG_CONFIG_HOME ?? path.join(os.homedir(), '.config'),
    'cardinal',
    'profile.json',
  )
}

function readProject(folder: string): Where {
  const data = path.join(folder, 'data')
  const token = path.join(data, 'token')
  return {
    ...readJson(path.join(data, 'endpoint.json')),
    ...(fs.existsSync(token) && { token: fs.readFileSync(token, 'utf8').trim() }),
  }
}

function readJson(file: string): Where {
  try {
    return JSON.parse(fs.readFileSync(file, 'utf8')) as Where
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {}
    throw new CliError('Malformed', 'BadFile', `\`${file}\` is not JSON: ${(error as Error).message}`)
  }
}

export interface Asked {
  readonly method?: string
  readonly body?: unknown
  readonly headers?: Record<string, string>
}

export interface Answer {
  readonly status: number
  readonly body: Record<string, unknown>
}

/** One request of JSON; a problem comes back as a `CliError` of its class and code. */
export async function ask(endpoint: Endpoint, route: string, asked: Asked = {}): Promise<Answer> {
  const hasBody = asked.body !== undefined
  const response = await send(endpoint, route, {
    method: asked.method ?? (hasBody ? 'POST' : 'GET'),
    headers: { ...(hasBody && { 'content-type': 'application/json' }), ...asked.headers },
    ...(hasBody && { body: JSON.stringify(asked.body) }),
  })
  return { status: response.status, body: parseAnswer(await response.text(), endpoint.url) }
}

/** One request of any body, and the answer to it as it comes; a problem is a `CliError` too. */
export async function send({ url, token }: Endpoint, route: string, init: RequestInit): Promise<Response> {
  let response: Response
  try {
    const headers = { ...(init.headers as Record<string, string>), authorization: `Bearer ${token}` }
    response = await fetch(new URL(route, url), { ...init, headers })
  } catch (error) {
    const cause = (error as { cause?: { code?: string } }).cause?.code ?? (error as Error).message
    throw new CliError('Unavailable', 'NoNode', `no node answers at \`${url}\` (${cause}); is it running?`)
  }
  if (response.ok) return response
  const body = parseAnswer(await response.text(), url)
  const { class: cls, code, detail, type: _type, title: _title, status: _status, ...details } = body
  if (typeof cls !== 'string' || typeof code !== 'string') throw notANode(url)
  throw new CliError(cls, code, String(detail), details)
}

function parseAnswer(text: string, url: string): Record<string, unknown> {
  try {
    const body = parsePlainJson(text)
    if (typeof body === 'object' && body !== null && !Array.isArray(body))
      return body as Record<string, unknown>
  } catch {
    // Whoever answers anything but JSON is not a node.
  }
  throw notANode(url)
}

function notANode(url: string): CliError {
  return new CliError('Unavailable', 'NotANode', `what answers at \`${url}\` is no Cardinal node`)
}
