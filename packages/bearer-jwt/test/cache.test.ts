import { generateKeyPairSync } from 'node:crypto'
import { allOf, anyOf, identityOf, type Policy } from '@sallyport/guard'
import Fastify, { type FastifyInstance } from 'fastify'
import { CompactEncrypt } from 'jose'
import t, { type Test } from 'tap'
import { bearerJwt, remoteJwks, type BearerJwtOptions, type KeyAnswer, type RevocableToken } from '../src/index.js'
import { isRefused, testApp, validOptions } from './fixtures/app.js'
import { countMacs } from './fixtures/macs.js'
import { claims, encode, hmacToken, NOW, otherSecret, p256, rsa, secret, signedToken } from './fixtures/tokens.js'

const invalid = 'ERR_BEARER_JWT_TOKEN_INVALID'
const expired = 'ERR_BEARER_JWT_TOKEN_EXPIRED'
const far = { sub: 'alice', exp: NOW + 100_000 }

/** A clock in seconds that a test moves. */
function movedClock (): { now: number, clock: () => number } {
  const moved = { now: NOW, clock: () => moved.now * 1000 }
  return moved
}

t.test('checks no signature for the third time, whatever routes ask of the token', async (t) => {
  const app: FastifyInstance = Fastify()
  t.teardown(() => app.close())
  await app.register(bearerJwt, { ...validOptions(), tenant: 'company_id' })
  const guard = app.bearerJwt
  const policies: Readonly<Record<string, Policy>> = {
    '/plain': guard, '/scoped': guard.require({ scopes: ['a'] }), '/any': guard.require({ scopes: { any: ['x', 'a'] } }), '/all': allOf(guard, guard.require({ scopes: ['a'] })), '/or': anyOf(guard),
    '/of/:company': guard.require({ tenantParam: 'company' })
  }
  for (const [url, policy] of Object.entries(policies)) app.get(url, { onRequest: policy }, () => 'ok')
  app.get('/more', { onRequest: guard.require({ scopes: ['b'] }) }, () => 'ok')
  const token = hmacToken({ ...claims, company_id: 1, scope: 'a' })
  const ask = (url: string, text = token) => app.inject({ url, headers: { authorization: `Bearer ${text}` } })
  await app.ready()
  const checks = countMacs(t)
  for (const time of ['first', 'second']) {
    t.equal((await ask('/plain')).statusCode, 200)
    t.equal(checks(), 1, `the ${time} time`)
  }
  for (const url of ['/plain', '/scoped', '/any', '/all', '/or', '/of/1']) t.equal((await ask(url)).statusCode, 200, url)
  isRefused(t, await ask('/more'), 'ERR_BEARER_JWT_SCOPE_INSUFFICIENT', 'a known token is held to each route\'s scopes', 'Bearer realm="api", error="insufficient_scope", scope="b"')
  t.same((await ask('/of/2')).statusCode, 403, 'and to each route\'s tenant')
  t.equal(checks(), 0)
})

t.test('judges the time of a known token on every request', async (t) => {
  const cases: readonly (readonly [string, object, Partial<BearerJwtOptions>, readonly (readonly [number, boolean])[]])[] = [
    ['exp without iat', { exp: NOW + 10 }, {}, [[0, true], [9, true], [9.999, true], [10, false], [1e6, false], [9, true]]],
    ['exp with tolerance', { exp: NOW + 10 }, { clockToleranceSeconds: 5 }, [[0, true], [14, true], [15, false]]],
    ['nbf, when the clock goes back', { exp: NOW + 10, nbf: NOW }, {}, [[0, true], [-1, false], [0, true]]],
    ['an age that ends before exp', { exp: NOW + 100, iat: NOW }, { maxAgeSeconds: 10 }, [[0, true], [10, true], [11, false]]],
    ['a token without exp', { iat: NOW }, { requireExpiration: false, maxAgeSeconds: 10 }, [[0, true], [10, true], [11, false]]]
  ]
  for (const [title, given, options, moments] of cases) {
    const moved = movedClock()
    const { send } = await testApp(t, { clock: moved.clock, ...options })
    const checks = countMacs(t)
    const token = hmacToken(given)
    for (let use = 0; use < 2; use++) t.equal((await send(token)).statusCode, 200)
    checks()
    for (const [seconds, passes] of moments) {
      moved.now = NOW + seconds
      const answer = await send(token)
      if (passes) t.equal(answer.statusCode, 200, `${title}, after ${seconds} s`)
      else isRefused(t, answer, expired, `${title}, after ${seconds} s`)
    }
    t.equal(checks(), 0, `${title}: the signature was known all the time`)
  }
})

