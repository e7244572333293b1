/** People who approve: who may, what, and what is refused to them. */
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import { serveApi } from '@cardinal/kernel'
import { parseManifests } from '@cardinal/manifests'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { commandLine } from '../support/command.ts'
import { crashCopy, functionTool, openTestKernel, programFile, type TestKernel } from '../support/kernel.ts'

let t: TestKernel
let paid: { amount: number }[] = []
const tools = [
  functionTool('bank.pay', 'once', (args) => ({ id: paid.push(args as { amount: number }) })),
  functionTool('bank.look', 'read', () => 'rows'),
]
const boss = {
  name: 'boss',
  file: programFile('boss.ts'),
  limits: '{ depth: 3 }',
  now: [
    '{ tool: bank.pay, args: "*", ask: [approver] }',
    '{ tool: bank.look, args: "*" }',
    '{ tool: agent.*, resource: "*", method: "*" }',
  ],
}
/** Whose card allows payments of 100 at most. */
const desk = {
  name: 'desk',
  file: programFile('boss.ts'),
  now: ['{ tool: bank.pay, args: { amount: { max: 100 } }, ask: [] }'],
}

async function apply(text: string): Promise<void> {
  const options = { isRange: () => true, defaultsOf: t.kernel.defaultsOf }
  await t.kernel.apply(parseManifests(text, 'm.yaml', options), new Map())
}

async function cardOf(agent: string): Promise<string> {
  await t.call(agent, 'held', null)
  const [card] = t.kernel.cards.list({ agent: `acme/${agent}` }) as { id: string }[]
  return card?.id as string
}

/** Declares somebody, who approves payments up to 100 as `approver` if nothing else is said. */
async function person(name: string, roles = ['approver'], card?: string): Promise<Person> {
  const of = { tenant: 'acme', name, roles, card: card ?? (await cardOf('desk/d')) }
  const { token } = await t.kernel.people.add(of, 'operator')
  return { card: of.card, token }
}

interface Person {
  readonly card: string
  token: string
}

/** As whom the node knows somebody who shows this token. */
function known({ token }: Person) {
  const found = t.kernel.people.authenticate(token)
  if (!found) throw new Error('nobody has this token')
  return found
}

/** Begins a payment in somebody's name, and waits until it asks. */
async function pay(amount: number, principal = 'operator', agent = 'boss/ann') {
  const before = (await t.kernel.approvals.list()).length
  const args = { name: 'bank.pay', args: { amount } }
  const { reply } = await t.kernel.invoke({ address: `acme/${agent}`, method: 'tool', args, principal })
  await expect.poll(async () => (await t.kernel.approvals.list()).length).toBe(before + 1)
  const approval = (await t.kernel.approvals.list()).at(-1)
  if (!approval) throw new Error('nothing asks')
  return { reply, approval, approve: approver(approval) }
}

function approver({ id, digest }: { readonly id: string; readonly digest: string }) {
  return (by: Person | string, role?: string) =>
    t.kernel.approvals.approve(id, digest, role, typeof by === 'string' ? by : known(by))
}

beforeEach(async () => {
  paid = []
  t = await openTestKernel([boss, desk], { tools })
})
afterEach(async () => {
  expect((await t.kernel.audit()).mismatches).toEqual([])
  await t.close()
})

