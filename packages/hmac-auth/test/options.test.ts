import { createSecretKey, generateKeyPairSync } from 'node:crypto'
import { memoryStore } from '@sallyport/guard'
import Fastify, { type FastifyServerOptions } from 'fastify'
import t, { type Test } from 'tap'
import { authorizationHmac, createRequestSigner, headers, hmacAuth, rfc9421 } from '../src/index.js'
import { KEY_ID, secret, TENANT, validOptions } from './fixtures/app.js'

async function isRefusedAtBoot (t: Test, options: object, option: string, rule?: RegExp, server: FastifyServerOptions = {}): Promise<void> {
  const app = Fastify(server)
  t.teardown(() => app.close())
  await t.rejects(async () => { await app.register(hmacAuth, { ...validOptions(), ...options }) }, { name: 'OptionsError', option, ...(rule && { message: rule }) }, `${option}: ${String(rule ?? '')}`)
}

const key = { id: KEY_ID, secret, tenant: TENANT }

t.test('options that could not be meant fail at registration and are named', async (t) => {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  const wrong: readonly (readonly [object, string, RegExp?])[] = [
    [{ keys: undefined }, 'keys', /is required/],
    [{ keys: [] }, 'keys', /non-empty/],
    [{ keys: [{ ...key, id: undefined }] }, 'keys[0].id', /is required/],
    ...['', 'a b', 'a"b', 'a,b', 'a\\b', 'é', 'x'.repeat(257)].map((id) => [{ keys: [{ ...key, id }] }, 'keys[0].id'] as const),
    [{ keys: [{ ...key, secret: undefined }] }, 'keys[0].secret', /must be bytes/],
    [{ keys: [{ ...key, secret: 'text-that-could-be-anything-at-all-here' }] }, 'keys[0].secret', /must not be text/],
    [{ keys: [{ ...key, secret: Buffer.alloc(0) }] }, 'keys[0].secret', /must not be empty/],
    [{ keys: [{ ...key, secret: Buffer.alloc(31, 1) }] }, 'keys[0].secret', /has 31 bytes; hmac-sha256 needs 32/],
    [{ keys: [{ ...key, secret: Buffer.alloc(63, 1) }], profile: rfc9421({ algorithms: ['hmac-sha256', 'hmac-sha512'] }) }, 'keys[0].secret', /hmac-sha512 needs 64/],
    [{ keys: [{ ...key, secret: privateKey }] }, 'keys[0].secret'],
    [{ keys: [{ ...key, secret: publicKey }] }, 'keys[0].secret'],
    [{ keys: [{ ...key, tenant: undefined }] }, 'keys[0].tenant', /provesTenant: false/],
    [{ keys: [key], provesTenant: false }, 'keys[0].tenant'],
    [{ keys: [key, { ...key, tenant: 'other', secret: Buffer.alloc(32, 2) }] }, 'keys[1].tenant', /another than that of an earlier key/],
    [{ keys: [key, key] }, 'keys[1].secret', /earlier key/],
    [{ keys: [key, { ...key, id: 'erp-2' }] }, 'keys[1].secret', /another id/],
    [{ keys: Array.from({ length: 9 }, (_, i) => ({ ...key, secret: Buffer.alloc(32, i) })) }, 'keys[8].id', /more than 8/],
    [{ keys: [{ ...key, algorithm: 'hmac-sha512' }] }, 'keys[0].algorithm', /must be one of: hmac-sha256/],
    [{ keys: [{ ...key, notBefore: new Date(2), notAfter: new Date(1) }] }, 'keys[0].notAfter'],
    [{ keys: [{ ...key, other: 1 }] }, 'keys[0].other', /unknown/],
    [{ keyCacheSeconds: 5 }, 'keyCacheSeconds', /needs a resolver/],
    [{ keys: () => undefined, keyCacheSeconds: -1 }, 'keyCacheSeconds'],
    [{ store: undefined }, 'store', /is required/],
    [{ store: {} }, 'store'], [{ store: null }, 'store'],
    [{ storeTimeoutMs: 0 }, 'storeTimeoutMs'], [{ maxLiveClaimsPerKey: 0 }, 'maxLiveClaimsPerKey'],
    [{ windowSeconds: 0 }, 'windowSeconds'], [{ windowSeconds: 3_601 }, 'windowSeconds'], [{ windowSeconds: 1.5 }, 'windowSeconds'],
    [{ clockToleranceSeconds: -1 }, 'clockToleranceSeconds'], [{ clockToleranceSeconds: 61 }, 'clockToleranceSeconds'],
    ...['', 'https://api.example', 'api.example/x', 'a b', 'user@host', 'api.example:', ':443'].map((authority) => [{ authority }, 'authority'] as const).slice(1),
    [{ authority: { source: 'proxy' } }, 'authority.source'],
    ...['partner', '/partner/', '//', '/a?b', '/a b'].map((pathPrefix) => [{ pathPrefix }, 'pathPrefix'] as const),
    [{ profile: rfc9421 }, 'profile', /called/], [{ profile: 'rfc9421' }, 'profile'], [{ profile: {} }, 'profile'],
    [{ shortSecrets: { minimumBytes: 15, reason: 'x' } }, 'shortSecrets.minimumBytes'],
    [{ shortSecrets: { reason: 'x' } }, 'shortSecrets.minimumBytes', /is required/],
    [{ shortSecrets: { minimumBytes: 16 } }, 'shortSecrets.reason', /is required/],
    [{ hideCredentials: 'yes' }, 'hideCredentials'], [{ debug: 1 }, 'debug'], [{ clockTolerance: 5 }, 'clockTolerance', /unknown/]
  ]
  for (const [options, option, rule] of wrong) await isRefusedAtBoot(t, options, option, rule)
})

