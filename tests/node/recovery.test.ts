/** What a restart finds, and what it must never do twice. */
import fs from 'node:fs'
import path from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import {
  applyPrograms,
  crashCopy,
  functionTool,
  openTestKernel,
  programFile,
  type TestKernel,
} from '../support/kernel.ts'

const worker = {
  name: 'worker',
  file: programFile('worker.ts'),
  now: ['{ tool: test.echo, args: "*" }', '{ tool: test.pay, args: "*" }'],
}
const echo = functionTool('test.echo', 'read', (args) => args)

let open: TestKernel | undefined
afterEach(async () => {
  await open?.close()
  open = undefined
})

function effectsOf(t: TestKernel, agent: string): Promise<unknown[]> {
  return t.kernel.view
    .history(agent, { limit: 10_000 })
    .then((lines) => lines.flatMap((l) => (l.effects ?? []).map((e) => [e.tool, e.args])))
}

describe('after a restart', () => {
  it('an agent is as it was, and its replay reproduces every turn', async () => {
    open = await openTestKernel([worker], { tools: [echo] })
    for (let i = 0; i < 20; i++) await open.call('worker/a', 'echo', { i })
    open = await open.reopen()
    expect(await open.call('worker/a', 'status')).toMatchObject({ ok: true, value: { turns: 20, seen: 20 } })
    expect((await open.kernel.replay('acme/worker/a')).turns).toBe(41)
  })

  it('deleting everything but log, keys and images gives the same node', async () => {
    open = await openTestKernel([worker], { tools: [echo] })
    const done = await open.kernel.invoke({
      address: 'acme/worker/a',
      method: 'echo',
      args: 5,
      idempotencyKey: 'k',
    })
    await done.reply
    await open.kernel.close()
    for (const name of fs.readdirSync(open.data)) {
      if (!['log', 'keys', 'images', 'head'].includes(name))
        fs.rmSync(path.join(open.data, name), { recursive: true })
    }
    open = await openTestKernel([], { tools: [echo] }, open.data)
    expect(await open.call('worker/a', 'status')).toMatchObject({ ok: true, value: { turns: 1 } })
    expect((await open.kernel.result(done.id)).reply).toEqual({ ok: true, value: 1 })
    const again = await open.kernel.invoke({
      address: 'acme/worker/a',
      method: 'echo',
      args: 5,
      idempotencyKey: 'k',
    })
    expect(again.id).toBe(done.id)
  })

  it('two runs of the same inputs, and a run that suspends after every turn, ask for byte-identical effects', async () => {
    const runs: string[] = []
    for (const options of [{}, {}, { idleMs: 0 }]) {
      const t = await openTestKernel([worker], { tools: [echo], ...options })
      for (let i = 0; i < 10; i++) {
        await t.call('worker/a', 'steps', { n: 3 })
        if ('idleMs' in options) while (t.kernel.stats().live > 0) await new Promise((r) => setTimeout(r, 2))
      }
      runs.push(JSON.stringify(await effectsOf(t, 'acme/worker/a')))
      await t.kernel.replay('acme/worker/a')
      await t.close()
    }
    expect(runs[0]?.length).toBeGreaterThan(100)
    expect(runs[1]).toBe(runs[0])
    expect(runs[2]).toBe(runs[0])
  })

  it('a wait goes on, and a timer that came due meanwhile fires', async () => {
    open = await openTestKernel([worker], { tools: [echo] })
    const nap = await open.kernel.invoke({ address: 'acme/worker/a', method: 'slow', args: { ms: 300 } })
    nap.reply.catch(() => {})
    await new Promise((resolve) => setTimeout(resolve, 50))
    open = await open.reopen()
    const result = await open.kernel.result(nap.id)
    expect(await (result.reply ?? result.pending)).toEqual({ ok: true, value: 'done' })
  })

  it('an invocation of an agent that sleeps ends at its deadline', async () => {
    open = await openTestKernel([{ ...worker, spec: '  timeout: 1500ms\n  idle: 0s\n' }], { tools: [echo] })
    const held = await open.kernel.invoke({ address: 'acme/worker/a', method: 'hold' })
    while (open.kernel.stats().live > 0) await new Promise((resolve) => setTimeout(resolve, 10))
    expect(await held.reply).toMatchObject({ ok: false, error: { class: 'TimedOut' } })
  })

  it('a diverging agent is quarantined with a readable diff, and the others go on', async () => {
    let marker = 'first'
    const tool = functionTool('test.echo', 'read', () => ({ value: marker }))
    open = await openTestKernel([worker], { tools: [tool] })
    await open.call('worker/bad', 'echo', 1)
    await open.call('worker/good', 'echo', 1)
    await open.kernel.close()
    // Another image under the same hash is what a wrong upgrade would be: the record no longer fits.
    const { layout } = await import('@cardinal/kernel')
    const Database = (await import('better-sqlite3')).default
    const db = new Database(layout(open.data).derived)
    db.prepare('attach ? as saves').run(layout(open.data).saves)
    db.prepare(
      "delete from snapshots where birth = (select birth from agents where address = 'acme/worker/bad')",
    ).run()
    const other = await openTestKernel([{ ...worker, name: 'other', file: programFile('hostile.ts') }], {
      tools: [tool],
    })
    const image =
      (await other.kernel.view.agents({})) &&
      fs
        .readdirSync(layout(other.data).images)
        .find((f) => f.endsWith('.map'))
        ?.replace('.map', '.img')
    fs.copyFileSync(
      path.join(layout(other.data).images, image as string),
      path.join(layout(open.data).images, image as string),
    )
    db.prepare("update agents set image = ? where address = 'acme/worker/bad'").run(
      (image as string).replace('.img', ''),
    )
    db.close()
    await other.close()
    marker = 'second'
    open = await openTestKernel([], { tools: [tool] }, open.data)
    await expect(open.call('worker/bad', 'status')).rejects.toMatchObject({ class: 'Diverged' })
    await expect(open.call('worker/bad', 'status')).rejects.toThrow(/quarantined/)
    const lines = await open.kernel.view.history('acme/worker/bad')
    expect(lines.at(-1)).toMatchObject({ kind: 'quarantined' })
    expect(lines.at(-1)?.text).toMatch(/expected .*\n\s+got /)
    expect(await open.call('worker/good', 'status')).toMatchObject({ ok: true, value: { turns: 1 } })
  })

  it('one agent’s key destroyed leaves nothing of it readable in any file, and the log verifies', async () => {
    const { verifyLog } = await import('@cardinal/oplog')
    open = await openTestKernel([worker], { tools: [echo] })
    const secret = 'XK-7351-canary'
    await open.call('worker/gone', 'echo', secret)
    await open.call('worker/kept', 'echo', 'other')
    await open.kernel.suspend('acme/worker/gone')
    await open.kernel.erase('acme/worker/gone')
    await expect(open.kernel.view.history('acme/worker/gone')).rejects.toMatchObject({ code: 'KeyDestroyed' })
    await expect(open.call('worker/gone', 'status')).rejects.toMatchObject({ code: 'KeyDestroyed' })
    expect(await open.call('worker/kept', 'status')).toMatchObject({ ok: true })
    const key = open.kernel.publicKey
    open = await open.reopen()
    expect(verifyLog(open.data, { publicKey: key })).toMatchObject({ ok: true, pinned: true })
    const files = fs
      .readdirSync(open.data, { recursive: true, withFileTypes: true })
      .filter((f) => f.isFile())
    for (const file of files)
      expect(fs.readFileSync(path.join(file.parentPath, file.name)).includes(secret)).toBe(false)
    expect(files.length).toBeGreaterThan(5)
  })
})

