import { request as httpRequest } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import Fastify, { type FastifyRequest } from 'fastify'
import t from 'tap'
import type { Test } from 'tap'
import { allOf, memoryStore, type Claim, type ClaimStore, type GuardDefinition, type Judgement } from '../src/index.js'
import { codeOf, guardedApp, keyGuard, keyPlugin, MapStore, refusedBy, viewsOf, watchProcess } from './fixtures/guards.js'

const handler = () => 'reached'
const right: Judgement = { identity: { right: true }, principal: { scopes: [] } }

interface ClaimSpec { readonly key?: string, readonly store: ClaimStore, readonly ttlMs?: number, readonly timeoutMs?: number, readonly quota?: Claim['quota'] }

const claiming = (...specs: readonly ClaimSpec[]): Partial<GuardDefinition> => ({
  judge: () => ({
    ...right,
    claims: specs.map(({ store, key = 'key', ttlMs = 60_000, timeoutMs = 250, quota }): Claim => ({
      store, key, expiresAtMs: Date.now() + ttlMs, storeTimeoutMs: timeoutMs, quota, repeated: () => refusedBy('repeated', 'rejected')
    }))
  })
})

async function claimingApp (t: Test, ...specs: readonly ClaimSpec[]): Promise<() => Promise<[number, string | undefined, string | undefined]>> {
  const app = await guardedApp(t)
  app.get('/', { onRequest: keyGuard('alpha', claiming(...specs)) }, handler)
  return async () => {
    const answer = await app.inject({ url: '/', headers: { 'x-alpha': 'pass' } })
    return [answer.statusCode, codeOf(answer), answer.headers['retry-after']]
  }
}

t.test('a key is taken by exactly one of many requests at once', async (t) => {
  for (const store of [new MapStore(), memoryStore()]) {
    const send = await claimingApp(t, { store })
    const statuses = (await Promise.all(Array.from({ length: 200 }, send))).map(([status]) => status)
    t.equal(statuses.filter((status) => status === 200).length, 1)
    t.equal(statuses.filter((status) => status === 401).length, 199)
    t.same(await send(), [401, 'ERR_REPEATED_REJECTED', undefined])
  }
})

t.test('a store that is down, or slow, is 503 within half a second', async (t) => {
  const unavailable = [503, 'ERR_GUARD_STORE_UNAVAILABLE', '1']
  for (const [title, before] of Object.entries({ down: async () => { throw new Error('down') }, slow: () => sleep(1_000, undefined, { ref: false }), 'never back': () => new Promise(() => undefined) })) {
    const store = new MapStore()
    store.before = before
    const send = await claimingApp(t, { store })
    const startedAt = performance.now()
    t.same(await send(), unavailable, title)
    t.ok(performance.now() - startedAt < 500, title)
  }
  const full = memoryStore({ maxEntries: 1 })
  await full.claim('other', 60_000)
  t.same(await (await claimingApp(t, { store: full }))(), unavailable, 'full of live keys')
})

t.test('a store that makes no sense is 503, at once or later', async (t) => {
  const answers: Readonly<Record<string, () => unknown>> = {
    'throws': () => { throw new Error('broken') },
    'says nothing': () => undefined,
    'says something else': () => ({ claimed: 'yes' }),
    'rejects': () => Promise.reject(new Error('broken'))
  }
  for (const [title, answer] of Object.entries(answers)) {
    for (const method of ['claim', 'claimNow'] as const) {
      const released: string[] = []
      const store = { claim: () => Promise.resolve({ claimed: true }), [method]: answer, release: (key: string) => { released.push(key); throw new Error('broken too') } } as unknown as ClaimStore
      const send = await claimingApp(t, { store: memoryStore(), key: 'first' }, { store })
      t.same(await send(), [503, 'ERR_GUARD_STORE_UNAVAILABLE', '1'], `${method} ${title}`)
      t.same(released, ['key'], 'it may have taken the key')
      t.same(await send(), [503, 'ERR_GUARD_STORE_UNAVAILABLE', '1'], 'the claim before it was given back')
    }
  }
})

t.test('a store that makes no sense too late changes nothing more', async (t) => {
  const quiet = watchProcess(t)
  for (const late of [undefined, null, { claimed: 'yes' }]) {
    const store = { claim: () => sleep(40, late), release: async () => undefined } as unknown as ClaimStore
    const send = await claimingApp(t, { store, timeoutMs: 10 })
    t.same(await send(), [503, 'ERR_GUARD_STORE_UNAVAILABLE', '1'])
  }
  await sleep(80)
  t.same(await quiet(), [])
})