describe('somebody who approves', () => {
  it('may approve what somebody else asked for, and is on record', async () => {
    const ann = await person('ann')
    const { reply, approve, approval } = await pay(5)
    expect(await approve(ann)).toMatchObject({ state: 'approved', approved: ['approver'] })
    expect(await reply).toMatchObject({ ok: true, value: { ok: { id: 1 } } })
    const receipt = await t.kernel.receipts.of(approval.effect, false)
    expect(JSON.stringify(receipt)).not.toContain(ann.token)
    const why = await t.kernel.view.why(approval.effect)
    expect(JSON.stringify(why)).toContain('"by":"person.ann"')
  })

  it('may not approve what was asked for in their own name, through however many agents', async () => {
    const [ann, bob] = [await person('ann'), await person('bob')]
    const own = await pay(5, 'person.ann')
    await expect(own.approve(ann)).rejects.toMatchObject({ class: 'Refused', code: 'OwnRequest' })
    expect(paid).toEqual([])
    await own.approve(bob)
    await own.reply
    // As a client of the Model Context Protocol under the same name.
    const client = await pay(6, 'mcp.ann.0123456789ab')
    await expect(client.approve(ann)).rejects.toMatchObject({ code: 'OwnRequest' })
    await client.approve(bob)
    await client.reply
    // Through another agent, and asleep since.
    const call = { to: 'boss/second', method: 'tool', args: { name: 'bank.pay', args: { amount: 7 } } }
    const { id } = await t.kernel.invoke({
      address: 'acme/boss/first',
      method: 'call',
      args: call,
      principal: 'person.ann',
    })
    await expect.poll(async () => (await t.kernel.approvals.list()).length).toBe(1)
    const old = t
    t = await crashCopy(t, { tools })
    await old.close()
    const [through] = await t.kernel.approvals.list()
    const approve = approver(through as { id: string; digest: string })
    expect(through?.effect).toContain('boss/second')
    await expect(approve(ann)).rejects.toMatchObject({ code: 'OwnRequest' })
    await approve(bob)
    await expect.poll(async () => (await t.kernel.result(id)).state).toBe('done')
    expect(paid.map(({ amount }) => amount)).toEqual([5, 6, 7])
  })

  it('may approve what their own card allows, and no more', async () => {
    const ann = await person('ann')
    const more = await pay(101)
    await expect(more.approve(ann)).rejects.toMatchObject({ class: 'Refused', code: 'BeyondApprover' })
    await more.approve(await person('cfo', ['approver'], await cardOf('boss/c')))
    await more.reply
    const within = await pay(100)
    await t.kernel.cards.revoke(ann.card, 'operator')
    await expect(within.approve(ann)).rejects.toMatchObject({ code: 'BeyondApprover' })
    expect(paid).toEqual([{ amount: 101 }])
  })

  it('approves in a role of theirs alone, and sees nothing else', async () => {
    const [ann, eve] = [await person('ann'), await person('eve', ['auditor'])]
    const { approval, approve, reply } = await pay(5)
    const { approvals } = t.kernel
    expect(await approvals.list('open', 100, known(ann))).toMatchObject([{ id: approval.id }])
    expect(await approvals.list('open', 100, known(eve))).toEqual([])
    await expect(approvals.get(approval.id, known(eve))).rejects.toMatchObject({ code: 'NoSuchApproval' })
    await expect(approve(eve)).rejects.toMatchObject({ code: 'NoSuchApproval' })
    const other = { ...known(ann), tenant: 'other' }
    await expect(approvals.approve(approval.id, approval.digest, undefined, other)).rejects.toMatchObject({
      code: 'NoSuchApproval',
    })
    await expect(approvals.deny(approval.id, known(eve), 'no')).rejects.toMatchObject({
      code: 'NoSuchApproval',
    })
    await expect(approve(ann, 'auditor')).rejects.toMatchObject({ code: 'BadRole' })
    await approve(ann, 'approver')
    expect(await reply).toMatchObject({ ok: true })
  })

  it('is asked instead of the operator, who may still say no', async () => {
    const first = await pay(1)
    await first.approve('operator')
    await first.reply
    const ann = await person('ann')
    const second = await pay(2)
    await expect(second.approve('operator')).rejects.toMatchObject({ class: 'Refused', code: 'NotAPerson' })
    await t.kernel.approvals.deny(second.approval.id, 'operator', 'not today')
    expect(await second.reply).toMatchObject({ value: { error: 'Refused', code: 'Denied' } })
    await t.kernel.people.remove('acme', 'ann', 'operator')
    expect(t.kernel.people.authenticate(ann.token)).toBeUndefined()
    const third = await pay(3)
    await third.approve('operator')
    await third.reply
    expect(paid.map(({ amount }) => amount)).toEqual([1, 3])
  })
})

describe('four eyes', () => {
  it('are two people in one role, over a crash, and nobody twice', async () => {
    await apply(
      'apiVersion: cardinal/v1\nkind: Middleware\nmetadata: { tenant: acme, name: eyes }\nspec: { tools: [bank.pay], approval: { roles: [approver], people: 2, when: { arg: amount, atLeast: "50" } } }\n',
    )
    const [ann, bob] = [await person('ann'), await person('bob', ['approver', 'other'])]
    const { approval } = await pay(60)
    expect(approval.ask).toEqual([['approver', 'approver#2']])
    await approver(approval)(ann)
    expect(paid).toEqual([])
    await expect(approver(approval)(ann)).rejects.toMatchObject({ code: 'SamePerson' })
    const old = t
    t = await crashCopy(t, { tools })
    await old.close()
    await expect(approver(approval)(ann)).rejects.toMatchObject({ code: 'SamePerson' })
    expect(await approver(approval)(bob)).toMatchObject({
      state: 'approved',
      approved: ['approver', 'approver#2'],
    })
    await expect.poll(() => paid).toEqual([{ amount: 60 }])
    // One is enough below.
    const less = await pay(49)
    await less.approve(ann)
    await less.reply
    expect(paid).toHaveLength(2)
  })

  it('are never one operator’s', async () => {
    await apply(
      'apiVersion: cardinal/v1\nkind: Middleware\nmetadata: { tenant: acme, name: eyes }\nspec: { tools: [bank.pay], approval: { roles: [approver], people: 2 } }\n',
    )
    const { approve } = await pay(5)
    await approve('operator')
    await expect(approve('operator')).rejects.toMatchObject({ code: 'SamePerson' })
    expect(paid).toEqual([])
  })

  it('are two roles of two people, where a grant asks for both', async () => {
    const both = { ...boss, name: 'vault', now: ['{ tool: bank.pay, args: "*", ask: [approver, cfo] }'] }
    await t.close()
    t = await openTestKernel([boss, desk, both], { tools })
    const [ann, bob] = [await person('ann', ['approver', 'cfo']), await person('bob', ['cfo'])]
    const { approve, reply } = await pay(5, 'operator', 'vault/v')
    await expect(approve(ann)).rejects.toMatchObject({ code: 'BadRole' })
    await approve(ann, 'approver')
    await expect(approve(ann, 'cfo')).rejects.toMatchObject({ code: 'SamePerson' })
    await approve(bob)
    expect(await reply).toMatchObject({ ok: true, value: { ok: { id: 1 } } })
  })
})

