import * as fc from 'fast-check'
import t from 'tap'
import {
  buildSignatureBase, hasComponent, readSignatureInput,
  type FieldTypes, type Message, type RequestMessage, type ResponseMessage, type SignatureInput
} from '../src/signature-base.js'
import { parseList } from '../src/structured-fields.js'

const refused = { code: 'ERR_HMAC_AUTH_SIGNATURE_INVALID', statusCode: 401 }

const order: RequestMessage = {
  method: 'POST',
  target: '/v1/orders?page=2&q=a+b',
  scheme: 'https',
  authority: 'API.example:443',
  fieldLines: ['Host', 'API.example:443', 'Content-Type', 'application/json', 'X-Twice', ' a ', 'x-twice', '\tb', 'X-Empty', '', 'X-Dict', 'a=1,  b=(x   y);q=1.0 , c', 'X-Byte', '\xa0é ']
}
const answer: ResponseMessage = { status: 201, fieldLines: ['Content-Type', 'text/plain', 'Trailer', 'Expires'], trailerLines: ['Expires', '0'], request: order }

function inputOf (text: string): SignatureInput {
  return readSignatureInput(parseList(text)[0])
}

/** The value of one component. */
function valueOf (identifier: string, message: Message = order, types?: FieldTypes): string {
  const base = buildSignatureBase(inputOf(`(${identifier})`), message, types)
  return base.slice(base.indexOf(': ') + 2, base.lastIndexOf('\n'))
}

t.test('writes one line a component and the parameters behind them', async (t) => {
  const input = inputOf('( "@method"   "@path" "x-dict";key="b" );  created=1700000000;nonce="a\\"b"; keyid="k";flag')
  t.equal(input.text, '("@method" "@path" "x-dict";key="b");created=1700000000;nonce="a\\"b";keyid="k";flag')
  t.equal(buildSignatureBase(input, order), [
    '"@method": POST',
    '"@path": /v1/orders',
    '"x-dict";key="b": (x y);q=1.0',
    '"@signature-params": ("@method" "@path" "x-dict";key="b");created=1700000000;nonce="a\\"b";keyid="k";flag'
  ].join('\n'))
  t.equal(buildSignatureBase(inputOf('()'), order), '"@signature-params": ()')
})

t.test('knows which components are covered, and how', async (t) => {
  const input = inputOf('("@method" "a";bs "b";key="c";req)')
  for (const identifier of ['"@method"', '"a";bs', '"b";key="c";req']) t.ok(hasComponent(input, identifier), identifier)
  for (const identifier of ['@method', '"a"', '"b"', '"b";key="c"', '"b";req;key="c"', '']) t.notOk(hasComponent(input, identifier), identifier)
})

t.test('derives components from the request', async (t) => {
  const values: ReadonlyArray<readonly [string, string, Partial<RequestMessage>?]> = [
    ['"@method"', 'POST'],
    ['"@target-uri"', 'https://api.example/v1/orders?page=2&q=a+b'],
    ['"@target-uri"', 'HTTPS://api.Example/a', { target: 'HTTPS://api.Example/a' }],
    ['"@authority"', 'api.example'],
    ['"@authority"', 'api.example:443', { scheme: 'http' }],
    ['"@authority"', 'api.example:8443', { authority: 'api.example:8443' }],
    ['"@authority"', 'api.example', { authority: 'api.example:' }],
    ['"@authority"', '[2001:db8::1]', { authority: '[2001:DB8::1]:443' }],
    ['"@authority"', 'api.example', { target: 'https://API.example/a' }],
    ['"@scheme"', 'https', { scheme: 'HTTPS' }],
    ['"@request-target"', '/v1/orders?page=2&q=a+b'],
    ['"@request-target"', '*', { target: '*' }],
    ['"@request-target"', 'api.example:443', { target: 'api.example:443' }],
    ['"@path"', '/v1/orders'],
    ['"@path"', '/a%2fb//../%zz;c=d', { target: '/a%2fb//../%zz;c=d' }],
    ['"@path"', '//evil/a', { target: '//evil/a?b' }],
    ['"@path"', '/', { target: 'https://other.example?a=b' }],
    ['"@path"', '/a', { target: 'https://other.example/a' }],
    ['"@query"', '?page=2&q=a+b'],
    ['"@query"', '?', { target: '/a' }],
    ['"@query"', '?a?b=%C3', { target: '/?a?b=%C3' }],
    ['"@query-param";name="page"', '2'],
    ['"@query-param";name="q"', 'a%20b'],
    ['"@query-param";name="%C3%A9%20"', '%EF%BF%BD%2A'.replace('%2A', '*'), { target: '/?%c3%a9+=%ff*' }],
    ['"@query-param";name="a"', '', { target: '/?a' }],
    ['"@query-param";name=""', 'b%27', { target: '/?=b\'' }]
  ]
  for (const [identifier, value, changes] of values) t.equal(valueOf(identifier, { ...order, ...changes }), value, `${identifier} ${JSON.stringify(changes ?? {})}`)
})

