import { createHmac, createSecretKey } from 'node:crypto'
import * as fc from 'fast-check'
import t from 'tap'
import type { JwtKey, KeyHints } from '../src/index.js'
import { createListedSource, createResolvedSource, type KeySource } from '../src/key-source.js'
import type { TrustedKey } from '../src/keys.js'
import { parseToken } from '../src/parse-token.js'
import { createKeyedCheck, createListedCheck } from '../src/signature-check.js'
import { countMacs } from './fixtures/macs.js'
import { claims, ed25519, encode, hmacToken, otherSecret, p256, p384, p521, rsa, secret, signedToken } from './fixtures/tokens.js'

const macs = countMacs(t)
const hashes = { HS256: 'sha256', HS384: 'sha384', HS512: 'sha512' } as const
type Shared = keyof typeof hashes

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

t.test('a signature takes one MAC, right or wrong, also where there is no key', async (t) => {
  const rules = { owner: 'test', path: '', shortSecrets: undefined, algorithms: ['HS256'] } as const
  const resolved = await createResolvedSource(({ tenant }) => tenant === '1' ? { key: secret } : undefined, rules, 60)
  const listed = await createListedSource([trusted(createSecretKey(secret), 'HS256')])
  const hints: KeyHints = { algorithm: 'HS256', keyId: undefined, issuer: undefined, tenant: '1' }
  const sources: readonly (readonly [string, KeySource, KeyHints])[] = [['listed', listed, hints], ['resolved', resolved, hints], ['nobody\'s', resolved, { ...hints, tenant: '2' }]]
  for (const [title, source, asked] of sources) {
    const [key = source.decoy('HS256')] = await source.find(asked, 0)
    for (const token of [hmacToken(claims), hmacToken(claims, otherSecret)].map(parseToken)) {
      macs()
      source.check(token, key!)
      t.equal(macs(), 1, title)
    }
  }
})

t.test('a key that a resolver gives again stays the object that it was, unless something of it changed', async (t) => {
  let given: JwtKey = { key: secret, id: 'a' }
  const source = await createResolvedSource(() => given, { owner: 'test', path: '', shortSecrets: undefined, algorithms: ['HS256'] }, 1)
  const hints = { algorithm: 'HS256', keyId: undefined, issuer: undefined, tenant: '7' } as const
  let now = 0
  const next = async () => (await source.find(hints, now += 2_000))[0]
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
