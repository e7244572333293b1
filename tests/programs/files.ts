/** Does with files what it is told, by the names that Node's module has. */

import { Buffer } from 'node:buffer'
import fs from 'node:fs'
import promises from 'node:fs/promises'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { Agent, sleep } from '@cardinal/sdk'

type Step = readonly [string, ...unknown[]]

const kept = new Map<string, number>()

export default class Files extends Agent {
  static methods = {
    do: {},
    promises: {},
    callback: {},
    held: {},
    paths: {},
    streams: {},
    across: {},
    sql: {},
  }

  /** Past `node:fs`. */
  sql({ sql }: { sql: string }) {
    new DatabaseSync('home.db').exec(sql)
  }

  do({ steps }: { steps: Step[] }) {
    return steps.map(([name, ...args]) =>
      act(() => (fs as unknown as Record<string, (...a: unknown[]) => unknown>)[name]?.(...args.map(decode))),
    )
  }

  async promises() {
    await promises.mkdir('/p/q', { recursive: true })
    await promises.writeFile('/p/q/a.txt', 'eins')
    await promises.appendFile('/p/q/a.txt', ' zwei')
    const handle = await promises.open('/p/q/a.txt', 'r+')
    await handle.write('EINS', 0)
    const { size } = await handle.stat()
    await handle.close()
    const failed = await promises.readFile('/p/none').catch((error: { code: string }) => error.code)
    return {
      text: await promises.readFile('/p/q/a.txt', 'utf8'),
      size,
      failed,
      names: await promises.readdir('/p', { recursive: true }),
    }
  }

  /** Through a transform into another file, in chunks; then parts, by events, and what is not there. */
  async streams() {
    fs.writeFileSync('/s.txt', 'abc'.repeat(60_000))
    const upper = new Transform({
      transform(chunk: Uint8Array, _encoding, done) {
        done(null, Buffer.from(chunk).toString().toUpperCase())
      },
    })
    await pipeline(fs.createReadStream('/s.txt'), upper, fs.createWriteStream('/S.txt'))
    const sizes: number[] = []
    for await (const chunk of fs.createReadStream('/S.txt')) sizes.push((chunk as Uint8Array).length)
    let part = ''
    for await (const text of fs.createReadStream('/S.txt', { encoding: 'utf8', start: 1, end: 5 }))
      part += text
    const append = fs.createWriteStream('/S.txt', { flags: 'a' })
    append.write('+1')
    await new Promise((resolve) => append.end('+2', () => resolve(null)))
    const failed = await new Promise((resolve) =>
      fs.createReadStream('/none').on('error', (error: NodeJS.ErrnoException) => resolve(error.code)),
    )
    const { size } = fs.statSync('/S.txt')
    return {
      whole: sizes.reduce((sum, n) => sum + n),
      pieces: sizes.length > 1,
      part,
      size,
      tail: fs.readFileSync('/S.txt', 'utf8').slice(-6),
      failed,
      written: append.bytesWritten,
    }
  }

  /** A stream that is read a piece at a time, with waits between. */
  async across() {
    fs.writeFileSync('/t.txt', 'x'.repeat(150_000))
    const sizes: number[] = []
    for await (const chunk of fs.createReadStream('/t.txt')) {
      sizes.push((chunk as Uint8Array).length)
      await sleep('1ms')
    }
    return { whole: sizes.reduce((sum, n) => sum + n), pieces: sizes.length > 1 }
  }

  callback() {
    return new Promise((resolve) =>
      fs.writeFile('/cb.txt', 'x', () =>
        fs.readFile('/cb.txt', 'utf8', (_: unknown, text: string) => resolve(text)),
      ),
    )
  }

  /** A descriptor that is open over a wait, and a file that loses its name meanwhile. */
  async held() {
    fs.writeFileSync('/held.txt', 'abcdef')
    const fd = fs.openSync('/held.txt', 'r+')
    kept.set('fd', fd)
    const two = Buffer.alloc(2)
    fs.readSync(fd, two)
    await sleep('1ms')
    fs.unlinkSync('/held.txt')
    fs.readSync(fd, two)
    fs.writeSync(fd, 'XY')
    const whole = Buffer.alloc(6)
    fs.readSync(fd, whole, 0, 6, 0)
    fs.closeSync(fd)
    return {
      two: two.toString(),
      whole: whole.toString(),
      there: fs.existsSync('/held.txt'),
      closed: act(() => fs.fstatSync(fd)),
    }
  }

  paths() {
    return [
      path.join('a', '../b'),
      path.resolve('x'),
      path.extname('a.tar.gz'),
      path.basename('/q/w.txt', '.txt'),
    ]
  }
}

function act(call: () => unknown): unknown {
  try {
    return { ok: encode(call()) }
  } catch (error) {
    const { message, code, syscall } = error as Error & { code?: string; syscall?: string }
    return { error: { message, code, ...(syscall !== undefined && { syscall }) } }
  }
}

function decode(value: unknown): unknown {
  if (typeof value === 'object' && value !== null && '$b' in value)
    return Buffer.from((value as { $b: number[] }).$b)
  return value
}

function encode(value: unknown): unknown {
  if (value instanceof Uint8Array) return { $b: [...value] }
  if (value instanceof fs.Stats) return { file: value.isFile(), size: value.size }
  if (value === undefined) return null
  if (Array.isArray(value))
    return value.map((item) =>
      typeof item === 'object' ? `${item.parentPath}|${item.name}|${item.isDirectory()}` : item,
    )
  return value
}
