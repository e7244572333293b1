/**
 * `Intl` for a few locales, by formatjs. It weighs megabytes, so the bundler puts it into a program's
 * image only if the program names it. A locale whose data is not here throws: QuickJS itself, and
 * formatjs by falling back, would give the text of another one without a word.
 */
import '@formatjs/intl-getcanonicallocales/polyfill.js'
import '@formatjs/intl-locale/polyfill.js'
import '@formatjs/intl-pluralrules/polyfill-force.js'
import '@formatjs/intl-pluralrules/locale-data/de.js'
import '@formatjs/intl-pluralrules/locale-data/en.js'
import '@formatjs/intl-pluralrules/locale-data/es.js'
import '@formatjs/intl-pluralrules/locale-data/fr.js'
import '@formatjs/intl-pluralrules/locale-data/it.js'
import '@formatjs/intl-numberformat/polyfill-force.js'
import '@formatjs/intl-numberformat/locale-data/de.js'
import '@formatjs/intl-numberformat/locale-data/de-AT.js'
import '@formatjs/intl-numberformat/locale-data/de-CH.js'
import '@formatjs/intl-numberformat/locale-data/en.js'
import '@formatjs/intl-numberformat/locale-data/en-GB.js'
import '@formatjs/intl-numberformat/locale-data/es.js'
import '@formatjs/intl-numberformat/locale-data/fr.js'
import '@formatjs/intl-numberformat/locale-data/it.js'
import '@formatjs/intl-datetimeformat/polyfill-force.js'
import '@formatjs/intl-datetimeformat/add-golden-tz.js'
import '@formatjs/intl-datetimeformat/locale-data/de.js'
import '@formatjs/intl-datetimeformat/locale-data/de-AT.js'
import '@formatjs/intl-datetimeformat/locale-data/de-CH.js'
import '@formatjs/intl-datetimeformat/locale-data/en.js'
import '@formatjs/intl-datetimeformat/locale-data/en-GB.js'
import '@formatjs/intl-datetimeformat/locale-data/es.js'
import '@formatjs/intl-datetimeformat/locale-data/fr.js'
import '@formatjs/intl-datetimeformat/locale-data/it.js'

const DEFAULT = 'en-US'
const ZONE = 'UTC'
const LOCALES = [
  'de',
  'de-AT',
  'de-CH',
  'de-DE',
  'en',
  'en-GB',
  'en-US',
  'es',
  'es-ES',
  'fr',
  'fr-FR',
  'it',
  'it-IT',
]

type Locales = string | readonly string[] | undefined
type Formatter = new (locales?: string | string[], options?: object) => { format(value: unknown): string }

function checked(locales: Locales): string[] {
  const wanted = Intl.getCanonicalLocales(locales as string | string[] | undefined)
  for (const locale of wanted) {
    if (LOCALES.includes(new Intl.Locale(locale).baseName)) continue
    throw new RangeError(`the locale \`${locale}\` is not supported here; these are: ${LOCALES.join(', ')}`)
  }
  return wanted.length === 0 ? [DEFAULT] : wanted
}

/** The same class, that refuses a locale which it would silently replace. */
function guard(name: 'NumberFormat' | 'DateTimeFormat' | 'PluralRules'): Formatter {
  const Given = Intl[name] as unknown as Formatter
  function Guarded(locales?: Locales, options?: object): object {
    return new Given(checked(locales), name === 'DateTimeFormat' ? { timeZone: ZONE, ...options } : options)
  }
  Object.defineProperty(Guarded, 'name', { value: name })
  Guarded.prototype = Given.prototype
  Guarded.supportedLocalesOf = (locales: Locales) =>
    Intl.getCanonicalLocales(locales as string | string[] | undefined).filter((locale) =>
      LOCALES.includes(new Intl.Locale(locale).baseName),
    )
  Object.defineProperty(Given.prototype, 'constructor', {
    value: Guarded,
    writable: true,
    configurable: true,
  })
  Object.defineProperty(Intl, name, { value: Guarded, writable: true, configurable: true })
  return Guarded as unknown as Formatter
}

guard('PluralRules')
const NumberFormat = guard('NumberFormat')
const DateTimeFormat = guard('DateTimeFormat')

function define(prototype: object, name: string, value: unknown): void {
  Object.defineProperty(prototype, name, { value, writable: true, configurable: true })
}

for (const prototype of [Number.prototype, BigInt.prototype]) {
  define(
    prototype,
    'toLocaleString',
    function localeText(this: unknown, locales?: Locales, options?: object) {
      return new NumberFormat(locales as string, options).format(this)
    },
  )
}

const DATE = { year: 'numeric', month: 'numeric', day: 'numeric' }
const TIME = { hour: 'numeric', minute: 'numeric', second: 'numeric' }
const DATE_FIELDS = ['weekday', 'era', 'year', 'month', 'day', 'dateStyle']
const TIME_FIELDS = ['dayPeriod', 'hour', 'minute', 'second', 'fractionalSecondDigits', 'timeStyle']

/** ECMA-402 ToDateTimeOptions: what is shown if the options name no field of this kind. */
for (const [name, fields, shown] of [
  ['toLocaleString', [...DATE_FIELDS, ...TIME_FIELDS], { ...DATE, ...TIME }],
  ['toLocaleDateString', DATE_FIELDS, DATE],
  ['toLocaleTimeString', TIME_FIELDS, TIME],
] as const) {
  define(Date.prototype, name, function localeText(this: Date, locales?: Locales, options: object = {}) {
    const named = fields.some((field) => (options as Record<string, unknown>)[field] !== undefined)
    const format = new DateTimeFormat(locales as string, named ? options : { ...shown, ...options })
    return Number.isNaN(this.getTime()) ? 'Invalid Date' : format.format(this)
  })
}
