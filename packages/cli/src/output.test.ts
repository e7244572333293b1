/** Threat 70: what a person is shown is what is sent. */
import { afterEach, expect, it, vi } from 'vitest'
import { inAscii, indented, print } from './output.ts'

afterEach(() => vi.restoreAllMocks())

function printed(text: string): string {
  let out = ''
  vi.spyOn(process.stdout, 'write').mockImplementation((chunk) => {
    out += String(chunk)
    return true
  })
  print('text', null, () => text)
  return out
}

it.each([
  ['an escape that repaints the terminal', 'a\u001b[2Jb', 'a\\x1b[2Jb'],
  ['a mark that turns the line around', 'pay \u202eevil', 'pay \\x202eevil'],
  ['a space without width', 'ann\u200b', 'ann\\x200b'],
  ['a soft hyphen', 'an\u00adn', 'an\\xadn'],
  ['a byte order mark', '\ufeffann', '\\xfeffann'],
])('shows %s', (_what, text, shown) => {
  expect(printed(text)).toBe(`${shown}\n`)
})

it('spells out letters that only look like others, and leaves the rest', () => {
  expect(inAscii('{"to":"\u0430nn"}')).toBe('{"to":"\\u0430nn"}')
  expect(inAscii('{"to":"ann"}')).toBe('{"to":"ann"}')
  expect(inAscii('M\u00fcller')).toBe('M\\u00fcller')
})

it('lets no value write a line that looks like another field', () => {
  expect(indented('x\ndigest  0000')).toBe('x\n    | digest  0000')
})