describe('the token of a person', () => {
  it('opens approvals and nothing else of the API', async () => {
    const ann = await person('ann')
    const api = await serveApi({ kernel: t.kernel, port: 0 })
    const ask = (method: string, path: string, body?: object, token = ann.token) =>
      fetch(`${api.url}${path}`, {
        method,
        headers: { authorization: `Bearer ${token}` },
        ...(body && { body: JSON.stringify(body) }),
      })
    try {
      const { approval, reply } = await pay(5)
      const listed = await (await ask('GET', '/v1/approvals')).json()
      expect(listed).toMatchObject({ approvals: [{ id: approval.id, digest: approval.digest }] })
      for (const [method, path] of [
        ['GET', '/v1/agents'],
        ['GET', '/v1/cards'],
        ['GET', '/v1/people'],
        ['POST', '/v1/people'],
        ['GET', '/v1/approvalsx'],
        ['GET', '/v1/approvals/../agents'],
        ['GET', '/v1/approvals/%2e%2e/agents'],
        ['POST', '/v1/agents/acme/boss/ann/invoke/tool'],
        ['POST', '/v1/apply'],
        ['GET', '/v1/openapi.json'],
      ] as const)
        expect([path, (await ask(method, path, method === 'POST' ? {} : undefined)).status]).toEqual([
          path,
          403,
        ])
      expect((await ask('GET', '/v1/approvals', undefined, `${ann.token}x`)).status).toBe(401)
      const done = await ask('POST', `/v1/approvals/${approval.id}/approve`, { digest: approval.digest })
      expect(await done.json()).toMatchObject({ state: 'approved' })
      expect(await reply).toMatchObject({ ok: true })
      // Whoever is called in a person's name must be one.
      const as = (name: string) =>
        ask('POST', `/v1/agents/acme/boss/ann/invoke/held?as=${name}`, {}, api.token)
      expect((await as('ann')).status).toBe(200)
      expect(await (await as('nobody')).json()).toMatchObject({ code: 'NoSuchPerson' })
      await t.kernel.people.remove('acme', 'ann', 'operator')
      expect((await ask('GET', '/v1/approvals')).status).toBe(401)
    } finally {
      await api.close()
    }
  })

  it('is worth nothing once its person is removed, also to whoever had shown it before', async () => {
    const ann = await person('ann')
    const api = await serveApi({ kernel: t.kernel, port: 0 })
    try {
      const { approval } = await pay(5)
      const before = known(ann)
      const send = async (remove: boolean) => {
        const [body, end] = [JSON.stringify({ digest: approval.digest }), Promise.withResolvers<void>()]
        const answer = new Promise<number | undefined>((resolve, reject) => {
          const request = http.request(
            `${api.url}/v1/approvals/${approval.id}/approve`,
            {
              method: 'POST',
              headers: { authorization: `Bearer ${ann.token}`, 'content-length': body.length },
            },
            (response) => resolve(response.statusCode),
          )
          request.on('error', reject)
          request.write(body.slice(0, 3))
          end.promise.then(() => request.end(body.slice(3)))
        })
        // Its head is there, and its body is not.
        await new Promise((resolve) => setTimeout(resolve, 100))
        if (remove) await t.kernel.people.remove('acme', 'ann', 'operator')
        end.resolve()
        return answer
      }
      expect(await send(true)).toBe(403)
      const { approvals } = t.kernel
      await expect(approvals.approve(approval.id, approval.digest, undefined, before)).rejects.toMatchObject({
        code: 'NotForPeople',
      })
      await expect(approvals.deny(approval.id, before, 'no')).rejects.toMatchObject({ code: 'NotForPeople' })
      // Somebody else of the same name is somebody else.
      const again = await person('ann')
      await expect(approvals.approve(approval.id, approval.digest, undefined, before)).rejects.toMatchObject({
        code: 'NotForPeople',
      })
      expect(paid).toEqual([])
      ann.token = again.token
      expect(await send(false)).toBe(200)
      await expect.poll(() => paid).toHaveLength(1)
    } finally {
      await api.close()
    }
  })

  it('is told once, and stands nowhere on disk', async () => {
    const ann = await person('ann')
    const old = t
    t = await crashCopy(t, { tools })
    await old.close()
    expect(t.kernel.people.list()).toEqual([
      { tenant: 'acme', name: 'ann', roles: ['approver'], card: ann.card },
    ])
    expect(t.kernel.people.authenticate(ann.token)).toMatchObject({ name: 'ann' })
    expect(spawnSync('grep', ['-rqF', ann.token, t.data]).status).toBe(1)
    // It would be found.
    expect(spawnSync('grep', ['-rqF', ann.card, t.data]).status).toBe(0)
  })

  it('is refused to whoever has no name, role or card', async () => {
    const card = await cardOf('desk/d')
    const add = (more: object) =>
      t.kernel.people.add({ tenant: 'acme', name: 'ann', roles: ['approver'], card, ...more }, 'operator')
    await expect(add({ name: 'Ann' })).rejects.toMatchObject({ code: 'BadPerson' })
    await expect(add({ roles: [] })).rejects.toMatchObject({ code: 'BadPerson' })
    await expect(add({ roles: ['approver#2'] })).rejects.toMatchObject({ code: 'BadPerson' })
    await expect(add({ card: 'card_none' })).rejects.toMatchObject({ code: 'NoSuchCard' })
    await expect(add({ tenant: 'other' })).rejects.toMatchObject({ code: 'NoSuchCard' })
    await add({})
    await expect(add({})).rejects.toMatchObject({ code: 'PersonExists' })
  })
})

