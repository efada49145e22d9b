/** What the compiler must accept and refuse. The assertions are in the types; `tsc` runs over this file. */

import { identityOf, type Guard } from '@sallyport/guard'
import Fastify, { type FastifyPluginAsync } from 'fastify'
import t from 'tap'
import legacyHeaders, {
  legacyHeadersReasons, legacyHeadersRefusals, type AccessTokenDigest, type CredentialResolver, type LegacyHeadersGuard, type LegacyHeadersIdentity,
  type LegacyHeadersOptions, type LegacyHeadersReason, type LegacyHeadersRefusalCode, type LegacyHeadersUsage, type TenantUsage
} from '../src/index.js'
import { credential, validOptions } from './fixtures/app.js'

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false
const holds = <T extends true>(): T | undefined => undefined

t.test('types the guard, its identity and its report', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(legacyHeaders, validOptions())
  holds<Equal<typeof app.legacyHeaders, LegacyHeadersGuard>>()
  holds<LegacyHeadersGuard extends Guard<LegacyHeadersIdentity> ? true : false>()
  holds<typeof legacyHeaders extends FastifyPluginAsync<LegacyHeadersOptions> ? true : false>()
  holds<Equal<ReturnType<typeof app.legacyHeaders.usage>, LegacyHeadersUsage>>()
  holds<Equal<LegacyHeadersUsage['tenants'], readonly TenantUsage[]>>()
  app.get('/', { onRequest: [app.legacyHeaders] }, async (request) => {
    const identity = identityOf(request, app.legacyHeaders)
    holds<Equal<typeof identity, LegacyHeadersIdentity>>()
    holds<Equal<typeof identity.tenant, string>>()
    holds<Equal<typeof identity.credentialId, string | undefined>>()
    // @ts-expect-error an identity is read only
    t.throws(() => { identity.tenant = 'x' })
    return 'ok'
  })
  app.get('/:tenant', { onRequest: app.legacyHeaders.require({ tenantParam: 'tenant' }) }, async () => 'ok')
  // @ts-expect-error a narrowed guard is a guard, and the report stays with the registration
  t.equal(app.legacyHeaders.require({ tenantParam: 'tenant' }).usage, undefined)
  // @ts-expect-error these credentials have no scopes to ask for
  t.throws(() => app.legacyHeaders.require({ scopes: ['a'] }), { name: 'OptionsError' })
  t.equal((await app.inject({ url: '/', headers: credential() })).statusCode, 200)
})

t.test('types the options', async (t) => {
  const resolvers: readonly CredentialResolver[] = [() => undefined, async () => undefined, () => [], async () => [{ digest: 'x' }]]
  t.equal(resolvers.length, 4)
  const digests: readonly AccessTokenDigest[] = [{ digest: 'x' }, { digest: new Uint8Array(32), id: 'a', notBefore: new Date(), notAfter: new Date() }]
  t.equal(digests.length, 2)
  // @ts-expect-error credentials are required
  const none: LegacyHeadersOptions = {}
  // @ts-expect-error a token is never given in clear
  const clear: LegacyHeadersOptions = { credentials: [{ tenant: '1', tokens: [{ token: 'x' }] }] }
  // @ts-expect-error dates are dates
  const text: LegacyHeadersOptions = { credentials: [], deprecation: { deprecatedAt: '2026-01-01' } }
  // @ts-expect-error a format is no regular expression
  const format: LegacyHeadersOptions = { credentials: [], tenantFormat: /x/ }
  // @ts-expect-error a sunset alone announces nothing
  const sunset: LegacyHeadersOptions = { credentials: [], deprecation: { sunsetAt: new Date() } }
  for (const wrong of [none, clear, text, format, sunset]) await t.rejects(async () => { await Fastify().register(legacyHeaders, wrong) }, { name: 'OptionsError' })
})

t.test('types the codes and the reasons as closed sets', async (t) => {
  holds<Equal<LegacyHeadersRefusalCode, keyof typeof legacyHeadersRefusals>>()
  holds<Equal<LegacyHeadersReason, keyof typeof legacyHeadersReasons>>()
  t.ok(Object.keys(legacyHeadersRefusals).every((code) => /^ERR_LEGACY_HEADERS_[A-Z_]+$/.test(code)))
  t.ok(Object.keys(legacyHeadersReasons).every((reason) => /^[a-z-]+$/.test(reason)))
})