t.test('remembers no refusal: what was refused is judged anew', async (t) => {
  const moved = movedClock()
  const { send } = await testApp(t, { clock: moved.clock })
  const early = hmacToken({ ...far, nbf: NOW + 5 })
  isRefused(t, await send(early), expired)
  moved.now = NOW + 5
  t.equal((await send(early)).statusCode, 200)
  const checks = countMacs(t)
  for (const wrong of [hmacToken(claims, otherSecret), hmacToken(claims, otherSecret)]) isRefused(t, await send(wrong), invalid)
  t.equal(checks(), 2)
})

t.test('trusts a listed key for no longer than it lives, for known tokens too', async (t) => {
  const moved = movedClock()
  const { send } = await testApp(t, { clock: moved.clock, keys: [{ key: secret, id: 'old', notAfter: new Date((NOW + 10) * 1000) }, { key: otherSecret, id: 'new' }] })
  const token = hmacToken(far)
  for (const [seconds, status] of [[0, 200], [9, 200], [10, 401], [5, 200]] as const) {
    moved.now = NOW + seconds
    t.equal((await send(token)).statusCode, status, `after ${seconds} s`)
  }
})

/** A resolver with a table that a test changes; `asked` counts. */
async function resolvedApp (t: Test, options: Partial<BearerJwtOptions> = {}) {
  const moved = movedClock()
  const answers: { key: KeyAnswer | Error, asked: number } = { key: { key: secret, id: 'first' }, asked: 0 }
  const test = await testApp(t, {
    clock: moved.clock, algorithms: ['HS256'], tenant: 'company_id', ...options,
    async keys () {
      answers.asked++
      if (answers.key instanceof Error) throw answers.key
      return answers.key
    }
  })
  return { ...test, moved, answers }
}

const ofTenant = hmacToken({ ...far, company_id: 7 })
const ofTenantAnew = hmacToken({ ...far, company_id: 7, jti: '2' }, otherSecret)

t.test('asks a resolver again after keyCacheSeconds, and forgets the tokens of a secret that was rotated', async (t) => {
  const { send, moved, answers } = await resolvedApp(t)
  t.equal((await send(ofTenant)).statusCode, 200)
  answers.key = { key: otherSecret, id: 'second' }
  moved.now = NOW + 59.999
  t.equal((await send(ofTenant)).statusCode, 200, 'known for so long')
  isRefused(t, await send(ofTenantAnew), invalid, 'and the new secret is not, yet')
  t.equal(answers.asked, 1)
  moved.now = NOW + 60
  isRefused(t, await send(ofTenant), invalid)
  t.equal((await send(ofTenantAnew)).statusCode, 200)
  t.equal(answers.asked, 2)
})

t.test('asks a resolver as often as keyCacheSeconds says', async (t) => {
  for (const [keyCacheSeconds, asked] of [[0, 4], [1, 3], [5, 2], [86_400, 1]] as const) {
    const { send, moved, answers } = await resolvedApp(t, { keyCacheSeconds })
    for (const seconds of [0, 0, 4, 8]) {
      moved.now = NOW + seconds
      t.equal((await send(ofTenant)).statusCode, 200)
    }
    t.equal(answers.asked, asked, `keyCacheSeconds: ${keyCacheSeconds}`)
  }
})

t.test('believes a known token while the resolver gives its key, in whatever object', async (t) => {
  const { send, moved, answers } = await resolvedApp(t)
  const checks = countMacs(t)
  for (let use = 0; use < 2; use++) t.equal((await send(ofTenant)).statusCode, 200)
  t.equal(checks(), 2)
  answers.key = [{ key: otherSecret, id: 'other' }, { key: Buffer.from(secret), id: 'first' }]
  moved.now += 60
  t.equal((await send(ofTenant)).statusCode, 200)
  t.equal(checks(), 0, 'the same key in another object is the same key')
  answers.key = { key: secret, id: 'renamed' }
  moved.now += 60
  t.equal((await send(ofTenant)).statusCode, 200)
  t.equal(checks(), 1, 'under another name it is checked anew')
})

