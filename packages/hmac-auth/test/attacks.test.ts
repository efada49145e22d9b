import { createHash } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import { memoryStore } from '@sallyport/guard'
import type { InjectOptions } from 'fastify'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { authorizationHmac, headers, rfc9421, type HmacAuthRefusalCode, type Profile } from '../src/index.js'
import { isRefused, KEY_ID, linesOf, NOW, otherSecret, sendRaw, signed, signerFor, testApp, validOptions } from './fixtures/app.js'
import { defaultParameters, floorComponents, handSigned, macOf, seconds } from './fixtures/by-hand.js'

const path = '/orders?page=2'
const json = { 'content-type': 'application/json' }
const binary = { 'content-type': 'application/octet-stream' }
const insufficient = 'ERR_HMAC_AUTH_COVERAGE_INSUFFICIENT'
const invalid = 'ERR_HMAC_AUTH_SIGNATURE_INVALID'
const digestInvalid = 'ERR_HMAC_AUTH_DIGEST_INVALID'
const ambiguous = 'ERR_HMAC_AUTH_SIGNATURE_AMBIGUOUS'
const expired = 'ERR_HMAC_AUTH_TIMESTAMP_EXPIRED'

const profiles: Readonly<Record<string, Profile>> = {
  'rfc9421': rfc9421(),
  'headers': headers(),
  'headers over the body': headers({ digest: false, parts: ['method', 'authority', 'target', 'timestamp', 'key-id', 'nonce', 'body'] }),
  'headers over its SHA-256': headers({ digest: false, encoding: 'base64' }),
  'kong': authorizationHmac({ dialect: 'kong', accepts: ['no-nonce', 'no-key-id'] }),
  'apisix': authorizationHmac({ dialect: 'apisix', accepts: ['no-nonce'] }),
  'cavage': authorizationHmac({ dialect: 'cavage', accepts: ['no-nonce', 'no-key-id'], timestamp: '(created)' })
}

async function refuses (t: Test, request: InjectOptions, code: HmacAuthRefusalCode, title: string, profile: Profile = rfc9421()): Promise<void> {
  const { send, handlerRuns } = await testApp(t, { profile })
  isRefused(t, await send(request), code, title)
  t.equal(handlerRuns(), 0, title)
}

const request = (fields: Record<string, string>, more: InjectOptions = {}): InjectOptions => ({ method: 'GET', url: path, ...more, headers: { host: 'api.example', ...fields, ...more.headers } })

const without = (name: string): Record<string, string> => Object.fromEntries(Object.entries(floorComponents).filter(([other]) => other !== name))

// The floor: no client can lower it

t.test('the floor: what it asks for passes, signed by hand', async (t) => {
  const { send } = await testApp(t)
  t.equal((await send(request(handSigned({ components: floorComponents })))).statusCode, 200)
  for (const components of [
    { '@method': 'GET', '@target-uri': 'http://api.example/orders?page=2' },
    { '@method': 'GET', '@authority': 'api.example', '@request-target': '/orders?page=2' }
  ]) t.equal((await send(request(handSigned({ components })))).statusCode, 200, Object.keys(components).join())
})

for (const component of Object.keys(floorComponents)) {
  t.test(`the floor: a signature that does not cover ${component} is refused`, async (t) => {
    await refuses(t, request(handSigned({ components: without(component) })), insufficient, component)
  })
}

for (const [name, parameters] of Object.entries({
  created: `;keyid="${KEY_ID}";nonce="n"`, keyid: `;created=${seconds};nonce="n"`, nonce: `;created=${seconds};keyid="${KEY_ID}"`, everything: ''
})) {
  t.test(`the floor: a signature without ${name} is refused`, async (t) => {
    await refuses(t, request(handSigned({ components: floorComponents, parameters })), insufficient, name)
  })
}

