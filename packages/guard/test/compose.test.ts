import t from 'tap'
import type { Test } from 'tap'
import { allOf, anyOf, defineGuard, headerValues, isOptionsError, open, optional, type Claim, type CredentialSource, type Policy } from '../src/index.js'
import { codeOf, guardedApp, keyGuard, MapStore, placeGuard, refusedBy } from './fixtures/guards.js'
import { fatesOf, flawOf, leavesIn, productOf, show, treesOver, verdictOn, type Fate, type Leaf, type LeafKind, type Tree } from './fixtures/trees.js'

const statusOf: Readonly<Record<Exclude<Fate, 'pass'>, number>> = { absent: 401, rejected: 401, forbidden: 403, unavailable: 503 }

/** A guard that does what the request says: `x-leaf0: pass`. A digit of `x-later` says whether it takes its time. */
function leafGuard ({ kind, at }: Leaf, store: MapStore): Policy {
  if (kind === 'open') return open('part of a truth table')
  const name = `leaf${at}`
  const judge = (request: Parameters<typeof headerValues>[0]) => {
    const fate = headerValues(request, `x-${name}`)[0]! as Fate
    if (fate !== 'pass') throw refusedBy(name, fate)
    const claim: Claim = {
      store, key: name, expiresAtMs: Date.now() + 60_000, storeTimeoutMs: 250, repeated: () => refusedBy(name, 'rejected')
    }
    return { identity: { name }, claims: kind === 'credential' ? [claim] : [] }
  }
  return defineGuard({
    owner: '@test/leaf',
    name,
    credentials: kind === 'credential' ? [{ header: `x-${name}` }] : [],
    proves: [],
    challenges: kind === 'credential' ? { absent: `Key-${name}`, rejected: `Key-${name} error="wrong"` } : {},
    missing: () => refusedBy(name, 'absent'),
    isPresented: (request) => headerValues(request, `x-${name}`).length > 0,
    judge: (request) => headerValues(request, 'x-later')[0]![at] === '1' ? Promise.resolve().then(() => judge(request)) : judge(request)
  })
}

function policyOf (tree: Tree, leaves: ReadonlyMap<string, Policy>): Policy {
  if (tree.op === 'leaf') return leaves.get(show(tree))!
  const [first, ...others] = tree.of.map((part) => policyOf(part, leaves)) as [Policy, ...Policy[]]
  if (tree.op === 'optional') return optional(first)
  return tree.op === 'all' ? allOf(first, ...others) : anyOf(first, ...others)
}

const kindsOf = (kinds: readonly LeafKind[], length: number): readonly (readonly LeafKind[])[] => productOf(Array.from({ length }, () => kinds))
const modesOf = (length: number): readonly string[] => productOf(Array.from({ length }, () => ['0', '1'])).map((digits) => digits.join(''))

