import { createPrivateKey, createPublicKey, createSecretKey, generateKeyPairSync, X509Certificate } from 'node:crypto'
import { isOptionsError, memoryStore, type OptionsError } from '@sallyport/guard'
import Fastify, { type FastifyInstance } from 'fastify'
import { generate } from 'selfsigned'
import t, { type Test } from 'tap'
import { algorithms, bearerJwt, type BearerJwtOptions, type JwtKey } from '../src/index.js'
import { testApp, validOptions } from './fixtures/app.js'
import { claims, ed25519, hmacToken, NOW, otherSecret, p256, p384, p521, publicPem, rsa, secret, signedToken } from './fixtures/tokens.js'

/** What registration says to these options: the option that it names, and the whole message. */
async function refusalOf (options: object): Promise<OptionsError> {
  const app: FastifyInstance = Fastify()
  try {
    await app.register(bearerJwt, { ...validOptions(), ...options })
  } catch (error) {
    if (isOptionsError(error)) return error
    throw error
  } finally {
    await app.close()
  }
  throw new Error('the options were taken')
}

async function isNamed (t: Test, options: object, option: string, rule: RegExp): Promise<void> {
  const { message, option: named } = await refusalOf(options)
  t.equal(named, option, message)
  t.match(message, rule)
  t.ok(message.startsWith(`@sallyport/bearer-jwt: option "${option}" `), message)
}

const jwk = (key: { export (options: { format: 'jwk' }): object }): Record<string, unknown> => ({ ...key.export({ format: 'jwk' }) })

