import { connect, type AddressInfo } from 'node:net'
import { setTimeout as after } from 'node:timers/promises'
import { allOf, identityOf, memoryStore, StoreUnavailable, type ClaimStore } from '@sallyport/guard'
import { rawRequest } from '@sallyport/test-kit'
import Fastify, { type FastifyInstance } from 'fastify'
import t from 'tap'
import { bearerJwt, type BearerJwtOptions } from '../src/index.js'
import { isRefused, testApp, validOptions, type TestAppSetup } from './fixtures/app.js'
import { claims, encode, hmacToken, NOW, otherSecret, secret } from './fixtures/tokens.js'

const token = hmacToken(claims)
const missing = 'ERR_BEARER_JWT_TOKEN_MISSING'
const ambiguous = 'ERR_BEARER_JWT_TOKEN_AMBIGUOUS'
const malformed = 'ERR_BEARER_JWT_TOKEN_INVALID'

async function portOf (app: FastifyInstance): Promise<number> {
  await app.listen({ port: 0, host: '127.0.0.1' })
  return (app.server.address() as AddressInfo).port
}

t.test('reads the Authorization header, its name and scheme in any case', async (t) => {
  const { app, handlerRuns } = await testApp(t)
  const port = await portOf(app)
  for (const line of [`Authorization: Bearer ${token}`, `AUTHORIZATION: BEARER ${token}`, `authorization: bearer ${token}`, `aUtHoRiZaTiOn:bEaReR   ${token}  `]) {
    t.equal((await rawRequest(port, ['GET / HTTP/1.1', line])).status, 200, line.slice(0, 24))
  }
  t.equal(handlerRuns(), 4)
})

t.test('tells a request without a bearer token from one with a broken one', async (t) => {
  const { send, handlerRuns } = await testApp(t)
  for (const authorization of [undefined, 'Basic dTpw', `Token ${token}`, `JWT ${token}`, `XBearer ${token}`, `BearerX ${token}`, `Bearer-${token}`, token, `dTpw, Bearer ${token}`]) {
    isRefused(t, await send({ headers: authorization === undefined ? {} : { authorization } }), missing, String(authorization).slice(0, 12))
  }
  for (const authorization of ['Bearer', 'Bearer ', 'bearer   ', `Bearer\t${token}`, `Bearer: ${token}`, `Bearer "${token}"`, `Bearer ${token},`, `Bearer ${token}, Bearer ${token}`, `Bearer x, Bearer ${token}`, `Bearer ${token} x`, `Bearer=${token}`]) {
    isRefused(t, await send({ headers: { authorization } }), malformed, authorization.slice(0, 12))
  }
  for (const elsewhere of [{ url: `/?access_token=${token}&jwt=${token}` }, { headers: { cookie: `jwt=${token}`, jwt: token, 'x-authorization': `Bearer ${token}` } }, { method: 'POST' as const, payload: { access_token: token } }]) {
    isRefused(t, await send(elsewhere), missing)
  }
  t.equal(handlerRuns(), 0)
})

t.test('reads a bare header, and names it in the challenge', async (t) => {
  const { app, send } = await testApp(t, { source: { header: 'JWT' }, realm: 'partner "api"' })
  t.equal((await send({ headers: { jwt: token } })).statusCode, 200)
  isRefused(t, await send({ headers: { authorization: `Bearer ${token}` } }), missing, 'elsewhere', 'Bearer realm="partner \\"api\\"", header="jwt"')
  for (const jwt of ['', `Bearer ${token}`, `${token}, ${token}`, ` ${token}`]) {
    isRefused(t, await send({ headers: { jwt } }), malformed, jwt.slice(0, 12), 'Bearer realm="partner \\"api\\"", header="jwt", error="invalid_token"')
  }
  const port = await portOf(app)
  t.equal((await rawRequest(port, ['GET / HTTP/1.1', `JwT: ${token}`])).status, 200)
  for (const pair of [[token, token], [token, 'x'], ['x', token], [token, '']]) {
    const answer = await rawRequest(port, ['GET / HTTP/1.1', ...pair.map((value) => `JWT: ${value}`)])
    t.same([answer.status, (JSON.parse(answer.body) as { code: string }).code], [401, ambiguous])
  }
})