t.test('every tree of up to three guards and two levels means what the design says', async (t) => {
  const store = new MapStore()
  const leaves = new Map<string, Policy>()
  for (const kind of ['credential', 'place', 'open'] as const) {
    for (const at of [0, 1, 2]) leaves.set(`${kind}${at}`, leafGuard({ op: 'leaf', kind, at }, store))
  }
  const compose = (tree: Tree): Policy | 'flawed' => {
    try {
      return policyOf(tree, leaves)
    } catch (error) {
      if (isOptionsError(error)) return 'flawed'
      throw error
    }
  }

  const app = await guardedApp(t, {}, { exposeHeadRoutes: false })
  let handled: readonly string[] | undefined
  const routes: { readonly url: string, readonly tree: Tree }[] = []
  const mistaken: string[] = []
  for (const length of [1, 2, 3]) {
    for (const tree of kindsOf(['credential', 'place', 'open'], length).flatMap((kinds) => treesOver(kinds))) {
      const policy = compose(tree)
      const flaw = flawOf(tree)
      if ((policy === 'flawed') !== (flaw !== undefined)) mistaken.push(`${show(tree)}: composed ${policy !== 'flawed'}, yet ${flaw ?? 'there is no flaw'}`)
      if (policy === 'flawed' || leavesIn(tree).some(({ kind }) => kind === 'open')) continue
      const url = `/${routes.length}`
      app.get(url, { onRequest: policy }, (request) => {
        handled = request.auth.via
        return 'reached'
      })
      routes.push({ url, tree })
    }
  }
  t.same(mistaken.slice(0, 10), [], 'exactly the trees with a flaw can\'t be composed')

  const { stackTraceLimit } = Error
  Error.stackTraceLimit = 0 // tens of thousands of refusals, and nobody reads where they came from
  t.teardown(() => { Error.stackTraceLimit = stackTraceLimit })
  const wrong: string[] = []
  let cases = 0
  for (const { url, tree } of routes) {
    const parts = leavesIn(tree)
    const modes = modesOf(parts.length)
    for (const fates of productOf(parts.map(({ kind }) => fatesOf[kind]))) {
      const sent = Object.fromEntries(fates.flatMap((fate, at) => fate === 'absent' ? [] : [[`x-leaf${at}`, fate]]))
      // Up to two guards in all mixes of sync and async; of three, one mix after another
      for (const later of parts.length < 3 ? modes : [modes[cases % modes.length]!]) {
        cases++
        handled = undefined
        store.keys.clear()
        const answer = await app.inject({ url, headers: { ...sent, 'x-later': later } })
        const verdict = verdictOn(tree, fates)
        const expected = 'passed' in verdict
          ? { status: 200, code: undefined, challenge: undefined, handled: namesOf(verdict.passed), claims: namesOf(verdict.passed.filter(({ kind }) => kind === 'credential')) }
          : { status: statusOf[verdict.fate], code: verdict.code, challenge: verdict.challenge, handled: undefined, claims: [] }
        const got = {
          status: answer.statusCode,
          code: answer.statusCode === 200 ? undefined : answer.json<{ code: string }>().code,
          challenge: answer.headers['www-authenticate'],
          handled,
          claims: [...store.keys.keys()]
        }
        if (JSON.stringify(got) !== JSON.stringify(expected)) wrong.push(`${show(tree)} with ${fates.join(', ')} (${later}): ${JSON.stringify(got)} is not ${JSON.stringify(expected)}`)
      }
    }
  }
  t.same(wrong.slice(0, 10), [], 'status, code, challenge, handler and claims are as the design says')
  t.comment(`${routes.length} policies, ${cases} requests`)
})

function namesOf (leaves: readonly Leaf[]): string[] {
  return leaves.map(({ at }) => `leaf${at}`)
}

/** Sends a request to a fresh app behind one policy; says what came of it. */
async function outcomeOf (t: Test, policy: Policy, headers: Record<string, string>): Promise<{ status: number, code: string | undefined, handled: boolean }> {
  const app = await guardedApp(t)
  let handled = false
  app.get('/', { onRequest: policy }, () => { handled = true; return 'reached' })
  const answer = await app.inject({ url: '/', headers })
  return { status: answer.statusCode, code: codeOf(answer), handled }
}

const passed = { status: 200, code: undefined, handled: true }
const refused = (status: number, code: string) => ({ status, code, handled: false })

/** A claim on a key of a store, for `requirement` and `judge`. */
const claimOn = (store: MapStore, key: string): Claim => ({
  store, key, expiresAtMs: Date.now() + 60_000, storeTimeoutMs: 250, repeated: () => refusedBy('claim', 'rejected')
})
const oneShot = (name: string, store: MapStore) => keyGuard(name, { judge: () => ({ identity: { name }, claims: [claimOn(store, name)] }) })

const refusesOption = (t: Test, compose: () => unknown, option: string, rule: RegExp): void => {
  try {
    compose()
    t.fail(`${option} was accepted`)
  } catch (error) {
    t.ok(isOptionsError(error), String(error))
    t.match(error, { option, message: rule })
  }
}

t.test('optional(allOf(a, b)) refuses a wrong b, and a missing one beside a', async (t) => {
  const policy = optional(allOf(keyGuard('alpha'), keyGuard('beta')))
  t.same(await outcomeOf(t, policy, { 'x-alpha': 'pass', 'x-beta': 'rejected' }), refused(401, 'ERR_BETA_REJECTED'))
  t.same(await outcomeOf(t, policy, { 'x-beta': 'rejected' }), refused(401, 'ERR_GUARD_CREDENTIAL_INCOMPLETE'))
  t.same(await outcomeOf(t, policy, { 'x-alpha': 'pass' }), refused(401, 'ERR_GUARD_CREDENTIAL_INCOMPLETE'))
  t.same(await outcomeOf(t, policy, { 'x-alpha': 'pass', 'x-beta': 'pass' }), passed)
  t.same(await outcomeOf(t, policy, {}), passed)
})

