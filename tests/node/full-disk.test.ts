/** A disk that is full: a typed error, and nothing acknowledged is lost. Needs the right to mount a small tmpfs. */
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { expect, it } from 'vitest'
import { functionTool, openTestKernel, programFile, tempFolder } from '../support/kernel.ts'

const mounted = (folder: string) =>
  spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=40m', 'none', folder]).status === 0
const worker = { name: 'worker', file: programFile('worker.ts'), now: ['{ tool: test.echo, args: "*" }'] }
const tools = [functionTool('test.echo', 'read', (args) => args)]

it('is refused for new work by name, and everything that was acknowledged is there once there is room', async (context) => {
  const disk = tempFolder()
  if (!mounted(disk)) return context.skip('no right to mount a tmpfs')
  try {
    const data = path.join(disk, 'data')
    const fatal: (Error & { code?: string })[] = []
    const options = { tools, segmentBytes: 2 << 20, onFatal: (error: Error) => void fatal.push(error) }
    let t = await openTestKernel([worker], options, data)
    const filler = path.join(disk, 'filler')
    const text = 'x'.repeat(50_000)
    let acknowledged = 0
    let refused: { code?: string; class?: string } | undefined
    fs.writeFileSync(filler, '')
    for (let i = 0; i < 2000 && !refused && fatal.length === 0; i++) {
      // Somebody else's file eats what is left, so that the log meets the end at an arbitrary place.
      if (i === 20) fillUp(filler)
      try {
        const { reply } = await Promise.race([
          t.kernel.invoke({ address: `acme/worker/w${i}`, method: 'echo', args: text }),
          failure(fatal),
        ])
        acknowledged = i + 1
        await Promise.race([reply, failure(fatal)])
      } catch (error) {
        refused = error as { code?: string }
      }
    }
    expect(refused).toMatchObject({ class: 'Unavailable', code: 'DiskFull' })
    expect(acknowledged).toBeGreaterThan(20)
    // The node closes by itself, or a failed write ended it; either way its folder, moved to a disk with room, has it all.
    if (fatal.length === 0) await t.kernel.close()
    else expect(fatal[0]?.code).toBe('DiskFull')
    const moved = tempFolder()
    fs.cpSync(data, moved, { recursive: true })
    t = await openTestKernel([], { ...options, anchors: [t.anchor] }, moved)
    for (let i = 0; i < acknowledged - 1; i++) {
      expect(await t.call(`worker/w${i}`, 'status')).toMatchObject({ ok: true, value: { turns: 1 } })
    }
    await t.close()
  } finally {
    spawnSync('umount', ['-l', disk])
    fs.rmSync(disk, { recursive: true, force: true })
  }
})

function fillUp(file: string): void {
  const chunk = Buffer.alloc(1 << 16)
  try {
    for (;;) fs.appendFileSync(file, chunk)
  } catch (error) {
    expect((error as NodeJS.ErrnoException).code).toBe('ENOSPC')
  }
}

function failure(fatal: readonly Error[]): Promise<never> {
  return new Promise((_, reject) => {
    const look = setInterval(() => {
      if (fatal.length === 0) return
      clearInterval(look)
      reject(fatal[0])
    }, 5)
  })
}
