import { createSecretKey, generateKeyPairSync } from 'node:crypto'
import { memoryStore } from '@sallyport/guard'
import t from 'tap'
import { createTokenMinter, type Algorithm, type JwtKey, type TokenMinterOptions } from '../src/index.js'
import { isRefused, testApp } from './fixtures/app.js'
import { ed25519, encode, NOW, p256, p384, p521, rsa, secret } from './fixtures/tokens.js'

const clock = () => NOW * 1000
const partsOf = (token: string): unknown[] => token.split('.').slice(0, 2).map((part) => JSON.parse(Buffer.from(part, 'base64url').toString()) as unknown)

t.test('mints a token of its own for each request, of fifteen seconds', async (t) => {
  let now = NOW + 0.9
  const mint = await createTokenMinter({ key: secret, claims: { company_id: '100001' }, clock: () => now * 1000 })
  t.same(partsOf(mint()), [{ alg: 'HS256', typ: 'JWT' }, { nbf: NOW, exp: NOW + 15, company_id: '100001' }])
  now += 1
  t.same(partsOf(mint({ jti: 'a' }))[1], { nbf: NOW + 1, exp: NOW + 16, company_id: '100001', jti: 'a' })
  t.same(partsOf(mint({ company_id: 2, exp: NOW + 3 }))[1], { nbf: NOW + 1, exp: NOW + 3, company_id: 2 }, 'what a call gives wins')
})

t.test('takes a lifetime and a key id', async (t) => {
  const mint = await createTokenMinter({ key: createSecretKey(secret), id: 'k1', lifetimeSeconds: 60, clock })
  t.same(partsOf(mint()), [{ alg: 'HS256', typ: 'JWT', kid: 'k1' }, { nbf: NOW, exp: NOW + 60 }])
})

t.test('mints what the guard accepts, with every algorithm', async (t) => {
  const long = Buffer.alloc(64, 'k')
  const pairs: readonly (readonly [Algorithm, TokenMinterOptions['key'], JwtKey['key']])[] = [
    ...(['HS256', 'HS384', 'HS512'] as const).map((algorithm) => [algorithm, long, long] as const),
    ...(['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'] as const).map((algorithm) => [algorithm, rsa.privateKey, rsa.publicKey] as const),
    ['ES256', p256.privateKey, p256.publicKey], ['ES384', p384.privateKey, p384.publicKey], ['ES512', p521.privateKey, p521.publicKey], ['EdDSA', ed25519.privateKey, ed25519.publicKey]
  ]
  for (const [algorithm, key, publicKey] of pairs) {
    const mint = await createTokenMinter({ key, algorithm, clock })
    const { send } = await testApp(t, { keys: [{ key: publicKey, algorithm }], maxLifetimeSeconds: 15, requiredClaims: ['nbf'] })
    t.equal((await send(mint())).statusCode, 200, algorithm)
  }
})

t.test('mints tokens that can be used once, where each has its jti', async (t) => {
  const mint = await createTokenMinter({ key: secret, clock })
  const { send } = await testApp(t, { store: memoryStore({ clock }) }, { policy: (guard) => guard.require({ singleUse: true }) })
  for (const jti of ['a', 'b']) t.equal((await send(mint({ jti }))).statusCode, 200)
  isRefused(t, await send(mint({ jti: 'a' })), 'ERR_BEARER_JWT_TOKEN_REUSED')
})

t.test('keeps copies of its key and claims', async (t) => {
  const key = Buffer.from(secret)
  const claims = { company_id: '1' }
  const mint = await createTokenMinter({ key, claims, clock })
  const before = mint()
  key.fill(0)
  claims.company_id = '2'
  t.equal(mint(), before)
})

t.test('refuses options and keys that can\'t work, by name', async (t) => {
  const weak = generateKeyPairSync('rsa', { modulusLength: 1024 })
  const k1 = generateKeyPairSync('ec', { namedCurve: 'secp256k1' })
  const wrong: readonly (readonly [object, string, RegExp])[] = [
    [{ key: undefined }, 'key', /must be secret bytes, or a secret or private KeyObject/],
    [{ key: 'text' }, 'key', /must be secret bytes/],
    [{ key: Buffer.alloc(0) }, 'key', /must be secret bytes/],
    [{ key: rsa.publicKey }, 'key', /must be secret bytes/],
    [{ key: rsa.privateKey }, 'algorithm', /is required for a private key/],
    [{ key: rsa.privateKey, algorithm: 'HS256' }, 'algorithm', /can't sign with a private key/],
    [{ algorithm: 'RS256' }, 'algorithm', /can't sign with a secret key/],
    [{ algorithm: 'none' }, 'algorithm', /must be one of/],
    [{ key: p256.privateKey, algorithm: 'RS256' }, 'key', /can't serve RS256/],
    [{ key: p256.privateKey, algorithm: 'ES384' }, 'key', /can't serve ES384/],
    [{ key: k1.privateKey, algorithm: 'ES256' }, 'key', /can't serve ES256/],
    [{ key: weak.privateKey, algorithm: 'RS256' }, 'key', /has 1024 bits/],
    [{ id: '' }, 'id', /non-empty string/],
    [{ claims: 'text' }, 'claims', /must be an object/],
    [{ claims: [] }, 'claims', /must be an object/],
    [{ lifetimeSeconds: 0 }, 'lifetimeSeconds', /whole number, 1 or more/],
    [{ clock: 5 }, 'clock', /must be a function/],
    [{ secret }, 'secret', /is unknown/]
  ]
  for (const [options, option, rule] of wrong) {
    await t.rejects(createTokenMinter({ key: secret, ...options }), { name: 'OptionsError', option, message: rule }, `${option} ${rule.source}`)
  }
})

t.test('writes claims as they are', async (t) => {
  const mint = await createTokenMinter({ key: secret, clock })
  const payload = mint({ sub: 'æøå', list: [1, { a: null }], iat: 5 }).split('.')[1]
  t.equal(payload, encode({ nbf: NOW, exp: NOW + 15, sub: 'æøå', list: [1, { a: null }], iat: 5 }))
})
