/** A model as a manifest declares it, and what a call of it may cost. */

export const PROVIDERS = [
  'openai',
  'anthropic',
  'google',
  'vertex',
  'bedrock',
  'openrouter',
  'ollama',
  'compatible',
  'scripted',
] as const

export interface ModelDeclaration {
  /** As agents and cards call it; its sink is `model:NAME`. */
  readonly name: string
  readonly provider: (typeof PROVIDERS)[number]
  /** As the provider calls it. */
  readonly model: string
  /** Where the provider answers; each has a place of its own, if it is left out. */
  readonly url?: string | undefined
  /** Of Bedrock. */
  readonly region?: string | undefined
  readonly secret?: { readonly ref: string } | undefined
  /** The most that it may write in one answer. */
  readonly maxTokens: number
  /** Exact decimals for a million tokens. */
  readonly price?: Readonly<Record<string, { readonly input: string; readonly output: string }>> | undefined
  readonly yields?: readonly string[] | undefined
  readonly timeoutMs: number
}

const SCALE = 12n
const MILLION = 1_000_000n

/** What so many tokens cost, in exact decimals, rounded up in the twelfth digit. */
export function costOf(
  price: ModelDeclaration['price'],
  input: number,
  output: number,
): Readonly<Record<string, string>> | undefined {
  if (!price) return undefined
  return Object.fromEntries(
    Object.entries(price).map(([currency, each]) => {
      const millionths = scaled(each.input) * BigInt(input) + scaled(each.output) * BigInt(output)
      return [currency, shown((millionths + MILLION - 1n) / MILLION)]
    }),
  )
}

function scaled(text: string): bigint {
  const [whole = '0', part = ''] = text.split('.')
  return BigInt(whole + part.slice(0, Number(SCALE)).padEnd(Number(SCALE), '0'))
}

function shown(amount: bigint): string {
  const digits = amount.toString().padStart(Number(SCALE) + 1, '0')
  const at = digits.length - Number(SCALE)
  return `${digits.slice(0, at)}.${digits.slice(at)}`.replace(/\.?0+$/, '')
}
