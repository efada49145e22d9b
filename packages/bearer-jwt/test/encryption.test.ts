import { generateKeyPairSync, randomBytes, type JsonWebKey, type KeyObject } from 'node:crypto'
import { inspect } from 'node:util'
import { deflateRawSync } from 'node:zlib'
import { isOptionsError, memoryStore } from '@sallyport/guard'
import Fastify from 'fastify'
import { CompactEncrypt } from 'jose'
import t from 'tap'
import {
  bearerJwt, contentEncryptionAlgorithms, keyManagementAlgorithms, type BearerJwtOptions, type DecryptionKey, type EncryptionOptions, type KeyManagementAlgorithm
} from '../src/index.js'
import { isRefused, testApp, validOptions } from './fixtures/app.js'
import { claims, encode, hmacToken, NOW, otherSecret, p256, publicPem, rsa, secret, signedToken } from './fixtures/tokens.js'

const invalid = 'ERR_BEARER_JWT_TOKEN_INVALID'
const shared = randomBytes(32)
const rsaPair = generateKeyPairSync('rsa', { modulusLength: 2048 })
const pairs = {
  'P-256': generateKeyPairSync('ec', { namedCurve: 'P-256' }), 'P-384': generateKeyPairSync('ec', { namedCurve: 'P-384' }), 'P-521': generateKeyPairSync('ec', { namedCurve: 'P-521' }),
  'X25519': generateKeyPairSync('x25519')
}
const ec = pairs['P-256']

const header = { alg: 'RSA-OAEP-256', enc: 'A256GCM', cty: 'JWT' }
type Header = Readonly<Record<string, unknown>>

/** Encrypts by jose, whatever the header says; `undefined` takes a member away. */
function sealed (inner: string | Uint8Array, key: KeyObject | Uint8Array = rsaPair.publicKey, given: Header = {}): Promise<string> {
  const full = Object.fromEntries(Object.entries({ ...header, ...given }).filter(([, value]) => value !== undefined)) as typeof header
  return new CompactEncrypt(Buffer.from(inner)).setProtectedHeader(full).encrypt(key)
}

/** The token under another header, which its tag does not cover. */
function withHeader (token: string, part: object | string): string {
  return [encode(part), ...token.split('.').slice(1)].join('.')
}

function encryption (given: Partial<EncryptionOptions> = {}): EncryptionOptions {
  return { mode: 'required', keys: [{ key: rsaPair.privateKey, algorithm: 'RSA-OAEP-256', id: 'enc' }], keyManagement: ['RSA-OAEP-256'], contentEncryption: ['A256GCM'], ...given }
}

const signed = hmacToken(claims)

t.test('takes sealed tokens alone where encryption is required, both where it is accepted, and signed ones alone without it', async (t) => {
  const token = await sealed(signed)
  const expected: readonly (readonly [Partial<BearerJwtOptions>, number, number, string])[] = [
    [{ encryption: encryption() }, 200, 401, 'not-encrypted'], [{ encryption: encryption({ mode: 'accepted' }) }, 200, 200, ''], [{}, 401, 200, 'malformed']
  ]
  for (const [options, whenSealed, whenSigned, reason] of expected) {
    const { send, identity, decisions } = await testApp(t, options)
    const answers = [await send(token), await send(signed)]
    t.same(answers.map(({ statusCode }) => statusCode), [whenSealed, whenSigned])
    for (const answer of answers) if (answer.statusCode !== 200) isRefused(t, answer, invalid)
    t.same(identity().claims, claims)
    t.equal(identity().keyId, 'live', 'the key that signed it, not the one that opened it')
    if (reason !== '') t.equal(decisions.find(({ outcome }) => outcome !== 'passed')?.reason, reason)
  }
})