t.test('believes no known token whose key the resolver took away, retired, or can\'t give', async (t) => {
  const gone: readonly (readonly [string, KeyAnswer | Error, Parameters<typeof isRefused>[2]])[] = [
    ['undefined', undefined, invalid],
    ['no key', [], invalid],
    ['another key', { key: otherSecret, id: 'first' }, invalid],
    ['the key, past its end', { key: secret, id: 'first', notAfter: new Date((NOW + 60) * 1000) }, invalid],
    ['the key, before its beginning', { key: secret, id: 'first', notBefore: new Date((NOW + 61) * 1000) }, invalid],
    ['a failure', new Error('down'), 'ERR_BEARER_JWT_KEYS_UNAVAILABLE'],
    ['a key that may not be used', { key: Buffer.from('short') }, 'ERR_BEARER_JWT_KEYS_UNAVAILABLE']
  ]
  for (const [title, answer, code] of gone) {
    const { send, moved, answers, handlerRuns } = await resolvedApp(t)
    t.equal((await send(ofTenant)).statusCode, 200)
    answers.key = answer
    moved.now += 60
    isRefused(t, await send(ofTenant), code, title)
    t.equal(handlerRuns(), 1)
    answers.key = { key: secret, id: 'first' }
    moved.now += 60
    t.equal((await send(ofTenant)).statusCode, 200, `${title}: and believes it again when the key is back`)
  }
})

t.test('remembers a resolver\'s answer for its hints alone, and that there is none for as long', async (t) => {
  const asked: unknown[] = []
  const known = new Map([['1', secret], ['2', otherSecret]])
  const moved = movedClock()
  const { send } = await testApp(t, {
    clock: moved.clock, algorithms: ['HS256', 'HS384'], tenant: 'company_id',
    keys: ({ algorithm, keyId, issuer, tenant }) => {
      asked.push([algorithm, keyId, issuer, tenant])
      return known.has(tenant!) ? { key: known.get(tenant!)!, algorithm: 'HS256', id: 'named-otherwise' } : undefined
    }
  })
  const token = (company: number, given: object = {}, kid?: string) => hmacToken({ ...far, company_id: company, ...given }, known.get(String(company)) ?? 'x', { alg: 'HS256', ...kid !== undefined && { kid } })
  for (let i = 0; i < 2; i++) {
    t.equal((await send(token(1))).statusCode, 200)
    t.equal((await send(token(2))).statusCode, 200)
    t.equal((await send(token(1, {}, 'k'))).statusCode, 200, 'the id of a resolved key is not compared with kid')
    t.equal((await send(token(1, { iss: 'us' }))).statusCode, 200)
    isRefused(t, await send(hmacToken({ ...far, company_id: 2 }, secret)), invalid, 'one tenant\'s secret for another')
  }
  t.same(asked, [['HS256', undefined, undefined, '1'], ['HS256', undefined, undefined, '2'], ['HS256', 'k', undefined, '1'], ['HS256', undefined, 'us', '1']])
  asked.length = 0
  for (let i = 0; i < 3; i++) isRefused(t, await send(token(3)), invalid)
  t.equal(asked.length, 1, 'a tenant that does not exist is answered as quickly as one that does')
  known.set('3', Buffer.from('x'.repeat(32)))
  isRefused(t, await send(token(3)), invalid)
  moved.now += 60
  t.equal((await send(token(3))).statusCode, 200, 'a tenant that is new is known after keyCacheSeconds')
  known.set('4', Buffer.from('y'.repeat(32)))
  t.equal((await send(token(4))).statusCode, 200, 'or at once, where nobody asked before')
})

t.test('remembers no failure of a resolver', async (t) => {
  const { send, answers } = await resolvedApp(t)
  answers.key = new Error('down')
  for (let i = 0; i < 3; i++) isRefused(t, await send(ofTenant), 'ERR_BEARER_JWT_KEYS_UNAVAILABLE')
  answers.key = { key: secret }
  t.equal((await send(ofTenant)).statusCode, 200)
  t.equal(answers.asked, 4)
})