t.test('the floor: a body without a covered digest is refused, and so is a digest that is sent but not covered', async (t) => {
  const components = { ...floorComponents, '@method': 'POST' }
  const post = { method: 'POST', payload: '{}', headers: json } as const
  const digest = { 'content-digest': `sha-256=:${createHash('sha256').update('{}').digest('base64')}:` }
  await refuses(t, request(handSigned({ components }), post), insufficient, 'no digest')
  await refuses(t, request({ ...handSigned({ components }), ...digest }, post), insufficient, 'digest not covered')
  const covered = { ...components, 'content-digest': digest['content-digest'] }
  t.equal((await (await testApp(t)).send(request({ ...handSigned({ components: covered }), ...digest }, post))).statusCode, 200)
})

t.test('the floor: a component under another name, or with a parameter, does not count', async (t) => {
  for (const [name, value] of [['@method";req', 'GET'], ['host', 'api.example']] as const) {
    const components = { ...without(name === 'host' ? '@authority' : '@method'), [name]: value }
    const { send } = await testApp(t)
    t.equal((await send(request(handSigned({ components })))).statusCode, 401, name)
  }
})

t.test('the floor: an empty list, or one of nothing that matters, is refused (a signature over nothing)', async (t) => {
  await refuses(t, request(handSigned({ components: {} })), insufficient, 'nothing')
  await refuses(t, request({ ...handSigned({ components: { 'x-a': '1' } }), 'x-a': '1' }), insufficient, 'x-a')
})

// A signature is good for one request

