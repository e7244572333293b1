/** Tells what it finds, name by name. */
import { Agent } from '@cardinal/sdk'

export default class Globals extends Agent {
  static methods = { has: {}, works: {}, locales: {}, hashes: {}, parts: {}, post: {} }

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
    return {
      href: url.href,
      y: url.searchParams.get('y'),
      text,
      cloned: cloned.get('d')?.getTime(),
      aborted: [controller.signal.aborted, heard],
      header: new Headers({ 'X-A': '1' }).get('x-a'),
      bytes: crypto.getRandomValues(new Uint8Array(4)).length,
    }
  }

  locales({ locale }: { locale: string }) {
    const at = new Date(Date.UTC(2026, 10, 21, 14, 5, 9))
    return {
      number: (1234567.891).toLocaleString(locale),
      money: new Intl.NumberFormat(locale, { style: 'currency', currency: 'EUR' }).format(-1234.5),
      date: at.toLocaleDateString(locale),
      time: at.toLocaleTimeString(locale),
      zoned: at.toLocaleString(locale, {
        weekday: 'long',
        day: 'numeric',
        month: 'long',
        timeZone: 'Europe/Berlin',
      }),
      clock: at.toLocaleTimeString(locale, {
        hour: '2-digit',
        minute: '2-digit',
        timeZone: 'America/New_York',
      }),
      one: new Intl.PluralRules(locale).select(1),
    }
  }

  async hashes({ text }: { text: string }) {
    const bytes = new TextEncoder().encode(text)
    const hex = (buffer: ArrayBuffer) =>
      Array.from(new Uint8Array(buffer), (b) => b.toString(16).padStart(2, '0')).join('')
    const key = await crypto.subtle.importKey('raw', bytes, { name: 'HMAC', hash: 'SHA-256' }, false, [
      'sign',
      'verify',
    ])
    const signed = await crypto.subtle.sign('HMAC', key, bytes)
    const names = ['SHA-1', 'SHA-256', 'SHA-384', 'SHA-512']
    return {
      digests: await Promise.all(names.map(async (name) => hex(await crypto.subtle.digest(name, bytes)))),
      hmac: hex(signed),
      right: await crypto.subtle.verify('HMAC', key, signed, bytes),
      wrong: await crypto.subtle.verify('HMAC', key, signed, new Uint8Array(3)),
      aes: await crypto.subtle.generateKey({ name: 'AES-GCM', length: 256 }, true, ['encrypt']).then(
        () => 'made',
        (e) => e.name,
      ),
    }
  }

  async parts() {
    const form = new FormData()
    form.append('note', 'grüß')
    form.append('file', new File(['a,b'], 'x.csv', { type: 'text/csv' }))
    const file = form.get('file') as File
    return { names: [...form.keys()], file: [file.name, file.size, file.type, await file.text()] }
  }

  async post({ url }: { url: string }) {
    const form = new FormData()
    form.append('note', 'grüß')
    const blob = new Blob(['{"a":1}'], { type: 'application/json' })
    const sent = await Promise.all([form, blob].map((body) => fetch(url, { method: 'POST', body })))
    return {
      statuses: sent.map((r) => r.status),
      size: (await (sent[0] as Response).blob()).size,
      bytes: (await (sent[1] as Response).arrayBuffer()).byteLength,
    }
  }
}
