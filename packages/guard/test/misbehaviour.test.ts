import type { FastifyReply, FastifyRequest } from 'fastify'
import t from 'tap'
import type { Test } from 'tap'
import { allOf, anyOf, AuthError, optional, type Claim, type ClaimResult, type GuardDefinition, type Judgement, type Policy } from '../src/index.js'
import { codeOf, guardedApp, keyGuard, MapStore, refusedBy, watchProcess } from './fixtures/guards.js'

const right: Judgement = { identity: { right: true }, principal: { scopes: [] } }

/** A definition's part that does what no type allows. */
const judging = (judge: (request: FastifyRequest) => unknown): Partial<GuardDefinition> => ({ judge: judge as GuardDefinition['judge'] })
const answering = (judgement: unknown): Partial<GuardDefinition> => judging(() => judgement)
const presented = (isPresented: () => unknown): Partial<GuardDefinition> => ({ isPresented: isPresented as GuardDefinition['isPresented'] })
const proving = (principal: unknown): Partial<GuardDefinition> => ({ proves: ['tenant'], judge: () => ({ identity: right, principal }) as Judgement })
const thenable = (then: (resolve: (value: unknown) => void, reject: (reason: unknown) => void) => void): Partial<GuardDefinition> => judging(() => ({ then }))
const raise = (thrown: unknown): never => { throw thrown }

/** Everything a guard may get wrong. Each must end in 503, and never in the handler. */
const misbehaviours: Readonly<Record<string, Partial<GuardDefinition>>> = {
  'resolves undefined': judging(async () => undefined),
  'resolves null': judging(async () => null),
  'resolves true': judging(async () => true),
  'resolves {}': judging(async () => ({})),
  'resolves an identity that is undefined': judging(async () => ({ identity: undefined })),
  'returns undefined': answering(undefined),
  'returns true': answering(true),
  'returns a text': answering('identity'),
  'returns {}': answering({}),
  'returns a list': answering([right]),
  'returns a function': answering(() => right),
  'returns an identity that is null': answering({ identity: null }),
  'returns an identity that it only inherits': answering(Object.create(right)),
  'returns an identity that throws when it is read': answering({ get identity () { return raise(new Error('read')) } }),
  'returns a principal that throws when it is read': answering({ identity: right, get principal () { return raise(new Error('read')) } }),
  'returns claims that are no list': answering({ ...right, claims: {} }),
  'returns claims that are a number': answering({ ...right, claims: 1 }),
  'returns undefined as a claim': answering({ ...right, claims: [undefined] }),
  'resolves claims that are no list': judging(async () => ({ ...right, claims: {} })),
  'returns scopes that are a text': answering({ identity: right, principal: { scopes: 'admin' } }),
  'has a then that throws when it is read': answering({ get then () { return raise(new Error('read')) }, ...{ identity: right } }),
  'has a then that throws': thenable(() => raise(new Error('then'))),
  'has a then that is no promise and resolves undefined at once': thenable((resolve) => resolve(undefined)),
  'resolves twice, wrong and then right': thenable((resolve) => { resolve({}); resolve(right) }),
  'rejects and then resolves': thenable((resolve, reject) => { reject(new Error('first')); resolve(right) }),
  'resolves nothing and then rejects': thenable((resolve, reject) => { resolve(undefined); reject(new Error('second')) }),
  'throws an Error': judging(() => raise(new Error('sync'))),
  'throws an Error with a status of 200': judging(() => raise(Object.assign(new Error('sync'), { statusCode: 200 }))),
  'throws an Error with a status of 404': judging(() => raise(Object.assign(new Error('sync'), { statusCode: 404, code: 'ERR_OTHER' }))),
  'throws undefined': judging(() => raise(undefined)),
  'throws a text': judging(() => raise('text')),
  'throws null': judging(() => raise(null)),
  'rejects with an Error': judging(async () => raise(new Error('async'))),
  'rejects with undefined': judging(async () => raise(undefined)),
  'rejects with a text': judging(async () => raise('text')),
  'never settles': judging(() => new Promise(() => undefined)),
  'rejects after its time is up': judging(() => new Promise((_resolve, reject) => setTimeout(reject, 60, new Error('late')))),
  'resolves after its time is up': judging(() => new Promise((resolve) => setTimeout(resolve, 60, right))),
  'says absent though it was presented': judging(() => raise(refusedBy('bad', 'absent'))),
  'rejects with absent though it was presented': judging(async () => raise(refusedBy('bad', 'absent'))),
  'has an isPresented that throws': presented(() => raise(new Error('presented'))),
  'has an isPresented that returns a promise': presented(async () => true),
  'has an isPresented that returns a promise of false': presented(async () => false),
  'has an isPresented that rejects': presented(async () => raise(new Error('presented'))),
  'has an isPresented that returns 1': presented(() => 1),
  'has an isPresented that returns a text': presented(() => 'yes'),
  'has an isPresented that returns undefined': presented(() => undefined),
  'has an isPresented that returns 0': presented(() => 0),
  'proves no tenant though it says so': proving({ scopes: [] }),
  'proves nothing at all': proving(undefined),
  'proves an empty tenant': proving({ tenant: '', scopes: [] }),
  'proves a tenant that is a number': proving({ tenant: 1, scopes: [] }),
  'proves a tenant that is null': proving({ tenant: null, scopes: [] }),
  'proves a subject that is no text': answering({ identity: right, principal: { subject: 1, scopes: [] } }),
  'proves a tenant that it never announced': answering({ identity: right, principal: { tenant: 'acme', scopes: [] } })
}

