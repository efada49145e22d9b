/** What the compiler must accept and refuse. The assertions are in the types; `tsc` runs over this file. */

import { identityOf, memoryStore, type Guard } from '@sallyport/guard'
import Fastify, { type FastifyPluginAsync } from 'fastify'
import t from 'tap'
import hmacAuth, {
  authorizationHmac, headers, hmacAuthReasons, hmacAuthRefusals, layeredGateway, rfc9421, signedFetch, type HmacAuthGuard, type HmacAuthIdentity, type HmacAuthOptions,
  type HmacAuthReason, type HmacAuthRefusalCode, type KeyResolver, type Profile, type SignatureExplanation
} from '../src/index.js'
import { KEY_ID, secret, signed, TENANT, validOptions } from './fixtures/app.js'

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false
const holds = <T extends true>(): T | undefined => undefined

t.test('types the guard, its identity and its explanation', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(hmacAuth, validOptions())
  holds<Equal<typeof app.hmacAuth, HmacAuthGuard>>()
  holds<HmacAuthGuard extends Guard<HmacAuthIdentity> ? true : false>()
  holds<typeof hmacAuth extends FastifyPluginAsync<HmacAuthOptions> ? true : false>()
  app.get('/orders', { onRequest: app.hmacAuth }, async (request) => {
    const identity = identityOf(request, app.hmacAuth)
    holds<Equal<typeof identity, HmacAuthIdentity>>()
    holds<Equal<typeof identity.keyId, string>>()
    holds<Equal<typeof identity.tenant, string | undefined>>()
    holds<Equal<ReturnType<typeof app.hmacAuth.explainSignature>, SignatureExplanation>>()
    // @ts-expect-error an identity is read only
    t.throws(() => { identity.keyId = 'x' })
    return identity
  })
  app.get('/:tenant', { onRequest: app.hmacAuth.require({ tenantParam: 'tenant' }) }, async () => 'ok')
  app.post('/stream', { onRequest: app.hmacAuth.require({ body: 'stream' }) }, async () => 'ok')
  // @ts-expect-error signatures have no scopes to ask for
  t.throws(() => app.hmacAuth.require({ scopes: ['a'] }), { name: 'OptionsError' })
  t.same((await app.inject(signed())).json(), { keyId: KEY_ID, tenant: TENANT })
})

t.test('types the options', async (t) => {
  const resolvers: readonly KeyResolver[] = [() => undefined, async () => undefined, () => [], async () => ({ secret }), () => [{ secret, tenant: '1', id: 'a', label: 'b' }]]
  const profiles: readonly Profile[] = [
    rfc9421(), headers(), headers({ ...layeredGateway, signature: 'x-hmac' }), headers({ digest: false, parts: ['text:v0', 'method', 'authority', 'target', 'timestamp', 'key-id', 'nonce', 'header:x-a', 'body'] }),
    authorizationHmac({ dialect: 'kong', accepts: ['no-nonce', 'no-key-id'] })
  ]
  t.same([resolvers.length, profiles.length], [5, 5])
  const store = memoryStore()
  // @ts-expect-error keys are required
  const noKeys: HmacAuthOptions = { store }
  // @ts-expect-error a store is required
  const noStore: HmacAuthOptions = { keys: [{ id: 'a', secret, tenant: '1' }] }
  // @ts-expect-error a secret is never text
  const text: HmacAuthOptions = { store, keys: [{ id: 'a', secret: 'text', tenant: '1' }] }
  // @ts-expect-error a profile is called
  const uncalled: HmacAuthOptions = { store, keys: [{ id: 'a', secret, tenant: '1' }], profile: rfc9421 }
  for (const wrong of [noKeys, noStore, text, uncalled]) await t.rejects(async () => { await Fastify().register(hmacAuth, wrong) }, { name: 'OptionsError' })
  // @ts-expect-error there is no part of that name
  t.throws(() => headers({ parts: ['verb'] }))
  // @ts-expect-error a gap is named as it is spelled
  t.throws(() => rfc9421({ accepts: ['nonce'] }))
  // @ts-expect-error older forms have gaps, which must be named
  t.throws(() => authorizationHmac({ dialect: 'kong' }))
  // @ts-expect-error a signer needs a secret
  t.throws(() => signedFetch({ keyId: 'a' }))
})

t.test('types the codes and the reasons as closed sets', async (t) => {
  holds<Equal<HmacAuthRefusalCode, keyof typeof hmacAuthRefusals>>()
  holds<Equal<HmacAuthReason, keyof typeof hmacAuthReasons>>()
  // @ts-expect-error no such reason
  const reason: HmacAuthReason = 'because'
  t.notOk(Object.hasOwn(hmacAuthReasons, reason))
  t.ok(Object.keys(hmacAuthRefusals).every((code) => /^ERR_HMAC_AUTH_[A-Z]+_[A-Z]+$/.test(code)))
})