t.test('names the option and the rule that is broken', async (t) => {
  const store = memoryStore()
  const wrong: readonly (readonly [object, string, RegExp])[] = [
    [{ nonsense: 1 }, 'nonsense', /is unknown; known are: as, realm, clock, onDecision, keys/],
    [{ keys: undefined }, 'keys', /or "issuers" is required/],
    [{ keys: [] }, 'keys', /non-empty list/],
    [{ keys: { key: secret } }, 'keys', /non-empty list/],
    [{ keys: () => undefined }, 'algorithms', /is required with a key resolver or a JWK Set: algorithms are pinned/],
    [{ algorithms: [] }, 'algorithms', /non-empty list/],
    [{ algorithms: ['none'] }, 'algorithms', /must hold only: HS256/],
    [{ algorithms: ['HS256', 'HS256'] }, 'algorithms', /same value twice/],
    [{ algorithms: ['HS512'] }, 'keys[0].algorithm', /is HS256, which is not in "algorithms"/],
    [{ keys: [{ key: secret, id: 'a' }, { key: otherSecret, id: 'a' }] }, 'keys', /must not hold the same id twice/],
    [{ keys: [{ key: secret, kid: 'a' }] }, 'keys[0].kid', /is unknown/],
    [{ keys: [null] }, 'keys[0]', /must be an object/],
    [{ keys: [{ key: secret, notBefore: 1 }] }, 'keys[0].notBefore', /must be a valid Date/],
    [{ keys: [{ key: secret, notBefore: new Date(2), notAfter: new Date(1) }] }, 'keys[0].notAfter', /must be later/],
    [{ source: 'authorization' }, 'source', /must be an object/],
    [{ source: [] }, 'source', /non-empty list/],
    [{ source: {} }, 'source.header', /or "cookie" must be named/],
    [{ source: [{ header: 'jwt', cookie: 'jwt' }] }, 'source[0].header', /not both/],
    [{ source: { header: 'Authorization' } }, 'source.scheme', /is required for the Authorization header/],
    [{ source: { cookie: 'jwt', scheme: 'Bearer' } }, 'source.scheme', /belongs to a header/],
    [{ source: { header: 'two words' } }, 'source.header', /must be a token/],
    [{ source: { cookie: 'a;b' } }, 'source.cookie', /must be a token/],
    [{ source: [{ header: 'JWT' }, { header: 'jwt' }] }, 'source', /the same place twice/],
    [{ source: [{ header: 'x', scheme: 'Bearer' }, { header: 'X', scheme: 'bearer' }] }, 'source', /the same place twice/],
    [{ source: [{ header: 'x', scheme: 'Bearer' }, { header: 'x' }] }, 'source', /the same place twice/],
    [{ source: [{ cookie: 'a' }, { cookie: 'a' }] }, 'source', /the same place twice/],
    [{ issuer: '' }, 'issuer', /non-empty string/],
    [{ issuer: [] }, 'issuer', /non-empty list/],
    [{ issuer: /x/ }, 'issuer', /non-empty string/],
    [{ audience: [1] }, 'audience', /non-empty strings/],
    [{ typ: 1 }, 'typ', /non-empty string/],
    [{ requireExpiration: 'yes' }, 'requireExpiration', /true or false/],
    [{ requiredClaims: [''] }, 'requiredClaims', /non-empty strings/],
    [{ maxLifetimeSeconds: 0 }, 'maxLifetimeSeconds', /whole number, 1 or more/],
    [{ maxLifetimeSeconds: 15, requireExpiration: false }, 'requireExpiration', /can't be false with maxLifetimeSeconds/],
    [{ maxLifetimeSeconds: 15, clockToleranceSeconds: 8 }, 'clockToleranceSeconds', /at most half of maxLifetimeSeconds/],
    [{ clockToleranceSeconds: -1 }, 'clockToleranceSeconds', /whole number, 0 to 600/],
    [{ clockToleranceSeconds: 601 }, 'clockToleranceSeconds', /whole number, 0 to 600/],
    [{ maxAgeSeconds: 1.5 }, 'maxAgeSeconds', /whole number/],
    [{ tenant: 5 }, 'tenant', /non-empty string/],
    [{ subject: () => 'x' }, 'subject', /non-empty string/],
    [{ scopes: ['a'] }, 'scopes', /non-empty string/],
    [{ identity: 'claims' }, 'identity', /must be a function/],
    [{ shortSecrets: true }, 'shortSecrets', /must be an object/],
    [{ shortSecrets: { minimumBytes: 15, reason: 'x' } }, 'shortSecrets.minimumBytes', /16 or more/],
    [{ shortSecrets: { reason: 'x' } }, 'shortSecrets.minimumBytes', /is required/],
    [{ shortSecrets: { minimumBytes: 16 } }, 'shortSecrets.reason', /is required/],
    [{ store: null }, 'store', /must be a claim store/],
    [{ store: { claim: () => undefined } }, 'store', /must be a claim store/],
    [{ store, storeTimeoutMs: 0 }, 'storeTimeoutMs', /1 to 60000/],
    [{ store, maxLiveClaimsPerKey: 0 }, 'maxLiveClaimsPerKey', /1 or more/],
    [{ maxTokenBytes: 63 }, 'maxTokenBytes', /64 to 1048576/],
    [{ hideCredentials: 1 }, 'hideCredentials', /true or false/],
    [{ as: '' }, 'as', /non-empty string/],
    [{ realm: 'é' }, 'realm', /printable ASCII/],
    [{ clock: 1 }, 'clock', /must be a function/],
    [{ onDecision: {} }, 'onDecision', /must be a function/]
  ]
  for (const [options, option, rule] of wrong) await isNamed(t, options, option, rule)
})

t.test('takes no key that could be two things, is too weak, or is somebody\'s private half', async (t) => {
  const weakRsa = generateKeyPairSync('rsa', { modulusLength: 1024 })
  const pss = generateKeyPairSync('rsa-pss', { modulusLength: 2048 })
  const k1 = generateKeyPairSync('ec', { namedCurve: 'secp256k1' })
  const ed448 = generateKeyPairSync('ed448')
  const rsaJwk = jwk(rsa.publicKey)
  const wrong: readonly (readonly [object, RegExp])[] = [
    [{}, /must be a KeyObject, a JWK or secret bytes/],
    [{ key: 'text'.repeat(10) }, /must not be text/],
    [{ key: publicPem }, /must not be text/],
    [{ key: new Uint8Array(0) }, /must not be empty/],
    [{ key: {} }, /must be a KeyObject, a JWK or secret bytes/],
    [{ key: { kty: 'oct' } }, /without a base64url "k"/],
    [{ key: { kty: 'oct', k: 'a b' } }, /without a base64url "k"/],
    [{ key: { kty: 'oct', k: '' } }, /without a base64url "k"/],
    [{ key: { kty: 'RSA' } }, /is not a JWK that can be used/],
    [{ key: { kty: 'nonsense' } }, /is not a JWK that can be used/],
    [{ key: jwk(rsa.privateKey) }, /must not be a private JWK/],
    [{ key: rsa.privateKey }, /must not be a private key/],
    [{ key: { ...rsaJwk, use: 'enc' } }, /"use" is not "sig"/],
    [{ key: { ...rsaJwk, key_ops: ['encrypt'] } }, /"key_ops" has no "verify"/],
    [{ key: { ...rsaJwk, alg: 'RSA-OAEP' } }, /"alg" is no signature algorithm offered here/],
    [{ key: { ...rsaJwk, alg: 'HS256' } }, /can't serve HS256: a public key is never a secret/],
    [{ key: rsa.publicKey, algorithm: 'HS256' }, /can't serve HS256: a public key is never a secret/],
    [{ key: secret, algorithm: 'RS256' }, /can't serve RS256: a public key is never a secret, nor a secret a public key/],
    [{ key: rsa.publicKey, algorithm: 'ES256' }, /can't serve ES256/],
    [{ key: p256.publicKey, algorithm: 'ES384' }, /can't serve ES384/],
    [{ key: p256.publicKey, algorithm: 'EdDSA' }, /can't serve EdDSA/],
    [{ key: ed25519.publicKey, algorithm: 'RS256' }, /can't serve RS256/],
    [{ key: pss.publicKey, algorithm: 'PS256' }, /can't serve PS256/],
    [{ key: k1.publicKey }, /type or curve that serves no algorithm/],
    [{ key: ed448.publicKey }, /type or curve that serves no algorithm/],
    [{ key: weakRsa.publicKey }, /has 1024 bits; RS256 needs 2048 or more/],
    [{ key: { ...rsaJwk, e: 'AQ' } }, /exponent that proves nothing/],
    [{ key: { ...rsaJwk, n: rocaModulus() } }, /broken generator \(ROCA/],
    [{ key: secret.subarray(0, 31) }, /has 31 bytes; HS256 needs 32 or more \(RFC 7518 section 3.2\)/],
    [{ key: secret.subarray(0, 47), algorithm: 'HS384' }, /HS384 needs 48/],
    [{ key: secret, algorithm: 'HS512' }, /HS512 needs 64/],
    [{ key: createSecretKey(secret.subarray(0, 16)) }, /has 16 bytes/]
  ]
  for (const [key, rule] of wrong) {
    const { message, option } = await refusalOf({ keys: [key] })
    t.equal(option, 'keys[0].key', message)
    t.match(message, rule)
  }
  await isNamed(t, { keys: [{ key: secret, algorithm: 'none' }] }, 'keys[0].algorithm', /must be one of: HS256/)
})

t.test('takes no public key as a secret, however it is wrapped', async (t) => {
  const spki = rsa.publicKey.export({ type: 'spki', format: 'der' })
  const pkcs1 = rsa.publicKey.export({ type: 'pkcs1', format: 'der' })
  const rsaJwk = JSON.stringify(jwk(rsa.publicKey))
  const certificate = new X509Certificate((await generate()).cert).raw
  const forms: Readonly<Record<string, string | Buffer>> = {
    'PEM': publicPem,
    'PEM after a space': ` ${publicPem}`,
    'PEM after another line': `x\n${publicPem}`,
    'PEM with a byte order mark': `\ufeff${publicPem}`,
    'PEM in PKCS #1': rsa.publicKey.export({ type: 'pkcs1', format: 'pem' }),
    'PEM with CRLF': publicPem.replaceAll('\n', '\r\n'),
    'certificate': '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n',
    'SPKI': spki,
    'PKCS #1': pkcs1,
    'SPKI of a curve': p256.publicKey.export({ type: 'spki', format: 'der' }),
    'JWK': rsaJwk,
    'JWK Set': `{"keys":[${rsaJwk}]}`,
    'list of JWKs': `[${rsaJwk}]`,
    'base64 of SPKI': spki.toString('base64'),
    'base64 of PKCS #1, in lines': `\n${pkcs1.toString('base64').replace(/.{64}/g, '$&\n')}\n`,
    'base64url of SPKI': p256.publicKey.export({ type: 'spki', format: 'der' }).toString('base64url'),
    'PEM in UTF-16': Buffer.from(publicPem, 'utf16le'),
    'line of OpenSSH': `ssh-rsa ${'A'.repeat(80)} ann@example.com`,
    'certificate in DER': certificate,
    'certificate in base64': certificate.toString('base64')
  }
  for (const [form, text] of Object.entries(forms)) {
    for (const key of [Buffer.from(text), createSecretKey(Buffer.from(text))]) {
      const { message } = await refusalOf({ keys: [{ key }] })
      t.match(message, /"keys\[0\]\.key" looks like a public key/, form)
    }
  }
})

t.test('takes the algorithm from the key, and pins it', async (t) => {
  const long = Buffer.alloc(64, 'k')
  const taken: readonly (readonly [JwtKey, string, string])[] = [
    [{ key: secret }, 'HS256', hmacToken(claims)],
    [{ key: long, algorithm: 'HS384' }, 'HS384', hmacToken(claims, long, { alg: 'HS384' })],
    [{ key: { kty: 'oct', k: long.toString('base64url'), alg: 'HS512' } }, 'HS512', hmacToken(claims, long, { alg: 'HS512' })],
    [{ key: rsa.publicKey }, 'RS256', signedToken(claims, rsa.privateKey, 'RS256')],
    [{ key: jwk(rsa.publicKey) }, 'RS256', signedToken(claims, rsa.privateKey, 'RS256')],
    [{ key: { ...jwk(rsa.publicKey), alg: 'RS512', use: 'sig', key_ops: ['verify'] } }, 'RS512', signedToken(claims, rsa.privateKey, 'RS512')],
    [{ key: rsa.publicKey, algorithm: 'RS384' }, 'RS384', signedToken(claims, rsa.privateKey, 'RS384')],
    ...(['PS256', 'PS384', 'PS512'] as const).map((algorithm) => [{ key: rsa.publicKey, algorithm }, algorithm, signedToken(claims, rsa.privateKey, algorithm)] as const),
    [{ key: p256.publicKey }, 'ES256', signedToken(claims, p256.privateKey, 'ES256')],
    [{ key: p384.publicKey }, 'ES384', signedToken(claims, p384.privateKey, 'ES384')],
    [{ key: p521.publicKey }, 'ES512', signedToken(claims, p521.privateKey, 'ES512')],
    [{ key: ed25519.publicKey }, 'EdDSA', signedToken(claims, ed25519.privateKey, 'EdDSA')]
  ]
  t.same([...new Set(taken.map(([, algorithm]) => algorithm))].sort(), [...algorithms].sort(), 'every algorithm is tried')
  for (const [key, algorithm, token] of taken) {
    const { send } = await testApp(t, { keys: [key] })
    t.equal((await send(token)).statusCode, 200, algorithm)
    for (const [, other, wrong] of taken) if (other !== algorithm) t.equal((await send(wrong)).statusCode, 401, `${other} with a key for ${algorithm}`)
  }
})

t.test('lets one key serve two algorithms under one id', async (t) => {
  const { send } = await testApp(t, { keys: [{ key: rsa.publicKey, id: 'a', algorithm: 'RS256' }, { key: rsa.publicKey, id: 'a', algorithm: 'PS256' }] })
  for (const algorithm of ['RS256', 'PS256']) t.equal((await send(signedToken(claims, rsa.privateKey, algorithm, { kid: 'a' }))).statusCode, 200)
  t.equal((await send(signedToken(claims, rsa.privateKey, 'RS512', { kid: 'a' }))).statusCode, 401)
})

t.test('takes a short secret for a reason, and shows the reason in the audit', async (t) => {
  const short = secret.subarray(0, 16)
  const shortSecrets = { minimumBytes: 16, reason: 'the partner\'s ERP can\'t hold more' }
  const { app, send } = await testApp(t, { keys: [{ key: short }], shortSecrets })
  t.equal((await send(hmacToken(claims, short))).statusCode, 200)
  t.match(app.printPolicies(), 'bearerJwt [secrets of 16 bytes allowed: the partner\'s ERP can\'t hold more]')
  await isNamed(t, { keys: [{ key: short.subarray(0, 15) }], shortSecrets }, 'keys[0].key', /has 15 bytes; HS256 needs 16/)
  await isNamed(t, { keys: [{ key: short }], shortSecrets: { ...shortSecrets, minimumBytes: 20 } }, 'keys[0].key', /HS256 needs 20/)
})

t.test('never lets a short secret look like a public key either', async (t) => {
  const shortSecrets = { minimumBytes: 16, reason: 'x' }
  await isNamed(t, { keys: [{ key: Buffer.from('-----BEGIN PUBLIC') }], shortSecrets }, 'keys[0].key', /looks like a public key/)
})

t.test('keeps copies: what the caller changes later changes nothing', async (t) => {
  const key = Buffer.from(secret)
  const options = { keys: [{ key, id: 'live' }], issuer: ['https://us'], audience: ['api'], source: [{ header: 'JWT' }], requiredClaims: ['jti'] } satisfies Partial<BearerJwtOptions>
  const { send } = await testApp(t, options)
  key.fill(0)
  options.keys.length = 0
  options.issuer[0] = 'https://attacker'
  options.audience.length = 0
  options.source[0]!.header = 'other'
  options.requiredClaims[0] = 'other'
  const token = hmacToken({ ...claims, iss: 'https://us', aud: 'api', jti: '1' })
  t.equal((await send({ headers: { jwt: token } })).statusCode, 200)
  t.equal((await send({ headers: { jwt: hmacToken({ ...claims, iss: 'https://attacker', aud: 'api', jti: '1' }) } })).statusCode, 401)
})

t.test('takes keys as they are exported and imported again', async (t) => {
  const again = createPublicKey(createPrivateKey(rsa.privateKey.export({ type: 'pkcs8', format: 'pem' })))
  const { send } = await testApp(t, { keys: [{ key: again }] })
  t.equal((await send(signedToken({ exp: NOW + 1 }, rsa.privateKey, 'RS256'))).statusCode, 200)
})

/** A modulus with the fingerprint of that generator: a power of 65537 modulo the product of the first primes. */
function rocaModulus (): string {
  const primes = Array.from({ length: 170 }, (_, i) => i + 2).filter((n) => Array.from({ length: n - 2 }, (_, i) => i + 2).every((d) => n % d !== 0))
  const product = primes.reduce((all, prime) => all * BigInt(prime), 1n)
  let power = 1n
  for (let i = 0; i < 12345; i++) power = power * 65537n % product
  const high = (1n << 2047n) / product * product
  return Buffer.from((high + product + power).toString(16).padStart(512, '0'), 'hex').toString('base64url')
}