t.test('reads a cookie by its exact name', async (t) => {
  const { send } = await testApp(t, { source: { cookie: 'session' } })
  for (const cookie of [`session=${token}`, `a=b; session=${token}; c=d`, ` session = ${token} `]) t.equal((await send({ headers: { cookie } })).statusCode, 200, cookie.slice(0, 12))
  for (const cookie of ['', `Session=${token}`, `xsession=${token}`, `session.${token}`, `=${token}`, `a=session=${token}`]) isRefused(t, await send({ headers: { cookie } }), missing, cookie.slice(0, 12))
  isRefused(t, await send({ headers: { cookie: `session=${token}; session=${token}` } }), ambiguous)
  for (const cookie of ['session=', `session="${token}"`]) isRefused(t, await send({ headers: { cookie } }), malformed, cookie.slice(0, 12))
})

t.test('takes one of several sources, and never two at once', async (t) => {
  const { send } = await testApp(t, { source: [{ header: 'Authorization', scheme: 'Bearer' }, { header: 'JWT' }, { cookie: 'jwt' }, { header: 'authorization', scheme: 'Token' }] })
  const places = [{ authorization: `Bearer ${token}` }, { jwt: token }, { cookie: `jwt=${token}` }, { authorization: `token ${token}` }]
  for (const headers of places) t.equal((await send({ headers })).statusCode, 200, Object.keys(headers).join())
  const other = hmacToken({ ...claims, sub: 'bob' })
  for (const value of [token, other, 'x', '']) {
    isRefused(t, await send({ headers: { authorization: `Bearer ${token}`, jwt: value } }), ambiguous)
    isRefused(t, await send({ headers: { jwt: value, cookie: `jwt=${token}` } }), ambiguous)
  }
})

t.test('refuses more than one Authorization line, whichever is right', async (t) => {
  const { app, handlerRuns } = await testApp(t)
  const port = await portOf(app)
  for (const pair of [['Bearer', 'Bearer'].map((scheme) => `${scheme} ${token}`), [`Bearer ${token}`, 'Bearer x'], ['Bearer x', `Bearer ${token}`], ['Basic dTpw', `Bearer ${token}`], [`Bearer ${token}`, 'Basic dTpw']]) {
    const answer = await rawRequest(port, ['GET / HTTP/1.1', ...pair.map((value) => `Authorization: ${value}`)])
    t.same([answer.status, (JSON.parse(answer.body) as { code: string }).code, answer.headers['www-authenticate']], [401, ambiguous, ['Bearer realm="api", error="invalid_token"']])
  }
  t.equal(handlerRuns(), 0)
})

t.test('accepts the example of Musskema, with the company as text and as a number', async (t) => {
  const key = Buffer.from('01298347edf923874a')
  const options: Partial<BearerJwtOptions> = {
    algorithms: ['HS256'], source: { header: 'JWT' }, tenant: 'company_id', requiredClaims: ['nbf'], maxLifetimeSeconds: 15,
    shortSecrets: { minimumBytes: 16, reason: 'access tokens of Musskema have 18 characters' },
    keys: ({ tenant }) => tenant === '100001' ? { key } : undefined,
    clock: () => 1550562692_000
  }
  const header = { alg: 'HS256' }
  t.equal(encode(header), 'eyJhbGciOiJIUzI1NiJ9', 'the header of the example')
  t.equal(encode({ exp: 1550562697, nbf: 1550562692, company_id: '100001' }), 'eyJleHAiOjE1NTA1NjI2OTcsIm5iZiI6MTU1MDU2MjY5MiwiY29tcGFueV9pZCI6IjEwMDAwMSJ9', 'the payload of the example')
  const { send } = await testApp(t, options)
  const example = (given: object) => send({ headers: { jwt: hmacToken({ exp: 1550562697, nbf: 1550562692, company_id: '100001', ...given }, key, header) } })
  for (const company of ['100001', 100001]) {
    const answer = await example({ company_id: company })
    t.same([answer.statusCode, answer.json<{ principal: unknown }>().principal], [200, { tenant: '100001', scopes: [] }])
  }
  const challenge = 'Bearer realm="api", header="jwt", error="invalid_token"'
  const wrong: readonly (readonly [object, Parameters<typeof isRefused>[2]])[] = [
    [{ exp: 1550562708 }, 'ERR_BEARER_JWT_CLAIMS_INVALID'],
    [{ exp: undefined }, 'ERR_BEARER_JWT_CLAIMS_INVALID'],
    [{ nbf: undefined, iat: 1550562692 }, 'ERR_BEARER_JWT_CLAIMS_INVALID'],
    [{ exp: 1550562692, nbf: 1550562690 }, 'ERR_BEARER_JWT_TOKEN_EXPIRED'],
    [{ nbf: 1550562694 }, 'ERR_BEARER_JWT_TOKEN_EXPIRED'],
    [{ company_id: 100002 }, 'ERR_BEARER_JWT_TOKEN_INVALID'],
    [{ company_id: undefined }, 'ERR_BEARER_JWT_TOKEN_INVALID'],
    [{ company_id: '0100001' }, 'ERR_BEARER_JWT_TOKEN_INVALID']
  ]
  for (const [given, code] of wrong) isRefused(t, await example(given), code, JSON.stringify(given), challenge)
  t.equal((await example({ exp: 1550562707 })).statusCode, 200, '15 seconds')
  const unsigned = `${encode({ alg: 'none' })}.${encode({ exp: 1550562697, nbf: 1550562692, company_id: '100001' })}.`
  isRefused(t, await send({ headers: { jwt: unsigned } }), malformed, 'alg none', challenge)
  isRefused(t, await send({ headers: { jwt: hmacToken({ exp: 1550562697, nbf: 1550562692, company_id: '100001' }, key, { alg: 'HS512' }) } }), malformed, 'HS512', challenge)
})