const good = keyGuard('good', { proves: ['tenant'], judge: () => ({ identity: right, principal: { tenant: 'acme' } }) })
const places: Readonly<Record<string, (bad: Policy) => Policy>> = {
  'alone': (bad) => bad,
  'first in allOf': (bad) => allOf(bad, good, { sharedKey: true }),
  'last in allOf': (bad) => allOf(good, bad, { sharedKey: true }),
  'in anyOf before a good one': (bad) => anyOf(bad, good),
  'in optional': (bad) => optional(bad)
}

for (const [title, overrides] of Object.entries(misbehaviours)) {
  t.test(`a guard that ${title} lets nobody through`, async (t) => {
    const fatal = watchProcess(t)
    const app = await guardedApp(t, { judgeTimeoutMs: 20 })
    const handled: string[] = []
    const bad = keyGuard('bad', overrides)
    for (const [i, compose] of Object.values(places).entries()) app.get(`/${i}`, { onRequest: compose(bad) }, () => { handled.push(title); return 'reached' })
    await Promise.all(Object.keys(places).map(async (place, i) => {
      const answer = await within(500, app.inject({ url: `/${i}`, headers: { 'x-bad': 'pass', 'x-good': 'pass' } }))
      t.same([answer?.statusCode, answer && codeOf(answer), answer?.headers['retry-after']], [503, 'ERR_GUARD_JUDGE_FAILED', '1'], place)
    }))
    t.same(handled, [])
    t.same(await fatal(), [], 'the process lives')
  })
}

async function within<T> (ms: number, promise: Promise<T>): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<undefined>((resolve) => { timer = setTimeout(resolve, ms, undefined) })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

t.test('a guard that settles twice, right first, reaches the handler once', async (t) => {
  const fatal = watchProcess(t)
  const twice: readonly Partial<GuardDefinition>[] = [
    thenable((resolve) => { resolve(right); resolve(right) }),
    thenable((resolve, reject) => { resolve(right); reject(new Error('second')) }),
    thenable((resolve) => { setTimeout(resolve, 1, right); setTimeout(resolve, 2, right) })
  ]
  for (const overrides of twice) {
    const app = await guardedApp(t)
    let handled = 0
    app.get('/', { onRequest: keyGuard('twice', overrides) }, () => { handled++; return 'reached' })
    t.equal((await app.inject({ url: '/', headers: { 'x-twice': 'pass' } })).statusCode, 200)
    await new Promise((resolve) => setTimeout(resolve, 5))
    t.equal(handled, 1)
  }
  t.same(await fatal(), [], 'the process lives')
})

