import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import Database from 'better-sqlite3'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Vault } from './vault.ts'
import { localKey, newVaultKey, readVaultKey } from './vault-key.ts'

let folder: string
let file: string
const key = localKey(newVaultKey())
const opened: Vault[] = []
const value = Buffer.from('a-token-that-nobody-guesses')

async function open(by = key): Promise<Vault> {
  const vault = await Vault.open(file, by)
  opened.push(vault)
  return vault
}

beforeEach(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'vault-'))
  file = path.join(folder, 'vault.db')
})
afterEach(() => {
  for (const vault of opened.splice(0)) vault.close()
  fs.rmSync(folder, { recursive: true })
})

describe('a vault', () => {
  it('gives back what was written, after it was opened again', async () => {
    const vault = await open()
    await vault.write('acme', 'ledger', value, 1)
    vault.close()
    opened.pop()
    expect(await (await open()).read('acme', 'ledger')).toEqual({ version: 1, value })
  })

  it('holds no byte of a secret that can be read without the key', async () => {
    const vault = await open()
    await vault.write('acme', 'ledger', value, 1)
    for (const name of fs.readdirSync(folder)) {
      const bytes = fs.readFileSync(path.join(folder, name))
      expect(bytes.includes(value)).toBe(false)
      expect(bytes.includes(value.toString('base64'))).toBe(false)
    }
  })

  it('is opened by its own key and by no other', async () => {
    await (await open()).write('acme', 'ledger', value, 1)
    await expect(open(localKey(newVaultKey()))).rejects.toMatchObject({ code: 'OtherVaultKey' })
    expect((await (await open()).read('acme', 'ledger'))?.value).toEqual(value)
  })

  it('keeps tenants apart', async () => {
    const vault = await open()
    await vault.write('acme', 'ledger', value, 1)
    expect(await vault.read('other', 'ledger')).toBeUndefined()
    expect(vault.list('other')).toEqual([])
    expect(vault.list('acme')).toEqual([{ tenant: 'acme', name: 'ledger', version: 1, madeMs: 1 }])
  })

  it('does not open a row that was moved to another tenant, name or version', async () => {
    const vault = await open()
    await vault.write('acme', 'ledger', value, 1)
    const db = new Database(file)
    for (const change of ["tenant = 'other'", "name = 'mail'", 'version = 2']) {
      db.exec(`begin; update secrets set ${change}`)
      const { tenant, name } = db.prepare('select tenant, name from secrets').get() as {
        tenant: string
        name: string
      }
      db.exec('commit')
      await expect(vault.read(tenant, name)).rejects.toMatchObject({ code: 'SecretDamaged' })
      db.exec("update secrets set tenant = 'acme', name = 'ledger', version = 1")
    }
    db.close()
    expect((await vault.read('acme', 'ledger'))?.value).toEqual(value)
  })

  it('counts versions on over rotation and removal, and forgets earlier values', async () => {
    const vault = await open()
    await vault.write('acme', 'ledger', value, 1, 'new')
    await expect(vault.write('acme', 'ledger', value, 2, 'new')).rejects.toMatchObject({
      code: 'SecretExists',
    })
    expect((await vault.write('acme', 'ledger', Buffer.from('the second value'), 3, 'known')).version).toBe(2)
    expect((await vault.read('acme', 'ledger'))?.value.toString()).toBe('the second value')
    await vault.remove('acme', 'ledger', 4)
    expect(await vault.read('acme', 'ledger')).toBeUndefined()
    await expect(vault.write('acme', 'ledger', value, 5, 'known')).rejects.toMatchObject({
      code: 'NoSuchSecret',
    })
    expect((await vault.write('acme', 'ledger', value, 6, 'new')).version).toBe(4)
  })

  it('writes each version once, however many are written at a time', async () => {
    const vault = await open()
    const rows = await Promise.all(
      Array.from({ length: 20 }, (_, i) => vault.write('acme', 'ledger', Buffer.from(`value ${i}`), i)),
    )
    expect(rows.map((row) => row.version)).toEqual(Array.from({ length: 20 }, (_, i) => i + 1))
    expect((await vault.read('acme', 'ledger'))?.value.toString()).toBe('value 19')
  })

  it.each(['', 'a/', '/a', 'a//b', '../a', 'a/./b', 'a b', 'a'.repeat(257)])(
    'refuses the name `%s`',
    async (name) => {
      await expect((await open()).write('acme', name, value, 1)).rejects.toMatchObject({ code: 'BadSecret' })
    },
  )
})

