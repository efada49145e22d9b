import { createHmac, createSecretKey, randomBytes } from 'node:crypto'
import { createMac, OptionReader } from '@sallyport/guard'
import { heldBytes } from '@sallyport/test-kit'
import * as fc from 'fast-check'
import t from 'tap'
import type { JwtKey, KeyHints, KeyResolver } from '../src/index.js'
import { createListedSource, createResolvedSource, type KeySource } from '../src/key-source.js'
import type { TrustedKey } from '../src/keys.js'
import { optionNames, resolveOptions } from '../src/options.js'
import { parseToken } from '../src/parse-token.js'
import { createKeyedCheck, createListedCheck } from '../src/signature-check.js'
import { createTrust } from '../src/trust.js'
import { createTokenVerifier } from '../src/verify-token.js'
import { countMacs } from './fixtures/macs.js'
import { claims, ed25519, encode, hmacToken, NOW, otherSecret, p256, p384, p521, rsa, secret, signedToken } from './fixtures/tokens.js'

const macs = countMacs(t)
const hashes = { HS256: 'sha256', HS384: 'sha384', HS512: 'sha512' } as const
type Shared = keyof typeof hashes

type Method = (...args: unknown[]) => unknown

/** How often a method was called since it was asked last. */
function countCalls<K extends string> (prototype: Record<K, Method>, name: K): () => number {
  const original = prototype[name]
  let count = 0
  prototype[name] = function (...args) { count++; return original.apply(this, args) }
  t.teardown(() => { prototype[name] = original })
  return () => {
    const counted = count
    count = 0
    return counted
  }
}

function trusted (key: TrustedKey['key'], algorithm: TrustedKey['algorithm']): TrustedKey {
  return { id: undefined, algorithm, key, notBeforeMs: -Infinity, notAfterMs: Infinity }
}

t.test('a shared secret signs what createHmac says that it signs, and nothing else', async () => {
  const keyed = await createKeyedCheck(['HS256', 'HS384', 'HS512'])
  const bytes = fc.uint8Array({ minLength: 16, maxLength: 200 })
  const text = fc.oneof(fc.string({ unit: 'grapheme', maxLength: 300 }), fc.string({ minLength: 4_000, maxLength: 9_000 }))
  await fc.assert(fc.asyncProperty(fc.constantFrom<Shared>('HS256', 'HS384', 'HS512'), bytes, bytes, text, fc.nat(), async (algorithm, key, other, note, place) => {
    const [right, wrong] = [key, other].map((each) => trusted(createSecretKey(each), algorithm)) as [TrustedKey, TrustedKey]
    const listed = await createListedCheck([right, wrong])
    const signed = `${encode({ alg: algorithm })}.${encode({ note })}`
    const tokenOf = (signature: Uint8Array, text = signed) => parseToken(`${text}.${Buffer.from(signature).toString('base64url')}`)
    const signature = createHmac(hashes[algorithm], key).update(signed).digest()
    const flipped = Buffer.from(signature)
    flipped[place % signature.length]! ^= 1 << (place & 7)
    const [otherHash] = Object.values(hashes).filter((name) => name !== hashes[algorithm])
    const refused = [
      tokenOf(flipped), tokenOf(signature.subarray(1)), tokenOf(signature.subarray(0, -1)), tokenOf(Buffer.concat([signature, Buffer.of(0)])), tokenOf(Buffer.alloc(0)),
      tokenOf(Buffer.alloc(signature.length)), tokenOf(signature, `${encode({ alg: algorithm })}.${encode({ note: `${note}.` })}`), tokenOf(createHmac(otherHash!, key).update(signed).digest())
    ]
    return [listed, keyed].every((check) => check(tokenOf(signature), right) && refused.every((token) => !check(token, right)) &&
      check(tokenOf(signature), wrong) === Buffer.from(key).equals(other))
  }), { numRuns: 200 })
})

t.test('public keys: the same answers from lists and from those who give keys later', async (t) => {
  const pairs = [['RS256', rsa], ['RS512', rsa], ['PS384', rsa], ['ES256', p256], ['ES384', p384], ['ES512', p521], ['EdDSA', ed25519]] as const
  const keyed = await createKeyedCheck(pairs.map(([algorithm]) => algorithm))
  for (const [algorithm, { privateKey, publicKey }] of pairs) {
    const key = trusted(publicKey, algorithm)
    const token = signedToken(claims, privateKey, algorithm)
    const changed = token.replace(/\.[^.]+\./, `.${encode({ ...claims, sub: 'mallory' })}.`)
    for (const check of [await createListedCheck([key]), keyed]) {
      for (const time of ['first', 'second']) {
        t.ok(check(parseToken(token), key), `${algorithm}, the ${time} time`)
        t.notOk(check(parseToken(changed), key), algorithm)
        t.notOk(check(parseToken(token.slice(0, token.lastIndexOf('.') + 1)), key), `${algorithm}, no signature`)
      }
    }
  }
})

/** How often the bytes of a secret were asked for, to make it ready, since it was asked last. */
const exports = countCalls(Object.getPrototypeOf(createSecretKey(secret)) as Record<'export', Method>, 'export')

