/**
 * What is written within what: texts escaped in texts, base64 and hexadecimal digits in either. Every layer
 * is taken off, as deep as services nest them in practice, and looked into.
 */

const MAX_LAYERS = 4
/** Of all that is decoded of one answer; one that comes to more is held to hold anything. */
const MAX_DECODED = 24 << 20

/** Whether the pattern is found in what a text is an encoding of. Texts hold one byte a character. */
export function isWithin(text: string, pattern: RegExp): boolean {
  return new Layers(pattern).below(text, MAX_LAYERS)
}

class Layers {
  readonly #pattern: RegExp
  #left = MAX_DECODED

  constructor(pattern: RegExp) {
    this.#pattern = new RegExp(pattern.source)
  }

  below(text: string, depth: number): boolean {
    if (depth === 0) return false
    for (const inner of layersOf(text)) {
      this.#left -= inner.length
      if (this.#left < 0 || this.#pattern.test(inner) || this.below(inner, depth - 1)) return true
    }
    return false
  }
}

function* layersOf(text: string): Generator<string> {
  const plain = withoutEscapes(text)
  if (plain !== text) yield plain
  // Digits may begin at any offset: what stands before them may look like one of them.
  for (const [run] of text.matchAll(/(?:[A-Za-z0-9+/_-](?:\r?\n)?){16,}/g)) {
    const digits = run.replace(/\s/g, '')
    for (let offset = 0; offset < 4; offset++)
      yield Buffer.from(digits.slice(offset), 'base64').toString('latin1')
  }
  for (const [run] of text.matchAll(/[0-9a-fA-F]{24,}/g))
    for (const offset of [0, 1]) yield Buffer.from(evenly(run.slice(offset)), 'hex').toString('latin1')
}

function evenly(digits: string): string {
  return digits.slice(0, digits.length & ~1)
}

const NAMED: Record<string, string> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" }
const SHORT: Record<string, string> = { n: '\n', r: '\r', t: '\t', b: '\b', f: '\f' }

/** One layer of escapes of URLs, JSON, source code and HTML. */
function withoutEscapes(text: string): string {
  return text.replace(
    /%([0-9a-fA-F]{2})|\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(["'\\/nrtbf]))|&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|(amp|lt|gt|quot|apos));/g,
    (_all, percent, unicode, hex, short, decimal, hexPoint, name) => {
      if (name !== undefined) return NAMED[name] ?? ''
      if (short !== undefined) return SHORT[short] ?? short
      const byte = percent ?? hex
      if (byte !== undefined) return String.fromCharCode(Number.parseInt(byte, 16))
      const point = decimal === undefined ? Number.parseInt(unicode ?? hexPoint, 16) : Number(decimal)
      return point > 0x10ffff ? '' : Buffer.from(String.fromCodePoint(point)).toString('latin1')
    },
  )
}