/** Each way to use each algorithm: what opens the token, and what seals it. */
const ways: readonly (readonly [KeyManagementAlgorithm, DecryptionKey['key'], KeyObject | Uint8Array])[] = [
  ['dir', shared, shared],
  ['dir', { kty: 'oct', k: shared.toString('base64url') }, shared],
  ['A256KW', shared, shared],
  ['RSA-OAEP-256', rsaPair.privateKey, rsaPair.publicKey],
  ['RSA-OAEP-256', rsaPair.privateKey.export({ format: 'jwk' }), rsaPair.publicKey],
  ...Object.values(pairs).flatMap(({ privateKey, publicKey }) => (['ECDH-ES', 'ECDH-ES+A256KW'] as const).map((algorithm) => [algorithm, privateKey, publicKey] as const)),
  ['ECDH-ES', ec.privateKey.export({ format: 'jwk' }), ec.publicKey]
]

t.test('opens tokens of every key management and content encryption that is offered', async (t) => {
  t.same(new Set(ways.map(([algorithm]) => algorithm)), new Set(keyManagementAlgorithms), 'every algorithm is tried')
  for (const [algorithm, key, sealingKey] of ways) {
    for (const enc of contentEncryptionAlgorithms) {
      const { send, identity } = await testApp(t, { encryption: encryption({ keys: [{ key, algorithm }], keyManagement: [algorithm], contentEncryption: [enc] }) })
      t.equal((await send(await sealed(signed, sealingKey, { alg: algorithm, enc }))).statusCode, 200, `${algorithm} and ${enc}`)
      t.equal(identity().subject, 'alice')
    }
  }
})

t.test('takes no other algorithm, even where a key would fit', async (t) => {
  for (const [algorithm, key, sealingKey] of ways) {
    const enc = contentEncryptionAlgorithms[0]
    const { send, decisions, handlerRuns } = await testApp(t, { encryption: encryption({ keys: [{ key, algorithm }], keyManagement: [algorithm], contentEncryption: [enc] }) })
    for (const [alg, , otherKey] of ways.filter(([other]) => other !== algorithm)) isRefused(t, await send(await sealed(signed, otherKey, { alg, enc })), invalid, `${alg} for ${algorithm}`)
    isRefused(t, await send(await sealed(signed, sealingKey, { alg: algorithm, enc: contentEncryptionAlgorithms[1] })), invalid, `another encryption with ${algorithm}`)
    t.same([...new Set(decisions.map(({ reason }) => reason))], ['algorithm'])
    t.equal(handlerRuns(), 0)
  }
  const { send } = await testApp(t, { encryption: encryption() })
  for (const alg of ['RSA-OAEP', 'RSA-OAEP-512']) isRefused(t, await send(await sealed(signed, rsaPair.publicKey, { alg })), invalid, alg)
  const right = await sealed(signed)
  for (const other of [{ alg: 'RSA1_5' }, { alg: 'none' }, { alg: ['RSA-OAEP-256'] }, { alg: null }, { alg: undefined }, { enc: 'none' }, { enc: undefined }, { enc: ['A256GCM'] }, { enc: 'A128GCM' }]) {
    isRefused(t, await send(withHeader(right, { ...header, ...other })), invalid, JSON.stringify(other))
  }
  isRefused(t, await send(withHeader(right, '{"__proto__":{"alg":"RSA-OAEP-256","enc":"A256GCM","cty":"JWT"}}')), invalid, 'inherited members')
})

t.test('picks keys by id: a named key stands alone, an unnamed one fits every id', async (t) => {
  const [a, b, unnamed] = [randomBytes(32), randomBytes(32), randomBytes(32)]
  const keys = [{ key: a, id: 'a', algorithm: 'dir' }, { key: b, id: 'b', algorithm: 'dir' }] as const
  const only = (list: readonly DecryptionKey[]) => testApp(t, { encryption: encryption({ keys: list, keyManagement: ['dir'] }) })
  const two = await only(keys)
  for (const [kid, key, status] of [['a', a, 200], ['b', b, 200], [undefined, b, 200], ['a', b, 401], ['b', a, 401], ['c', a, 401], ['', a, 401]] as const) {
    t.equal((await two.send(await sealed(signed, key, { alg: 'dir', kid }))).statusCode, status, `kid ${kid}`)
  }
  const three = await only([...keys, { key: unnamed, algorithm: 'dir' }])
  for (const kid of ['a', 'c', undefined]) t.equal((await three.send(await sealed(signed, unnamed, { alg: 'dir', kid }))).statusCode, 200, `kid ${kid}`)
  const right = await sealed(signed, a, { alg: 'dir' })
  for (const kid of [null, 1, ['a'], {}]) isRefused(t, await two.send(withHeader(right, { ...header, alg: 'dir', kid })), invalid, JSON.stringify(kid))
})