t.test('a guard that sends a reply itself never reaches the handler', async (t) => {
  const fatal = watchProcess(t)
  const sent = 'the guard answered'
  const replies = new WeakMap<FastifyRequest, FastifyReply>()
  const send = (request: FastifyRequest): unknown => replies.get(request)!.code(418).send(sent)
  const senders: Readonly<Record<string, (request: FastifyRequest) => unknown>> = {
    'and judges it right': (request) => { void send(request); return right },
    'and resolves it right': async (request) => { void send(request); return right },
    'and resolves later': async (request) => { void send(request); await new Promise((resolve) => setTimeout(resolve, 5)); return right },
    'and refuses': (request) => { void send(request); throw refusedBy('sender', 'rejected') },
    'and rejects': async (request) => { void send(request); throw new Error('after sending') },
    'and answers nothing': send,
    'after hijacking': (request) => { replies.get(request)!.hijack().raw.writeHead(418).end(sent); return right }
  }
  for (const [title, judge] of Object.entries(senders)) {
    const app = await guardedApp(t, { judgeTimeoutMs: 50 })
    app.addHook('onRequest', async (request, reply) => { replies.set(request, reply) })
    let handled = 0
    app.get('/', { onRequest: keyGuard('sender', judging(judge)) }, () => { handled++; return 'reached' })
    const answer = await app.inject({ url: '/', headers: { 'x-sender': 'pass' } })
    t.same([answer.statusCode, answer.body], [418, sent], title)
    await new Promise((resolve) => setTimeout(resolve, 10))
    t.equal(handled, 0, title)
  }
  t.same(await fatal(), [], 'the process lives')
})

t.test('what stands for "missing" is refused, whatever it is', async (t) => {
  const fatal = watchProcess(t)
  const missing: readonly (readonly [string, () => unknown, number])[] = [
    ['nothing', () => undefined, 503],
    ['null', () => null, 503],
    ['a throw', () => raise(new Error('missing')), 503],
    ['a thrown refusal', () => raise(refusedBy('bad', 'rejected')), 401],
    ['a plain object', () => ({ code: 'X', outcome: 'absent' }), 503],
    ['a plain Error', () => new Error('missing'), 503],
    ['a promise', async () => refusedBy('bad', 'absent'), 503]
  ]
  for (const [title, make, status] of missing) {
    const app = await guardedApp(t)
    let handled = 0
    const bad = keyGuard('bad', { missing: make as () => AuthError })
    app.get('/', { onRequest: bad }, () => { handled++; return 'reached' })
    app.get('/all', { onRequest: allOf(bad, keyGuard('good')) }, () => { handled++; return 'reached' })
    for (const [url, headers] of [['/', {}], ['/all', {}], ['/all', { 'x-good': 'pass' }]] as const) {
      t.equal((await app.inject({ url, headers })).statusCode, status, `${title} at ${url}`)
    }
    t.equal(handled, 0, title)
  }
  t.same(await fatal(), [], 'the process lives')
})

t.test('a refusal that is frozen, shared or strange is still a refusal', async (t) => {
  const fatal = watchProcess(t)
  const frozen = Object.freeze(refusedBy('bad', 'rejected'))
  const refusals: readonly (readonly [string, AuthError, (status: number) => boolean])[] = [
    ['frozen', frozen, (status) => status === 401],
    ['with a status of 200', new AuthError({ code: 'ERR_BAD', outcome: 'rejected', message: 'bad', statusCode: 200 }), (status) => status >= 400],
    ['with an unknown outcome', new AuthError({ code: 'ERR_BAD', outcome: 'passed' as 'rejected', message: 'bad' }), (status) => status >= 400]
  ]
  for (const [title, refused, isRefusal] of refusals) {
    for (const judge of [() => raise(refused), async () => raise(refused)]) {
      const app = await guardedApp(t)
      let handled = 0
      app.get('/', { onRequest: keyGuard('bad', judging(judge)) }, () => { handled++; return 'reached' })
      const { statusCode } = await app.inject({ url: '/', headers: { 'x-bad': 'pass' } })
      t.ok(isRefusal(statusCode), `${title}: ${statusCode}`)
      t.equal(handled, 0, title)
    }
  }
  t.same(await fatal(), [], 'the process lives')
})

t.test('a requirement that misbehaves lets nobody through', async (t) => {
  const fatal = watchProcess(t)
  const judges: Readonly<Record<string, () => unknown>> = {
    'throws': () => raise(new Error('sync')),
    'rejects': async () => raise('text'),
    'never settles': () => new Promise(() => undefined),
    'returns what is no list': () => 1,
    'resolves what is no list': async () => ({ claims: [] }),
    'returns true': () => true,
    'has a then that throws when it is read': () => ({ get then () { return raise(new Error('read')) } })
  }
  for (const [title, judge] of Object.entries(judges)) {
    const app = await guardedApp(t, { judgeTimeoutMs: 20 })
    let handled = 0
    const guard = keyGuard('bad', { requirementNames: ['more'], requirement: () => ({ description: 'more', judge: judge as () => undefined }) })
    app.get('/', { onRequest: guard.require({ more: true }) }, () => { handled++; return 'reached' })
    const answer = await app.inject({ url: '/', headers: { 'x-bad': 'pass' } })
    t.equal(codeOf(answer), 'ERR_GUARD_JUDGE_FAILED', title)
    t.equal(answer.statusCode, 503)
    t.equal(handled, 0, title)
  }
  t.same(await fatal(), [], 'the process lives')
})