t.test('what a guard says of a repetition is a refusal, whatever it is', async (t) => {
  for (const repeated of [() => undefined, () => { throw new Error('broken') }] as unknown as Claim['repeated'][]) {
    const app = await guardedApp(t)
    const store = memoryStore()
    const claim = { store, key: 'key', expiresAtMs: Date.now() + 60_000, storeTimeoutMs: 250, quota: { group: 'group', maxLiveClaims: 2 }, repeated } as Claim
    app.get('/', { onRequest: keyGuard('alpha', { judge: () => ({ ...right, claims: [claim] }) }) }, handler)
    const send = async () => codeOf(await app.inject({ url: '/', headers: { 'x-alpha': 'pass' } }))
    t.equal((await app.inject({ url: '/', headers: { 'x-alpha': 'pass' } })).statusCode, 200)
    for (let i = 0; i < 3; i++) t.equal(await send(), 'ERR_GUARD_JUDGE_FAILED', 'and it takes no place in the group')
  }
})

t.test('a key that a slow store took after all is given back, so that the next try counts', async (t) => {
  const store = new MapStore()
  store.before = () => sleep(40)
  const send = await claimingApp(t, { store, timeoutMs: 10 })
  t.equal((await send())[0], 503)
  await sleep(60)
  t.same(store.released, ['key'])
  store.before = () => undefined
  t.equal((await send())[0], 200)
})

t.test('all claims are made or none: one that is refused gives back those before it', async (t) => {
  const store = new MapStore()
  store.keys.set('second', 'somebody else')
  const send = await claimingApp(t, { store, key: 'first' }, { store, key: 'second' }, { store, key: 'third' })
  t.same(await send(), [401, 'ERR_REPEATED_REJECTED', undefined])
  t.same([...store.keys], [['second', 'somebody else']])
  store.keys.clear()
  t.equal((await send())[0], 200)
  t.same([...store.keys.keys()], ['first', 'second', 'third'])
  t.equal(new Set(store.keys.values()).size, 3, 'each has an owner of its own')
})

t.test('a claim lives for whole seconds, one at least', async (t) => {
  for (const [ttlMs, expected] of [[-5_000, 1_000], [0, 1_000], [1, 1_000], [1_500, 2_000], [59_500, 60_000]] as const) {
    let asked: number | undefined
    const store: ClaimStore = { claim: async (_key, ttl) => { asked = ttl; return { claimed: true } }, release: async () => undefined }
    t.equal((await (await claimingApp(t, { store, ttlMs }))())[0], 200)
    t.equal(asked, expected, `${ttlMs} ms from now`)
  }
})

t.test('too many live claims of one group are 429 with Retry-After, until one has run out', async (t) => {
  const store = memoryStore()
  let key = 0
  const app = await guardedApp(t)
  const limited = (group: string, ttlMs: number) => keyGuard('alpha', {
    judge: () => claiming({ store, key: `${key++}`, ttlMs, quota: { group, maxLiveClaims: 2 } }).judge!({} as FastifyRequest)
  })
  app.get('/a', { onRequest: limited('a', 1_000) }, handler)
  app.get('/b', { onRequest: limited('b', 60_000) }, handler)
  const send = async (url: string) => {
    const answer = await app.inject({ url, headers: { 'x-alpha': 'pass' } })
    return [answer.statusCode, codeOf(answer), answer.headers['retry-after']]
  }
  const passed = [200, undefined, undefined]
  t.same([await send('/a'), await send('/a')], [passed, passed])
  t.same(await send('/a'), [429, 'ERR_GUARD_CLAIM_LIMIT', '1'])
  t.same(await send('/b'), passed, 'another group has its own places')
  await sleep(1_050)
  t.same(await send('/a'), passed)
  t.same(await send('/b'), passed)
  t.same(await send('/b'), [429, 'ERR_GUARD_CLAIM_LIMIT', '60'])
})

t.test('a place in a group is free again at the very moment when its claim runs out', async (t) => {
  let now = Date.now()
  const store = memoryStore({ clock: () => now })
  const app = await guardedApp(t, { clock: () => now })
  const claim = () => ({ store, key: `${now}`, expiresAtMs: now + 1_000, storeTimeoutMs: 250, quota: { group: 'a', maxLiveClaims: 1 } })
  app.get('/', { onRequest: keyGuard('alpha', { judge: () => ({ identity: 1, claims: [claim()] }) }) }, handler)
  for (const [laterMs, status] of [[0, 200], [999, 429], [1, 200]] as const) {
    now += laterMs
    t.equal((await app.inject({ url: '/', headers: { 'x-alpha': 'pass' } })).statusCode, status, `${laterMs} ms later`)
  }
})

t.test('a claim that was not made takes no place in its group', async (t) => {
  const store = new MapStore()
  const quota = { group: 'a', maxLiveClaims: 1 }
  const down = await claimingApp(t, { store, quota })
  store.before = () => { throw new Error('down') }
  for (let i = 0; i < 3; i++) t.equal((await down())[0], 503)
  store.before = () => undefined
  t.equal((await down())[0], 200, 'after refusals by the store')

  const taken = new MapStore()
  taken.keys.set('second', 'somebody else')
  const givenBack = await claimingApp(t, { store: taken, key: 'first', quota }, { store: taken, key: 'second' })
  for (let i = 0; i < 3; i++) t.same(await givenBack(), [401, 'ERR_REPEATED_REJECTED', undefined], 'given back with its key')
})