describe('a vault key', () => {
  it.each([
    ['zeros', Buffer.alloc(32).toString('base64')],
    ['one byte', Buffer.alloc(32, 0x5a).toString('hex')],
    ['counting', Buffer.from(Array.from({ length: 32 }, (_, i) => i)).toString('hex')],
    ['words', Buffer.from('correct horse battery staple !!!').toString('base64')],
    ['four random bytes again and again', Buffer.from('9f3ac2e7'.repeat(8), 'hex').toString('base64')],
    ['a password', 'hunter2'],
    ['nothing', ''],
    ['31 bytes', Buffer.from(newVaultKey(), 'base64').subarray(1).toString('base64')],
  ])('is refused if it is %s', (_what, text) => {
    expect(() => localKey(text)).toThrow(expect.objectContaining({ code: 'WeakVaultKey' }))
  })

  it('is taken if it is random, as base64 or hexadecimal text', () => {
    for (let i = 0; i < 1000; i++) {
      const text = newVaultKey()
      expect(localKey(Buffer.from(text, 'base64').toString('hex')).id).toBe(localKey(`${text}\n`).id)
    }
  })

  it('is read from a file that nobody else reads, and from no other', () => {
    const at = path.join(folder, 'key')
    const text = newVaultKey()
    fs.writeFileSync(at, text, { mode: 0o600 })
    expect(readVaultKey(`file:${at}`).id).toBe(localKey(text).id)
    fs.chmodSync(at, 0o640)
    expect(() => readVaultKey(`file:${at}`)).toThrow(/others may read/)
    expect(() => readVaultKey(`file:${at}.not`)).toThrow(/ENOENT/)
  })

  it('is read from the environment once, and from what a program prints', () => {
    const text = newVaultKey()
    process.env.TEST_VAULT_KEY = text
    expect(readVaultKey('env:TEST_VAULT_KEY').id).toBe(localKey(text).id)
    expect(process.env.TEST_VAULT_KEY).toBeUndefined()
    expect(() => readVaultKey('env:TEST_VAULT_KEY')).toThrow(/no `TEST_VAULT_KEY`/)
    expect(readVaultKey(`command:/bin/echo ${text}`).id).toBe(localKey(text).id)
    expect(() => readVaultKey('command:/bin/false')).toThrow(/exit code 1/)
    expect(() => readVaultKey(`${text}`)).toThrow(expect.objectContaining({ code: 'VaultKey' }))
  })
})

describe('a vault that gets another key', () => {
  const next = localKey(newVaultKey())

  it('opens with that one alone, and every secret is as it was', async () => {
    const vault = await open()
    for (const name of ['a', 'b', 'c/d'])
      await vault.write('acme', name, Buffer.from(`the value of ${name}`), 1)
    await vault.remove('acme', 'b', 2)
    vault.close()
    opened.pop()
    expect(await Vault.rekey(file, key, next)).toBe(2)
    await expect(open()).rejects.toMatchObject({ code: 'OtherVaultKey' })
    const again = await open(next)
    expect(await again.read('acme', 'a')).toEqual({ version: 1, value: Buffer.from('the value of a') })
    expect(await again.read('acme', 'c/d')).toEqual({ version: 1, value: Buffer.from('the value of c/d') })
    expect(await again.read('acme', 'b')).toBeUndefined()
    expect(await again.write('acme', 'b', value, 3)).toMatchObject({ version: 3 })
  })

  it('keeps its old one whole, wherever that fails', async () => {
    const vault = await open()
    for (const name of ['a', 'b', 'c']) await vault.write('acme', name, value, 1)
    vault.close()
    opened.pop()
    const whole = async () => {
      const now = await open()
      for (const name of ['a', 'b', 'c']) expect((await now.read('acme', name))?.value).toEqual(value)
      now.close()
      opened.pop()
    }
    for (const failing of [1, 2, 3, 4]) {
      let wraps = 0
      const broken = {
        ...next,
        wrap: async (clear: Buffer, bound: Buffer) => {
          if (++wraps === failing) throw new Error('the service is gone')
          return next.wrap(clear, bound)
        },
      }
      await expect(Vault.rekey(file, key, broken)).rejects.toThrow('the service is gone')
      await whole()
    }
    await expect(Vault.rekey(file, next, key)).rejects.toMatchObject({ code: 'OtherVaultKey' })
    const db = new Database(file)
    db.prepare("update secrets set name = 'z' where name = 'c'").run()
    await expect(Vault.rekey(file, key, next)).rejects.toMatchObject({ code: 'SecretDamaged' })
    db.prepare("update secrets set name = 'c' where name = 'z'").run()
    db.close()
    await whole()
    expect(await Vault.rekey(file, key, next)).toBe(3)
  })
})
