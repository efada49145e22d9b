import { createHash } from 'node:crypto'
import { isAuthError, reasonOf } from '@sallyport/guard'
import fc from 'fast-check'
import t from 'tap'
import {
  authorizationHmac, createRequestSigner, headers, layeredGateway, rfc9421, type AuthorizationHmacOptions, type HeaderSchemeOptions, type Profile, type Rfc9421Options
} from '../src/index.js'
import type { SignedMessage } from '../src/profile.js'
import { endOf, formatTimestamp, judgeTime, parseTimestamp, timestampFormats, type TimestampFormat } from '../src/timestamps.js'
import { KEY_ID, NOW, secret } from './fixtures/app.js'
import { macOf } from './fixtures/by-hand.js'

const url = 'https://API.example:443/v3.0/orders?page=2&sort=-id'
const body = '{"a":1}'
const sha256 = (text: string, encoding: 'hex' | 'base64'): string => createHash('sha256').update(text).digest(encoding)

/** What a signer with a fixed clock and nonce makes of a request. */
function made (profile: Profile, request: { method?: string, headers?: Record<string, string>, body?: string } = {}) {
  const signer = createRequestSigner({ profile, keyId: KEY_ID, secret, clock: () => NOW, nonce: () => 'n-1' })
  return { fields: signer.sign({ url, ...request }), explained: signer.explainSignature({ url, ...request }) }
}

const post = { method: 'POST', headers: { 'content-type': 'application/json' }, body }