for (const [name, profile] of Object.entries(profiles)) {
  t.test(`${name}: method, path, query, authority and body can't be changed`, async (t) => {
    const make = () => signed({ method: 'POST', path, body: '{"a":1}', headers: json }, signerFor({ profile }))
    const { send } = await testApp(t, { profile })
    t.equal((await send(make())).statusCode, 200)
    const changes: readonly ((right: ReturnType<typeof make>) => InjectOptions)[] = [
      (right) => ({ ...right, method: 'PUT' }),
      (right) => ({ ...right, url: '/orders/?page=2' }),
      (right) => ({ ...right, url: '/Orders?page=2' }),
      (right) => ({ ...right, url: '/orders?page=3' }),
      (right) => ({ ...right, url: '/orders?page=2&' }),
      (right) => ({ ...right, url: '/orders' }),
      (right) => ({ ...right, url: '/%6frders?page=2' }),
      (right) => ({ ...right, headers: { ...right.headers, host: 'evil.example' } }),
      (right) => ({ ...right, headers: { ...right.headers, host: 'api.example:8080' } }),
      (right) => ({ ...right, payload: '{"a":2}' }),
      (right) => ({ ...right, payload: '{"a":1} ' }),
      (right) => ({ ...right, payload: '{"\\u0061":1}' })
    ]
    for (const [i, change] of changes.entries()) await refusesAny(t, change(make()), profile, `${name}, change ${i}`)
  })

  t.test(`${name}: a body can't be dropped, added, or swapped with its digest`, async (t) => {
    const signer = signerFor({ profile })
    const bodied = () => signed({ method: 'POST', path, body: 'one', headers: { 'content-type': 'text/plain' } }, signer)
    const bare = () => signed({ method: 'POST', path, headers: { 'content-type': 'text/plain' } }, signer)
    const dropped = bodied()
    delete dropped.payload
    await refusesAny(t, dropped, profile, 'dropped')
    await refusesAny(t, { ...bare(), payload: 'added' }, profile, 'added')
    const other = bodied()
    const digests = Object.fromEntries(Object.entries(signed({ method: 'POST', path, body: 'two', headers: {} }, signer).headers).filter(([header]) => header.includes('digest')))
    await refusesAny(t, { ...other, payload: 'two', headers: { ...other.headers, ...digests } }, profile, 'swapped with its digest')
    await refusesAny(t, { ...bare(), payload: 'two', headers: { ...bare().headers, ...digests } }, profile, 'added with its digest')
  })

  t.test(`${name}: bodies that differ in bytes that are no UTF-8 are two bodies`, async (t) => {
    const make = (bytes: readonly number[]) => signed({ method: 'POST', path, body: Buffer.from(bytes), headers: binary }, signerFor({ profile }))
    const { send } = await testApp(t, { profile })
    const right = await send(make([0x61, 0xff]))
    t.equal(right.statusCode, 200, right.body)
    t.equal(right.json<{ body: string }>().body, '61ff')
    for (const bytes of [[0x61, 0xfe], [0x61, 0xef, 0xbf, 0xbd], [0x61, 0xff, 0x00], [0x61]]) {
      await refusesAny(t, { ...make([0x61, 0xff]), payload: Buffer.from(bytes) }, profile, bytes.join())
    }
    await refusesAny(t, { ...make([0x61, 0xff]), payload: gzipSync(Buffer.from([0x61, 0xff])) }, profile, 'gzip')
  })

  t.test(`${name}: a byte flipped anywhere in a header of the signature is refused, never an error`, async (t) => {
    const { send, handlerRuns } = await testApp(t, { profile })
    const right = signed({ method: 'POST', path, body: 'x', headers: { 'content-type': 'text/plain' } }, signerFor({ profile }))
    const own = Object.keys(right.headers).filter((header) => header !== 'host' && header !== 'content-type')
    for (const header of own) {
      const value = right.headers[header]!
      for (let at = 0; at < value.length; at++) {
        const changed = value.slice(0, at) + String.fromCharCode(value.charCodeAt(at) ^ 1) + value.slice(at + 1)
        const { statusCode } = await send({ ...right, headers: { ...right.headers, [header]: changed } })
        // Hexadecimal digits and names of algorithms and schemes are read in either case; nothing else has two spellings.
        if (statusCode !== 401) t.fail(`${header} at ${at}: ${statusCode}`)
      }
    }
    t.equal(handlerRuns(), 0)
  })

  t.test(`${name}: signatures of any length and junk are 401`, async (t) => {
    const { send } = await testApp(t, { profile })
    const junk = ['', 'A', 'AA==', 'A'.repeat(63), 'A'.repeat(64), 'A'.repeat(65), 'a'.repeat(7_000), '\xe9'.repeat(64), '%%%', 'zz', ':', '""', '==', ':AAAA', 'null']
    const right = signed({ path }, signerFor({ profile }))
    for (const header of Object.keys(right.headers).filter((candidate) => candidate !== 'host')) {
      for (const text of junk) {
        const { statusCode } = await send({ ...right, headers: { ...right.headers, [header]: text } })
        t.equal(statusCode, 401, `${header}: ${text.slice(0, 20)}`)
      }
    }
  })

  t.test(`${name}: the same request twice is a replay, and of a hundred at once one passes`, async (t) => {
    const { send, handlerRuns } = await testApp(t, { profile })
    const once = signed({ path }, signerFor({ profile }))
    const answers = await Promise.all(Array.from({ length: 200 }, () => send({ ...once, headers: { ...once.headers } })))
    t.equal(answers.filter(({ statusCode }) => statusCode === 200).length, 1)
    for (const answer of answers.filter(({ statusCode }) => statusCode !== 200)) isRefused(t, answer, 'ERR_HMAC_AUTH_SIGNATURE_REPLAYED')
    t.equal(handlerRuns(), 1)
  })
}

async function refusesAny (t: Test, wrong: InjectOptions, profile: Profile, title: string): Promise<void> {
  const { send, handlerRuns } = await testApp(t, { profile })
  const { statusCode, body } = await send(wrong)
  t.equal(statusCode, 401, `${title}: ${body}`)
  t.equal(handlerRuns(), 0)
}

t.test('a signature has one spelling: spare bits, missing padding and another alphabet are refused', async (t) => {
  const { send } = await testApp(t)
  const right = signed({ path })
  const [, text] = /^sig1=:(.*)=:$/.exec(right.headers['signature']!)!
  const last = text!.at(-1)!
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'
  const twins = [1, 2, 3].map((spare) => `${text!.slice(0, -1)}${alphabet[alphabet.indexOf(last) + spare]}=`)
  for (const twin of [...twins, text!, `${text!}==`, `${text!}=`.replaceAll('+', '-').replaceAll('/', '_') + ' ', ` ${text!}=`]) {
    isRefused(t, await send({ ...right, headers: { ...right.headers, signature: `sig1=:${twin}:` } }), invalid, twin)
  }
  t.equal((await send(right)).statusCode, 200)
})