t.test('takes field values as RFC 9421 has them', async (t) => {
  t.equal(valueOf('"content-type"'), 'application/json')
  t.equal(valueOf('"x-twice"'), 'a, b')
  t.equal(valueOf('"x-empty"'), '')
  t.equal(valueOf('"x-dict"'), 'a=1,  b=(x   y);q=1.0 , c')
  t.equal(valueOf('"x-dict";key="c"'), '?1')
  t.equal(valueOf('"x-dict";sf', order, new Map([['x-dict', 'dictionary']])), 'a=1, b=(x y);q=1.0, c')
  t.equal(valueOf('"x-dict";sf', { ...order, fieldLines: ['x-dict', 'a,(b)'] }, new Map([['x-dict', 'list']])), 'a, (b)')
  t.equal(valueOf('"x-dict";sf', { ...order, fieldLines: ['x-dict', ' a;  b '] }, new Map([['x-dict', 'item']])), 'a;b')
  t.equal(valueOf('"x-twice";bs'), ':YQ==:, :Yg==:')
  t.equal(valueOf('"x-byte";bs'), ':oOk=:')
  t.equal(valueOf('"x-fold"', { ...order, fieldLines: ['X-Fold', ' one \r\n\t  two\n three '] }), 'one two three')
})

t.test('covers a response, its trailers and its request', async (t) => {
  t.equal(valueOf('"@status"', answer), '201')
  t.equal(valueOf('"expires";tr', answer), '0')
  t.equal(valueOf('"content-type"', answer), 'text/plain')
  t.equal(valueOf('"content-type";req', answer), 'application/json')
  t.equal(valueOf('"@method";req', answer), 'POST')
  t.equal(valueOf('"@query-param";name="page";req', answer), '2')
})

t.test('keeps members of dictionaries apart that have one name in several places', async (t) => {
  const message: ResponseMessage = { status: 200, fieldLines: ['x', 'a=1'], trailerLines: ['x', 'a=2'], request: { ...order, fieldLines: ['X', 'a=3'], trailerLines: ['x', 'a=4'] } }
  const identifiers = ['"x";key="a"', '"x";key="a";tr', '"x";key="a";req', '"x";key="a";req;tr', '"x"']
  const base = buildSignatureBase(inputOf(`(${identifiers.join(' ')})`), message)
  t.same(base.split('\n').slice(0, -1), ['1', '2', '3', '4', 'a=1'].map((value, index) => `${identifiers[index]}: ${value}`))
})

t.test('refuses a component that is absent, or that can not stand in a base', async (t) => {
  const wrong: ReadonlyArray<readonly [string, Message?]> = [
    ['"absent"'], ['"absent";bs'], ['"x-dict";key="z"'], ['"x-dict";key="__proto__"'], ['"x-empty";key="a"'], ['"content-type";key="a"'], ['"x-dict";sf'], ['"x-byte"'], ['"expires";tr'],
    ['"@status"'], ['"@method";req'], ['"content-type";req'], ['"@method"', answer], ['"expires"', answer], ['"@status";req', answer], ['"@method";req', { status: 200, fieldLines: [] }],
    ['"@query-param";name="p"'], ['"@query-param";name="p"', { ...order, target: '/?p=1&p=1' }], ['"@query-param";name="p"', { ...order, target: '/?p=1&%70=2&p=3' }], ['"@query-param";name="a b"', { ...order, target: '/?a+b=1' }],
    ['"@path"', { ...order, target: '*' }], ['"@query"', { ...order, target: 'api.example:443' }], ['"@target-uri"', { ...order, target: '*' }], ['"@query-param";name="a"', { ...order, target: 'a?a=b' }],
    ['"@target-uri"', { ...order, target: 'http://api.example/a' }], ['"@target-uri"', { ...order, target: 'https://other.example/a' }], ['"@authority"', { ...order, target: 'https://other.example/a' }]
  ]
  for (const [identifier, message] of wrong) t.throws(() => valueOf(identifier, message), refused, identifier)
  for (const authority of ['', ' ', 'a b', 'a/b', 'a@b', 'a?b', 'a#b', 'a\n', 'é', 'a:b', '[::1', '[::g]', 'a,b/', ':443']) {
    for (const name of ['@authority', '@target-uri']) t.throws(() => valueOf(`"${name}"`, { ...order, authority }), refused, JSON.stringify(authority))
  }
  for (const target of ['', ' /', '/a b', '/é', '/a\n"@method": GET', '/\0']) {
    for (const name of ['@path', '@query', '@target-uri', '@request-target']) t.throws(() => valueOf(`"${name}"`, { ...order, target }), refused, JSON.stringify(target))
  }
  for (const method of ['', 'GE T', 'GET\n', 'É']) t.throws(() => valueOf('"@method"', { ...order, method }), refused, JSON.stringify(method))
  for (const value of ['a\nb', 'a\n"@method": GET', 'a\rb', 'a\0b', 'é', '\x7f', 'a\r\n']) t.throws(() => valueOf('"x"', { ...order, fieldLines: ['x', value] }), refused, JSON.stringify(value))
  t.throws(() => valueOf('"x";bs', { ...order, fieldLines: ['x', '\u20ac'] }), refused, 'no byte')
})

