/**
 * The one door out of the node: connections to addresses that were checked when they were made, for
 * `http.fetch` and for the clients of protocols that are spoken over HTTP.
 */
import { Agent, type Dispatcher, fetch as undiciFetch } from 'undici'
import {
  checkAddress,
  checkedLookup,
  checkHost,
  EgressDenied,
  type EgressPolicy,
  isLiteral,
} from './address.ts'

export interface DoorOptions {
  readonly policy: EgressPolicy
  /** Connections to one origin at a time. */
  readonly connections: number
  readonly timeoutMs: number
}

export class EgressDoor {
  readonly options: DoorOptions
  readonly #agents = new Map<number, Agent>()
  readonly #older = new Set<Agent>()
  #version: number

  constructor(options: DoorOptions) {
    this.options = options
    this.#version = options.policy.version()
  }

  /** Throws `EgressDenied` where the name or literal address may not be reached; names are checked again as they resolve. */
  check(url: URL): void {
    const { policy } = this.options
    const literal = url.hostname.replace(/^\[|\]$/g, '')
    checkHost(literal, policy)
    if (isLiteral(literal)) checkAddress(url.hostname, literal, portOf(url), policy)
  }

  dispatcherFor(url: URL): Dispatcher {
    const { policy, connections, timeoutMs } = this.options
    // A connection that was made when its address was allowed outlives no change.
    if (this.#version !== policy.version()) {
      for (const agent of this.#agents.values()) {
        this.#older.add(agent)
        void agent.close().finally(() => this.#older.delete(agent))
      }
      this.#agents.clear()
      this.#version = policy.version()
    }
    const port = portOf(url)
    const known = this.#agents.get(port)
    if (known) return known
    const lookup = checkedLookup(policy, () => port)
    const made = new Agent({ connections, pipelining: 1, connect: { lookup, timeout: timeoutMs } })
    this.#agents.set(port, made)
    return made
  }

  /**
   * `fetch` through the door, to one origin and nowhere else: a redirect is an error. `headers` are added at
   * the last step, and are in no request that its caller sees.
   */
  fetchTo(origin: string, headers: () => Readonly<Record<string, string>>): typeof fetch {
    const through = async (input: string | URL | Request, init: RequestInit = {}): Promise<Response> => {
      const url = new URL(input instanceof Request ? input.url : input)
      if (url.origin !== origin) throw new EgressDenied(`\`${url.origin}\` is not \`${origin}\``)
      this.check(url)
      const all = new Headers(init.headers)
      for (const [name, value] of Object.entries(headers())) all.set(name, value)
      const answer = await undiciFetch(url, {
        ...(init as object),
        headers: [...all],
        redirect: 'error',
        dispatcher: this.dispatcherFor(url),
      })
      return bounded(answer as unknown as Response)
    }
    return through as typeof fetch
  }

  async close(): Promise<void> {
    await Promise.all([...this.#agents.values(), ...this.#older].map((agent) => agent.destroy()))
  }
}

/** More than that of an answer is read by nobody. */
const MAX_ANSWER = 16 << 20

/** The same answer, whose body breaks off with an error where it is too long. */
function bounded(answer: Response): Response {
  if (!answer.body) return answer
  let size = 0
  const counting = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      size += chunk.length
      if (size > MAX_ANSWER) controller.error(new Error(`an answer of more than ${MAX_ANSWER} bytes`))
      else controller.enqueue(chunk)
    },
  })
  const { status, statusText, headers } = answer
  return new Response(answer.body.pipeThrough(counting), { status, statusText, headers })
}

function portOf(url: URL): number {
  return Number(url.port) || (url.protocol === 'https:' ? 443 : 80)
}
