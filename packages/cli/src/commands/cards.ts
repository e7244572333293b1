/** Commands about cards. */
import { createInterface } from 'node:readline'
import { Sim } from '@cardinal/cards'
import type { Command } from 'commander'

export function addCardCommands(program: Command): void {
  const cards = program.command('cards').description('what agents may do, and may ever do')
  cards
    .command('sim')
    .description(
      'run the rules of cards over a history from stdin: one JSON object a line in, one a line out; no node is needed',
    )
    .action(sim)
}

/** Lines are answered in order, each before the next is read; an answer is never held back. */
async function sim(): Promise<void> {
  const run = new Sim()
  const out: string[] = []
  let bytes = 0
  const flush = async () => {
    const text = out.splice(0).join('')
    bytes = 0
    if (text !== '' && !process.stdout.write(text))
      await new Promise((resolve) => process.stdout.once('drain', resolve))
  }
  // Whoever stops reading has seen enough.
  process.stdout.on('error', () => process.exit(0))
  for await (const line of createInterface({ input: process.stdin, crlfDelay: Number.POSITIVE_INFINITY })) {
    if (line.trim() === '') continue
    const answer = `${run.run(line)}\n`
    out.push(answer)
    bytes += answer.length
    if (bytes > 65_536 || process.stdin.readableLength === 0) await flush()
  }
  await flush()
}
