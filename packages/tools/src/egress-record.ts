/** What is on record of a program's requests: where they went, and nothing of the secret that it was given. */
import { hash } from 'node:crypto'
import type { Request } from '@cardinal/cards'
import type { Masker } from '@cardinal/secrets'
import type { NoteEgress } from './egress-way.ts'

/** Longer ones are cut, and named by their digest. */
const MAX_PATH = 1024
const MAX_NAMES = 32
const MAX_NAME = 64

/**
 * Notes requests without their query's values, and with whatever looks like the secret taken out: a program may
 * write it anywhere, and refused requests are on record, too.
 */
export function withoutSecret(note: NoteEgress, masker: Masker | undefined): NoteEgress {
  const clean = (text: string) => masker?.maskText(text) ?? text
  return ({ host = [], path = [], args, ...request }: Request, verdict) => {
    const names = [...args.keys()].slice(0, MAX_NAMES).map((name) => clean(name).slice(0, MAX_NAME))
    return note(
      {
        ...request,
        host: clean([...host].reverse().join('.'))
          .split('.')
          .reverse(),
        path: shortened(clean(path.join('/'))).split('/'),
        args: new Map(names.map((name) => [name, ''])),
      },
      verdict,
    )
  }
}

function shortened(path: string): string {
  if (path.length <= MAX_PATH) return path
  return `${path.slice(0, MAX_PATH)}~${hash('sha256', path).slice(0, 16)}`
}
