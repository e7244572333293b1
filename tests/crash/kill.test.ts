/** Kill −9, small; the full sweep is `npm run soak`. */
import fs from 'node:fs'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { tempFolder } from '../support/kernel.ts'
import { newSeed } from '../support/seed.ts'
import { killSweep } from './kill-sweep.ts'
import { payer, startBank, startNode } from './processes.ts'

describe('a node that is killed', () => {
  it('loses no acknowledged invocation and pays nothing twice', { timeout: 300_000 }, async () => {
    const seed = newSeed()
    const result = await killSweep({ seed, kills: 12, agents: 20, payments: 10 })
    expect(result.problems, `SEED=${seed}`).toEqual([])
    expect(result.kills).toBe(12)
    expect(result.payments).toBe(200)
  })

  it('leaves at most two payments in doubt of 50 unkeyed ones queued over two connections, and does the rest once', {
    timeout: 120_000,
  }, async () => {
    const folder = tempFolder()
    const bank = await startBank(folder)
    const base = {
      data: path.join(folder, 'data'),
      anchor: path.join(folder, 'anchor'),
      bankPort: bank.port,
      program: payer,
      keyed: false,
      connections: 2,
    }
    try {
      await bank.set({ afterMs: 60 })
      const first = startNode(base)
      await first.ready
      const { acked } = await first.ask({ op: 'payAll', agent: 'a', n: 50 })
      while ((await bank.payments()).length < 11) await new Promise((resolve) => setTimeout(resolve, 5))
      first.kill()
      await first.exited
      await bank.set({})
      const second = startNode(base)
      await second.ready
      const { reply } = (await second.ask({ op: 'wait', id: acked as string })) as {
        reply: { ok: boolean; value: { subject: string; doubt?: string; id?: string }[] }
      }
      expect(reply.ok).toBe(true)
      const doubts = reply.value.filter((p) => p.doubt)
      expect(doubts.length).toBeGreaterThan(0)
      expect(doubts.length).toBeLessThanOrEqual(2)
      const booked = (await bank.payments()).map((p) => p.body.subject)
      expect(new Set(booked).size).toBe(booked.length)
      const sure = reply.value.filter((p) => p.id).map((p) => p.subject)
      expect(sure.length).toBe(50 - doubts.length)
      for (const subject of sure) expect(booked).toContain(subject)
      const listed = (await second.ask({ op: 'doubts' })) as { doubts: unknown[] }
      expect(listed.doubts.length).toBe(doubts.length)
      await second.stop()
    } finally {
      await bank.stop()
      fs.rmSync(folder, { recursive: true, force: true })
    }
  })
})