t.test('gives handlers the identity, typed, frozen, and nothing else of the token', async (t) => {
  const { app, send, identity } = await testApp(t, { tenant: 'company_id' })
  const answer = await send(hmacToken({ ...claims, company_id: 7, scope: 'a b', deep: { list: [{ x: 1 }] } }))
  t.same(answer.json(), { principal: { tenant: '7', subject: 'alice', scopes: ['a', 'b'] }, authorization: null })
  t.same(identity(), { claims: { ...claims, company_id: 7, scope: 'a b', deep: { list: [{ x: 1 }] } }, keyId: 'live', tenant: '7', subject: 'alice', scopes: ['a', 'b'] })
  t.same(Object.keys(identity()), ['claims', 'keyId', 'tenant', 'subject', 'scopes'])
  t.equal(app.hasRequestDecorator('user'), false)
})

t.test('gives no subject where the token has none', async (t) => {
  const { send, identity } = await testApp(t)
  for (const given of [{ exp: NOW + 1 }, { exp: NOW + 1, sub: '' }]) {
    t.same((await send(hmacToken(given))).json<{ principal: unknown }>().principal, { scopes: [] })
    t.equal(identity().tenant, undefined)
  }
})

t.test('shapes the claims as it is told', async (t) => {
  class Partner { readonly id: string; constructor (id: string) { this.id = id } }
  const { send, identity } = await testApp(t, { identity: ({ sub }) => new Partner(sub as string) })
  t.equal((await send(token)).statusCode, 200)
  const { claims: shaped } = identity() as { claims: unknown }
  t.ok(shaped instanceof Partner && shaped.id === 'alice')
})

t.test('takes the token out of every view of the request, unless told otherwise', async (t) => {
  for (const hideCredentials of [undefined, true, false]) {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(bearerJwt, { ...validOptions(), source: [{ header: 'authorization', scheme: 'Bearer' }, { cookie: 'jwt' }], ...hideCredentials !== undefined && { hideCredentials } })
    app.get('/', { onRequest: app.bearerJwt }, ({ headers, raw }) => ({ headers, raw: raw.rawHeaders, distinct: raw.headersDistinct, old: raw.headers }))
    for (const headers of [{ authorization: `Bearer ${token}` }, { cookie: `a=b; jwt=${token}` }]) {
      const answer = await app.inject({ url: '/', headers })
      t.equal(answer.statusCode, 200)
      t.equal(answer.body.includes(token), hideCredentials === false, `hideCredentials: ${hideCredentials}`)
    }
    t.match((await app.inject({ url: '/', headers: { cookie: `a=b; jwt=${token}` } })).json<{ headers: unknown }>().headers, { cookie: 'a=b' })
  }
})