t.test('refuses identifiers that no signature can have', async (t) => {
  const wrong = [
    '"@unknown"', '"@signature-params"', '"@Method"', '"@"', '""', '"Date"', '" date"', '"a b"', '"a:b"', 'date', '1', ':AA==:', '"a";x', '"a";sf=?0', '"a";bs=1', '"a";key', '"a";key=b', '"a";name="b"', '"a";bs;sf',
    '"a";bs;key="b"', '"@method";sf', '"@method";bs', '"@method";key="a"', '"@method";tr', '"@query";name="a"', '"@query-param"', '"@query-param";name', '"@query-param";name=a', '"@query-param";req', '"a" "a"',
    '"@path" "@method" "@path"', '"a";key="b" "a";key="b"', '"a";sf;tr "a";tr;sf'
  ]
  for (const identifiers of wrong) t.throws(() => inputOf(`(${identifiers})`), refused, identifiers)
  t.equal(inputOf('("a" "a";bs "a";key="a" "a";key="b" "a";sf "a";sf;tr)').components.length, 6, 'one name may be covered in several ways')
  for (const text of ['a', '"@method"', '1;a', '?1']) t.throws(() => inputOf(text), refused, text)
  t.throws(() => readSignatureInput(undefined), refused)
})

t.test('covers 64 components and no more', async (t) => {
  const names = (count: number) => `(${Array.from({ length: count }, (_, index) => `"x-${index}"`).join(' ')})`
  t.equal(inputOf(names(64)).components.length, 64)
  t.throws(() => inputOf(names(65)), refused)
})

t.test('answers the largest request that Node lets through without delay', async (t) => {
  const fieldLines = ['X', Array.from({ length: 3000 }, (_, index) => `k${index}`).join(','), ...Array.from({ length: 4000 }, () => ['x', ''])].flat()
  const target = `/?${Array.from({ length: 3000 }, (_, index) => `k${index}`).join('&')}`
  const startedAt = performance.now()
  const keys = Array.from({ length: 64 }, (_, index) => `"x";key="k${index}"`)
  t.throws(() => valueOf(keys.join(' '), { ...order, fieldLines }), refused, 'empty members are no dictionary')
  valueOf(keys.join(' '), { ...order, fieldLines: fieldLines.slice(0, 2) })
  valueOf(keys.map((key) => key.replace('"x";key', '"@query-param";name')).join(' '), { ...order, target })
  t.ok(performance.now() - startedAt < 500)
})

t.test('makes the base that another implementation makes, for all requests and in any order', async () => {
  const names = fc.constantFrom('@method', '@authority', '@path', '@query', '@request-target', 'x-a', 'x-b', 'content-type')
  const lines = fc.array(fc.tuple(fc.constantFrom('X-A', 'x-b', 'X-B', 'x-other'), fc.string({ unit: 'grapheme-ascii' })), { maxLength: 8 })
  const path = fc.stringMatching(/^\/[!-"$->@-~]{0,20}$/)
  fc.assert(fc.property(fc.uniqueArray(names), lines, path, fc.option(fc.stringMatching(/^[!-~]{0,20}$/)), fc.domain(), (covered, pairs, path, query, authority) => {
    const all = [['Content-Type', 'text/plain'], ...pairs, ['x-a', '1'], ['x-b', '2']] as const
    const target = query === null ? path : `${path}?${query}`
    const values: Readonly<Record<string, string>> = { '@method': 'PUT', '@authority': authority.toLowerCase(), '@path': path, '@query': `?${query ?? ''}`, '@request-target': target }
    const expected = covered.map((name) => `"${name}": ${values[name] ?? all.filter(([line]) => line.toLowerCase() === name).map(([, value]) => value.trim()).join(', ')}`)
    const parameters = `(${covered.map((name) => `"${name}"`).join(' ')});created=1`
    const made = buildSignatureBase(inputOf(parameters), { method: 'PUT', target, scheme: 'https', authority, fieldLines: all.flat() })
    return made === [...expected, `"@signature-params": ${parameters}`].join('\n')
  }), { numRuns: 500 })
})