t.test('hands over keys while both are live, and judges that of known tokens too', async (t) => {
  let now = NOW
  const at = (seconds: number): Date => new Date((NOW + seconds) * 1000)
  const [old, fresh] = [randomBytes(32), randomBytes(32)]
  const { send } = await testApp(t, {
    clock: () => now * 1000,
    encryption: encryption({ keyManagement: ['dir'], keys: [{ key: old, id: 'old', algorithm: 'dir', notAfter: at(100) }, { key: fresh, id: 'new', algorithm: 'dir', notBefore: at(50) }] })
  })
  const far = hmacToken({ exp: NOW + 1000 })
  const tokens = [await sealed(far, old, { alg: 'dir', kid: 'old' }), await sealed(far, fresh, { alg: 'dir', kid: 'new' }), await sealed(far, old, { alg: 'dir' }), await sealed(far, fresh, { alg: 'dir' })]
  for (const [seconds, whenOld, whenNew] of [[0, 200, 401], [49, 200, 401], [50, 200, 200], [99, 200, 200], [100, 401, 200], [900, 401, 200]] as const) {
    now = NOW + seconds
    const statuses = []
    for (const token of tokens) statuses.push((await send(token)).statusCode)
    t.same(statuses, [whenOld, whenNew, whenOld, whenNew], `${seconds} s`)
  }
})

t.test('follows a list that changes, for known tokens too, and is unavailable while there is none that can be used', async (t) => {
  const [old, fresh] = [randomBytes(32), randomBytes(32)]
  const entry = (key: Uint8Array, id: string): DecryptionKey => ({ key, id, algorithm: 'dir' })
  let keys: unknown = [entry(old, 'old')]
  const asked = (): readonly DecryptionKey[] => {
    if (keys instanceof Error) throw keys
    return keys as readonly DecryptionKey[]
  }
  const { send, decisions } = await testApp(t, { encryption: encryption({ keyManagement: ['dir'], keys: asked }) })
  const tokens = [await sealed(signed, old, { alg: 'dir', kid: 'old' }), await sealed(signed, fresh, { alg: 'dir', kid: 'new' })]
  const statuses = async (): Promise<readonly number[]> => Promise.all(tokens.map(async (token) => (await send(token)).statusCode))
  t.same(await statuses(), [200, 401])
  keys = [entry(old, 'old'), entry(fresh, 'new')]
  t.same(await statuses(), [200, 200], 'a key more; the old one in a new object')
  keys = [entry(fresh, 'new')]
  t.same(await statuses(), [401, 200], 'a key that is gone counts no more')
  keys = [entry(old, 'new'), entry(fresh, 'old')]
  t.same(await statuses(), [401, 401], 'an id that names another key now')
  for (const unusable of [[], undefined, 'old', [{ ...entry(fresh, 'new'), algorithm: 'A256KW' }], [entry(randomBytes(31), 'new')], new Error('no keys here')]) {
    keys = unusable
    for (const token of tokens) {
      const answer = await send(token)
      isRefused(t, answer, 'ERR_BEARER_JWT_KEYS_UNAVAILABLE', inspect(unusable))
      t.equal(answer.headers['retry-after'], '1')
    }
    t.equal(decisions.at(-1)?.reason, 'resolver')
  }
  keys = [entry(old, 'old'), entry(fresh, 'new')]
  t.same(await statuses(), [200, 200], 'as soon as it can be had again')
})