t.test('asks a route\'s scopes: all of a list, or one of any', async (t) => {
  const routes: Readonly<Record<string, TestAppSetup['policy']>> = {
    all: (guard) => guard.require({ scopes: ['orders:read', 'orders:write'] }),
    any: (guard) => guard.require({ scopes: { any: ['orders:read', 'orders:write'] } }),
    both: (guard) => guard.require({ scopes: ['orders:read'] }).require({ scopes: ['orders:write'] })
  }
  const passes: Readonly<Record<string, readonly string[]>> = { all: ['orders:read orders:write', 'x orders:write orders:read'], any: ['orders:read', 'orders:write x'], both: ['orders:write orders:read'] }
  const fails: Readonly<Record<string, readonly (string | undefined)[]>> = { all: [undefined, '', 'orders:read', 'orders:readwrite orders:write'], any: [undefined, '', 'orders', 'ORDERS:READ'], both: ['orders:read', 'orders:write'] }
  for (const [name, policy] of Object.entries(routes)) {
    const { send } = await testApp(t, { realm: 'r' }, { policy: policy! })
    for (const scope of passes[name]!) t.equal((await send(hmacToken({ ...claims, scope }))).statusCode, 200, `${name}: ${scope}`)
    for (const scope of fails[name]!) {
      const wanted = name !== 'both' ? 'orders:read orders:write' : scope === 'orders:read' ? 'orders:write' : 'orders:read'
      isRefused(t, await send(hmacToken({ ...claims, scope })), 'ERR_BEARER_JWT_SCOPE_INSUFFICIENT', `${name}: ${scope}`, `Bearer realm="r", error="insufficient_scope", scope="${wanted}"`)
    }
    isRefused(t, await send(hmacToken({ ...claims, scope: 'orders:read orders:write' }, otherSecret)), malformed, 'wrongly signed', 'Bearer realm="r", error="invalid_token"')
  }
})

t.test('refuses requirements that can\'t be meant', async (t) => {
  const store = memoryStore()
  const { app } = await testApp(t)
  const require = (given: object) => () => app.bearerJwt.require(given)
  t.throws(require({ scope: ['a'] }), { name: 'OptionsError', option: 'require().scope' })
  t.throws(require({ scopes: [] }), { name: 'OptionsError', option: 'require().scopes' })
  t.throws(require({ scopes: 'a' }), { name: 'OptionsError' })
  t.throws(require({ scopes: { all: ['a'] } }), { name: 'OptionsError', option: 'require().scopes.all' })
  t.throws(require({ scopes: {} }), { name: 'OptionsError', option: 'require().scopes' })
  t.throws(require({ scopes: ['a b'] }), { name: 'OptionsError', message: /scope tokens/ })
  t.throws(require({ scopes: ['a"'] }), { name: 'OptionsError', message: /scope tokens/ })
  t.throws(require({ singleUse: true }), { name: 'OptionsError', message: /needs the "store" option/ })
  t.throws(require({ singleUse: 'yes' }), { name: 'OptionsError', message: /true or false/ })
  t.throws(require({ singleUse: false }), { name: 'OptionsError', message: /asks for nothing/ })
  t.throws(require({ tenantParam: 'company' }), { name: 'OptionsError', message: /needs a guard that proves a tenant/ })
  t.throws(require({}), { name: 'OptionsError', message: /asks for nothing/ })
  const waived = await testApp(t, { store, requireExpiration: false })
  t.throws(() => waived.app.bearerJwt.require({ singleUse: true }), { name: 'OptionsError', message: /needs tokens that expire/ })
})

const once: NonNullable<TestAppSetup['policy']> = (guard) => guard.require({ singleUse: true })
/** Dated after the store was made, as tokens of a real client are. */
const fresh = (given: object = {}) => hmacToken({ ...claims, nbf: NOW, ...given })
const newStore = () => memoryStore({ clock: () => NOW * 1000 })

t.test('accepts a one-shot token once', async (t) => {
  const { send, handlerRuns, decisions } = await testApp(t, { store: newStore() }, { policy: once })
  for (const given of [{ jti: 'a' }, { jti: 'b' }, {}, { nonce: 1 }, { jti: '' }]) {
    t.equal((await send(fresh(given))).statusCode, 200, JSON.stringify(given))
    isRefused(t, await send(fresh(given)), 'ERR_BEARER_JWT_TOKEN_REUSED', JSON.stringify(given))
  }
  isRefused(t, await send(fresh({ jti: 'a', other: 'claims' })), 'ERR_BEARER_JWT_TOKEN_REUSED', 'the same jti in another token')
  t.equal(handlerRuns(), 5)
  t.same(decisions.filter(({ outcome }) => outcome !== 'passed').map(({ code }) => code), Array.from({ length: 6 }, () => 'ERR_BEARER_JWT_TOKEN_REUSED'), 'events tell of a second use')
})

