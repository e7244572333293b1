/** Grants on one line: read, shown and read again, and refused by column. */
import { describe, expect, it } from 'vitest'
import { CardError } from './errors.ts'
import { parseGrant, showGrant } from './grant.ts'
import { parseGrantText, showGrantText } from './grant-text.ts'

const full = (given: object) => JSON.stringify(showGrant(parseGrant(given, 'g', () => undefined)))

describe('a grant on one line', () => {
  const lines = [
    'http.fetch host=*.acme.example path=/v1/* method=GET,HEAD port=443,8443 scheme=https flow=caller:*,log',
    'bank.pay args={"amount":{"max":500.01,"decimal":2},"to":["DE89 3704","a,b"]} ask=approver,boss',
    '* resource=* host=* method=* path=* args=*',
    'db.read labels=[] flow=[]',
    'db.read labels=* flow=*',
    'db.read flow=["*"]',
    'db.read flow=["model:a b","log"] secret=users/{key}/*',
  ]
  for (const line of lines)
    it(`means the same once it is shown: ${line}`, () => {
      const grant = parseGrantText(line)
      const shown = showGrantText(showGrant(parseGrant(grant, 'g', () => undefined)))
      expect(full(parseGrantText(shown))).toBe(full(grant))
    })
  it('is what the JSON form says', () => {
    expect(parseGrantText('  http.fetch host=a.example  method=GET ')).toEqual({
      tool: 'http.fetch',
      host: 'a.example',
      method: ['GET'],
    })
  })
  const wrong: [string, string, RegExp][] = [
    ['', 'column 1', /begins with its tool/],
    ['host=a', 'column 1', /begins with its tool/],
    ['t host', 'column 3', /no `name=value`/],
    ['t hots=a', 'column 3', /unknown field `hots`/],
    ['t host=a host=b', 'column 10', /twice/],
    ['t host=', 'column 8', /no value/],
    ['t method=GET,,PUT', 'column 10', /empty part/],
    ['t args={"a":}', 'column 8', /not JSON/],
    ['t args={"a":1', 'column 8', /not JSON/],
    ['t args={"a":["x"],"a":["y"]}', 'column 8', /twice/],
  ]
  for (const [line, path, message] of wrong)
    it(`is refused at ${path}: ${line}`, () => {
      let error: unknown
      try {
        parseGrantText(line)
      } catch (e) {
        error = e
      }
      expect(error).toBeInstanceOf(CardError)
      expect(error).toMatchObject({ path, message: expect.stringMatching(message) as string })
    })
})
