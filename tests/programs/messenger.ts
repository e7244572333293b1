import { Agent, CardinalError, secret, tool } from '@cardinal/sdk'

interface Message {
  readonly url: string
  readonly method?: string
  readonly text?: string
  readonly headers?: Record<string, string>
  /** Which handle is the value of which header. */
  readonly headerSecrets?: Record<string, string>
  /** Which handle stands in which slot. */
  readonly slots?: Record<string, string>
  readonly redirect?: 'follow' | 'manual'
}

/** Sends what it is told to, with secrets that it knows by name only, and keeps all that it is answered. */
export default class Messenger extends Agent {
  static methods = { send: {}, print: {}, use: {}, misuse: {}, dump: {} }
  seen: unknown[] = []

  async send({ url, method, text, headers, headerSecrets, slots, redirect }: Message) {
    try {
      const named = Object.entries(headerSecrets ?? {}).map(([name, handle]) => [name, secret(handle)])
      const given = Object.entries(slots ?? {}).map(([slot, handle]) => [slot, secret(handle)])
      const response = await fetch(url, {
        method: method ?? 'GET',
        headers: { ...headers, ...Object.fromEntries(named) },
        secrets: Object.fromEntries(given),
        ...(text !== undefined && { body: text }),
        ...(redirect && { redirect }),
      })
      const answer = { status: response.status, headers: [...response.headers], text: await response.text() }
      this.seen.push(answer)
      return { ok: true, ...answer }
    } catch (error) {
      this.seen.push(String((error as Error).stack))
      return failure(error)
    }
  }

  /** Everything that it was ever told. */
  dump() {
    console.log(this.seen)
    return this.seen
  }

  /** All that a program can make of a handle. */
  print({ handle }: { handle: string }) {
    const it = secret(handle) as unknown as object
    const shown = [String(it), JSON.stringify(it), `${it}`, JSON.stringify({ ...it }), Object.keys(it).join()]
    console.log(it, shown)
    return shown
  }

  async use({ name, args }: { name: string; args: unknown }) {
    try {
      const value = await tool(name as never, args as never)
      this.seen.push(value)
      return { ok: true, value }
    } catch (error) {
      this.seen.push(String((error as Error).stack))
      return failure(error)
    }
  }

  /** A handle where the standard shapes make a text of it. */
  async misuse({ url, handle }: { url: string; handle: string }) {
    const headers = new Headers()
    headers.set('authorization', secret(handle))
    try {
      await fetch(url, { headers })
      return 'sent'
    } catch (error) {
      return (error as Error).message
    }
  }
}

function failure(error: unknown) {
  if (!(error instanceof CardinalError)) throw error
  const { by, missing } = error as { by?: string; missing?: unknown }
  return {
    ok: false,
    name: error.name,
    code: error.code,
    message: error.message,
    ...(by !== undefined && { by }),
    ...(missing !== undefined && { missing }),
  }
}
