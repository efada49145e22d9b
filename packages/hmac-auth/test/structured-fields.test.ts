import { isDeepStrictEqual } from 'node:util'
import { isAuthError } from '@sallyport/guard'
import * as fc from 'fast-check'
import t from 'tap'
import { serializeDictionary, serializeItem, serializeList, serializeParameters } from '../src/serialize-fields.js'
import { readSignatureInput } from '../src/signature-base.js'
import { parseDictionary, parseItem, parseList, type BareItem, type Dictionary, type InnerList, type Item, type List, type Member } from '../src/structured-fields.js'

const refused = { code: 'ERR_HMAC_AUTH_SIGNATURE_INVALID', statusCode: 401 }

function item (bare: BareItem, parameters: Readonly<Record<string, BareItem>> = {}): Item {
  return { ...bare, parameters: new Map(Object.entries(parameters)) }
}

t.test('reads every kind of bare item', async (t) => {
  const texts: ReadonlyArray<readonly [string, BareItem]> = [
    ['42', { type: 'integer', value: 42 }],
    ['-999999999999999', { type: 'integer', value: -999_999_999_999_999 }],
    ['4.0', { type: 'decimal', value: 4 }],
    ['-123456789012.125', { type: 'decimal', value: -123_456_789_012.125 }],
    ['"it is \\"so\\" \\\\"', { type: 'string', value: 'it is "so" \\' }],
    ['""', { type: 'string', value: '' }],
    ['*t/o:k!e#n', { type: 'token', value: '*t/o:k!e#n' }],
    [':AP8=:', { type: 'bytes', value: Buffer.from([0, 255]) }],
    ['::', { type: 'bytes', value: Buffer.alloc(0) }],
    ['?0', { type: 'boolean', value: false }],
    ['@-1', { type: 'date', value: -1 }],
    ['%"z%c3%bcrich 100%25 %22"', { type: 'display-string', value: 'zürich 100% "' }],
    ['%"%ef%bb%bf"', { type: 'display-string', value: '\ufeff' }]
  ]
  for (const [text, bare] of texts) {
    t.same(parseItem(text), item(bare), text)
    t.equal(serializeItem(item(bare)), text, `${text}, and back`)
    t.same(parseItem(`  ${text};a;b=${text};c=1  `), item(bare, { a: { type: 'boolean', value: true }, b: bare, c: { type: 'integer', value: 1 } }), `${text} with parameters`)
  }
  t.equal(serializeItem(parseItem('-0')), '0', 'there is no negative zero')
  t.same(parseItem(':AP8:'), item({ type: 'bytes', value: Buffer.from([0, 255]) }), 'padding may be missing')
})

t.test('refuses what is no item', async (t) => {
  const texts = [
    '', ' ', '1 2', '1,', '1;', '1;=2', '1;A', '1; ', '1;a=', '1 ;a', '\t1', '1\t', '-', '--1', '+1', '.5', '1.', '1.2345', '1234567890123.1', '1234567890123456', '1.-2',
    '"', '"a', '"a\\', '"a\\"', '"\\a"', '"\t"', '"é"', '"\x7f"', '\'a\'', 'a b', 'é', 'aé', '(a)', ':', ':AA==', ':A*==:', ':A===:', ':=AA:', ':A A=:', ':A_8=:', ':A-8=:', ':AA==A:',
    '?', '?2', '?T', '? 1', '@', '@1.0', '@a', '%', '%a', '%"', '%"a', '%a"', '%"%C3%BC"', '%"%c3"', '%"%"', '%"%0"', '%"é"', '%"\t"', '!', '[', '{}', '\u0000', '1\u0000', 'a=1'
  ]
  for (const text of texts) t.throws(() => parseItem(text), refused, JSON.stringify(text))
})

t.test('reads lists and dictionaries with the white space that may be there', async (t) => {
  const [a, one] = [item({ type: 'token', value: 'a' }), item({ type: 'integer', value: 1 })]
  const inner: InnerList = { type: 'inner-list', items: [a, one], parameters: new Map([['k', { type: 'boolean', value: true }]]) }
  for (const text of ['a, (a 1);k', 'a,(a 1);k', ' a \t, \t(  a   1 ); k  ', 'a,(a 1);k \t']) t.same(parseList(text), [a, inner], text)
  for (const text of ['x=a, y=(a 1);k, z', 'x=a,y=( a 1);  k,\tz=?1']) {
    t.same(parseDictionary(text), new Map<string, Member>([['x', a], ['y', inner], ['z', item({ type: 'boolean', value: true })]]), text)
  }
  t.same(parseList('()'), [{ type: 'inner-list', items: [], parameters: new Map() }])
  for (const text of ['', '   ']) {
    t.same(parseList(text), [], 'an empty list')
    t.equal(parseDictionary(text).size, 0, 'an empty dictionary')
  }
})