t.test('a store that misbehaves lets nobody through', async (t) => {
  const fatal = watchProcess(t)
  const claimResult = (answer: () => unknown) => answer as () => Promise<ClaimResult>
  const stores: Readonly<Record<string, { claim: () => Promise<ClaimResult>, release?: () => Promise<void>, repeated?: () => unknown }>> = {
    'throws': { claim: claimResult(() => raise(new Error('sync'))) },
    'rejects': { claim: claimResult(async () => raise(undefined)) },
    'resolves undefined': { claim: claimResult(async () => undefined) },
    'resolves true': { claim: claimResult(async () => true) },
    'resolves a claimed that is no boolean': { claim: claimResult(async () => ({ claimed: 'yes' })) },
    'returns no promise': { claim: claimResult(() => undefined) },
    'never settles': { claim: claimResult(() => new Promise(() => undefined)) },
    'refuses, and the refusal is missing': { claim: claimResult(async () => ({ claimed: false, value: '' })), repeated: () => undefined },
    'refuses, and the refusal throws': { claim: claimResult(async () => ({ claimed: false, value: '' })), repeated: () => raise(new Error('repeated')) },
    'rejects, and release throws': { claim: claimResult(async () => raise(new Error('down'))), release: () => raise(new Error('release')) }
  }
  for (const [title, { claim, release = async () => undefined, repeated = () => refusedBy('bad', 'rejected') }] of Object.entries(stores)) {
    const app = await guardedApp(t)
    let handled = 0
    const base = { expiresAtMs: Date.now() + 1_000, storeTimeoutMs: 20, repeated: repeated as () => AuthError }
    // The first claim is made, and has to be given back through the same store
    const claims: Claim[] = [{ ...base, key: 'first', store: { claim: async () => ({ claimed: true }), release } }, { ...base, key: 'second', store: { claim, release } }]
    app.get('/', { onRequest: keyGuard('bad', answering({ ...right, claims })) }, () => { handled++; return 'reached' })
    const answer = await within(400, app.inject({ url: '/', headers: { 'x-bad': 'pass' } }))
    t.ok(answer && [401, 503].includes(answer.statusCode), `${title}: ${answer?.statusCode ?? 'no answer'}`)
    t.equal(handled, 0, title)
  }
  t.same(await fatal(), [], 'the process lives')
})

t.test('headers for the answer that can\'t be made change no verdict', async (t) => {
  const fatal = watchProcess(t)
  const app = await guardedApp(t)
  app.get('/', { onRequest: keyGuard('bad', { replyHeaders: () => raise(new Error('headers')) }) }, () => 'reached')
  t.equal((await app.inject({ url: '/', headers: { 'x-bad': 'pass' } })).statusCode, 200)
  const refused = await app.inject({ url: '/', headers: { 'x-bad': 'rejected' } })
  t.equal(refused.statusCode, 401)
  t.equal(refused.headers['www-authenticate'], 'Key-bad error="wrong"')
  t.same(await fatal(), [], 'the process lives')
})

t.test('a definition without its parts is refused by name', async (t: Test) => {
  for (const part of ['judge', 'isPresented', 'missing'] as const) {
    t.throws(() => keyGuard('bad', { [part]: undefined }), { name: 'OptionsError', option: part })
  }
  t.throws(() => keyGuard('bad', { credentials: [], proves: ['tenant'] }), { name: 'OptionsError', option: 'proves' })
})