/** For each profile the string to sign, letter by letter, and the fields that carry the signature. */
const schemes: readonly { title: string, profile: Profile, request?: typeof post, base: readonly string[] | string, fields: (mac: { hex: string, base64: string }) => Record<string, string> }[] = [
  {
    title: 'rfc9421()', profile: rfc9421(), request: post,
    base: [
      '"@method": POST', '"@authority": api.example', '"@path": /v3.0/orders', '"@query": ?page=2&sort=-id', `"content-digest": sha-256=:${sha256(body, 'base64')}:`,
      `"@signature-params": ("@method" "@authority" "@path" "@query" "content-digest");created=${NOW / 1000};keyid="erp-1";nonce="n-1";alg="hmac-sha256"`
    ],
    fields: ({ base64 }) => ({
      'content-digest': `sha-256=:${sha256(body, 'base64')}:`,
      'signature-input': `sig1=("@method" "@authority" "@path" "@query" "content-digest");created=${NOW / 1000};keyid="erp-1";nonce="n-1";alg="hmac-sha256"`,
      'signature': `sig1=:${base64}:`
    })
  },
  {
    title: 'rfc9421() with a label, a tag and a header', profile: rfc9421({ label: 'partner', tag: 'orders', covers: ['X-Trace'] }),
    request: { method: 'GET', headers: { 'x-trace': 'abc' } } as never,
    base: [
      '"@method": GET', '"@authority": api.example', '"@path": /v3.0/orders', '"@query": ?page=2&sort=-id', '"x-trace": abc',
      `"@signature-params": ("@method" "@authority" "@path" "@query" "x-trace");created=${NOW / 1000};keyid="erp-1";nonce="n-1";alg="hmac-sha256";tag="orders"`
    ],
    fields: ({ base64 }) => ({
      'signature-input': `partner=("@method" "@authority" "@path" "@query" "x-trace");created=${NOW / 1000};keyid="erp-1";nonce="n-1";alg="hmac-sha256";tag="orders"`,
      'signature': `partner=:${base64}:`
    })
  },
  {
    title: 'headers()', profile: headers(), request: post,
    base: ['POST', 'api.example', '/v3.0/orders', 'page=2&sort=-id', String(NOW / 1000), 'erp-1', 'n-1', `sha-256=:${sha256(body, 'base64')}:`],
    fields: ({ hex }) => ({ 'content-digest': `sha-256=:${sha256(body, 'base64')}:`, 'x-key-id': 'erp-1', 'x-timestamp': String(NOW / 1000), 'x-nonce': 'n-1', 'x-signature': hex })
  },
  {
    title: 'headers(layeredGateway)', profile: headers(layeredGateway), request: post,
    base: ['POST', 'api.example', '/v3.0/orders', 'page=2&sort=-id', String(NOW / 1000), 'n-1', 'erp-1', sha256(body, 'hex')],
    fields: ({ hex }) => ({ 'x-content-sha256': sha256(body, 'hex'), 'x-api-key': 'erp-1', 'x-timestamp': String(NOW / 1000), 'x-nonce': 'n-1', 'x-signature': hex })
  },
  {
    title: 'headers() over the body itself, with a prefix and a header', request: post,
    profile: headers({ digest: false, encoding: 'base64', prefix: 'v1=', separator: '|', timestampFormat: 'milliseconds', parts: ['text:v1', 'timestamp', 'nonce', 'key-id', 'authority', 'method', 'target', 'header:content-type', 'body'] }),
    base: `v1|${NOW}|n-1|erp-1|api.example|POST|/v3.0/orders?page=2&sort=-id|application/json|<body>`,
    fields: ({ base64 }) => ({ 'x-key-id': 'erp-1', 'x-timestamp': String(NOW), 'x-nonce': 'n-1', 'x-signature': `v1=${base64}` })
  },
  {
    title: 'headers() over a digest that no header carries', request: post,
    profile: headers({ digest: false, timestampFormat: 'iso-8601', parts: ['body-sha256', 'method', 'authority', 'target', 'timestamp', 'nonce', 'key-id'] }),
    base: ['<SHA-256 of the body, hex>', 'POST', 'api.example', '/v3.0/orders?page=2&sort=-id', '2026-11-15T12:00:00.000Z', 'n-1', 'erp-1'],
    fields: ({ hex }) => ({ 'x-key-id': 'erp-1', 'x-timestamp': '2026-11-15T12:00:00.000Z', 'x-nonce': 'n-1', 'x-signature': hex })
  },
  {
    title: 'Kong\'s form', profile: authorizationHmac({ dialect: 'kong', accepts: ['no-nonce', 'no-key-id'] }), request: post,
    base: ['date: Sun, 15 Nov 2026 12:00:00 GMT', '@request-target: post /v3.0/orders?page=2&sort=-id', 'host: api.example', `digest: SHA-256=${sha256(body, 'base64')}`],
    fields: ({ base64 }) => ({
      'digest': `SHA-256=${sha256(body, 'base64')}`, 'date': 'Sun, 15 Nov 2026 12:00:00 GMT',
      'authorization': `hmac username="erp-1",algorithm="hmac-sha256",headers="date @request-target host digest",signature="${base64}"`
    })
  },
  {
    title: 'APISIX\'s form', profile: authorizationHmac({ dialect: 'apisix', accepts: ['no-nonce'], timestamp: 'x-date', header: 'proxy-authorization' }),
    base: ['erp-1', 'x-date: Sun, 15 Nov 2026 12:00:00 GMT', 'GET /v3.0/orders?page=2&sort=-id', 'host: api.example', ''],
    fields: ({ base64 }) => ({
      'x-date': 'Sun, 15 Nov 2026 12:00:00 GMT',
      'proxy-authorization': `Signature keyId="erp-1",algorithm="hmac-sha256",headers="x-date @request-target host",signature="${base64}"`
    })
  },
  {
    title: 'the form of draft-cavage', profile: authorizationHmac({ dialect: 'cavage', accepts: ['no-nonce', 'no-key-id'], timestamp: '(created)' }),
    base: [`(created): ${NOW / 1000}`, '(request-target): get /v3.0/orders?page=2&sort=-id', 'host: api.example'],
    fields: ({ base64 }) => ({ authorization: `Signature keyId="erp-1",algorithm="hmac-sha256",headers="(created) (request-target) host",created=${NOW / 1000},signature="${base64}"` })
  }
]