t.test('refuses what is no list and no dictionary', async (t) => {
  for (const text of ['a,', ',a', 'a,,b', 'a b', '\ta', '(', '(a', '(a,b)', '(a\tb)', '("a""b")', '((a))', '(a) b', '(a);', 'a;(b)']) {
    t.throws(() => parseList(text), refused, `list ${JSON.stringify(text)}`)
  }
  for (const text of ['a=1,', ',a', 'a=1,,b', 'a =1', 'a= 1', 'A=1', '1=a', 'a=', 'a==1', 'a b', '\ta=1', 'a=(1', '"a"=1', 'a;=1', 'é=1']) {
    t.throws(() => parseDictionary(text), refused, `dictionary ${JSON.stringify(text)}`)
  }
})

t.test('lets the last of equal keys count, or refuses them', async (t) => {
  t.equal(serializeDictionary(parseDictionary('a=1;x=1;y;x=2, b=2, a=3')), 'a=3, b=2')
  t.equal(serializeItem(parseItem('a;x=1;y;x=2')), 'a;x=2;y')
  for (const text of ['a=1, a=1', 'a, b, a', 'a=1;x;x', 'a=(1;x;y;x)', 'a=();x=1;x=1']) {
    t.throws(() => parseDictionary(text, { repeatedKeys: 'refuse' }), refused, text)
  }
  t.equal(parseDictionary('a=1;x, b=(2;x 3;x);x', { repeatedKeys: 'refuse' }).size, 2, 'the same key in different places is not repeated')
})

t.test('keeps keys that objects inherit as what they are', async (t) => {
  t.equal(parseDictionary('a=1').get('__proto__'), undefined)
  t.equal(parseDictionary('constructor=1;to_string=2').get('constructor')?.parameters.size, 1)
})

t.test('rounds decimals half to even, and writes no value that could not be read', async (t) => {
  const decimals: ReadonlyArray<readonly [number, string]> = [[0.0005, '0.0'], [0.0015, '0.002'], [-0.0025, '-0.002'], [9.9995, '10.0'], [1.1, '1.1'], [0.25, '0.25'], [-3, '-3.0'], [-0, '0.0']]
  for (const [value, text] of decimals) t.equal(serializeItem(item({ type: 'decimal', value })), text)
  const wrong: readonly BareItem[] = [
    { type: 'integer', value: 1e15 }, { type: 'integer', value: 1.5 }, { type: 'integer', value: NaN }, { type: 'date', value: Infinity },
    { type: 'decimal', value: 1e12 }, { type: 'decimal', value: 999_999_999_999.9999 }, { type: 'decimal', value: NaN }, { type: 'decimal', value: -Infinity },
    { type: 'string', value: 'é' }, { type: 'string', value: 'a\nb' }, { type: 'string', value: 'a\n' }, { type: 'token', value: '' }, { type: 'token', value: '1a' }, { type: 'token', value: 'a b' },
    { type: 'token', value: 'a\n' }, { type: 'display-string', value: '\ud800' }
  ]
  for (const bare of wrong) t.throws(() => serializeItem(item(bare)), refused, JSON.stringify(bare))
  for (const key of ['', 'A', '1', 'a b', 'a\n', 'é', '__proto__']) {
    t.throws(() => serializeDictionary(new Map([[key, item({ type: 'boolean', value: true })]])), refused, `key ${JSON.stringify(key)}`)
    t.throws(() => serializeItem({ type: 'integer', value: 1, parameters: new Map([[key, { type: 'integer', value: 1 }]]) }), refused, `parameter ${JSON.stringify(key)}`)
  }
})

const digits = (max: number) => fc.integer({ min: 0, max }).map(String)
const keys = fc.stringMatching(/^[a-z*][a-z0-9_.*-]{0,8}$/)
const spaces = fc.nat({ max: 2 }).map((count) => ' '.repeat(count))