t.test('anyOf(allOf(a, b), legacy) never falls back to a right legacy credential', async (t) => {
  const policy = anyOf(allOf(keyGuard('alpha'), keyGuard('beta')), keyGuard('legacy'))
  t.same(await outcomeOf(t, policy, { 'x-alpha': 'pass', 'x-beta': 'rejected', 'x-legacy': 'pass' }), refused(401, 'ERR_BETA_REJECTED'))
  t.same(await outcomeOf(t, policy, { 'x-alpha': 'pass', 'x-legacy': 'pass' }), refused(401, 'ERR_GUARD_CREDENTIAL_INCOMPLETE'))
  t.same(await outcomeOf(t, policy, { 'x-beta': 'unavailable', 'x-alpha': 'pass', 'x-legacy': 'pass' }), refused(503, 'ERR_BETA_UNAVAILABLE'))
  t.same(await outcomeOf(t, policy, { 'x-legacy': 'pass' }), passed)
})

t.test('allOf(singleUse, failing) uses nothing up', async (t) => {
  const store = new MapStore()
  const policy = allOf(oneShot('alpha', store), keyGuard('beta'))
  t.same(await outcomeOf(t, policy, { 'x-alpha': 'pass', 'x-beta': 'forbidden' }), refused(403, 'ERR_BETA_FORBIDDEN'))
  t.equal(store.keys.size, 0)
  t.same(await outcomeOf(t, policy, { 'x-alpha': 'pass', 'x-beta': 'pass' }), passed)
  t.same([...store.keys.keys()], ['alpha'])
  t.same(await outcomeOf(t, policy, { 'x-alpha': 'pass', 'x-beta': 'pass' }), refused(401, 'ERR_CLAIM_REJECTED'))
})

t.test('one guard named twice, or in the scope and on the route, makes its claim once', async (t) => {
  const store = new MapStore()
  const alpha = oneShot('alpha', store)
  t.same(await outcomeOf(t, allOf(alpha, alpha), { 'x-alpha': 'pass' }), passed, 'twice in allOf')
  store.keys.clear()
  const app = await guardedApp(t)
  app.protect(alpha)
  app.get('/', { onRequest: alpha }, () => 'reached')
  t.equal((await app.inject({ url: '/', headers: { 'x-alpha': 'pass' } })).statusCode, 200, 'in protect() and on the route')
  t.equal((await app.inject({ url: '/', headers: { 'x-alpha': 'pass' } })).statusCode, 401, 'and a second request is refused')
})

t.test('credentials of different tenants or subjects are refused together', async (t) => {
  const alpha = keyGuard('alpha', { proves: ['tenant', 'subject'] })
  const beta = keyGuard('beta', { proves: ['tenant', 'subject'] })
  const acmeAnn = 'tenant:acme subject:ann'
  const policies = { 'in allOf': [allOf(alpha, beta)], 'as hooks one after another': [alpha, beta] }
  for (const [title, onRequest] of Object.entries(policies)) {
    const app = await guardedApp(t)
    app.get('/', { onRequest }, (request) => request.auth.principal)
    const ask = (beta: string) => app.inject({ url: '/', headers: { 'x-alpha': acmeAnn, 'x-beta': beta } })
    t.same((await ask('tenant:acme subject:ann scopes:a')).json(), { tenant: 'acme', subject: 'ann', scopes: ['a'] }, title)
    t.equal(codeOf(await ask('tenant:other subject:ann')), 'ERR_GUARD_PRINCIPAL_CONFLICT', title)
    const subjects = await ask('tenant:acme subject:bob')
    t.equal(codeOf(subjects), 'ERR_GUARD_PRINCIPAL_CONFLICT', title)
    t.equal(subjects.statusCode, 403)
  }
})