for (const { title, profile, request, base, fields } of schemes) {
  t.test(`${title} signs the documented string, letter by letter`, async (t) => {
    const text = typeof base === 'string' ? base : base.join('\n')
    const whole = text.replace('<body>', body).replace('<SHA-256 of the body, hex>', sha256(body, 'hex'))
    const { fields: found, explained } = made(profile, request)
    t.same(explained, { stringToSign: text, keyId: KEY_ID, signedAt: new Date(NOW), lacks: [], ...(!profile.accepts.includes('no-nonce') && { nonce: 'n-1' }) })
    t.same(found, fields({ hex: macOf(whole, 'hex'), base64: macOf(whole) }))
  })
}

t.test('headers() tells apart what a separator could join: one place alone may hold it', async (t) => {
  const profile = headers({ separator: '.', parts: ['timestamp', 'method', 'key-id', 'nonce', 'authority', 'target', 'body-sha256'] })
  const read = (fields: Record<string, string>, target = '/v3.0/orders', authority = 'api'): string | undefined => {
    const all = { 'x-key-id': 'erp', 'x-timestamp': '1794744000', 'x-nonce': 'n', 'x-signature': '00'.repeat(32), ...fields }
    try {
      profile.read({ method: 'GET', target, scheme: 'https', authority, fieldLines: Object.entries(all).flat() }, false)
      return undefined
    } catch (error) {
      return isAuthError(error) ? reasonOf(error) : String(error)
    }
  }
  t.equal(read({}), undefined, 'the target may')
  t.equal(read({ 'x-nonce': 'n.GET' }), 'parts-ambiguous')
  t.equal(read({ 'x-key-id': 'erp.1' }), 'parts-ambiguous')
  t.equal(read({}, '/', 'api.example'), 'parts-ambiguous', 'which is why another separator is the default')
  t.doesNotThrow(() => headers({ separator: '', accepts: ['ambiguous-parts'] }))
})

t.test('headers(): an absent header signs as nothing, so an empty or repeated one is refused', async (t) => {
  const profile = headers({ parts: ['method', 'authority', 'target', 'timestamp', 'key-id', 'nonce', 'header:x-shop', 'body-sha256'] })
  const message = (...lines: string[]): SignedMessage => ({ method: 'GET', target: '/', scheme: 'https', authority: 'a', fieldLines: ['X-Key-Id', 'erp', 'X-Timestamp', '1794744000', 'X-Nonce', 'n', 'X-Signature', '00'.repeat(32), ...lines] })
  const baseOf = (...lines: string[]): unknown => profile.read(message(...lines), false).base
  t.match(baseOf(), /\nn\n\n$/)
  t.match(baseOf('x-shop', ' 7 '), /\nn\n7\n$/, 'whitespace around a value is no part of it')
  for (const lines of [['x-shop', ''], ['x-shop', '7', 'X-Shop', '7'], ['x-shop', 'caf\xe9'], ['x-shop', '\xa07']]) {
    t.throws(() => baseOf(...lines), { code: 'ERR_HMAC_AUTH_SIGNATURE_INVALID' }, JSON.stringify(lines))
  }
})

