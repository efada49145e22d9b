import { createSecretKey, generateKeyPairSync, randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { memoryStore } from '@sallyport/guard'
import { findLeaks } from '@sallyport/test-kit'
import t, { type Test } from 'tap'
import { createTokenService, type BearerJwtOptions, type IssueRequest, type TokenService } from '../src/index.js'
import { testApp } from './fixtures/app.js'
import { audience, claimsIn, Clock, issuer, subject, testService, WatchedStore } from './fixtures/token-service.js'
import { ed25519, hmacToken, NOW, otherSecret, p256, rsa, secret, signedToken } from './fixtures/tokens.js'

const reused = { code: 'ERR_BEARER_JWT_REFRESH_REUSED', statusCode: 401 }
const invalid = { code: 'ERR_BEARER_JWT_REFRESH_INVALID', statusCode: 401 }
const unavailable = { code: 'ERR_BEARER_JWT_STATE_UNAVAILABLE', statusCode: 503, retryAfterSeconds: 1 }

/** An API that takes the service's tokens; gives the status and code that a token is answered with. */
async function api (t: Test, service: TokenService, clock: Clock, options: Partial<BearerJwtOptions<unknown>> = {}): Promise<(token: string) => Promise<string>> {
  const { send } = await testApp(t, { ...service.verification, clock: clock.now, ...options })
  return async (token) => {
    const answer = await send(token)
    return answer.statusCode === 200 ? '200' : `${answer.statusCode} ${answer.json<{ code: string }>().code}`
  }
}

const refused = '401 ERR_BEARER_JWT_TOKEN_REVOKED'

t.test('issues a token that the guard takes, with the claims that were asked for', async (t) => {
  const { service, clock } = await testService(t, { tenantClaim: 'account' })
  const issued = await service.issue({ subject, tenant: '100001', scopes: ['orders:read', 'orders:write', 'orders:read'], purpose: 'Boomi Integration', lifetimeSeconds: 60, claims: { plan: { level: 2 } } })
  t.same(claimsIn(issued.token), {
    iss: issuer, aud: audience, sub: subject, account: '100001', scope: 'orders:read orders:write', plan: { level: 2 }, jti: issued.id, fam: issued.id, iat: NOW, exp: NOW + 60
  })
  t.same(issued.expiresAt, new Date((NOW + 60) * 1000))
  const { send, identity } = await testApp(t, { ...service.verification, clock: clock.now })
  t.equal((await send(issued.token)).statusCode, 200)
  t.match(identity(), { tenant: '100001', subject, scopes: ['orders:read', 'orders:write'], keyId: 'sign-1' })
  clock.pass(60)
  t.equal((await send(issued.token)).statusCode, 401, 'until it expires')
})

t.test('gives each use a type of its own, so that no token stands in for another', async (t) => {
  const { service, clock } = await testService(t)
  const pair = await service.issuePair({ subject })
  const callback = await service.issue({ subject, use: 'callback' })
  const takesAccess = await api(t, service, clock)
  const takesCallbacks = await api(t, service, clock, { typ: 'callback+jwt' })
  t.equal(await takesAccess(pair.access.token), '200')
  t.equal(await takesCallbacks(callback.token), '200')
  for (const { token } of [pair.refresh, callback]) t.equal(await takesAccess(token), '401 ERR_BEARER_JWT_CLAIMS_INVALID')
  for (const { token } of [pair.refresh, pair.access]) t.equal(await takesCallbacks(token), '401 ERR_BEARER_JWT_CLAIMS_INVALID')
  for (const { token } of [pair.access, callback]) await t.rejects(service.refresh(token), invalid)
  const sameName = await testService(t, { issuer: 'one', audience: 'one' })
  const same = await sameName.service.issuePair({ subject })
  t.equal(await (await api(t, sameName.service, sameName.clock))(same.refresh.token), '401 ERR_BEARER_JWT_CLAIMS_INVALID', 'even where issuer and audience are one')
  await t.rejects(sameName.service.refresh(same.access.token), invalid)
})

t.test('refreshes with the same subject, tenant, scopes, claims and lifetime, in the same family', async (t) => {
  const { service, clock } = await testService(t, { tenantClaim: 'account' })
  const first = await service.issuePair({ subject, tenant: '100001', scopes: ['a', 'b'], claims: { plan: 'gold' }, lifetimeSeconds: 120 })
  clock.pass(100)
  const second = await service.refresh(first.refresh.token)
  t.equal(second.family, first.family)
  t.same(claimsIn(second.access.token), { ...claimsIn(first.access.token), jti: second.access.id, iat: NOW + 100, exp: NOW + 220 })
  t.same(claimsIn(second.refresh.token), { ...claimsIn(first.refresh.token), jti: second.refresh.id, iat: NOW + 100, exp: NOW + 100 + 30 * 86_400 })
  t.equal(new Set([first.access.id, first.refresh.id, second.access.id, second.refresh.id, first.family]).size, 5)
  t.equal(await (await api(t, service, clock))(second.access.token), '200')
})

t.test('gives 50 concurrent uses of one refresh token one successor', async (t) => {
  const { service, other } = await testService(t)
  const services = [service, await other(), await other()]
  const first = await service.issuePair({ subject })
  const pairs = await Promise.all(Array.from({ length: 50 }, (_, i) => services[i % 3]!.refresh(first.refresh.token)))
  t.equal(new Set(pairs.map(({ refresh }) => refresh.id)).size, 1)
  t.equal(new Set(pairs.map(({ refresh }) => refresh.token)).size, 1, 'with an HMAC, to the last byte')
  t.equal(new Set(pairs.map(({ access }) => access.token)).size, 1)
  t.ok(await service.refresh(pairs[0]!.refresh.token))
})

t.test('gives a retry the same successor with the same times, until the successor is used', async (t) => {
  const { service, clock } = await testService(t, { retrySeconds: 10 })
  const first = await service.issuePair({ subject })
  clock.ms += 700
  const second = await service.refresh(first.refresh.token)
  clock.ms += 9_999
  const again = await service.refresh(first.refresh.token)
  t.same([claimsIn(again.access.token), claimsIn(again.refresh.token)], [claimsIn(second.access.token), claimsIn(second.refresh.token)])
  clock.ms -= 15_000
  t.equal((await service.refresh(first.refresh.token)).refresh.id, second.refresh.id, 'also where another process\'s clock is behind')
  clock.ms += 15_000
  const third = await service.refresh(again.refresh.token)
  await t.rejects(service.refresh(first.refresh.token), reused)
  await t.rejects(service.refresh(third.refresh.token), invalid, 'and the family is revoked')
})

t.test('revokes the family when a refresh token is used after the time for retries', async (t) => {
  for (const [retrySeconds, wait] of [[10, 10], [1, 1], [0, 0]] as const) {
    const { service, clock } = await testService(t, { retrySeconds })
    const takes = await api(t, service, clock)
    const first = await service.issuePair({ subject })
    const bystander = await service.issuePair({ subject })
    const second = await service.refresh(first.refresh.token)
    t.equal(await takes(first.access.token), '200')
    clock.pass(wait)
    await t.rejects(service.refresh(first.refresh.token), reused)
    for (const { access } of [first, second]) t.equal(await takes(access.token), refused)
    for (const { refresh } of [first, second]) await t.rejects(service.refresh(refresh.token), invalid)
    t.equal(await takes(bystander.access.token), '200', 'and no other')
    t.ok(await service.refresh(bystander.refresh.token))
  }
})

t.test('refuses as a refresh token whatever is none of its own', async (t) => {
  const { service, clock } = await testService(t)
  const { refresh: { token } } = await service.issuePair({ subject })
  const foreign = await testService(t, { issuer: 'https://other.example' })
  const stranger = await testService(t, { signing: { key: otherSecret, id: 'sign-1' } })
  const claims = claimsIn(token)
  const forged = signedToken(claims, ed25519.privateKey, 'EdDSA', { typ: 'rt+jwt' })
  const others = await Promise.all([foreign, stranger].map(async (each) => (await each.service.issuePair({ subject })).refresh.token))
  for (const wrong of ['', 'a.b.c', `${token}x`, 'x'.repeat(100_000), forged, ...others, 5, undefined, {}]) await t.rejects(service.refresh(wrong as string), invalid)
  clock.pass(30 * 86_400)
  await t.rejects(service.refresh(token), invalid, 'expired')
})

t.test('takes up a refresh whose answer was lost with the store', async (t) => {
  const store = new WatchedStore()
  const { service } = await testService(t, { store })
  const first = await service.issuePair({ subject })
  store.before = (method, key) => {
    if (method !== 'claim' || !key.includes('refreshed:')) return
    store.before = () => {}
    store.entries.set(key, String(NOW * 1000))
    throw new Error('the answer was lost')
  }
  await t.rejects(service.refresh(first.refresh.token), unavailable)
  t.ok(await service.refresh(first.refresh.token))
})

t.test('revokes a family for a use that it can\'t date', async (t) => {
  const store = new WatchedStore()
  const { service } = await testService(t, { store })
  const first = await service.issuePair({ subject })
  await service.refresh(first.refresh.token)
  for (const key of store.entries.keys()) if (key.includes('refreshed:')) store.entries.set(key, 'yesterday')
  await t.rejects(service.refresh(first.refresh.token), reused)
})

t.test('answers 503, and neither lets a token pass nor refuses it, while the store is down or hangs', async (t) => {
  for (const fault of ['down', 'hangs'] as const) {
    const store = new WatchedStore()
    const { service, clock, other } = await testService(t, { store, storeTimeoutMs: 100, tenantClaim: 'account' })
    const takes = await api(t, service, clock)
    const pair = await service.issuePair({ subject, tenant: '1' })
    t.equal(await takes(pair.access.token), '200')
    store.fault = fault
    t.equal(await takes(pair.access.token), '200', 'while its snapshot is fresh')
    clock.pass(2)
    const start = performance.now()
    t.equal(await takes(pair.access.token), '503 ERR_BEARER_JWT_STATE_UNAVAILABLE')
    t.ok(performance.now() - start < 500)
    const calls: (() => Promise<unknown>)[] = [
      () => service.refresh(pair.refresh.token), () => service.issue({ subject, tenant: '1' }), () => service.issuePair({ subject, tenant: '1' }),
      () => service.list(subject), () => service.revoke({ id: pair.access.id }), () => service.revoke({ tenant: '1' })
    ]
    for (const call of calls) await t.rejects(call(), unavailable)
    await t.rejects(other(), Error, 'a service does not start')
    store.fault = 'none'
    // A reading that hung when the store came back fails yet.
    for (let tries = 0; tries < 10 && await takes(pair.access.token) !== '200'; tries++) await sleep(20)
    t.equal(await takes(pair.access.token), '200', 'recovers')
    t.ok(await service.refresh(pair.refresh.token))
    t.ok(await service.issue({ subject, tenant: '1' }))
  }
})

t.test('does not say that a refresh token was reused before its family is revoked', async (t) => {
  const store = new WatchedStore()
  const { service, clock } = await testService(t, { store })
  const first = await service.issuePair({ subject })
  await service.refresh(first.refresh.token)
  clock.pass(20)
  await service.list(subject)
  store.before = (method, key) => { if (method === 'claim' && key.includes('revoked:')) throw new Error('down') }
  await t.rejects(service.refresh(first.refresh.token), unavailable)
  store.before = () => {}
  await t.rejects(service.refresh(first.refresh.token), reused)
})

t.test('revokes a token, a pair with all that descends from it, or a tenant, here at once and elsewhere within a second', async (t) => {
  const { service, clock, other } = await testService(t, { tenantClaim: 'account' })
  const elsewhere = await other()
  const [here, there] = [await api(t, service, clock), await api(t, elsewhere, clock)]
  const issue = (tenant = '1') => service.issue({ subject, tenant })
  const [one, two, three] = [await issue(), await issue(), await issue('2')]
  const first = await service.issuePair({ subject, tenant: '2' })
  const second = await service.refresh(first.refresh.token)

  await service.revoke({ id: one.id })
  t.equal(await here(one.token), refused)
  t.equal(await here(two.token), '200')
  const [, , , listed] = await service.list(subject)
  await service.revoke({ id: listed!.id })
  for (const { access } of [first, second]) t.equal(await here(access.token), refused, 'a pair by what list shows, though it was refreshed since')
  await t.rejects(service.refresh(second.refresh.token), invalid)
  await service.revoke({ tenant: '1' })
  t.equal(await here(two.token), refused)
  t.equal(await here(three.token), '200')
  clock.ms += 1_001
  for (const { token } of [one, two, first.access, second.access]) t.equal(await there(token), refused)
  t.equal(await there(three.token), '200')
  t.equal(await there((await issue()).token), '200', 'a tenant\'s tokens issued later are good')
  await t.rejects(elsewhere.refresh(second.refresh.token), invalid)
})

t.test('refuses access and refresh tokens for a reason of the application\'s own, with 503 where it can\'t be told', async (t) => {
  for (const isLate of [false, true]) {
    let isClosed = (): boolean => false
    const asked: unknown[] = []
    const { service, clock } = await testService(t, {
      tenantClaim: 'account',
      isRefused (token) {
        asked.push(token)
        return isLate ? Promise.resolve().then(isClosed) : isClosed()
      }
    })
    const call = await api(t, service, clock)
    const { access, refresh, family } = await service.issuePair({ subject, tenant: '1' })
    const next = await service.refresh(refresh.token)
    t.same(asked, [{ id: refresh.id, family, tenant: '1', issuedAt: NOW }])
    t.equal(await call(access.token), '200')
    isClosed = () => true
    t.equal(await call(access.token), refused)
    await t.rejects(service.refresh(next.refresh.token), invalid)
    t.match(await service.list(subject), [{ revoked: true }])
    isClosed = () => { throw new Error('nobody knows') }
    t.equal(await call(access.token), '503 ERR_BEARER_JWT_STATE_UNAVAILABLE')
    await t.rejects(service.refresh(next.refresh.token), unavailable)
    isClosed = () => false
    t.equal((await service.refresh(next.refresh.token)).family, family, 'a refusal uses nothing up')
  }
})

t.test('gives no successor to a refresh token that was revoked elsewhere a moment ago', async (t) => {
  for (const kind of ['tenant', 'family', 'id'] as const) {
    const { service, clock, other } = await testService(t, { tenantClaim: 'account' })
    const pair = await service.issuePair({ subject, tenant: '1' })
    clock.ms += 700
    const elsewhere = await other()
    const takes = await api(t, elsewhere, clock)
    clock.ms += 200
    await service.revoke({ tenant: { tenant: '1' }, family: { family: pair.family }, id: { id: pair.refresh.id } }[kind])
    clock.ms += 200
    t.equal(await takes(pair.access.token), '200', 'while the snapshot there is fresh')
    // A pair made now would be dated after the tenant's revocation, and outlive it.
    await t.rejects(elsewhere.refresh(pair.refresh.token), invalid, kind)
  }
})

t.test('derives ids that nobody can foretell who has seen ids, access tokens and lists', async (t) => {
  const { service } = await testService(t)
  const pair = await service.issuePair({ subject })
  const { seed, ...rest } = claimsIn(pair.refresh.token) as { seed: string }
  t.match(seed, /^[\w-]{22}$/)
  t.notOk(JSON.stringify([claimsIn(pair.access.token), await service.list(subject)]).includes(seed))
  t.not((claimsIn((await service.issuePair({ subject })).refresh.token)['seed']), seed, 'each family has its own')
  const successorWith = async (given: object) => {
    const fresh = await testService(t)
    return (await fresh.service.refresh(hmacToken({ ...rest, ...given }, secret, { alg: 'HS256', typ: 'rt+jwt', kid: 'sign-1' }))).refresh.id
  }
  const next = (await service.refresh(pair.refresh.token)).refresh
  t.equal(await successorWith({ seed }), next.id)
  t.equal(claimsIn(next.token)['seed'], seed)
  t.not(await successorWith({ seed: 'AAAAAAAAAAAAAAAAAAAAAA' }), next.id, 'which the id of the predecessor does not give away')
  await t.rejects(successorWith({}), invalid)
})

t.test('has the guard prove the tenant where tokens have one, and else refuses to revoke by it', async (t) => {
  const plain = await testService(t)
  t.notOk('tenant' in plain.service.verification)
  await t.rejects(plain.service.revoke({ tenant: '1' }), /tenantClaim/)
  t.match(claimsIn((await plain.service.issue({ subject, tenant: '1' })).token), { tenant: '1' })
  const { service } = await testService(t, { tenantClaim: 'account' })
  t.equal(service.verification.tenant, 'account')
  await t.rejects(service.issue({ subject }), { name: 'OptionsError', option: 'tenant' })
})

t.test('remembers revocations and used refresh tokens in a restart', async (t) => {
  const { service, clock, other } = await testService(t)
  const [pair, used] = [await service.issuePair({ subject }), await service.issuePair({ subject })]
  await service.revoke({ family: pair.family })
  await service.refresh(used.refresh.token)
  service.close()
  clock.pass(20)
  const restarted = await other()
  const takes = await api(t, restarted, clock)
  t.equal(await takes(pair.access.token), refused)
  t.equal(await takes(used.access.token), '200')
  await t.rejects(restarted.refresh(used.refresh.token), reused)
  t.equal(await takes(used.access.token), refused)
})

t.test('refuses what was issued before a store that forgets in a restart', async (t) => {
  const { service, clock } = await testService(t)
  const pair = await service.issuePair({ subject })
  clock.pass(5)
  const restarted = await createTokenService({ issuer, audience, signing: { key: secret, id: 'sign-1' }, clock: clock.now, store: memoryStore({ clock: clock.now }) })
  t.teardown(() => { restarted.close() })
  t.equal(await (await api(t, restarted, clock))(pair.access.token), refused)
  await t.rejects(restarted.refresh(pair.refresh.token), invalid)
})

t.test('lists what is live, oldest first, with its last use to the minute and whether it is revoked', async (t) => {
  const { service, clock, other } = await testService(t, { tenantClaim: 'account' })
  const takes = await api(t, service, clock)
  const one = await service.issue({ subject, tenant: '1', scopes: ['a'], purpose: 'Boomi Integration', lifetimeSeconds: 600 })
  clock.pass(1)
  const pair = await service.issuePair({ subject, tenant: '2' })
  await service.issue({ subject: 'someone else', tenant: '1' })
  const common = { subject, revoked: false, lastUsedAt: undefined }
  const record = { ...common, id: one.id, tenant: '1', purpose: 'Boomi Integration', scopes: ['a'], createdAt: new Date(NOW * 1000), expiresAt: one.expiresAt }
  const pairRecord = { ...common, id: pair.family, tenant: '2', purpose: undefined, scopes: [], createdAt: new Date((NOW + 1) * 1000), expiresAt: pair.refresh.expiresAt }
  t.same(await service.list(subject), [record, pairRecord])
  t.same(await (await other()).list(subject), [record, pairRecord], 'in every process')
  t.same(await service.list('nobody'), [])

  clock.pass(1)
  await takes(one.token)
  clock.pass(59)
  await takes(one.token)
  t.same((await service.list(subject))[0]!.lastUsedAt, new Date((NOW + 2) * 1000))
  clock.pass(1)
  await takes(one.token)
  const next = await service.refresh(pair.refresh.token)
  await service.revoke({ id: one.id })
  t.same(await service.list(subject), [
    { ...record, lastUsedAt: new Date((NOW + 62) * 1000), revoked: true },
    { ...pairRecord, lastUsedAt: new Date((NOW + 62) * 1000), expiresAt: next.refresh.expiresAt }
  ])
  await service.revoke({ tenant: '2' })
  t.same((await service.list(subject)).map(({ revoked }) => revoked), [true, true])
  clock.pass(600)
  t.same((await service.list(subject)).map(({ id }) => id), [pair.family], 'what has expired is gone')
  await t.rejects(service.list(''), TypeError)
})

t.test('writes a use once a minute, and never keeps a request waiting for it', async (t) => {
  const store = new WatchedStore()
  const { service, clock } = await testService(t, { store })
  const takes = await api(t, service, clock)
  const { token } = await service.issue({ subject })
  store.calls.length = 0
  for (let i = 0; i < 20; i++) t.equal(await takes(token), '200')
  t.equal(store.calls.filter((call) => call.includes('used:')).length, 1)
  store.before = (method) => method === 'set' ? Promise.reject(new Error('full')) : undefined
  clock.pass(60)
  t.equal(await takes(token), '200')
  await sleep(5)
})

t.test('loses no record when many are issued at once by several processes', async (t) => {
  const { service, other } = await testService(t)
  const services = [service, await other(), await other()]
  const issued = await Promise.all(Array.from({ length: 30 }, (_, i) => services[i % 3]!.issue({ subject })))
  t.same(new Set((await service.list(subject)).map(({ id }) => id)), new Set(issued.map(({ id }) => id)))
})

t.test('takes the list\'s lock from a process that died, and waits for no other', async (t) => {
  const store = new WatchedStore()
  const { service } = await testService(t, { store })
  const lock = `token service of ${issuer}: lock:tokens:${subject}`
  store.entries.set(lock, 'a process that died')
  setTimeout(() => store.entries.delete(lock), 100)
  t.ok(await service.issue({ subject }))
  t.equal(store.entries.has(lock), false)
  store.entries.set(lock, 'a process that is slow')
  t.ok(await service.issue({ subject: 'another' }), 'each subject has a lock of its own')
  await t.rejects(service.issue({ subject }), unavailable)
  t.equal(store.entries.get(lock), 'a process that is slow', 'which nobody else gives back')
})

t.test('gives back a lock that it took without hearing of it, and takes one that it is told it has', async (t) => {
  const store = new WatchedStore()
  const { service } = await testService(t, { store })
  const claim = store.claim.bind(store)
  const lost = new Error('the answer was lost')
  let fails = true
  store.claim = async (key, ttlMs, value) => {
    const taken = await claim(key, ttlMs, value)
    if (fails) throw lost
    return taken.claimed ? { claimed: false, value: value! } : taken
  }
  await t.rejects(service.issue({ subject }), unavailable)
  fails = false
  t.ok(await service.issue({ subject }))
})

t.test('lists the 500 tokens of a subject that live longest', async (t) => {
  const store = new WatchedStore()
  const { service } = await testService(t, { store })
  await service.issue({ subject, lifetimeSeconds: 600 })
  const [listKey, text] = [...store.entries].find(([key]) => key.endsWith(`: tokens:${subject}`))!
  const [sample] = JSON.parse(text) as { id: string, expiresAt: number }[]
  store.entries.set(listKey, JSON.stringify(Array.from({ length: 500 }, (_, i) => ({ ...sample!, id: `old-${i}`, expiresAt: sample!.expiresAt + i }))))
  const { id } = await service.issue({ subject, lifetimeSeconds: 601 })
  const listed = await service.list(subject)
  t.equal(listed.length, 500)
  t.equal(listed[0]!.id, 'old-1')
  t.equal(listed.at(-1)!.id, id)
})

t.test('can\'t list, nor add to, what is no list', async (t) => {
  const store = new WatchedStore()
  const { service } = await testService(t, { store })
  await service.issue({ subject })
  for (const text of ['', '{', '{}', 'null']) {
    store.entries.set(`token service of ${issuer}: tokens:${subject}`, text)
    await t.rejects(service.list(subject), unavailable)
    await t.rejects(service.issue({ subject }), unavailable)
  }
  t.notOk([...store.entries.keys()].some((key) => key.includes('lock:')), 'and leaves no lock')
})

t.test('keeps services with different issuers apart in one store', async (t) => {
  const { service, store, clock } = await testService(t, { tenantClaim: 'account' })
  const sandbox = await testService(t, { tenantClaim: 'account', issuer: 'https://sandbox.example', store, clock: clock.now })
  const takes = await api(t, service, clock)
  const { token } = await service.issue({ subject, tenant: '1' })
  await sandbox.service.revoke({ tenant: '1' })
  clock.pass(2)
  t.equal(await takes(token), '200')
  t.same(await sandbox.service.list(subject), [])
})

t.test('refuses requests that it can\'t honour, by the name of what is wrong', async (t) => {
  const { service } = await testService(t, { tenantClaim: 'account' })
  const good = { subject, tenant: '1' }
  const wrong: [string, object][] = [
    ...['', 5, undefined, null, 'x'.repeat(257)].map((value): [string, object] => ['subject', { ...good, subject: value }]),
    ...['', 100001, 'x'.repeat(257)].map((value): [string, object] => ['tenant', { ...good, tenant: value }]),
    ...['a', [''], ['a b'], ['a"'], ['a\\'], [5], ['é'], { 0: 'a' }].map((value): [string, object] => ['scopes', { ...good, scopes: value }]),
    ...[0, -1, 1.5, NaN, Infinity, '60', 30 * 86_400 + 1].map((value): [string, object] => ['lifetimeSeconds', { ...good, lifetimeSeconds: value }]),
    ...['', 5, 'x'.repeat(257)].map((value): [string, object] => ['purpose', { ...good, purpose: value }]),
    ...['a', [], 5, 5n, null].map((value): [string, object] => ['claims', { ...good, claims: value === null ? [null] : value }]),
    ...['iss', 'sub', 'aud', 'jti', 'iat', 'nbf', 'exp', 'fam', 'scope', 'scp', 'ttl', 'account'].map((name): [string, object] => [`claims.${name}`, { ...good, claims: { [name]: 'x' } }]),
    ['claims.__proto__', { ...good, claims: JSON.parse('{"__proto__":{"admin":true}}') as object }],
    ['claims.sub', { ...good, claims: { toJSON: () => ({ sub: 'admin' }) } }],
    ['scope', { ...good, scope: ['a'] }]
  ]
  for (const [option, request] of wrong) {
    await t.rejects(service.issue(request as IssueRequest), { name: 'OptionsError', option }, `issue: ${option}`)
    await t.rejects(service.issuePair(request as IssueRequest), { name: 'OptionsError', option }, `issuePair: ${option}`)
  }
  await t.rejects(service.issue({ ...good, use: 'refresh' as 'access' }), { name: 'OptionsError', option: 'use' })
  await t.rejects(service.issuePair({ ...good, use: 'access' } as IssueRequest), { name: 'OptionsError', option: 'use' })
  await t.rejects(service.issue({ ...good, claims: { long: 'x'.repeat(8_192) } }), /more than 8192 bytes/)
  for (const revocation of [{}, { id: '' }, { tenant: 1 }, { id: 'a', family: 'b' }]) await t.rejects(service.revoke(revocation as { id: string }), TypeError)
  t.same(await service.list(subject), [], 'and lists none of them')
})

t.test('refuses wrong options by name', async (t) => {
  const sealing = { key: randomBytes(32), algorithm: 'dir', contentEncryption: 'A256GCM', id: 'enc' } as const
  const opening = { mode: 'required', keys: [{ key: sealing.key, algorithm: 'dir' }], keyManagement: ['dir'], contentEncryption: ['A256GCM'] } as const
  const good = { issuer, audience, signing: { key: secret, id: 'a' }, store: memoryStore() }
  const wrong: [string, object][] = [
    ['issuer', { issuer: undefined }], ['issuer', { issuer: '' }], ['audience', { audience: undefined }], ['signing', { signing: undefined }],
    ['signing.key', { signing: { key: randomBytes(31), id: 'a' } }], ['signing.key', { signing: { key: 'a'.repeat(40), id: 'a' } }], ['signing.key', { signing: { key: rsa.publicKey, id: 'a' } }],
    ['signing.key', { signing: { key: p256.privateKey, algorithm: 'RS256', id: 'a' } }], ['signing.algorithm', { signing: { key: rsa.privateKey, id: 'a' } }], ['signing.id', { signing: { key: secret } }],
    ['signing.key', { signing: { key: generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey, algorithm: 'RS256', id: 'a' } }],
    ['retiredKeys', { retiredKeys: [] }], ['retiredKeys[0].key', { retiredKeys: [{ key: rsa.privateKey }] }], ['retiredKeys', { retiredKeys: [{ key: otherSecret, id: 'a' }] }],
    ['store', { store: undefined }], ['store', { store: { claim () {}, release () {} } }], ['tenantClaim', { tenantClaim: 'sub' }], ['tenantClaim', { tenantClaim: '__proto__' }], ['tenantClaim', { tenantClaim: '' }],
    ['decryption', { encryption: sealing }], ['decryption', { decryption: opening }], ['decryption.mode', { encryption: sealing, decryption: { ...opening, mode: undefined } }],
    ['decryption', { encryption: { ...sealing, key: randomBytes(32) }, decryption: opening }], ['encryption.key', { encryption: { ...sealing, key: randomBytes(16) }, decryption: opening }],
    ['encryption.key', { encryption: { ...sealing, key: rsa.privateKey }, decryption: opening }], ['encryption.key', { encryption: { ...sealing, key: rsa.publicKey }, decryption: opening }],
    ['encryption.key', { encryption: { ...sealing, key: p256.publicKey, algorithm: 'RSA-OAEP-256' }, decryption: opening }], ['encryption.key', { encryption: { ...sealing, key: 'text' }, decryption: opening }],
    ['encryption.algorithm', { encryption: { ...sealing, algorithm: undefined }, decryption: opening }], ['encryption.contentEncryption', { encryption: { ...sealing, contentEncryption: undefined }, decryption: opening }],
    ['accessLifetimeSeconds', { accessLifetimeSeconds: 0 }], ['accessLifetimeSeconds', { accessLifetimeSeconds: 30 * 86_400 + 1 }], ['refreshLifetimeSeconds', { refreshLifetimeSeconds: 401 * 86_400 }],
    ['retrySeconds', { retrySeconds: 61 }], ['retrySeconds', { retrySeconds: -1 }], ['isRefused', { isRefused: 'never' }], ['maxStalenessSeconds', { maxStalenessSeconds: 0 }], ['storeTimeoutMs', { storeTimeoutMs: 1_501 }],
    ['clock', { clock: 5 }], ['ttl', { ttl: 5 }]
  ]
  for (const [option, options] of wrong) {
    await t.rejects(createTokenService({ ...good, ...options }), { code: 'ERR_GUARD_OPTIONS', option }, `${option} ${JSON.stringify(options)?.slice(0, 80)}`)
  }
})

t.test('signs, then encrypts, and opens again what it sealed', async (t) => {
  const shared = randomBytes(32)
  const pairs = [['dir', createSecretKey(shared), createSecretKey(shared)], ['RSA-OAEP-256', rsa.publicKey, rsa.privateKey], ['ECDH-ES', p256.publicKey, p256.privateKey]] as const
  for (const [algorithm, sealing, opening] of pairs) {
    const encryption = { key: sealing, algorithm, contentEncryption: 'A256GCM', id: 'seal-1' } as const
    const decryption = { mode: 'required', keys: [{ key: opening, algorithm, id: 'seal-1' }], keyManagement: [algorithm], contentEncryption: ['A256GCM'] } as const
    const { service, clock, other } = await testService(t, { signing: { key: ed25519.privateKey, algorithm: 'EdDSA', id: 'sign-1' }, encryption, decryption })
    const takes = await api(t, service, clock)
    const first = await service.issuePair({ subject, scopes: ['a'] })
    t.equal(first.access.token.split('.').length, 5)
    t.equal(await takes(first.access.token), '200')
    const second = await service.refresh(first.refresh.token)
    t.equal((await (await other()).refresh(first.refresh.token)).refresh.id, second.refresh.id)
    t.equal(await takes(first.refresh.token), '401 ERR_BEARER_JWT_CLAIMS_INVALID')
    const signedOnly = await testService(t, { signing: { key: ed25519.privateKey, algorithm: 'EdDSA', id: 'sign-1' } })
    const bare = await signedOnly.service.issuePair({ subject })
    t.equal(await takes(bare.access.token), '401 ERR_BEARER_JWT_TOKEN_INVALID')
    await t.rejects(service.refresh(bare.refresh.token), invalid)
    const accepting = await testService(t, { signing: { key: ed25519.privateKey, algorithm: 'EdDSA', id: 'sign-1' }, decryption: { ...decryption, mode: 'accepted' } })
    t.ok(await accepting.service.refresh(first.refresh.token), 'a service that seals no longer still opens')
  }
})

t.test('takes tokens of a retired signing key until its end, and gives a retry the same successor across the rotation', async (t) => {
  for (const [signing, next, retired] of [
    [{ key: secret, id: 'old' }, { key: otherSecret, id: 'new' }, secret],
    [{ key: p256.privateKey, algorithm: 'ES256', id: 'old' }, { key: ed25519.privateKey, algorithm: 'EdDSA', id: 'new' }, p256.publicKey]
  ] as const) {
    const { service, clock, other } = await testService(t, { signing })
    const [first, second] = [await service.issuePair({ subject }), await service.issuePair({ subject })]
    const taken = await service.refresh(first.refresh.token)
    const rotated = await other({ signing: next, retiredKeys: [{ key: retired, id: 'old', notAfter: new Date((NOW + 100) * 1000) }] })
    const takes = await api(t, rotated, clock)
    t.equal((await rotated.refresh(first.refresh.token)).refresh.id, taken.refresh.id)
    t.equal(await takes(first.access.token), '200')
    const renewed = await rotated.refresh(taken.refresh.token)
    await t.rejects(service.refresh(renewed.refresh.token), invalid, 'the old process knows nothing of the new key')
    clock.pass(100)
    t.equal(await takes(first.access.token), '401 ERR_BEARER_JWT_TOKEN_INVALID')
    await t.rejects(rotated.refresh(second.refresh.token), invalid)
    t.equal(await takes(renewed.access.token), '200')
  }
})

t.test('keeps no token and no secret in the store, nor shows one in the list, in errors or in the service', async (t) => {
  const store = new WatchedStore()
  const { service, clock } = await testService(t, { store, tenantClaim: 'account', retrySeconds: 1 })
  const takes = await api(t, service, clock)
  const issued = [await service.issue({ subject, tenant: '1', purpose: 'canary tour' }), await service.issue({ subject, tenant: '1', use: 'callback' })]
  const first = await service.issuePair({ subject, tenant: '1' })
  const second = await service.refresh(first.refresh.token)
  for (const { token } of [...issued, first.access, second.access]) await takes(token)
  clock.pass(5)
  const errors: unknown[] = []
  for (const token of [first.refresh.token, second.refresh.token, `${second.refresh.token}x`]) await service.refresh(token).catch((error: unknown) => errors.push(error))
  await service.revoke({ id: issued[0]!.id })
  await service.revoke({ tenant: '1' })
  t.equal(errors.length, 3)

  const tokens = [...issued, first.access, first.refresh, second.access, second.refresh].flatMap(({ token }) => [token, token.split('.')[2]!])
  const leaks = findLeaks([
    ...[...store.entries].map(([key, value]) => ({ where: key, text: `${key} ${value}` })),
    { where: 'calls', text: store.calls.join('\n') },
    { where: 'list', text: JSON.stringify(await service.list(subject)) },
    { where: 'errors', text: errors.map((error) => `${String(error)} ${JSON.stringify(error)} ${(error as Error).stack}`).join('\n') }
  ], [...tokens, secret.toString()])
  t.ok(store.entries.size > 6)
  t.same(leaks, [])
})
