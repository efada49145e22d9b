/** What the compiler must accept and refuse. The assertions are in the types; `tsc` runs over this file. */

import { guardOf, identityOf, type Guard } from '@sallyport/guard'
import Fastify, { type FastifyPluginAsync } from 'fastify'
import t from 'tap'
import bearerJwtDefault, {
  bearerJwt, bearerJwtRefusals, type Algorithm, type BearerJwtGuard, type BearerJwtIdentity, type BearerJwtOptions, type BearerJwtRefusalCode,
  type BearerJwtRequirements, type JwtClaims, type JwtKey, type KeyAnswer, type KeyHints, type KeyResolver, type MintToken, type TokenMinterOptions, type TokenSource
} from '../src/index.js'
import { validOptions } from './fixtures/app.js'
import { claims, hmacToken, secret } from './fixtures/tokens.js'

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false
const holds = <T extends true>(): T | undefined => undefined

/** An interface, which is no record of unknowns. */
interface Partner { readonly company: string }

declare module 'fastify' {
  interface FastifyInstance {
    staffJwt: BearerJwtGuard<Partner>
  }
}

t.test('types the guard and what identityOf gives', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(bearerJwt, validOptions())
  await app.register(bearerJwt, { ...validOptions(), as: 'partnerJwt', source: { header: 'JWT' }, identity: ({ sub }): Partner => ({ company: String(sub) }) })
  await app.register(bearerJwt, { ...validOptions(), as: 'staffJwt', source: { cookie: 'jwt' }, identity: ({ sub }): Partner => ({ company: String(sub) }) })
  holds<Equal<typeof app.bearerJwt, BearerJwtGuard>>()
  holds<Equal<BearerJwtGuard, Guard<BearerJwtIdentity, BearerJwtRequirements>>>()
  holds<typeof bearerJwt extends FastifyPluginAsync<BearerJwtOptions> ? true : false>()
  t.equal(bearerJwtDefault, bearerJwt)
  const partnerJwt = guardOf<BearerJwtGuard<Partner>>(app, 'partnerJwt')
  app.get('/', { onRequest: app.bearerJwt.require({ scopes: ['a'] }).require({ scopes: { any: ['a'] } }) }, async (request) => {
    const identity = identityOf(request, app.bearerJwt)
    holds<Equal<typeof identity, BearerJwtIdentity>>()
    holds<Equal<typeof identity.claims, JwtClaims>>()
    holds<Equal<typeof identity.tenant, string | undefined>>()
    holds<Equal<typeof identity.scopes, readonly string[]>>()
    // @ts-expect-error an identity is read only
    t.throws(() => { identity.tenant = 'x' })
    // @ts-expect-error claims are read only
    t.throws(() => { identity.claims['x'] = 'x' })
    return 'ok'
  })
  app.get('/partner', { onRequest: partnerJwt }, async (request) => {
    const { claims } = identityOf(request, partnerJwt)
    holds<Equal<typeof claims, Partner>>()
    return claims.company
  })
  app.get('/staff', { onRequest: app.staffJwt }, async (request) => {
    const { claims } = identityOf(request, app.staffJwt)
    holds<Equal<typeof claims, Partner>>()
    return claims.company
  })
  // @ts-expect-error scopes are texts
  t.throws(() => app.bearerJwt.require({ scopes: [1] }), { name: 'OptionsError' })
  // @ts-expect-error no such requirement
  t.throws(() => app.bearerJwt.require({ roles: ['a'] }), { name: 'OptionsError' })
  const token = hmacToken({ ...claims, scope: 'a' })
  t.equal((await app.inject({ url: '/', headers: { authorization: `Bearer ${token}` } })).body, 'ok')
  t.equal((await app.inject({ url: '/partner', headers: { jwt: token } })).body, 'alice')
  t.equal((await app.inject({ url: '/staff', headers: { cookie: `jwt=${token}` } })).body, 'alice')
  t.throws(() => guardOf<BearerJwtGuard>(app, 'nobody'), { name: 'TypeError', message: /"nobody"/ })
})

t.test('types the options', async (t) => {
  const resolvers: readonly KeyResolver[] = [() => undefined, async () => undefined, () => [], async () => ({ key: secret }), ({ tenant, keyId, issuer, algorithm }: KeyHints): KeyAnswer => tenant === keyId && issuer === algorithm ? undefined : [{ key: secret }]]
  const keys: readonly JwtKey[] = [{ key: secret }, { key: { kty: 'oct', k: 'x' }, algorithm: 'HS256', id: 'a', notBefore: new Date(), notAfter: new Date() }]
  const sources: readonly TokenSource[] = [{ header: 'JWT' }, { header: 'authorization', scheme: 'Bearer' }, { cookie: 'jwt' }]
  t.same([resolvers.length, keys.length, sources.length], [5, 2, 3])
  holds<Algorithm extends string ? true : false>()
  const shaped: BearerJwtOptions<Partner> = { keys, identity: ({ company }) => ({ company: String(company) }) }
  t.ok(shaped)
  // Keys or issuers are required, which only registration can say.
  const none: BearerJwtOptions = {}
  // @ts-expect-error a key is never text, which could be a secret or a public key
  const text: BearerJwtOptions = { keys: [{ key: 'secret' }] }
  // @ts-expect-error algorithms are named by RFC 7518
  const unknown: BearerJwtOptions = { keys, algorithms: ['none'] }
  // @ts-expect-error no regular expressions
  const expression: BearerJwtOptions = { keys: [{ key: secret }], issuer: /x/ }
  // @ts-expect-error no duration strings
  const duration: BearerJwtOptions = { keys: [{ key: secret }], maxLifetimeSeconds: '15s' }
  for (const wrong of [none, text, unknown, expression, duration]) await t.rejects(async () => { await Fastify().register(bearerJwt, wrong) }, { name: 'OptionsError' })
})

t.test('types the minter and the codes', async (t) => {
  const options: TokenMinterOptions = { key: secret, claims: { a: 1 } }
  holds<Equal<ReturnType<MintToken>, string>>()
  t.ok(options)
  holds<Equal<BearerJwtRefusalCode, keyof typeof bearerJwtRefusals>>()
  t.ok(Object.keys(bearerJwtRefusals).every((code) => /^ERR_BEARER_JWT_[A-Z_]+$/.test(code)))
})