t.test('encryption to a public key proves nothing: without a right signature inside, a token is refused', async (t) => {
  const signer = { rsa, ec: p256 }
  const options: Partial<BearerJwtOptions> = {
    keys: [{ key: signer.rsa.publicKey, id: 'rsa' }, { key: signer.ec.publicKey, id: 'ec' }],
    encryption: encryption({ keyManagement: ['RSA-OAEP-256', 'ECDH-ES'], keys: [{ key: rsaPair.privateKey, algorithm: 'RSA-OAEP-256' }, { key: ec.privateKey, algorithm: 'ECDH-ES' }] })
  }
  const right = signedToken(claims, signer.rsa.privateKey, 'RS256')
  const [, payload, signature] = right.split('.') as [string, string, string]
  const attacker = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const jwk = attacker.publicKey.export({ format: 'jwk' })
  const publicTexts = [publicPem, ...[rsaPair.publicKey, ec.publicKey].flatMap((key) => [key.export({ type: 'spki', format: 'pem' }).toString(), JSON.stringify(key.export({ format: 'jwk' }))]), '']
  for (const [alg, key] of [['RSA-OAEP-256', rsaPair.publicKey], ['ECDH-ES', ec.publicKey]] as const) {
    const forged: Readonly<Record<string, readonly [string, Header?]>> = {
      'claims as JSON': [JSON.stringify(claims)],
      'claims as JSON, declared so': [JSON.stringify(claims), { cty: 'json' }],
      'claims as JSON, without cty': [JSON.stringify(claims), { cty: undefined }],
      'alg none': [`${encode({ alg: 'none' })}.${payload}.`],
      'alg none with a signature': [`${encode({ alg: 'none' })}.${payload}.${signature}`],
      'no signature': [`${encode({ alg: 'RS256' })}.${payload}.`],
      ...Object.fromEntries(publicTexts.map((text, i) => [`HS256 with public text ${i}`, [hmacToken(claims, text)]])),
      'HS256 with the bytes of the public key': [hmacToken(claims, rsaPair.publicKey.export({ type: 'spki', format: 'der' }))],
      'signed with the attacker\'s key': [signedToken(claims, attacker.privateKey, 'ES256', { kid: 'ec', jwk })],
      'encrypted twice': [await sealed(right, key, { alg })],
      'encrypted twice around claims': [await sealed(JSON.stringify(claims), key, { alg })],
      'a right token without cty': [right, { cty: undefined }],
      'a right token with another cty': [right, { cty: 'JOSE' }],
      'a right token with a cty that is no text': [right, { cty: ['JWT'] }],
      'a right token as JSON': [JSON.stringify({ protected: encode({ alg: 'RS256' }), payload, signature })],
      'a right token and more': [`${right} `],
      'nothing': [''],
      'bytes above 127': ['\u{1f600}.é.ü']
    }
    const { send, handlerRuns } = await testApp(t, options)
    const bodies = new Set<string>()
    for (const [title, [inner, given]] of Object.entries(forged)) {
      const answer = await send(await sealed(inner, key, { alg, ...given }))
      isRefused(t, answer, invalid, `${alg}: ${title}`)
      bodies.add(answer.body)
    }
    t.equal(bodies.size, 1, 'one code and one message')
    t.equal(handlerRuns(), 0)
    for (const cty of ['JWT', 'jwt']) t.equal((await send(await sealed(right, key, { alg, cty }))).statusCode, 200, 'and a right token passes')
  }
})

t.test('gives one refusal, whatever keeps a token from being opened', async (t) => {
  const { send, decisions, handlerRuns } = await testApp(t, { encryption: encryption() })
  const right = await sealed(signed)
  const parts = right.split('.')
  const bodies = new Set<string>()
  const refuse = async (token: string, title: string): Promise<void> => {
    const answer = await send(token)
    isRefused(t, answer, invalid, title)
    bodies.add(answer.body)
  }
  for (const [i, part] of parts.entries()) {
    for (const at of [0, Math.floor(part.length / 2), part.length - 1]) await refuse(parts.map((one, j) => i === j ? flipped(one, at) : one).join('.'), `part ${i}, character ${at}`)
    for (const other of ['', part.slice(0, -4), `${part}AAAA`, `${part}=`, `${part} `, 'A', `${part}+`, 'A'.repeat(10)]) await refuse(parts.map((one, j) => i === j ? other : one).join('.'), `part ${i}: ...${other.slice(-4)}`)
  }
  await refuse(await sealed(signed, generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey), 'for another key')
  await refuse(await sealed(signed, rsaPair.publicKey, { kid: 'unknown' }), 'for an unknown key id')
  await refuse(await sealed(hmacToken(claims, otherSecret)), 'wrongly signed inside')
  for (const token of [`${right}.`, `.${right}`, `${right}.x`, parts.slice(0, 4).join('.'), `${right},${right}`, '....', 'a.b.c.d.e']) await refuse(token, token.slice(-12))
  t.equal(bodies.size, 1)
  t.equal(handlerRuns(), 0)
  t.ok(['decryption', 'malformed', 'signature'].every((reason) => decisions.some((decision) => decision.reason === reason)), 'events know more')
})