t.test('the authority can\'t come from a request whose forwarded headers anybody may write', async (t) => {
  for (const trustProxy of [true, 1 as never, () => true]) {
    await isRefusedAtBoot(t, {}, 'authority', /source: 'socket'/, { trustProxy })
    for (const authority of ['api.example', { source: 'socket' as const }]) {
      const app = Fastify({ trustProxy })
      t.teardown(() => app.close())
      await app.register(hmacAuth, { ...validOptions(), authority })
    }
  }
})

t.test('debug is refused in production', async (t) => {
  t.intercept(process, 'env', { value: { ...process.env, NODE_ENV: 'production' } })
  await isRefusedAtBoot(t, { debug: true }, 'debug', /production/)
})

t.test('secrets shorter than their hash need a reason, and it is shown; gateways took any', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(hmacAuth, { ...validOptions(), keys: [{ ...key, secret: Buffer.alloc(16, 1) }], shortSecrets: { minimumBytes: 16, reason: 'the ERP has no more' } })
  await app.register(hmacAuth, {
    ...validOptions(), as: 'gateway', keys: [{ ...key, secret: Buffer.from('secret') }], shortSecrets: { minimumBytes: 6, reason: 'as in Kong' },
    profile: authorizationHmac({ dialect: 'kong', accepts: ['no-nonce', 'no-key-id', 'no-digest'], algorithms: ['hmac-sha256', 'hmac-sha1'], covers: ['x-shop'] })
  })
  app.get('/a', { onRequest: app.hmacAuth }, async () => 'ok')
  app.get('/b', { onRequest: (app as unknown as { gateway: typeof app.hmacAuth }).gateway }, async () => 'ok')
  t.match(app.printPolicies(), /GET \/a +hmacAuth \[rfc9421; secrets of 16 bytes allowed: the ERP has no more\]/)
  t.match(app.printPolicies(), /GET \/b +gateway \[authorizationHmac \(kong\); no-nonce; no-key-id; no-digest; SHA-1 allowed; covers x-shop; secrets of 6 bytes allowed: as in Kong\]/)
})

t.test('keys are taken as bytes or as KeyObject, and kept apart from the caller\'s', async (t) => {
  for (const given of [secret, new Uint8Array(secret), createSecretKey(secret)]) {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(hmacAuth, { ...validOptions(), store: memoryStore(), keys: [{ ...key, secret: given }] })
  }
})

t.test('a signer refuses what it could not sign with', async (t) => {
  const valid = { keyId: KEY_ID, secret }
  const wrong: readonly (readonly [object, string])[] = [
    [{ keyId: undefined }, 'keyId'], [{ keyId: 'a"b' }, 'keyId'], [{ secret: 'text' }, 'secret'], [{ secret: Buffer.alloc(0) }, 'secret'],
    [{ algorithm: 'hmac-sha512' }, 'algorithm'], [{ profile: headers }, 'profile'], [{ other: 1 }, 'other'], [{ clock: 1 }, 'clock'], [{ nonce: 'x' }, 'nonce']
  ]
  for (const [options, option] of wrong) t.throws(() => createRequestSigner({ ...valid, ...options }), { name: 'OptionsError', option })
  t.throws(() => createRequestSigner({ ...valid, nonce: () => '' }).sign({ url: 'https://a.example' }), TypeError)
  t.throws(() => createRequestSigner(valid).sign({ url: '/relative' }), TypeError)
  const covering = createRequestSigner({ ...valid, profile: rfc9421({ covers: ['x-shop'] }) })
  t.throws(() => covering.sign({ url: 'https://a.example' }), { name: 'TypeError', message: /would not cover: header/ })
  t.ok(covering.sign({ url: 'https://a.example', headers: { 'X-Shop': '7' } }))
})