/** Options that could not be meant, each with the option that the error names. */
const wrongOptions: readonly (readonly [string, () => Profile])[] = [
  ...([
    ['label', { label: 'Sig' }], ['tag', { tag: 'a"b' }], ['algorithms', { algorithms: ['hmac-md5'] }], ['algorithms', { algorithms: [] }], ['covers', { covers: ['a b'] }],
    ['accepts', { accepts: ['no-timestamp'] }], ['accepts', { accepts: ['no-key-id'] }], ['accepts', { accepts: ['ambiguous-parts'] }],
    ['fieldTypes.x', { fieldTypes: { x: 'map' } }], ['fieldTypes.a b', { fieldTypes: { 'a b': 'list' } }], ['unknown', { unknown: 1 }]
  ] as const).map(([option, options]) => [`profile: rfc9421().${option}`, () => rfc9421(options as unknown as Rfc9421Options)] as const),
  ...([
    ['keyId', { keyId: 'x key' }], ['nonce', { nonce: '' }], ['signature', { signature: 'x-nonce' }], ['timestampFormat', { timestampFormat: 'rfc3339' }], ['encoding', { encoding: 'base64url' }],
    ['separator', { separator: '' }], ['separator', { separator: '\r\n' }], ['separator', { separator: 5 }], ['algorithm', { algorithm: 'sha256' }],
    ['parts', { parts: [] }], ['parts', { parts: ['method', 'method'] }], ['parts', { parts: ['verb'] }], ['parts', { parts: ['header:a b'] }],
    ['parts', { parts: ['method', 'authority', 'target', 'key-id', 'nonce', 'body-sha256'] }],
    ['parts', { parts: ['method', 'authority', 'target', 'timestamp', 'key-id', 'nonce', 'body'] }],
    ['parts', { digest: false, parts: ['method', 'authority', 'target', 'timestamp', 'key-id', 'nonce', 'body', 'body-sha256'] }],
    ['parts', { nonce: false, accepts: ['no-nonce'], parts: ['method', 'authority', 'target', 'timestamp', 'key-id', 'nonce', 'body-sha256'] }],
    ['parts', { nonce: false }],
    ...(['method', 'authority', 'target', 'key-id', 'nonce', 'body-sha256'].map((left) => ['parts', { parts: ['method', 'authority', 'target', 'timestamp', 'key-id', 'nonce', 'body-sha256'].filter((part) => part !== left) }] as const)),
    ['accepts', { accepts: ['no-timestamp'] }], ['unknown', { unknown: 1 }]
  ] as const).map(([option, options]) => [`profile: headers().${option}`, () => headers(options as HeaderSchemeOptions)] as const),
  ...([
    ['dialect', { accepts: ['no-nonce'] }], ['dialect', { dialect: 'aws', accepts: ['no-nonce'] }],
    ['accepts', { dialect: 'kong' }], ['accepts', { dialect: 'kong', accepts: ['no-nonce'] }], ['accepts', { dialect: 'cavage', accepts: ['no-key-id'] }], ['accepts', { dialect: 'apisix', accepts: ['no-body'] }],
    ['timestamp', { dialect: 'kong', accepts: ['no-nonce', 'no-key-id'], timestamp: '(created)' }], ['header', { dialect: 'apisix', accepts: ['no-nonce'], header: 'cookie' }],
    ['covers', { dialect: 'apisix', accepts: ['no-nonce'], covers: [''] }], ['unknown', { dialect: 'apisix', accepts: ['no-nonce'], unknown: 1 }]
  ] as const).map(([option, options]) => [`profile: authorizationHmac().${option}`, () => authorizationHmac(options as unknown as AuthorizationHmacOptions)] as const)
]

t.test('profiles refuse options that could not be meant, by name', async (t) => {
  for (const [option, create] of wrongOptions) t.throws(create, { name: 'OptionsError', option })
})

t.test('headers() may leave out what is named, and only that', async (t) => {
  const full = ['method', 'authority', 'path', 'query', 'timestamp', 'key-id', 'nonce', 'body-sha256'] as const
  for (const left of ['method', 'authority', 'path', 'query', 'key-id', 'nonce', 'body-sha256'] as const) {
    const gap = left === 'body-sha256' ? 'no-digest' : `no-${left}` as const
    t.same(headers({ parts: full.filter((part) => part !== left), accepts: [gap] }).accepts, [gap])
  }
})