t.test('a claim store that has to be asked is not asked by a refused request', async (t) => {
  const store = new MapStore()
  let asked = 0
  store.before = () => { asked++ }
  const app = await guardedApp(t)
  const claims: Claim[] = [{ store, key: 'k', expiresAtMs: Date.now() + 1_000, storeTimeoutMs: 250, repeated: () => refusedBy('bad', 'rejected') }]
  app.get('/', { onRequest: allOf(keyGuard('alpha', answering({ ...right, claims })), keyGuard('beta')) }, () => 'reached')
  await Promise.all(Array.from({ length: 50 }, () => app.inject({ url: '/', headers: { 'x-alpha': 'pass', 'x-beta': 'rejected' } })))
  t.equal(asked, 0)
})

t.test('headers that somebody froze end in 503, never in the handler and never in the end of the process', async (t) => {
  const problems = watchProcess(t)
  for (const [title, judge] of Object.entries({ 'at once': () => right, 'later': async () => right, 'refused later': async () => raise(refusedBy('alpha', 'rejected')) })) {
    for (const frozen of ['headers', 'rawHeaders'] as const) {
      const app = await guardedApp(t)
      let handled = false
      app.addHook('onRequest', async ({ raw }) => { Object.freeze(raw[frozen]) })
      app.get('/', { onRequest: keyGuard('alpha', { judge }) }, () => { handled = true; return 'reached' })
      const answer = await app.inject({ url: '/', headers: { 'x-alpha': 'canary' } })
      t.same([answer.statusCode, codeOf(answer), handled], [503, 'ERR_GUARD_JUDGE_FAILED', false], `${frozen}, ${title}`)
      t.notMatch(answer.body, /canary/)
    }
  }
  t.same(await problems(), [])
})

t.test('where one credential can\'t be hidden, the others are', async (t) => {
  const app = await guardedApp(t)
  const seen: string[] = []
  app.addHook('onError', async ({ headers }) => { seen.push(JSON.stringify(headers)) })
  app.addHook('onRequest', async ({ raw }) => { Object.defineProperty(raw.headers, 'x-alpha', { configurable: false }) })
  app.get('/', { onRequest: allOf(keyGuard('alpha', { judge: () => right }), keyGuard('beta', { judge: () => right })) }, () => 'reached')
  t.equal((await app.inject({ url: '/', headers: { 'x-alpha': 'stuck', 'x-beta': 'canary' } })).statusCode, 503)
  t.match(seen, [/stuck/])
  t.notMatch(seen.join(), /canary/)
})

t.test('a frozen judgement that can still change is judged each time', async (t) => {
  const app = await guardedApp(t)
  let tenant: string | undefined = 'acme'
  const proto = { claims: undefined as unknown }
  const shifting: Readonly<Record<string, object>> = {
    accessor: Object.freeze({ identity: right, get principal () { return Object.freeze({ tenant, scopes: Object.freeze([]) }) } }),
    'inner-accessor': Object.freeze({ identity: right, principal: Object.freeze({ get tenant () { return tenant }, scopes: Object.freeze([]) }) }),
    prototype: Object.freeze(Object.assign(Object.create(proto) as object, { identity: right, principal: Object.freeze({ tenant: 'acme', scopes: Object.freeze([]) }) }))
  }
  for (const [name, judgement] of Object.entries(shifting)) {
    app.get(`/${name}`, { onRequest: keyGuard('alpha', { proves: ['tenant'], judge: () => judgement as Judgement }) }, () => 'reached')
  }
  const statusOf = async (name: string): Promise<number> => (await app.inject({ url: `/${name}`, headers: { 'x-alpha': 'key' } })).statusCode
  for (const name of Object.keys(shifting)) t.same([await statusOf(name), await statusOf(name)], [200, 200], name)
  tenant = undefined
  proto.claims = 'nonsense'
  for (const name of Object.keys(shifting)) t.equal(await statusOf(name), 503, name)
})

t.test('a judgement that one guard may give is not another\'s', async (t) => {
  const app = await guardedApp(t)
  const shared: Judgement = Object.freeze({ identity: right, principal: Object.freeze({ scopes: Object.freeze([]) }) })
  app.get('/alpha', { onRequest: keyGuard('alpha', { judge: () => shared }) }, () => 'reached')
  app.get('/beta', { onRequest: keyGuard('beta', { proves: ['tenant'], judge: () => shared }) }, () => 'reached')
  const headers = { 'x-alpha': 'key', 'x-beta': 'key' }
  for (let times = 0; times < 2; times++) {
    t.equal((await app.inject({ url: '/alpha', headers })).statusCode, 200)
    t.equal((await app.inject({ url: '/beta', headers })).statusCode, 503)
  }
})