t.test('answers what is rightly signed inside by its own code', async (t) => {
  const { send } = await testApp(t, { encryption: encryption(), audience: 'api' })
  isRefused(t, await send(await sealed(hmacToken({ exp: NOW, aud: 'api' }))), 'ERR_BEARER_JWT_TOKEN_EXPIRED')
  isRefused(t, await send(await sealed(hmacToken({ exp: NOW + 1, aud: 'other' }))), 'ERR_BEARER_JWT_CLAIMS_INVALID')
})

t.test('refuses what would cost work before it touches a key', async (t) => {
  const subtle = Object.getPrototypeOf(globalThis.crypto.subtle) as Record<string, (...args: unknown[]) => unknown>
  let keyWork = 0
  for (const name of ['importKey', 'decrypt', 'deriveBits', 'deriveKey', 'unwrapKey', 'verify', 'sign']) {
    const work = subtle[name]!
    subtle[name] = function (...args) { keyWork++; return work.apply(this, args) }
    t.teardown(() => { subtle[name] = work })
  }
  const dir = { keys: [{ key: shared, algorithm: 'dir' }], keyManagement: ['dir'] } as const
  const { send, handlerRuns } = await testApp(t, { maxTokenBytes: 1_048_576, encryption: encryption(dir) })
  const right = await sealed(signed, shared, { alg: 'dir' })
  const bomb = await sealed(deflateRawSync(Buffer.alloc(50 * 2 ** 20, 'a')), shared, { alg: 'dir' })
  const base = { ...header, alg: 'dir' }
  const costly: Readonly<Record<string, string>> = {
    'a bomb': withHeader(bomb, { ...base, zip: 'DEF' }),
    'zip': withHeader(right, { ...base, zip: 'DEF' }),
    'zip that is null': withHeader(right, { ...base, zip: null }),
    'PBES2': withHeader(right, { ...base, alg: 'PBES2-HS256+A128KW', p2c: 2 ** 31 - 1, p2s: 'AAAAAAAAAAA' }),
    'PBES2 parameters on another algorithm': withHeader(right, { ...base, p2c: 2 ** 31 - 1, p2s: 'AAAAAAAAAAA' }),
    'a huge p2c alone': withHeader(right, { ...base, p2c: 1e308 }),
    'RSA1_5': withHeader(right, { ...base, alg: 'RSA1_5' }),
    'crit': withHeader(right, { ...base, crit: ['exp'] }),
    'crit that is empty': withHeader(right, { ...base, crit: [] }),
    'b64': withHeader(right, { ...base, b64: true }),
    'a deep header': withHeader(right, `{"alg":"PBES2-HS512+A256KW","a":${'['.repeat(100_000)}${']'.repeat(100_000)}}`)
  }
  keyWork = 0
  await send('warm.up.token.of.nobody')
  for (const [title, token] of Object.entries(costly)) {
    const startedAt = performance.now()
    const heapBefore = process.memoryUsage().rss
    isRefused(t, await send(token), invalid, title)
    t.ok(performance.now() - startedAt < 200, `${title}: refused in no time`)
    t.ok(process.memoryUsage().rss - heapBefore < 20 * 2 ** 20, `${title}: for next to no memory`)
  }
  t.equal(keyWork, 0)
  t.equal(handlerRuns(), 0)
  t.equal((await send(right)).statusCode, 200)
  t.ok(keyWork > 0, 'a token that may be opened is opened with WebCrypto')
})

t.test('leaves longer tokens unread', async (t) => {
  const { send, decisions } = await testApp(t, { encryption: encryption() })
  const token = await sealed(signed)
  isRefused(t, await send(`${token}${'A'.repeat(8_193 - token.length)}`), invalid)
  t.not(decisions.at(-1)?.reason, 'decryption')
})