t.test('a moment is written in one way, and reads back', async (t) => {
  for (const format of timestampFormats) {
    fc.assert(fc.property(fc.integer({ min: 0, max: 253_402_300_799 }), (second) => parseTimestamp(formatTimestamp(second * 1000, format), format) === second * 1000))
  }
  const wrong: Readonly<Record<TimestampFormat, readonly string[]>> = {
    'seconds': ['', ' 1', '1 ', '01', '+1', '-1', '1.0', '1e9', '0x10', '1794744000abc', '９', '1234567890123'],
    'milliseconds': ['', '1.5', '-1', '00', '1234567890123456'],
    'http-date': ['', '1794744000', 'Sun, 15 Nov 2026 12:00:00 +0000', 'Sun, 15 Nov 2026 12:00:00 UTC', 'Mon, 15 Nov 2026 12:00:00 GMT', 'Sun, 32 Nov 2026 12:00:00 GMT', 'Sunday, 15-Nov-26 12:00:00 GMT', 'Sun Nov 15 12:00:00 2026', 'sun, 15 nov 2026 12:00:00 gmt', 'Sun, 15 Nov 2026 24:00:00 GMT'],
    'iso-8601': ['', '2026-11-15', '2026-11-15T12:00:00', '2026-11-15T12:00:00+00:00', '2026-11-15T12:00:00.0Z', '2026-11-31T12:00:00Z', '2026-11-15 12:00:00Z', '20261115T120000Z']
  }
  for (const format of timestampFormats) {
    for (const text of wrong[format]) t.throws(() => parseTimestamp(text, format), { code: 'ERR_HMAC_AUTH_SIGNATURE_INVALID' }, `${format}: ${text}`)
  }
  t.equal(parseTimestamp('2026-11-15T12:00:00Z', 'iso-8601'), NOW)
})

t.test('the window ends where the store forgets, and a clock may be ahead by the tolerance', async (t) => {
  const window = { windowMs: 60_000, toleranceMs: 5_000 }
  const dated = { datedAtMs: NOW }
  const isTimely = (now: number, expiresAtMs?: number): boolean => {
    try {
      judgeTime({ ...dated, expiresAtMs }, now, window)
      return true
    } catch {
      return false
    }
  }
  t.equal(endOf(dated, window), NOW + 65_000)
  t.same([-5_001, -5_000, 0, 64_999, 65_000].map((ms) => isTimely(NOW + ms)), [false, true, true, true, false])
  t.same([14_999, 15_000].map((ms) => isTimely(NOW + ms, NOW + 10_000)), [true, false], 'an end of its own comes first')
  t.notOk(isTimely(NaN))
  t.notOk((() => { try { judgeTime({ datedAtMs: NaN }, NOW, window); return true } catch { return false } })())
})

t.test('whatever stands in the headers, a profile reads it or refuses it', async () => {
  const names = ['signature-input', 'signature', 'content-digest', 'x-key-id', 'x-timestamp', 'x-nonce', 'x-signature', 'authorization', 'date', 'digest', 'host']
  const text = fc.oneof(fc.string(), fc.string({ unit: 'binary' }), fc.constantFrom(
    'sig1=("@method");created=1;keyid="a"', 'sig1=:AAAA:', '1794744000', 'erp-1', '00', 'hmac username="a",algorithm="hmac-sha256",headers="date",signature="AA=="', 'Signature keyId="a"', 'SHA-256=AA=='
  ))
  const lines = fc.array(fc.tuple(fc.constantFrom(...names), text), { maxLength: 12 })
  const profiles = [
    rfc9421(), headers(), headers({ digest: false }), authorizationHmac({ dialect: 'kong', accepts: ['no-nonce', 'no-key-id'] }),
    authorizationHmac({ dialect: 'apisix', accepts: ['no-nonce'] }), authorizationHmac({ dialect: 'cavage', accepts: ['no-nonce', 'no-key-id'] })
  ]
  for (const profile of profiles) {
    fc.assert(fc.property(lines, text, fc.boolean(), (found, target, hasBody) => {
      const message = { method: 'GET', target, scheme: 'https', authority: target, fieldLines: found.flat() }
      if (!profile.isPresented(message.fieldLines)) return true
      try {
        return typeof profile.read(message, hasBody).keyId === 'string'
      } catch (error) {
        return isAuthError(error) && error.statusCode === 401
      }
    }), { numRuns: 300 })
  }
})