// Freshness

t.test('freshness: an unsigned or second timestamp does not help an old request', async (t) => {
  const date = (ms: number): string => new Date(ms).toUTCString()
  const kong = authorizationHmac({ dialect: 'kong', accepts: ['no-nonce', 'no-key-id'] })
  const old = signed({ path }, signerFor({ profile: kong, clock: () => NOW - 86_400_000 }))
  await refuses(t, { ...old, headers: { ...old.headers, 'x-date': date(NOW) } }, expired, 'a fresh X-Date beside the signed Date', kong)
  await refuses(t, { ...old, headers: { ...old.headers, date: date(NOW) } }, invalid, 'a fresh Date in its place', kong)
  const { app } = await testApp(t, { profile: kong })
  for (const lines of [[`date: ${date(NOW)}`, ...linesOf(old.headers)], [...linesOf(old.headers), `date: ${date(NOW)}`]]) {
    isRefused(t, await sendRaw(app, `GET ${path} HTTP/1.1`, lines), ambiguous, 'a second Date')
  }
  const unsigned = { date: date(NOW), authorization: `hmac username="${KEY_ID}",algorithm="hmac-sha256",headers="@request-target host",signature="${macOf('@request-target: get /orders?page=2\nhost: api.example')}"` }
  await refuses(t, request(unsigned), insufficient, 'no timestamp signed', kong)
  const plain = signed({ path }, signerFor({ profile: headers(), clock: () => NOW - 86_400_000 }))
  await refuses(t, { ...plain, headers: { ...plain.headers, date: date(NOW) } }, expired, 'a fresh Date', headers())
  await refuses(t, { ...plain, headers: { ...plain.headers, 'x-timestamp': String(seconds) } }, invalid, 'a fresh timestamp', headers())
})

t.test('freshness: a request at one edge of the window, replayed at the other, is refused', async (t) => {
  for (const profile of [rfc9421(), profiles['kong']!]) {
    let now = NOW
    const { send } = await testApp(t, { profile, clock: () => now, store: memoryStore({ clock: () => now }) })
    const ahead = signed({ path }, signerFor({ profile, clock: () => NOW + 5_000 }))
    t.equal((await send({ ...ahead, headers: { ...ahead.headers } })).statusCode, 200)
    for (const [ms, code] of [[1_000, 'ERR_HMAC_AUTH_SIGNATURE_REPLAYED'], [69_999, 'ERR_HMAC_AUTH_SIGNATURE_REPLAYED'], [70_000, expired]] as const) {
      now = NOW + ms
      isRefused(t, await send({ ...ahead, headers: { ...ahead.headers } }), code, `${ms} ms later`)
    }
  }
})

t.test('freshness: `expires` ends a signature before its window does', async (t) => {
  const make = (expires: number) => request(handSigned({ components: floorComponents, parameters: `${defaultParameters()};expires=${expires}` }))
  const { send } = await testApp(t, { clockToleranceSeconds: 0 })
  t.equal((await send(make(seconds + 1))).statusCode, 200)
  isRefused(t, await send(make(seconds)), expired)
})

t.test('freshness: seconds taken for milliseconds, and the other way round, are far from now', async (t) => {
  const milliseconds = headers({ timestampFormat: 'milliseconds' })
  await refuses(t, signed({ path }, signerFor({ profile: milliseconds })), invalid, 'thirteen digits are no seconds', headers())
  await refuses(t, signed({ path }, signerFor({ profile: headers() })), expired, 'ten digits are milliseconds of 1970', milliseconds)
})

// Nonces are claimed last

t.test('ten thousand wrong signatures leave the store empty', async (t) => {
  const store = memoryStore({ clock: () => NOW - 3_600_000 })
  const { send, handlerRuns } = await testApp(t, { store })
  const right = signed({ path })
  for (let i = 0; i < 10_000; i++) {
    const signature = `sig1=:${createHash('sha256').update(String(i)).digest('base64')}:`
    if ((await send({ ...right, headers: { ...right.headers, signature } })).statusCode !== 401) t.fail(`${i} was not refused`)
  }
  t.equal(store.size, 0)
  t.equal(handlerRuns(), 0)
  t.equal((await send(right)).statusCode, 200, 'and the honest client\'s nonce is still good')
})