t.test('lets exactly one of 200 concurrent requests through, in memory and in a store that takes its time', async (t) => {
  for (const slow of [false, true]) {
    const store = slow ? slowStore() : newStore()
    const { send, handlerRuns } = await testApp(t, { store }, { policy: once })
    const answers = await Promise.all(Array.from({ length: 200 }, () => send(fresh({ jti: 'one' }))))
    t.equal(answers.filter(({ statusCode }) => statusCode === 200).length, 1)
    for (const answer of answers) if (answer.statusCode !== 200) isRefused(t, answer, 'ERR_BEARER_JWT_TOKEN_REUSED')
    t.equal(handlerRuns(), 1)
  }
})

t.test('claims nothing for a token that is refused', async (t) => {
  const store = newStore()
  const { send } = await testApp(t, { store, tenant: 'company_id' }, { route: '/:company', policy: (guard) => guard.require({ singleUse: true, scopes: ['a'], tenantParam: 'company' }) })
  const ask = (text: string, company = '1') => send({ url: `/${company}`, headers: { authorization: `Bearer ${text}` } })
  const given = { jti: 'a', company_id: 1, scope: 'a' }
  t.equal((await ask(hmacToken({ ...claims, nbf: NOW, ...given }, otherSecret))).statusCode, 401)
  t.equal((await ask(fresh({ ...given, scope: 'b' }))).statusCode, 403)
  t.equal((await ask(fresh(given), '2')).statusCode, 403)
  t.equal((await ask(fresh({ ...given, exp: NOW }))).statusCode, 401)
  t.equal(store.size, 0)
  t.equal((await ask(fresh(given))).statusCode, 200)
  t.equal(store.size, 1)
})

t.test('claims a token before the body is read', async (t) => {
  const { app } = await testApp(t, { store: newStore() }, { policy: once })
  const port = await portOf(app)
  const text = fresh({ jti: 'slow' })
  const slow = connect(port, '127.0.0.1', () => slow.write(`POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${text}\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\n`))
  t.teardown(() => slow.destroy())
  await after(50)
  t.equal((await rawRequest(port, ['POST / HTTP/1.1', `Authorization: Bearer ${text}`, 'Content-Type: text/plain', 'Content-Length: 4'], 'body')).status, 401)
})

t.test('keeps the claim until the token can\'t be used any more, tolerance included', async (t) => {
  let now = NOW
  const asked: number[] = []
  const inner = memoryStore({ clock: () => now * 1000 })
  const store: ClaimStore = { claim: (key, ttlMs, value) => { asked.push(ttlMs); return inner.claim(key, ttlMs, value) }, release: (...given) => inner.release(...given) }
  const { send } = await testApp(t, { store, clock: () => now * 1000, clockToleranceSeconds: 10 }, { policy: once, guardOptions: { clock: () => now * 1000 } })
  const text = fresh({ jti: 'a', exp: NOW + 30 })
  t.equal((await send(text)).statusCode, 200)
  t.same(asked, [40_000])
  now = NOW + 39
  isRefused(t, await send(text), 'ERR_BEARER_JWT_TOKEN_REUSED')
  now = NOW + 40
  isRefused(t, await send(text), 'ERR_BEARER_JWT_TOKEN_EXPIRED')
})

t.test('can\'t judge one-shot tokens that may have been used before a store in memory was made', async (t) => {
  const { send, decisions, handlerRuns } = await testApp(t, { store: newStore() }, { policy: once })
  isRefused(t, await send(fresh({ jti: 'a', nbf: undefined })), 'ERR_BEARER_JWT_CLAIMS_INVALID', 'without a date nobody could ever tell')
  for (const given of [{ nbf: NOW - 1 }, { nbf: undefined, iat: NOW - 1 }]) {
    isRefused(t, await send(fresh({ jti: 'a', ...given })), 'ERR_BEARER_JWT_STATE_UNAVAILABLE', JSON.stringify(given))
    t.equal(decisions.at(-1)?.reason, 'dated-before-store')
  }
  t.equal(handlerRuns(), 0)
  t.equal((await send(fresh({ jti: 'a', nbf: undefined, iat: NOW }))).statusCode, 200)
})