t.test('a refusal takes the same work, whoever is named: keys made ready, and MACs', async (t) => {
  const keys: readonly Uint8Array[] = Array.from({ length: 10 }, (_, i) => Buffer.alloc(40, i + 1))
  const rules = { owner: 'test', path: '', shortSecrets: undefined, algorithms: ['HS256', 'ES256'] } as const
  const resolver: KeyResolver = ({ tenant }) => keys.slice(0, Number(tenant)).map((key) => ({ key }))
  const ask = async (source: KeySource, hints: Partial<KeyHints>): Promise<readonly number[]> => {
    const options = resolveOptions(new OptionReader('test', { keys: [{ key: secret }], cacheEntries: 0 }, optionNames))
    const trust = { source, algorithms: ['HS256', 'ES256'] as const, rules: (await createTrust(options.trust)).trustFor(undefined)!.rules }
    const verify = createTokenVerifier({ ...options, tenant: 'tenant' }, { trustFor: () => trust, needClaims: true, shareSecrets: true })
    const token = hmacToken({ ...claims, tenant: hints.tenant }, otherSecret, { alg: 'HS256', kid: hints.keyId })
    macs()
    exports()
    await t.rejects(async () => verify(token, NOW * 1000), { code: 'ERR_BEARER_JWT_TOKEN_INVALID' })
    return [exports(), macs()]
  }
  for (const keyCacheSeconds of [0, 60]) {
    const source = await createResolvedSource(resolver, rules, keyCacheSeconds)
    let made = 0
    const fresh = (tenant: string) => ask(source, { tenant, keyId: String(made++) })
    const one = await fresh('1')
    t.equal(one[1], 1)
    t.same(await fresh('0'), one, 'nobody is as dear as one with a key')
    const three = await fresh('3')
    t.equal(three[1], 3)
    for (const tenant of ['0', '1', '2', '3']) t.same(await fresh(tenant), three, `as dear as three keys: ${tenant}`)
    await fresh('10')
    for (const tenant of ['0', '1', '3', '8']) t.equal((await fresh(tenant))[1], 8, `more than eight are counted as eight: ${tenant}`)
    const known = ['0', '1', '8'].map((tenant) => ({ tenant, keyId: 'again' }))
    for (const hints of known) await ask(source, hints)
    const again = [await ask(source, known[0]!), await ask(source, known[1]!), await ask(source, known[2]!)]
    t.same(again, again.map(() => again[0]), 'and when they come again')
    t.equal(again[0]![0]! > 0, keyCacheSeconds === 0, 'with what was kept')
  }
  const listed = await createListedSource([trusted(createSecretKey(secret), 'HS256')])
  t.same(await ask(listed, { tenant: '1' }), [0, 1])
})

t.test('a key that was made ready holds no more than itself', async (t) => {
  const before = await heldBytes('arrayBuffers')
  const kept = Array.from({ length: 2_000 }, () => {
    // As requests between two keys do: small buffers that are gone.
    for (let i = 0; i < 5; i++) Buffer.from('x'.repeat(1_000))
    return createMac('sha256', secret)
  })
  const grown = await heldBytes('arrayBuffers') - before
  t.ok(grown < 2 * 2 ** 20, `${grown} bytes for ${kept.length} keys`)
})

t.test('secrets and MACs stay out of the memory that small buffers share', async (t) => {
  const key = randomBytes(40)
  const pads = [0, 0x36, 0x5c].map((filler) => key.map((byte) => byte ^ filler))
  const jwk = { kty: 'oct', k: key.toString('base64url') }
  const given = key.buffer
  const source = await createResolvedSource(({ tenant }) => ({ key: tenant === '1' ? key : jwk }), { owner: 'test', path: '', shortSecrets: undefined, algorithms: ['HS256'] }, 0)
  const token = parseToken(hmacToken(claims, key))
  for (const tenant of ['1', '2']) {
    const found = await source.find({ algorithm: 'HS256', keyId: undefined, issuer: undefined, tenant }, 0)
    t.ok(source.check(token, found.keys[0]!))
    const pool = Buffer.from(Buffer.from('hello').buffer)
    const wanted = [...pads, createHmac('sha256', key).update(token.signed.replace('.', '!')).digest()]
    t.notOk(source.check({ ...token, signed: token.signed.replace('.', '!') }, found.keys[0]!))
    if (pool.buffer !== given) for (const bytes of wanted) t.equal(pool.indexOf(bytes), -1)
  }
})

t.test('a key that a resolver gives again stays the object that it was, unless something of it changed', async (t) => {
  let given: JwtKey = { key: secret, id: 'a' }
  const source = await createResolvedSource(() => given, { owner: 'test', path: '', shortSecrets: undefined, algorithms: ['HS256'] }, 1)
  const hints = { algorithm: 'HS256', keyId: undefined, issuer: undefined, tenant: '7' } as const
  let now = 0
  const next = async () => (await source.find(hints, now += 2_000)).keys[0]
  const first = await next()
  given = { key: Buffer.from(secret), id: 'a' }
  t.equal(await next(), first, 'the same bytes in other objects')
  for (const changed of [{ key: otherSecret, id: 'a' }, { key: secret, id: 'b' }, { key: secret, id: 'a', notAfter: new Date(9_000) }, { key: secret, id: 'a', notBefore: new Date(0) }]) {
    given = { key: secret, id: 'a' }
    const before = await next()
    given = changed
    t.not(await next(), before, Object.keys(changed).join(' '))
  }
})