t.test('keeps answers apart, however alike their hints are', async (t) => {
  const pad = 'x'.repeat(300)
  const hints: readonly (readonly [string | undefined, string | undefined, string | undefined])[] = [
    ['a', 'bc', 'd'], ['ab', 'c', 'd'], ['abc', undefined, 'd'], [undefined, 'abc', 'd'], ['a', 'b', 'cd'], ['', 'abc', 'd'], [undefined, undefined, 'abcd'], ['abcd', undefined, undefined], ['abcd', '', undefined],
    ['1 2', '', 'a'], ['1', ' 2', 'a'], ['undefined', undefined, undefined], [undefined, 'undefined', undefined], [`${pad}a`, 'b', '1'], [pad, 'ab', '1'], [`${pad}a`, 'b', '2'],
    // Each would be the same replacement character in UTF-8.
    [`${pad}\ud800`, 'b', '1'], [`${pad}\ud801`, 'b', '1'], [`${pad}\ufffd`, 'b', '1']
  ]
  const asked: unknown[] = []
  const { send } = await testApp(t, { algorithms: ['HS256'], tenant: 'company_id', keys: ({ keyId, issuer, tenant }) => { asked.push([keyId, issuer, tenant]); return { key: secret } } })
  for (let i = 0; i < 2; i++) {
    for (const [kid, iss, tenant] of hints) await send(hmacToken({ ...far, iss, company_id: tenant }, secret, { alg: 'HS256', kid }))
  }
  t.same(asked, hints)
})

t.test('takes no answer for fresh that seems to come from ahead, since the clock was set back', async (t) => {
  const { send, moved, answers } = await resolvedApp(t)
  moved.now = NOW + 50_000
  t.equal((await send(ofTenant)).statusCode, 200)
  answers.key = { key: otherSecret }
  moved.now = NOW
  isRefused(t, await send(ofTenant), invalid, 'not for the fourteen hours until then')
  t.equal(answers.asked, 2)
})

t.test('forgets the tokens of a key that a remote set no longer holds', async (t) => {
  const moved = movedClock()
  const jwk = { ...rsa.publicKey.export({ format: 'jwk' }), kid: 'a', alg: 'RS256' }
  let keys: object[] = [jwk]
  const { send } = await testApp(t, { clock: moved.clock, algorithms: ['RS256', 'ES256'], keys: remoteJwks('https://issuer.example/keys', { cacheSeconds: 60, fetch: async () => Response.json({ keys }) }) })
  const token = signedToken(far, rsa.privateKey, 'RS256', { kid: 'a' })
  t.equal((await send(token)).statusCode, 200)
  keys = [{ ...generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey.export({ format: 'jwk' }), kid: 'a', alg: 'RS256' }, { ...p256.publicKey.export({ format: 'jwk' }), kid: 'b' }]
  moved.now = NOW + 59
  t.equal((await send(token)).statusCode, 200)
  moved.now = NOW + 60
  isRefused(t, await send(token), invalid, 'another key under the same id')
  t.equal((await send(signedToken(far, p256.privateKey, 'ES256', { kid: 'b' }))).statusCode, 200)
  keys = [jwk]
  moved.now = NOW + 120
  t.equal((await send(token)).statusCode, 200)
})

t.test('refuses a known token as soon as it is revoked, and can\'t judge it where nobody can tell', async (t) => {
  const revoked = new Set<string>()
  const asked: RevocableToken[] = []
  const used: [string, number][] = []
  let isDown = false
  const isRevoked = (token: RevocableToken): boolean => {
    asked.push(token)
    if (isDown) throw new Error('down')
    return [token.id, token.family, token.tenant].some((name) => revoked.has(name ?? ''))
  }
  for (const list of [{ isRevoked }, { isRevoked: async (token: RevocableToken) => isRevoked(token) }]) {
    const { send, handlerRuns } = await testApp(t, { tenant: 'company_id', revocations: { ...list, noteUse: (id, expiresAtMs) => { used.push([id, expiresAtMs]) } } })
    const token = hmacToken({ ...claims, jti: 'j', fam: 'f', company_id: 7, iat: NOW - 1 })
    for (let i = 0; i < 2; i++) t.equal((await send(token)).statusCode, 200)
    t.same(asked, Array.from(asked, () => ({ id: 'j', family: 'f', tenant: '7', issuedAt: NOW - 1 })))
    for (const name of ['j', 'f', '7']) {
      revoked.add(name)
      isRefused(t, await send(token), 'ERR_BEARER_JWT_TOKEN_REVOKED', name)
      revoked.clear()
      t.equal((await send(token)).statusCode, 200)
    }
    isDown = true
    isRefused(t, await send(token), 'ERR_BEARER_JWT_STATE_UNAVAILABLE')
    isRefused(t, await send(hmacToken(claims, otherSecret)), invalid, 'a wrong token is not asked about')
    isDown = false
    t.equal(handlerRuns(), 5)
    t.same(used.splice(0), Array.from({ length: 5 }, () => ['j', (NOW + 60) * 1000]), 'each use is noted, known or not')
    asked.length = 0
  }
})

