/** Tells what it finds, name by name. */
import { Agent } from '@cardinal/sdk'

export default class Globals extends Agent {
  static methods = { has: {}, works: {} }

  has({ names }: { names: string[] }) {
    const at = (path: string) =>
      path.split('.').reduce<unknown>((o, k) => (o as Record<string, unknown> | undefined)?.[k], globalThis)
    return names.map((name) => typeof at(name) !== 'undefined')
  }

  works() {
    const url = new URL('../b?x=1&y=%20', 'https://a.example/c/d/')
    const text = new TextDecoder().decode(new TextEncoder().encode('häßlich 😀'))
    const cloned = structuredClone(new Map([['d', new Date(5)]]))
    const controller = new AbortController()
    let heard = 0
    controller.signal.addEventListener('abort', () => heard++)
    controller.abort()
    let locale = 'none'
    try {
      locale = (1234.5).toLocaleString('de-DE')
    } catch (e) {
      locale = (e as Error).name
    }
    return {
      href: url.href,
      y: url.searchParams.get('y'),
      text,
      cloned: cloned.get('d')?.getTime(),
      aborted: [controller.signal.aborted, heard],
      header: new Headers({ 'X-A': '1' }).get('x-a'),
      locale,
      bytes: crypto.getRandomValues(new Uint8Array(4)).length,
    }
  }
}