t.test('holds replicated claims to those inside', async (t) => {
  const inside = { ...claims, iss: 'https://us', aud: ['a', 'b'] }
  const { send, decisions } = await testApp(t, { encryption: encryption() })
  for (const given of [{ iss: 'https://us' }, { sub: 'alice' }, { aud: ['a', 'b'] }, { iss: 'https://us', sub: 'alice' }, { custom: 'ignored' }]) {
    t.equal((await send(await sealed(hmacToken(inside), rsaPair.publicKey, given))).statusCode, 200, JSON.stringify(given))
  }
  for (const given of [{ iss: 'https://attacker' }, { iss: ['https://us'] }, { iss: null }, { sub: 'bob' }, { aud: 'a' }, { aud: ['a'] }, { aud: ['b', 'a'] }]) {
    isRefused(t, await send(await sealed(hmacToken(inside), rsaPair.publicKey, given)), 'ERR_BEARER_JWT_CLAIMS_INVALID', JSON.stringify(given))
    t.equal(decisions.at(-1)?.reason, 'replicated')
  }
  isRefused(t, await send(await sealed(hmacToken(claims), rsaPair.publicKey, { iss: 'https://us' })), 'ERR_BEARER_JWT_CLAIMS_INVALID', 'where the claim is not inside')
})

t.test('counts a one-shot token as used however often it is sealed anew', async (t) => {
  const { send, handlerRuns } = await testApp(t, { encryption: encryption({ mode: 'accepted' }), store: memoryStore({ clock: () => NOW * 1000 }) }, { policy: (guard) => guard.require({ singleUse: true }) })
  for (const inner of [hmacToken({ ...claims, nbf: NOW, jti: 'a' }), hmacToken({ ...claims, nbf: NOW })]) {
    t.equal((await send(await sealed(inner))).statusCode, 200)
    for (const again of [await sealed(inner), inner]) isRefused(t, await send(again), 'ERR_BEARER_JWT_TOKEN_REUSED')
  }
  t.equal(handlerRuns(), 2)
})