t.test('asks of the tenant that a known token proves now, where a reader of the user\'s decides', async (t) => {
  let tenant = 'before'
  const isRevoked = (token: RevocableToken): boolean => token.tenant === 'after'
  const { send } = await testApp(t, { tenant: () => tenant, identity: (found) => found, revocations: { isRevoked } })
  const token = hmacToken(claims)
  for (let i = 0; i < 3; i++) t.equal((await send(token)).statusCode, 200)
  tenant = 'after'
  isRefused(t, await send(token), 'ERR_BEARER_JWT_TOKEN_REVOKED')
})

t.test('takes an answer of revocations that is not false for a revoked token', async (t) => {
  for (const answer of [true, undefined, null, 0, '', 'no', {}]) {
    const { send } = await testApp(t, { revocations: { isRevoked: () => answer as boolean } })
    isRefused(t, await send(hmacToken(claims)), 'ERR_BEARER_JWT_TOKEN_REVOKED', JSON.stringify(answer))
  }
})

t.test('gives every request an identity that no other request can have changed', async (t) => {
  interface Shaped { roles: string[], nested: { list: string[] } }
  const token = hmacToken({ ...claims, role: 'user', deep: { list: ['user'] } })
  const plain: FastifyInstance = Fastify()
  t.teardown(() => plain.close())
  await plain.register(bearerJwt, validOptions())
  await plain.register(bearerJwt, { ...validOptions(), as: 'shapedJwt', source: { header: 'JWT' }, identity: (): Shaped => ({ roles: ['user'], nested: { list: ['user'] } }) })
  const shapedJwt = (plain as unknown as { shapedJwt: typeof plain.bearerJwt }).shapedJwt
  plain.get('/', { onRequest: plain.bearerJwt }, (request) => {
    const identity = identityOf(request, plain.bearerJwt)
    const seen = JSON.stringify(identity)
    const claims = identity.claims as { role: string, deep: { list: string[] } }
    t.throws(() => { claims.role = 'admin' }, TypeError)
    t.throws(() => { claims.deep.list.push('admin') }, TypeError)
    t.throws(() => { (identity as { tenant: string }).tenant = 'other' }, TypeError)
    t.throws(() => { (identity.scopes as string[]).push('admin') }, TypeError)
    t.throws(() => { Object.assign(request.auth.principal, { tenant: 'other' }) }, TypeError)
    return seen
  })
  plain.get('/shaped', { onRequest: shapedJwt }, (request) => {
    const claims = identityOf(request, shapedJwt).claims as unknown as Shaped
    const seen = JSON.stringify(claims)
    // What the user's own function made may be changed; only this request sees it.
    claims.roles.push('admin')
    claims.nested.list = ['admin']
    return seen
  })
  for (const [url, header] of [['/', { authorization: `Bearer ${token}` }], ['/shaped', { jwt: token }]] as const) {
    const answers = []
    for (let i = 0; i < 3; i++) answers.push(await plain.inject({ url, headers: header }))
    t.same(answers.map(({ statusCode }) => statusCode), [200, 200, 200])
    t.equal(new Set(answers.map(({ body }) => body)).size, 1, url)
  }
})

t.test('asks the user\'s own shape of a known token each time, so that it may refuse it', async (t) => {
  let isBlocked = false
  const { send } = await testApp(t, { identity: (found) => { if (isBlocked) throw new Error('blocked'); return found } })
  t.equal((await send(hmacToken(claims))).statusCode, 200)
  isBlocked = true
  isRefused(t, await send(hmacToken(claims)), 'ERR_BEARER_JWT_CLAIMS_INVALID')
})