describe('cardinal people', () => {
  it('declares somebody, who approves by their own token what was asked for in another name', async () => {
    const { folder, run, begin, end, remove, env, main } = commandLine()
    const manifest = `apiVersion: cardinal/v1
kind: Agent
metadata: { tenant: default, name: teller }
spec:
  program: ./teller.ts
  card: { now: [{ tool: http.fetch, scheme: [http], host: 127.0.0.1, port: [9], method: [POST], path: /*, args: "*", ask: [approver] }] }
`
    fs.copyFileSync(programFile('teller.ts'), path.join(folder, 'teller.ts'))
    fs.writeFileSync(path.join(folder, 'cardinal.yaml'), manifest)
    const { child, said } = await begin(['dev', '--port', '0'], /applied default\/teller/)
    try {
      const url = /http:\/\/127\.0\.0\.1:\d+/.exec(said)?.[0] as string
      const post = { name: 'http.fetch', args: { method: 'POST', url: 'http://127.0.0.1:9/x', body: '' } }
      const call = ['invoke', 'teller/a', 'use', JSON.stringify(post), '--detach']
      expect(run([...call, '--as', 'bob']).err).toContain('NoSuchPerson')
      expect(run([...call, '--as', 'ann']).status).toBe(3)
      run(call)
      const [{ id: card }] = JSON.parse(run(['cards', 'list', '--agent', 'teller/a', '--format', 'json']).out)
      const add = (name: string) => run(['people', 'add', name, '--role', 'approver', '--card', card])
      const token = /^token {2}(cper_\S+)\n$/.exec(add('ann').out)?.[1] as string
      expect(add('ann')).toMatchObject({ status: 5, err: expect.stringContaining('PersonExists') })
      expect(run(['people', 'list']).out).toMatch(new RegExp(`default/ann +approver +${card}`))
      const own = (...args: string[]) =>
        spawnSync(process.execPath, [main, ...args], {
          cwd: folder,
          encoding: 'utf8',
          env: { ...env, CARDINAL_URL: url, CARDINAL_TOKEN: token },
        })
      await expect.poll(() => own('approvals', 'list').stdout).toContain('ap_1')
      const [{ digest }] = JSON.parse(own('approvals', 'list', '--format', 'json').stdout)
      expect(run(['approvals', 'approve', 'ap_1', '--digest', digest]).err).toContain('NotAPerson')
      expect(own('agents', 'list').stderr).toContain('NotForPeople')
      expect(own('approvals', 'approve', 'ap_1', '--digest', digest).stdout).toMatch(/approved by +approver/)
      expect(run(['people', 'rm', 'ann']).out).toBe('removed default/ann\n')
      expect(run(['people', 'rm', 'ann']).status).toBe(3)
      expect(own('approvals', 'list').stderr).toContain('NoToken')
    } finally {
      await end(child)
      remove()
    }
  }, 60_000)
})