t.test('names the option of encryption and the rule that is broken', async (t) => {
  const weak = generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey
  const k1 = generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).privateKey
  const key = (given: object): object => ({ ...encryption(), keyManagement: [...keyManagementAlgorithms], keys: [given] })
  const publicJwk: JsonWebKey = rsaPair.publicKey.export({ format: 'jwk' })
  const wrong: readonly (readonly [object | null, string, RegExp])[] = [
    [{}, 'encryption.mode', /is required/],
    [{ ...encryption(), mode: 'optional' }, 'encryption.mode', /must be one of: required, accepted/],
    [{ ...encryption(), keyManagement: undefined }, 'encryption.keyManagement', /is required: algorithms are pinned/],
    [{ ...encryption(), keyManagement: [] }, 'encryption.keyManagement', /non-empty list/],
    [{ ...encryption(), keyManagement: ['RSA1_5'] }, 'encryption.keyManagement', /must hold only: dir, A256KW/],
    [{ ...encryption(), keyManagement: ['RSA-OAEP-256', 'PBES2-HS256+A128KW'] }, 'encryption.keyManagement', /must hold only/],
    [{ ...encryption(), contentEncryption: undefined }, 'encryption.contentEncryption', /is required/],
    [{ ...encryption(), contentEncryption: ['A128GCM'] }, 'encryption.contentEncryption', /must hold only: A256GCM, A128CBC-HS256/],
    [{ ...encryption(), keys: undefined }, 'encryption.keys', /is required/],
    [{ ...encryption(), keys: [] }, 'encryption.keys', /non-empty list/],
    [{ ...encryption(), zip: true }, 'encryption.zip', /is unknown/],
    [{ ...encryption(), keyManagement: ['dir'] }, 'encryption.keys[0].algorithm', /is not in "keyManagement"/],
    [key({ key: shared }), 'encryption.keys[0].algorithm', /is required/],
    [key({ key: shared, algorithm: 'A128KW' }), 'encryption.keys[0].algorithm', /must be one of: dir/],
    [key({ key: shared, algorithm: 'dir', kid: 'a' }), 'encryption.keys[0].kid', /is unknown/],
    [key({ key: shared, algorithm: 'dir', notBefore: new Date(2), notAfter: new Date(1) }), 'encryption.keys[0].notAfter', /must be later/],
    [key({ algorithm: 'dir' }), 'encryption.keys[0].key', /must be a KeyObject, a JWK or 32 secret bytes/],
    [key({ key: 'text'.repeat(8), algorithm: 'dir' }), 'encryption.keys[0].key', /must be a KeyObject, a JWK or 32 secret bytes/],
    [key({ key: new Uint8Array(0), algorithm: 'dir' }), 'encryption.keys[0].key', /must be a KeyObject/],
    [key({ key: randomBytes(31), algorithm: 'dir' }), 'encryption.keys[0].key', /can't serve dir: that takes a secret of 32 bytes/],
    [key({ key: randomBytes(64), algorithm: 'A256KW' }), 'encryption.keys[0].key', /can't serve A256KW/],
    [key({ key: { kty: 'oct' }, algorithm: 'dir' }), 'encryption.keys[0].key', /can't serve dir/],
    [key({ key: { kty: 'nonsense' }, algorithm: 'dir' }), 'encryption.keys[0].key', /is not a JWK that can be used/],
    [key({ key: publicJwk, algorithm: 'RSA-OAEP-256' }), 'encryption.keys[0].key', /is not a JWK that can be used/],
    [key({ key: rsaPair.publicKey, algorithm: 'RSA-OAEP-256' }), 'encryption.keys[0].key', /can't serve RSA-OAEP-256: that takes a private RSA key/],
    [key({ key: rsaPair.privateKey, algorithm: 'dir' }), 'encryption.keys[0].key', /can't serve dir/],
    [key({ key: shared, algorithm: 'RSA-OAEP-256' }), 'encryption.keys[0].key', /can't serve RSA-OAEP-256/],
    [key({ key: weak, algorithm: 'RSA-OAEP-256' }), 'encryption.keys[0].key', /2048 bits or more/],
    [key({ key: ec.privateKey, algorithm: 'RSA-OAEP-256' }), 'encryption.keys[0].key', /can't serve RSA-OAEP-256/],
    [key({ key: rsaPair.privateKey, algorithm: 'ECDH-ES' }), 'encryption.keys[0].key', /can't serve ECDH-ES: that takes a private key on P-256/],
    [key({ key: k1, algorithm: 'ECDH-ES+A256KW' }), 'encryption.keys[0].key', /can't serve ECDH-ES\+A256KW/],
    [null, 'encryption', /must be an object/]
  ]
  for (const [given, option, rule] of wrong) {
    const app = Fastify()
    const refused = await Promise.resolve(app.register(bearerJwt, { ...validOptions(), encryption: given as EncryptionOptions })).then(() => undefined, (error: unknown) => error)
    await app.close()
    if (!isOptionsError(refused)) t.fail(`${option} was taken`)
    else {
      t.equal(refused.option, option, refused.message)
      t.match(refused.message, rule)
    }
  }
})

t.test('keeps copies: what the caller changes later changes nothing', async (t) => {
  const key = Buffer.from(shared)
  const options = { mode: 'required' as const, keys: [{ key, algorithm: 'dir' as const }], keyManagement: ['dir'] as KeyManagementAlgorithm[], contentEncryption: [...contentEncryptionAlgorithms] }
  const { send } = await testApp(t, { keys: [{ key: secret }], encryption: options })
  key.fill(0)
  options.keys.length = 0
  options.keyManagement[0] = 'A256KW'
  options.contentEncryption.length = 0
  t.equal((await send(await sealed(signed, shared, { alg: 'dir' }))).statusCode, 200)
  isRefused(t, await send(await sealed(signed, Buffer.alloc(32), { alg: 'dir' })), invalid)
})

/** Another character of the alphabet at that place. */
function flipped (text: string, at: number): string {
  return `${text.slice(0, at)}${text[at] === 'A' ? 'B' : 'A'}${text.slice(at + 1)}`
}