/** A value beside its text, written here and not by the code under test. */
const bareItems: fc.Arbitrary<readonly [BareItem, string]> = fc.oneof(
  fc.tuple(fc.constantFrom('', '-'), digits(999_999_999_999_999)).map(([sign, text]) => [{ type: 'integer', value: Number(sign + text) + 0 }, sign + text] as const),
  fc.tuple(fc.constantFrom('', '-'), digits(999_999_999_999), digits(999)).map(([sign, whole, fraction]) => [{ type: 'decimal', value: Number(`${sign}${whole}.${fraction}`) + 0 }, `${sign}${whole}.${fraction}`] as const),
  fc.string({ unit: 'grapheme-ascii', maxLength: 20 }).map((value) => [{ type: 'string', value }, `"${value.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`] as const),
  fc.stringMatching(/^[A-Za-z*][\w!#$%&'*+.^`|~:/-]{0,10}$/).map((value) => [{ type: 'token', value }, value] as const),
  fc.uint8Array({ maxLength: 70 }).map((value) => [{ type: 'bytes', value: Buffer.from(value) }, `:${btoa(String.fromCharCode(...value))}:`] as const),
  fc.boolean().map((value) => [{ type: 'boolean', value }, value ? '?1' : '?0'] as const),
  fc.integer().map((value) => [{ type: 'date', value }, `@${value}`] as const),
  fc.string({ unit: 'binary', maxLength: 10 }).map((value) => [{ type: 'display-string', value }, `%"${Array.from(new TextEncoder().encode(value), (byte) => `%${byte.toString(16).padStart(2, '0')}`).join('')}"`] as const)
)
const parameters = fc.tuple(fc.uniqueArray(fc.tuple(keys, bareItems), { selector: ([key]) => key, maxLength: 4 }), spaces)
  .map(([entries, gap]) => [new Map(entries.map(([key, [bare]]) => [key, bare])), entries.map(([key, [, text]]) => `;${gap}${key}=${text}`).join('')] as const)
const items: fc.Arbitrary<readonly [Item, string]> = fc.tuple(bareItems, parameters).map(([[bare, text], [map, more]]) => [{ ...bare, parameters: map }, text + more])
const members: fc.Arbitrary<readonly [Member, string]> = fc.oneof(items, fc.tuple(fc.array(items, { maxLength: 5 }), parameters, spaces).map(([entries, [map, more], gap]) =>
  [{ type: 'inner-list', items: entries.map(([value]) => value), parameters: map }, `(${gap}${entries.map(([, text]) => text).join(` ${gap}`)}${gap})${more}`] as const))
const separators = fc.tuple(fc.constantFrom('', ' ', '\t', ' \t '), fc.constantFrom('', ' ', '\t')).map(([before, after]) => `${before},${after}`)
const lists: fc.Arbitrary<readonly [List, string]> = fc.tuple(fc.array(members, { maxLength: 6 }), separators)
  .map(([entries, separator]) => [entries.map(([value]) => value), entries.map(([, text]) => text).join(separator)])
const dictionaries: fc.Arbitrary<readonly [Dictionary, string]> = fc.tuple(fc.uniqueArray(fc.tuple(keys, members), { selector: ([key]) => key, maxLength: 6 }), separators)
  .map(([entries, separator]) => [new Map(entries.map(([key, [value]]) => [key, value])), entries.map(([key, [, text]]) => `${key}=${text}`).join(separator)])

/** Equal with the order of keys, which serialisation shows. */
function isSame<T extends Item | List | Dictionary> (serialize: (value: T) => string, value: T, other: T): boolean {
  return isDeepStrictEqual(value, other) && serialize(value) === serialize(other)
}

t.test('reads what another writer wrote, and what it writes itself', async () => {
  fc.assert(fc.property(items, ([value, text]) => isSame(serializeItem, value, parseItem(text)) && isSame(serializeItem, value, parseItem(serializeItem(value)))), { numRuns: 500 })
  fc.assert(fc.property(lists, ([value, text]) => isSame(serializeList, value, parseList(text)) && isSame(serializeList, value, parseList(serializeList(value)))), { numRuns: 300 })
  fc.assert(fc.property(dictionaries, ([value, text]) => isSame(serializeDictionary, value, withoutTexts(parseDictionary(text, { repeatedKeys: 'refuse' }))) &&
    isSame(serializeDictionary, value, parseDictionary(serializeDictionary(value)))), { numRuns: 300 })
})

/** Parameters whose text the parser kept must be written so. */
function withoutTexts (dictionary: Dictionary): Dictionary {
  return new Map(Array.from(dictionary, ([key, member]): [string, Member] => {
    if (member.type !== 'inner-list') return [key, member]
    const { written, ...list } = member
    if (written !== undefined && written.text !== serializeParameters(list.parameters)) throw new Error(`${written.text} is written otherwise`)
    return [key, list]
  }))
}

t.test('keeps the text of parameters that can be written in one way only', async (t) => {
  const textOf = (parameters: string): string | undefined => (parseDictionary(`a=("b")${parameters}`, { repeatedKeys: 'refuse' }).get('a') as InnerList).written?.text
  for (const kept of ['', ';created=1700000000;keyid="a\\"b";nonce="";alg="hmac-sha256"', ';a;b=token;c=9']) t.equal(textOf(kept), kept)
  for (const other of ['; a=1', ';a=01', ';a=0', ';a=-1', ';a=1.0', ';a=?1', ';a=:AA==:', ';a=@1', ';a=%"x"', ';a=01;b="x"', ';b="x"; a']) t.equal(textOf(other), undefined, other)
  const list = parseDictionary('a=("@method");created=1', { repeatedKeys: 'refuse' }).get('a') as InnerList
  const other = { ...list, parameters: new Map(list.parameters).set('created', { type: 'integer', value: 2 }) }
  t.equal(readSignatureInput(list).text, '("@method");created=1')
  t.equal(readSignatureInput(other).text, '("@method");created=2', 'not that of other parameters')
  t.equal((parseDictionary('a=();b=1').get('a') as InnerList).written?.text, undefined, 'where a later key takes the place of an earlier one')
})

t.test('gives a value or the one refusal, whatever the text', async () => {
  const fragments = fc.array(fc.constantFrom('a', '=', ';', ',', ' ', '\t', '(', ')', '"', '\\', ':', 'AA==', '?1', '@', '%"', '%c3', '-', '1', '.', 'é', '\u{1f600}', '\0', '*'), { maxLength: 20 }).map((parts) => parts.join(''))
  fc.assert(fc.property(fc.oneof(fragments, fc.string({ unit: 'binary' })), fc.constantFrom('last' as const, 'refuse' as const), (text, repeatedKeys) => {
    for (const [parse, serialize] of [[parseItem, serializeItem], [parseList, serializeList], [parseDictionary, serializeDictionary]] as const) {
      let value: Item | List | Dictionary
      try {
        value = parse(text, { repeatedKeys })
      } catch (error) {
        if (!isAuthError(error)) throw error
        continue
      }
      const canonical = (serialize as (value: unknown) => string)(value)
      if (canonical !== (serialize as (value: unknown) => string)(parse(canonical))) throw new Error(`${canonical} reads as something else`)
    }
  }), { numRuns: 3000 })
})

t.test('takes time that grows with the length and no faster', async (t) => {
  const hostile: ReadonlyArray<(length: number) => string> = [
    (length) => `a="${'\\"'.repeat(length / 2)}`, (length) => `a=${'('.repeat(length)}`, (length) => `a=(${' '.repeat(length)}`, (length) => `a=:${'A'.repeat(length)}`,
    (length) => `a=:${'='.repeat(length)}:`, (length) => `a=%"${'%c3'.repeat(length / 3)}"`, (length) => `a${';a'.repeat(length / 2)}`, (length) => 'a,'.repeat(length / 2),
    (length) => `a=(${'"a" '.repeat(length / 4)}`, (length) => `a=${'1'.repeat(length)}`, (length) => `a${' '.repeat(length)}b`, (length) => `a=%"${' '.repeat(length)}\0"`
  ]
  const timeOf = (text: string) => {
    const startedAt = performance.now()
    t.throws(() => parseDictionary(text, { repeatedKeys: 'refuse' }), refused)
    return performance.now() - startedAt
  }
  // Quadratic work on so much would take minutes.
  for (const make of hostile) t.ok(timeOf(make(240_000)) < 1000, make(10))
})