t.test('a request refused for any other reason can be sent again by its honest client', async (t) => {
  let now = NOW - 70_000
  const { app, send } = await testApp(t, { clock: () => now })
  const right = signed({ method: 'POST', path, body: '{"a":1}', headers: json })
  const again = (): InjectOptions => ({ ...right, headers: { ...right.headers } })
  isRefused(t, await send(again()), expired, 'ahead of the server\'s clock')
  now = NOW
  isRefused(t, await send({ ...again(), payload: '{"a":2}' }), digestInvalid)
  isRefused(t, await send({ ...again(), url: '/other' }), invalid)
  t.equal((await sendRaw(app, `POST ${path} HTTP/1.1`, [...linesOf(right.headers), 'content-length: 7'], '{"a":2}')).status, 401)
  t.equal((await send(again())).statusCode, 200)
  isRefused(t, await send(again()), 'ERR_HMAC_AUTH_SIGNATURE_REPLAYED')
})

t.test('a nonce belongs to its key: another key\'s is another one', async (t) => {
  const { send } = await testApp(t)
  const nonce = (): string => 'shared'
  t.equal((await send(signed({ path }, signerFor({ nonce })))).statusCode, 200)
  t.equal((await send(signed({ path }, signerFor({ nonce, keyId: 'wms-1', secret: otherSecret })))).statusCode, 200)
  isRefused(t, await send(signed({ path }, signerFor({ nonce }))), 'ERR_HMAC_AUTH_SIGNATURE_REPLAYED')
})

t.test('key ids and nonces can\'t be cut anew into another pair', async (t) => {
  const keys = ['a', 'a:b'].map((id, i) => ({ id, secret: Buffer.alloc(32, i + 1), tenant: 't' }))
  const { send } = await testApp(t, { keys })
  for (const [i, nonce] of ['b:c', 'c'].entries()) {
    const { id: keyId, secret } = keys[i]!
    t.equal((await send(signed({ path }, signerFor({ keyId, secret, nonce: () => nonce })))).statusCode, 200, `${keyId} and ${nonce}`)
  }
})

// Ambiguity

for (const [name, profile] of Object.entries(profiles)) {
  t.test(`${name}: repeated headers of the signature are refused, whichever comes first, even with equal values`, async (t) => {
    const { app, handlerRuns } = await testApp(t, { profile })
    const right = signed({ path }, signerFor({ profile }))
    for (const [header, value] of Object.entries(right.headers).filter(([header]) => header !== 'host')) {
      const rest = linesOf(Object.fromEntries(Object.entries(right.headers).filter(([other]) => other !== header)))
      for (const [first, second] of [[value, value], ['x', value], [value, 'x'], [value, '']]) {
        const answer = await sendRaw(app, `GET ${path} HTTP/1.1`, [`${header}: ${first}`, ...rest, `${header.toUpperCase()}: ${second}`])
        t.equal(answer.status, 401, `${header}: ${first?.slice(0, 9)}, ${second?.slice(0, 9)}`)
      }
      const joined = await sendRaw(app, `GET ${path} HTTP/1.1`, [...rest, `${header}: ${value}, ${value}`])
      t.equal(joined.status, 401, `${header}, joined`)
    }
    t.equal(handlerRuns(), 0)
  })
}

t.test('several signatures in one request: the profile\'s label chooses, else none counts', async (t) => {
  const mine = handSigned({ components: floorComponents })
  const both = { 'signature-input': `${mine['signature-input']}, proxy=();created=1`, 'signature': `proxy=:AAAA:, ${mine.signature}` }
  await refuses(t, request(both), ambiguous, 'no label')
  t.equal((await (await testApp(t, { profile: rfc9421({ label: 'sig1' }) })).send(request(both))).statusCode, 200)
  await refuses(t, request(both), insufficient, 'another label', rfc9421({ label: 'proxy' }))
})

