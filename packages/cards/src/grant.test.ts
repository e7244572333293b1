/** What is written in a grant means one thing: threats 12 and 14 of the list, each with a twin that is allowed. */
import { describe, expect, it } from 'vitest'
import { boxHas, type Request } from './box.ts'
import { CardError } from './errors.ts'
import { NumberText, parseExactJson } from './exact-json.ts'
import { parseGrant, showGrant } from './grant.ts'

const box = (given: object) => parseGrant(given, 'g', () => undefined)
const number = (text: string) => new NumberText(text)
const at = (path: string[]): Request => ({ tool: ['file', 'read'], path, args: new Map() })
const host = (...labels: string[]): Request => ({ tool: ['http', 'get'], host: labels, args: new Map() })
const pays = (amount: unknown): Request => ({ tool: ['pay'], args: new Map([['amount', amount]]) })

describe('12: a place that is spelled otherwise', () => {
  const below = box({ tool: 'file.read', path: '/mine/*' })
  it('is the place only letter by letter', () => {
    expect(boxHas(below, at(['mine', 'a']))).toBe(true)
    for (const other of [
      ['Mine', 'a'],
      ['mine'],
      ['mine ', 'a'],
      ['mïne', 'a'],
      ['mi\u0308ne', 'a'],
      ['minea'],
    ])
      expect(boxHas(below, at(other)), other.join('/')).toBe(false)
  })
  for (const path of [
    '/mine/../theirs',
    '/mine/./a',
    '/mine//a',
    '/mine/',
    'mine//a',
    '/m*ne/a',
    '/mine/**',
    '/mïne',
    '/mine\u0000',
  ])
    it(`is no grant as ${JSON.stringify(path)}`, () => {
      expect(() => box({ tool: 'file.read', path })).toThrow(CardError)
      expect(() => box({ tool: 'file.read', path: '/mine/a' })).not.toThrow()
    })
  for (const name of [
    'A.example',
    'a.example.',
    '.a.example',
    'a..example',
    '*a.example',
    'a.*.example',
    'ａ.example',
    'bücher.example',
    'a.example:443',
  ])
    it(`is no grant as the host ${JSON.stringify(name)}`, () => {
      expect(() => box({ tool: 'http.get', host: name })).toThrow(CardError)
      expect(() => box({ tool: 'http.get', host: 'xn--bcher-kva.example' })).not.toThrow()
    })
  it('is no subdomain that only ends alike', () => {
    const subdomains = box({ tool: 'http.get', host: '*.a.example' })
    expect(boxHas(subdomains, host('example', 'a', 'b'))).toBe(true)
    expect(boxHas(subdomains, host('example', 'a'))).toBe(false)
    expect(boxHas(subdomains, host('example', 'ba'))).toBe(false)
    expect(boxHas(subdomains, host('com', 'evil', 'example', 'a', 'b'))).toBe(false)
  })
  it('is no mail domain where a second address or a quote hides one', () => {
    const mail = box({ tool: 'pay', args: { amount: { domain: 'acme.example' } } })
    expect(boxHas(mail, pays('ann@acme.example'))).toBe(true)
    for (const other of [
      'ann@evil.example',
      'ann@acme.example@evil.example',
      '"x@acme.example"@evil.example',
      'ann@acme.example ',
      'acme.example',
      '<ann@acme.example>',
      'ann@acme.example,eve@evil.example',
    ])
      expect(boxHas(mail, pays(other)), other).toBe(false)
  })
})

describe('14: a number', () => {
  const most = box({
    tool: 'pay',
    args: { amount: { decimal: number('2'), min: number('0.01'), max: number('9007199254740992') } },
  })
  const unbounded = box({ tool: 'pay', args: { amount: { decimal: number('18') } } })
  for (const ok of ['0.01', '9007199254740991', '9007199254740992', '9007199254740992.00', '5.10'])
    it(`is let through as ${ok}, as number and as text`, () => {
      expect(boxHas(most, pays(number(ok)))).toBe(true)
      expect(boxHas(most, pays(ok))).toBe(true)
    })
  for (const bad of [
    '9007199254740993',
    '9007199254740992.01',
    '0.001',
    '0',
    '-1',
    '1e3',
    '-0',
    '1E0',
    '0.0',
  ])
    it(`is stopped as ${bad}, as number and as text`, () => {
      expect(boxHas(most, pays(number(bad)))).toBe(false)
      expect(boxHas(most, pays(bad))).toBe(false)
    })
  for (const bad of [
    'NaN',
    'Infinity',
    '+5',
    ' 5',
    '5 ',
    '05',
    '5.',
    '.5',
    '0x5',
    '1_0',
    '５',
    '9223372036854775808',
    '-9223372036854775809',
  ])
    it(`is none as ${JSON.stringify(bad)}`, () => {
      expect(boxHas(unbounded, pays(bad))).toBe(false)
      expect(boxHas(unbounded, pays('9223372036854775807'))).toBe(true)
    })
  it('of a list is meant by its value, and is no text', () => {
    const listed = box({ tool: 'pay', args: { amount: [number('1.50'), 'a'] } })
    expect(boxHas(listed, pays(number('1.5')))).toBe(true)
    expect(boxHas(listed, pays('1.5'))).toBe(false)
  })
  it('is read from JSON as it stands there, and a key stands there once', () => {
    expect(parseExactJson('[9007199254740993,1.10]')).toEqual([number('9007199254740993'), number('1.10')])
    expect(() => parseExactJson('{"a":1,"b":{"a":1},"a":2}')).toThrow(SyntaxError)
    expect(() => parseExactJson('{"a":1,"b":{"a":1}}')).not.toThrow()
    expect(() => parseExactJson('{"a:":"{\\"x\\":1,\\"x\\":2}"}')).not.toThrow()
    expect(() => parseExactJson('{"a":1,"\\u0061":2}')).toThrow(SyntaxError)
  })
})

describe('rules of one argument', () => {
  it('hold together, whatever they are', () => {
    const both = box({
      tool: 'pay',
      args: { amount: { min: number('1'), max: number('500'), len: number('2') } },
    })
    expect(boxHas(both, pays('99'))).toBe(true)
    expect(boxHas(both, pays('100'))).toBe(false)
    expect(boxHas(both, pays(number('99')))).toBe(false)
  })
  it('are an error where nothing fits all of them', () => {
    expect(() => box({ tool: 'pay', args: { amount: { min: number('100'), len: number('2') } } })).toThrow(
      /no value fits/,
    )
    expect(() =>
      box({ tool: 'pay', args: { amount: { min: number('10'), len: number('2') } } }),
    ).not.toThrow()
    expect(() => box({ tool: 'pay', args: { amount: { in: ['ab'], len: number('1') } } })).toThrow(
      /no value fits/,
    )
  })
  it('are shown as they are written', () => {
    const shown = showGrant(
      box({
        tool: 'pay',
        args: { amount: { min: '0.50', decimal: number('2'), optional: true }, to: { domain: '*' } },
      }),
    )
    expect(JSON.parse(JSON.stringify(shown)).args).toEqual({
      amount: { min: 0.5, decimal: 2, optional: true },
      to: { domain: '*' },
    })
  })
})