describe('an effect that was out when the node died', () => {
  let t: TestKernel
  let after: TestKernel | undefined
  let free: () => void
  afterEach(async () => {
    free()
    await after?.close()
    await t.close()
    after = undefined
  })

  /** Starts one call of `method` whose tool does not answer, and resolves once it is out. */
  async function out(cls: 'read' | 'idempotent', method: string, args: unknown): Promise<string> {
    let sent = 0
    const gate = new Promise<void>((resolve) => {
      free = resolve
    })
    const hang = async () => {
      sent++
      await gate
    }
    t = await openTestKernel([worker], {
      tools: [functionTool('test.pay', cls, hang), functionTool('test.echo', cls, hang)],
    })
    const { id } = await t.kernel.invoke({ address: 'acme/worker/a', method, args })
    while (sent === 0) await new Promise((resolve) => setTimeout(resolve, 5))
    return id
  }

  async function resultAfterCrash(id: string, tool: ReturnType<typeof functionTool>): Promise<unknown> {
    after = await crashCopy(t, { tools: [tool] })
    const found = await after.kernel.result(id)
    return found.reply ?? (await found.pending)
  }

  it('is repeated with its key where the card still allows it', async () => {
    const id = await out('idempotent', 'pay', { to: 'x' })
    const paid: unknown[] = []
    const pay = functionTool('test.pay', 'idempotent', (args) => paid.push(args.to))
    expect(await resultAfterCrash(id, pay)).toEqual({ ok: true, value: 1 })
    expect(paid).toEqual(['x'])
  })

  it('is not repeated, and in doubt, where an apply took the grant away meanwhile', async () => {
    const id = await out('idempotent', 'pay', { to: 'x' })
    await applyPrograms(t.kernel, [{ ...worker, now: ['{ tool: test.echo, args: "*" }'] }])
    const paid: unknown[] = []
    const pay = functionTool('test.pay', 'idempotent', (args) => paid.push(args.to))
    expect(await resultAfterCrash(id, pay)).toMatchObject({
      ok: false,
      error: { class: 'Indeterminate', effect: expect.stringMatching(/^acme\/worker\/a@/) },
    })
    expect(paid).toEqual([])
    expect(after?.kernel.view.effectsInDoubt()).toHaveLength(1)
  })

  it('is begun again if it only reads, unless it was cancelled before the crash', async () => {
    for (const cancelled of [false, true]) {
      const id = await out('read', 'echo', 1)
      if (cancelled) {
        await t.kernel.cancel(id, 'not needed')
        while (t.kernel.busy() && !(await dropped(t))) await new Promise((resolve) => setTimeout(resolve, 5))
      }
      let reads = 0
      const echo = functionTool('test.echo', 'read', () => ++reads)
      const result = await resultAfterCrash(id, echo)
      expect(result).toMatchObject(
        cancelled ? { ok: false, error: { class: 'Cancelled' } } : { ok: true, value: 1 },
      )
      await new Promise((resolve) => setTimeout(resolve, 50))
      expect(reads).toBe(cancelled ? 0 : 1)
      free()
      await after?.close()
      await t.close()
    }
    t = await openTestKernel([])
    after = undefined
  })
})