t.test('allOf refuses credentials of which only some prove a tenant, unless sharedKey says so', async (t) => {
  const tenant = keyGuard('alpha', { proves: ['tenant'] })
  const other = keyGuard('beta', { proves: ['tenant'] })
  const shared = keyGuard('shared')
  const place = placeGuard()
  const mixed: Record<string, (options?: { sharedKey: boolean }) => Policy> = {
    'tenant and key': (...options) => allOf(tenant, shared, ...options as []),
    'key and tenant': (...options) => allOf(shared, tenant, ...options as []),
    'address between': (...options) => allOf(tenant, place, shared, ...options as []),
    'optional key': (...options) => allOf(tenant, optional(shared), ...options as []),
    'either of two': (...options) => allOf(tenant, anyOf(other, shared), ...options as []),
    'composed key': (...options) => allOf(tenant, allOf(shared), ...options as [])
  }
  for (const [title, compose] of Object.entries(mixed)) {
    refusesOption(t, () => compose(), 'allOf', /only some prove a tenant/)
    refusesOption(t, () => compose({ sharedKey: false }), 'allOf', /only some prove a tenant/)
    t.doesNotThrow(() => compose({ sharedKey: true }), title)
  }
  for (const compose of [
    () => allOf(tenant, other), () => allOf(tenant, place), () => allOf(shared, keyGuard('gamma')), () => allOf(tenant, optional(other)),
    () => allOf(anyOf(tenant, other), keyGuard('gamma', { proves: ['tenant'] })), () => allOf(allOf(tenant, shared, { sharedKey: true }), other)
  ]) t.doesNotThrow(compose)
  refusesOption(t, () => allOf(tenant, other, { sharedKey: 'yes' } as never), 'sharedKey', /true or false/)
  refusesOption(t, () => allOf(tenant, other, { shareKey: true } as never), 'shareKey', /unknown to allOf/)

  const app = await guardedApp(t)
  app.protect(tenant)
  app.get('/mixed', { onRequest: shared }, () => 'reached')
  await t.rejects(async () => { await app.ready() }, /GET \/mixed can't hold: .*only some prove a tenant/, 'a scope and its route are judged as one allOf')

  const vouching = await guardedApp(t)
  vouching.protect(allOf(tenant, shared, { sharedKey: true }))
  vouching.get('/other', { onRequest: keyGuard('gamma') }, () => 'reached')
  await t.rejects(async () => { await vouching.ready() }, /GET \/other can't hold: .*only some prove a tenant/, 'what a scope says of its keys does not hold for those of a route')
  const said = await guardedApp(t)
  said.protect(allOf(tenant, shared, { sharedKey: true }))
  said.get('/other', { onRequest: allOf(keyGuard('gamma'), { sharedKey: true }) }, () => 'reached')
  await t.resolves(async () => { await said.ready() })
})

t.test('a tenant list stands after the guard that proves the tenant', async (t) => {
  const tenant = keyGuard('alpha', { proves: ['tenant'] })
  const early = placeGuard('place', {
    requirementNames: ['list'],
    requirement: (given) => given.text('list') === undefined ? undefined : { description: 'list', needsTenant: true, judge: () => undefined }
  }).require({ list: 'tenants' })
  for (const compose of [
    () => allOf(early, tenant), () => allOf(anyOf(early, keyGuard('beta', { proves: ['tenant'] })), tenant, { sharedKey: true }), () => allOf(allOf(early), tenant), () => allOf(early, optional(tenant)),
    () => allOf(early, anyOf(tenant, keyGuard('beta', { proves: ['tenant'] })))
  ]) refusesOption(t, compose, 'allOf', /needs a tenant, before the guard that proves it/)
  t.doesNotThrow(() => allOf(tenant, early))

  const alone = await guardedApp(t)
  alone.get('/alone', { onRequest: early }, () => 'reached')
  await t.rejects(async () => { await alone.ready() }, /GET \/alone can't hold: .*no guard before it always proves one/)
  const maybe = await guardedApp(t)
  maybe.get('/maybe', { onRequest: allOf(optional(tenant), early) }, () => 'reached')
  await t.rejects(async () => { await maybe.ready() }, /GET \/maybe can't hold/, 'optional() does not always prove one')
  const scoped = await guardedApp(t)
  scoped.protect(tenant)
  scoped.get('/', { onRequest: early }, () => 'reached')
  await t.resolves(async () => { await scoped.ready() }, 'the scope proves it')
})

t.test('alternatives that read the same credential can\'t be told apart, so anyOf refuses them', async (t) => {
  const reading = (...credentials: CredentialSource[]) => keyGuard('some', { credentials })
  const bearer = reading({ header: 'Authorization', scheme: 'Bearer' })
  const same: readonly [Policy, Policy][] = [
    [bearer, bearer],
    [bearer, reading({ header: 'authorization', scheme: 'BEARER' })],
    [bearer, reading({ header: 'authorization' })],
    [reading({ header: 'x-key' }), reading({ header: 'X-Key' })],
    [reading({ cookie: 'session' }), reading({ header: 'x-key' }, { cookie: 'session' })],
    [reading({ other: 'body field token' }), reading({ other: 'body field token' })],
    [allOf(bearer, keyGuard('beta')), allOf(keyGuard('gamma'), bearer)],
    [anyOf(bearer, keyGuard('beta')), bearer]
  ]
  for (const [one, other] of same) {
    refusesOption(t, () => anyOf(one, other), 'anyOf', /read the same credential/)
    refusesOption(t, () => anyOf(one, placeGuard(), other), 'anyOf', /read the same credential/)
  }
  const different: readonly [Policy, Policy][] = [
    [bearer, reading({ header: 'authorization', scheme: 'Hmac' })],
    [reading({ cookie: 'session' }), reading({ cookie: 'Session' })],
    [reading({ header: 'x-key' }), reading({ cookie: 'x-key' })],
    [placeGuard('one'), placeGuard('two')]
  ]
  for (const [one, other] of different) t.doesNotThrow(() => anyOf(one, other))
  t.doesNotThrow(() => allOf(bearer, bearer), 'allOf may: one judgement serves both')
})

t.test('compositions take policies only, and say which part is none', async (t) => {
  const alpha = keyGuard('alpha')
  const parts: readonly (readonly [unknown, RegExp])[] = [
    [undefined, /not undefined \(is its plugin registered, and awaited\?\)/], [() => undefined, /defineGuard\(\)/], [async () => undefined, /defineGuard/], ['alpha', /not string/], [null, /not object/]
  ]
  for (const [part, rule] of parts) {
    refusesOption(t, () => allOf(alpha, part as Policy, alpha), 'allOf[1]', rule)
    refusesOption(t, () => anyOf(part as Policy, alpha), 'anyOf[0]', rule)
    refusesOption(t, () => optional(part as Policy), 'optional[0]', rule)
  }
  refusesOption(t, () => (allOf as () => unknown)(), 'allOf', /at least one/)
  refusesOption(t, () => (anyOf as () => unknown)(), 'anyOf', /at least one/)
  refusesOption(t, () => allOf({ sharedKey: true } as never), 'allOf', /at least one/)
  for (const reason of ['', '  ', undefined, 1]) refusesOption(t, () => open(reason as string), 'reason', /say why/)
})

t.test('anyOf lists the challenge that each guard gives when it is alone', async (t) => {
  const own = keyGuard('own', { challenges: {}, missing: () => Object.assign(refusedBy('own', 'absent'), { challenge: 'Own realm="mine"' }) })
  const app = await guardedApp(t)
  app.get('/alone', { onRequest: own }, () => 'reached')
  app.get('/either', { onRequest: anyOf(keyGuard('alpha'), own, keyGuard('beta')) }, () => 'reached')
  t.equal((await app.inject('/alone')).headers['www-authenticate'], 'Own realm="mine"')
  t.equal((await app.inject('/either')).headers['www-authenticate'], 'Key-alpha, Own realm="mine", Key-beta')
})

t.test('a policy stays itself when it is bound', async (t) => {
  for (const policy of [keyGuard('alpha'), keyGuard('alpha', { proves: ['tenant'] }).require({ tenantParam: 'id' }), allOf(keyGuard('alpha')), open('for a test')]) {
    t.equal((policy.bind as (self: object) => unknown)({}), policy)
    t.notOk(Object.keys(policy).includes('bind'))
  }
})