t.test('knows a token by all of its characters', async (t) => {
  const { send, identity, handlerRuns } = await testApp(t, { keys: [{ key: secret, id: 'a' }, { key: otherSecret, id: 'b' }] })
  const long = { ...claims, pad: 'x'.repeat(2_000) }
  const right = hmacToken(long)
  const [head, payload, signature] = right.split('.') as [string, string, string]
  t.equal((await send(right)).statusCode, 200)
  const otherPayload = encode({ ...long, sub: 'bob' })
  const wrong = [
    `${head}.${payload}.${signature.slice(0, -1)}A`, `${head}.${payload}.${'A'.repeat(43)}`, `${head}.${payload}.`, `${head}.${payload}`, `${head}.${otherPayload}.${signature}`, `${encode({ alg: 'HS256', typ: 'JWT', kid: 'b' })}.${payload}.${signature}`,
    `${encode({ alg: 'none' })}.${payload}.${signature}`, `${right}A`, `${right}.`, right.slice(0, -1), `${right}\u0100`, `\u00ff${right}`
  ]
  for (const token of wrong) isRefused(t, await send(token), invalid, token.slice(-20))
  t.equal(handlerRuns(), 1)
  t.equal((await send(hmacToken(long, otherSecret))).statusCode, 200, 'the same claims, signed with another key')
  t.equal(identity().keyId, 'b')
  t.equal((await send(right)).statusCode, 200)
  t.equal(identity().keyId, 'a')
})

t.test('shares nothing between registrations', async (t) => {
  const app: FastifyInstance = Fastify()
  t.teardown(() => app.close())
  const token = hmacToken({ ...far, aud: 'a' })
  await app.register(async (scope) => {
    await scope.register(bearerJwt, { ...validOptions(), audience: 'a' })
    scope.get('/a', { onRequest: scope.bearerJwt }, () => 'ok')
  })
  for (const [url, options] of [['/b', { audience: 'b' }], ['/c', { keys: [{ key: otherSecret }] }], ['/d', { clock: () => (NOW + 200_000) * 1000 }]] as const) {
    await app.register(async (scope) => {
      await scope.register(bearerJwt, { ...validOptions(), ...options })
      scope.get(url, { onRequest: scope.bearerJwt }, () => 'ok')
    })
  }
  const statuses = []
  for (const url of ['/a', '/b', '/c', '/d', '/a']) statuses.push((await app.inject({ url, headers: { authorization: `Bearer ${token}` } })).statusCode)
  t.same(statuses, [200, 401, 401, 401, 200])
})

t.test('opens an encrypted token once', async (t) => {
  const key = Buffer.alloc(32, 'k')
  const { send, identity } = await testApp(t, { encryption: { mode: 'required', keys: [{ key, algorithm: 'dir' }], keyManagement: ['dir'], contentEncryption: ['A256GCM'] } })
  const token = await new CompactEncrypt(Buffer.from(hmacToken(claims))).setProtectedHeader({ alg: 'dir', enc: 'A256GCM', cty: 'JWT' }).encrypt(key)
  const subtle = Object.getPrototypeOf(globalThis.crypto.subtle) as { decrypt: (...args: unknown[]) => unknown }
  const { decrypt } = subtle
  let opened = 0
  subtle.decrypt = function (...args) { opened++; return decrypt.apply(this, args) }
  t.teardown(() => { subtle.decrypt = decrypt })
  for (let i = 0; i < 3; i++) t.equal((await send(token)).statusCode, 200)
  t.equal(opened, 1)
  t.equal(identity().subject, 'alice')
})

t.test('remembers nothing with cacheEntries: 0, else half of it at the least and all of it at the most', async (t) => {
  const tokens = ['a', 'b', 'c', 'd', 'e', 'f'].map((jti) => hmacToken({ ...claims, jti }))
  for (const [cacheEntries, again] of [[0, 6], [2, 4], [12, 0], [undefined, 0]] as const) {
    const { send } = await testApp(t, cacheEntries === undefined ? {} : { cacheEntries })
    const checks = countMacs(t)
    for (const token of tokens) {
      t.equal((await send(token)).statusCode, 200)
      t.equal((await send(token)).statusCode, 200)
    }
    t.equal(checks(), 12)
    for (const token of tokens.toReversed()) t.equal((await send(token)).statusCode, 200)
    const counted = checks()
    t.ok(cacheEntries === 2 ? counted >= again : counted === again, `cacheEntries ${cacheEntries}: ${counted} checked again`)
  }
})