/** Whether the turn that told the guest of its cancel is on record. */
async function dropped(t: TestKernel): Promise<boolean> {
  const lines = await t.kernel.view.history('acme/worker/a')
  const cancel = lines.findIndex((l) => l.text.startsWith('cancelled'))
  return cancel >= 0 && lines.slice(cancel).some((l) => l.kind === 'turn')
}

describe('a folder that was tampered with', () => {
  it('put back as it was yesterday is refused, and accepted only by position', async () => {
    open = await openTestKernel([worker], { tools: [echo] })
    await open.call('worker/a', 'echo', 1)
    await open.kernel.close()
    const yesterday = `${open.data}-yesterday`
    fs.cpSync(open.data, yesterday, { recursive: true })
    open = await openTestKernel([], { tools: [echo] }, open.data)
    await open.call('worker/a', 'echo', 2)
    await open.kernel.close()
    fs.rmSync(open.data, { recursive: true })
    fs.renameSync(yesterday, open.data)
    const error = await openTestKernel([], { tools: [echo] }, open.data).then(
      () => undefined,
      (e: Error & { code?: string }) => e,
    )
    expect(error?.code).toBe('LogShort')
    const position = /the log ends at position (\d+)/.exec(error?.message ?? '')?.[1]
    await expect(
      openTestKernel([], { tools: [echo], acceptLoss: Number(position) - 1 }, open.data),
    ).rejects.toMatchObject({ code: 'LogShort' })
    open = await openTestKernel([], { tools: [echo], acceptLoss: Number(position) }, open.data)
    expect(await open.call('worker/a', 'status')).toMatchObject({ ok: true, value: { turns: 1 } })
  })

  it('is opened by one kernel at a time', async () => {
    open = await openTestKernel([worker], { tools: [echo] })
    await expect(openTestKernel([], {}, open.data)).rejects.toMatchObject({
      class: 'Conflict',
      code: 'FolderInUse',
    })
    expect(await open.call('worker/a', 'echo', 1)).toMatchObject({ ok: true })
  })
})