t.test('two signatures of one kind of credential: Basic beside hmac is not both', async (t) => {
  const kong = profiles['kong']!
  const { app } = await testApp(t, { profile: kong })
  const right = signed({ path }, signerFor({ profile: kong }))
  for (const lines of [['authorization: Basic dTpw', ...linesOf(right.headers)], [...linesOf(right.headers), 'authorization: Basic dTpw']]) {
    isRefused(t, await sendRaw(app, `GET ${path} HTTP/1.1`, lines), ambiguous)
  }
})

// Keys

t.test('an unknown key and a wrong signature are one: same code, same message, same headers', async (t) => {
  for (const profile of Object.values(profiles)) {
    const { send } = await testApp(t, { profile })
    const post = { method: 'POST', path, body: 'x', headers: { 'content-type': 'text/plain' } }
    const [unknown, wrong] = [await send(signed(post, signerFor({ profile, keyId: 'nobody' }))), await send(signed(post, signerFor({ profile, secret: otherSecret })))]
    isRefused(t, unknown, invalid)
    t.equal(unknown.body, wrong.body)
    t.same({ ...unknown.headers, date: 0 }, { ...wrong.headers, date: 0 })
  }
})

t.test('keys that objects inherit, and the empty key, are unknown', async (t) => {
  for (const keyId of ['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'nobody']) {
    for (const key of [Buffer.alloc(0), Buffer.from('nobody')]) {
      const list = `(${Object.keys(floorComponents).map((name) => `"${name}"`).join(' ')});created=${seconds};keyid="${keyId}";nonce="n"`
      const base = `${Object.entries(floorComponents).map(([name, value]) => `"${name}": ${value}\n`).join('')}"@signature-params": ${list}`
      await refuses(t, request({ 'signature-input': `sig1=${list}`, 'signature': `sig1=:${macOf(base, 'base64', key)}:` }), invalid, keyId)
    }
  }
})

t.test('the algorithm is the key\'s: none, another one and a weaker one are refused', async (t) => {
  for (const alg of ['"none"', '"hmac-md5"', '"hmac-sha1"', '"hmac-sha512"', '"HMAC-SHA256"', '""', 'hmac-sha256', '1']) {
    await refuses(t, request(handSigned({ components: floorComponents, parameters: `${defaultParameters()};alg=${alg}` })), invalid, alg)
  }
  const both = rfc9421({ algorithms: ['hmac-sha256', 'hmac-sha512'] })
  const long = Buffer.alloc(64, 5)
  const { send } = await testApp(t, { profile: both, keys: [{ id: KEY_ID, secret: long, tenant: 't', algorithm: 'hmac-sha256' }, { id: 'any', secret: Buffer.alloc(64, 6), tenant: 't' }] })
  t.equal((await send(signed({ path }, signerFor({ profile: both, secret: long })))).statusCode, 200)
  isRefused(t, await send(signed({ path }, signerFor({ profile: both, secret: long, algorithm: 'hmac-sha512' }))), invalid, 'pinned to the other')
  for (const algorithm of both.algorithms) t.equal((await send(signed({ path }, signerFor({ profile: both, keyId: 'any', secret: Buffer.alloc(64, 6), algorithm })))).statusCode, 200)
  const named = (algorithm: string) => request(handSigned({ components: floorComponents, parameters: `${defaultParameters()};alg="${algorithm}"`, key: long }))
  t.equal((await send(named('hmac-sha256'))).statusCode, 200)
  isRefused(t, await send(named('hmac-sha512')), invalid, 'the MAC of one, the name of another')
})

t.test('a right signature under another name of algorithm of the same key proves nothing', async (t) => {
  const kong = authorizationHmac({ dialect: 'kong', accepts: ['no-nonce', 'no-key-id'], algorithms: ['hmac-sha256', 'hmac-sha1'] })
  const right = signed({ path }, signerFor({ profile: kong }))
  const renamed = { ...right, headers: { ...right.headers, authorization: right.headers['authorization']!.replace('hmac-sha256', 'hmac-sha1') } }
  await refuses(t, renamed, invalid, 'renamed', kong)
})

// Digests

t.test('a digest that can\'t be checked, or is not of this body, is refused', async (t) => {
  const body = 'hello'
  const sha = (algorithm: string): string => createHash(algorithm).update(body).digest('base64')
  const right = `sha-256=:${sha('sha256')}:`
  const cases: readonly (readonly [string, number])[] = [
    [right, 200], [`sha-512=:${sha('sha512')}:`, 200], [`${right}, sha-512=:${sha('sha512')}:`, 200], [`md5=:${sha('md5')}:, ${right}`, 200],
    [`md5=:${sha('md5')}:`, 401], [`sha=:${sha('sha1')}:`, 401], [`${right}, sha-512=:${sha('sha256')}:`, 401], [`${right}, sha-512=:${createHash('sha512').digest('base64')}:`, 401],
    [`sha-256=:${createHash('sha256').digest('base64')}:`, 401], ['sha-256=::', 401], ['sha-256', 401], [`sha-256="${sha('sha256')}"`, 401], ['', 401], [`${right}, ${right}`, 401], ['x', 401]
  ]
  for (const [digest, status] of cases) {
    const { send } = await testApp(t)
    const components = { ...floorComponents, '@method': 'POST', 'content-digest': digest }
    const { statusCode } = await send(request({ ...handSigned({ components }), 'content-digest': digest, 'content-type': 'text/plain' }, { method: 'POST', payload: body }))
    t.equal(statusCode, status, digest)
  }
})

t.test('a digest of no body on a request without one is fine, and of another body is not', async (t) => {
  for (const [digest, status] of [[createHash('sha256').digest('base64'), 200], [createHash('sha256').update('x').digest('base64'), 401]] as const) {
    const components = { ...floorComponents, 'content-digest': `sha-256=:${digest}:` }
    const { send } = await testApp(t)
    t.equal((await send(request({ ...handSigned({ components }), 'content-digest': components['content-digest'] }))).statusCode, status)
  }
})

// Limits

t.test('lists of thousands of components and parameters are refused in no time', async (t) => {
  const { send } = await testApp(t)
  const kong = await testApp(t, { profile: profiles['kong']! })
  const many = Array.from({ length: 1_500 }, (_, i) => `"h${i}"`).join(' ')
  const before = performance.now()
  for (let i = 0; i < 20; i++) {
    t.equal((await send(request({ 'signature-input': `sig1=(${many})`, 'signature': 'sig1=:AA==:' }))).statusCode, 401)
    t.equal((await send(request({ 'signature-input': `sig1=()${';a'.repeat(5_000)}`, 'signature': 'sig1=:AA==:' }))).statusCode, 401)
    t.equal((await send(request({ 'signature-input': '('.repeat(10_000), 'signature': 'sig1=:AA==:' }))).statusCode, 401)
    t.equal((await kong.send(request({ authorization: `hmac ${'a="b",'.repeat(2_000)}` }))).statusCode, 401)
    t.equal((await kong.send(request({ authorization: `hmac ${' '.repeat(10_000)}` }))).statusCode, 401)
    t.equal((await kong.send(request({ authorization: `hmac username="a",algorithm="hmac-sha256",headers="${'h '.repeat(3_000)}",signature="AA=="` }))).statusCode, 401)
  }
  t.ok(performance.now() - before < 5_000)
})

t.test('random changes of a right request never pass and never fail', async (t) => {
  const { send } = await testApp(t, { ...validOptions(), maxLiveClaimsPerKey: 1_000_000 })
  await fc.assert(fc.asyncProperty(fc.nat(), fc.integer({ min: 32, max: 255 }), fc.constantFrom('signature-input', 'signature'), async (seed, code, header) => {
    const right = signed({ path })
    const value = right.headers[header]!
    const at = seed % value.length
    const changed = value.slice(0, at) + String.fromCharCode(code) + value.slice(at + 1)
    const { statusCode } = await send({ ...right, headers: { ...right.headers, [header]: changed } })
    return changed === value ? statusCode === 200 : statusCode === 401
  }), { numRuns: 500 })
})