t.test('claims are made before the body is read, so slow uploads of one request can\'t all pass', async (t) => {
  const app = await guardedApp(t)
  const store = new MapStore()
  let handled = 0
  app.post('/', { onRequest: keyGuard('alpha', claiming({ store })) }, () => { handled++; return 'reached' })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as AddressInfo
  const uploads = Array.from({ length: 3 }, () => {
    const request = httpRequest({ port, method: 'POST', headers: { 'x-alpha': 'pass', 'content-type': 'application/json', 'content-length': 2 } })
    const status = new Promise<number | undefined>((resolve, reject) => request.on('response', (response) => { response.resume(); resolve(response.statusCode) }).on('error', reject))
    request.write('{')
    return { request, status }
  })
  for (let tries = 0; tries < 200 && store.keys.size === 0; tries++) await sleep(25)
  t.same([...store.keys.keys()], ['key'], 'taken before any body was complete')
  for (const { request } of uploads) request.end('}')
  t.same((await Promise.all(uploads.map(({ status }) => status))).sort(), [200, 401, 401])
  t.equal(handled, 1)
})

t.test('a refused claim leaves nothing of what had passed', async (t) => {
  const app = await guardedApp(t)
  const store = new MapStore()
  store.keys.set('key', 'somebody else')
  const seen: unknown[] = []
  app.setErrorHandler((error, request, reply) => {
    seen.push(request.auth, viewsOf(request))
    return reply.send(error)
  })
  app.get('/', { onRequest: keyGuard('alpha', { challenges: { rejected: 'Alpha' }, ...claiming({ store }) }) }, handler)
  const answer = await app.inject({ url: '/', headers: { 'x-alpha': 'canary' } })
  t.equal(answer.statusCode, 401)
  t.equal(answer.headers['www-authenticate'], 'Alpha', 'the challenge of the guard whose claim it was')
  t.same(seen[0], { principal: { scopes: [] }, via: [] })
  t.notMatch(seen[1], /canary/)
})

t.test('committed() is told once for each guard that passed, after the claims and before the body', async (t) => {
  const app = await guardedApp(t)
  const store = new MapStore()
  const order: string[] = []
  store.before = (key) => { order.push(`claim ${key}`) }
  const committed: NonNullable<GuardDefinition['committed']> = (request, { identity }) => { order.push(`committed ${(identity as { name?: string }).name} ${request.auth.via.join('+')}`) }
  const alpha = keyGuard('alpha', { committed, judge: () => ({ ...claiming({ store }).judge!({} as FastifyRequest) as Judgement, identity: { name: 'alpha' } }) })
  const beta = keyGuard('beta', { committed })
  app.addContentTypeParser('text/plain', { parseAs: 'string' }, (_request, body, done) => { order.push('body'); done(null, body) })
  app.post('/', { onRequest: [allOf(alpha, beta), beta] }, () => { order.push('handler'); return 'reached' })
  const send = (beta: string) => {
    order.length = 0
    return app.inject({ method: 'POST', url: '/', payload: 'x', headers: { 'x-alpha': 'pass', 'x-beta': beta, 'content-type': 'text/plain' } })
  }
  t.equal((await send('rejected')).statusCode, 401)
  t.same(order, [], 'not for a refused request')
  t.equal((await send('pass')).statusCode, 200)
  t.same(order, ['claim key', 'committed alpha alpha+beta', 'committed beta alpha+beta', 'body', 'handler'])
  t.equal((await send('pass')).statusCode, 401)
  t.same(order, ['claim key'], 'not when the claim was refused')
})

t.test('in a scope that was loaded before guard came, claims are made and credentials hidden all the same', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  const store = memoryStore()
  await app.register(async (child) => { child.get('/', { onRequest: keyGuard('alpha', claiming({ store })) }, viewsOf) })
  await app.register(keyPlugin('beta'))
  const send = () => app.inject({ url: '/', headers: { 'x-alpha': 'canary' } })
  const first = await send()
  t.equal(first.statusCode, 200)
  t.notMatch(first.body, /canary|x-alpha/)
  t.equal(codeOf(await send()), 'ERR_REPEATED_REJECTED')
})

t.test('a guard with a claim that runs after its stage is refused', async (t) => {
  const store = new MapStore()
  const late = keyGuard('late', claiming({ store }))
  for (const hook of ['preHandler', 'preValidation', 'preParsing'] as const) {
    for (const [title, onRequest] of Object.entries({ alone: undefined, 'beside a policy in time': keyGuard('alpha') })) {
      const app = await guardedApp(t, { audit: 'warn' })
      let handled = 0
      app.get('/', { ...onRequest && { onRequest }, [hook]: late as unknown as () => void }, () => { handled++; return 'reached' })
      const answer = await app.inject({ url: '/', headers: { 'x-late': 'pass', 'x-alpha': 'pass' } })
      t.same([answer.statusCode, codeOf(answer)], [503, 'ERR_GUARD_STAGE_LATE'], `${hook}, ${title}`)
      t.equal(handled, 0)
      t.equal(store.keys.size, 0)
    }
  }
})