t.test('is unavailable while the store is down, full or too slow', async (t) => {
  const down: Readonly<Record<string, ClaimStore['claim']>> = {
    rejects: () => Promise.reject(new Error('connect ECONNREFUSED redis.internal:6379')),
    throws: () => { throw new Error('redis.internal') },
    full: () => Promise.reject(new StoreUnavailable('full')),
    slow: () => new Promise(() => undefined),
    nonsense: (() => Promise.resolve(undefined)) as unknown as ClaimStore['claim']
  }
  for (const [how, claim] of Object.entries(down)) {
    const { send, handlerRuns } = await testApp(t, { store: { claim, release: async () => undefined }, storeTimeoutMs: 20 }, { policy: once })
    const answer = await send(fresh({ jti: 'a' }))
    t.same([answer.statusCode, answer.json<{ code: string }>().code, answer.headers['retry-after']], [503, 'ERR_GUARD_STORE_UNAVAILABLE', '1'], how)
    t.notMatch(answer.body, 'internal')
    t.equal(handlerRuns(), 0)
  }
})

t.test('lets one tenant hold so many live tokens, and no more', async (t) => {
  const { send } = await testApp(t, { store: newStore(), tenant: 'company_id', maxLiveClaimsPerKey: 2 }, { policy: once })
  const statuses = []
  for (const [company, jti] of [[1, 'a'], [1, 'b'], [1, 'c'], [2, 'a'], [2, 'b'], [2, 'c']]) statuses.push((await send(fresh({ company_id: company, jti }))).statusCode)
  t.same(statuses, [200, 200, 429, 200, 200, 429])
})

t.test('judges a token once for several policies of one request', async (t) => {
  let asked = 0
  const { app, send } = await testApp(t, { algorithms: ['HS256'], keys: () => { asked++; return { key: secret } } }, { policy: (guard) => allOf(guard, guard.require({ scopes: ['a'] })) })
  t.equal((await send(hmacToken({ ...claims, scope: 'a' }))).statusCode, 200)
  t.equal(asked, 1)
  t.match(app.printPolicies(), 'bearerJwt and bearerJwt [scopes: a]')
})

t.test('says in the audit what a route asks for', async (t) => {
  const { app } = await testApp(t, { store: newStore() }, { policy: (guard) => guard.require({ scopes: ['a', 'b'], singleUse: true }).require({ scopes: { any: ['c', 'd'] } }) })
  await app.ready()
  t.same(app.policies().find(({ method }) => method === 'GET')?.policy, { guard: 'bearerJwt', plugin: '@sallyport/bearer-jwt', requires: ['scopes: a b; single use', 'scopes: c | d'] })
})

t.test('stands beside another registration under another name', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(bearerJwt, validOptions())
  await app.register(bearerJwt, { ...validOptions(), as: 'partnerJwt', keys: [{ key: otherSecret }], source: { header: 'JWT' } })
  const { partnerJwt } = app as unknown as { partnerJwt: typeof app.bearerJwt }
  app.get('/', { onRequest: allOf(app.bearerJwt, partnerJwt) }, (request) => [identityOf(request, app.bearerJwt).subject, request.auth.via])
  const answer = await app.inject({ url: '/', headers: { authorization: `Bearer ${token}`, jwt: hmacToken(claims, otherSecret) } })
  t.same(answer.json(), ['alice', ['bearerJwt', 'partnerJwt']])
  t.equal((await app.inject({ url: '/', headers: { authorization: `Bearer ${token}`, jwt: token } })).statusCode, 401)
})

t.test('stands beside the app\'s own @fastify/jwt', async (t) => {
  const { default: fastifyJwt } = await import('@fastify/jwt')
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(fastifyJwt, { secret: 'the secret of the app itself' })
  await app.register(bearerJwt, validOptions())
  app.get('/', { onRequest: app.bearerJwt }, () => app.jwt.sign({ own: true }))
  const answer = await app.inject({ url: '/', headers: { authorization: `Bearer ${token}` } })
  t.equal(answer.statusCode, 200)
  t.match(app.jwt.verify(answer.body), { own: true })
})

/** Exact, but every answer takes 20 ms, as over a network. */
function slowStore (): ClaimStore {
  const held = new Map<string, string>()
  return {
    async claim (key, _ttlMs, value = '') {
      await after(20)
      const holder = held.get(key)
      if (holder !== undefined) return { claimed: false, value: holder }
      held.set(key, value)
      return { claimed: true }
    },
    async release () { await after(20) }
  }
}
