/** Row 14: entries of agents drawn at random, appended to a log of their own and durable one by one. */
import path from 'node:path'
import { KeySlots, Log, NO_POS, openNodeKey, type Tip, ZERO_HASH } from '@cardinal/oplog'

export interface Appender {
  /** Appends one of about 400 B: header, chain, encrypted payload; resolves when it is durable. */
  append(): Promise<void>
  close(): Promise<void>
}

export function openAppender(folder: string, agents: number): Appender {
  const nodeKey = openNodeKey(path.join(folder, 'keys'))
  const keySlots = new KeySlots(path.join(folder, 'keys'), nodeKey)
  const key = keySlots.create()
  const log = Log.open({
    folder: path.join(folder, 'log'),
    nodeKey,
    keySlots,
    anchors: [],
    now: Date.now,
    onFatal: (e) => {
      throw e
    },
    segmentBytes: 64 << 20,
  })
  const tips = new Map<number, Tip>()
  const payload = Buffer.alloc(220, 7)
  const meta = JSON.stringify({ inputs: ['1'], basis: 1 })
  return {
    async append() {
      const n = Math.floor(Math.random() * agents)
      const agent = Buffer.alloc(16)
      agent.writeUInt32LE(n)
      const tip = log.append({
        agent,
        tip: tips.get(n) ?? { pos: NO_POS, seq: 0 as Tip['seq'], hash: ZERO_HASH },
        kind: 'turn',
        timeMs: Date.now(),
        meta,
        payloads: [payload],
        key,
      })
      tips.set(n, tip)
      await log.untilDurable(tip.pos)
    },
    async close() {
      await log.close()
      keySlots.close()
    },
  }
}
