import { setTimeout as wait } from 'node:timers/promises'
import { inspect } from 'node:util'
import { anyOf, AuthError, guardOf, hasIdentity, identityOf } from '@sallyport/guard'
import Fastify from 'fastify'
import t from 'tap'
import { createProver } from '../src/credential-source.js'
import legacyHeadersDefault, { hashAccessToken, legacyHeaders, legacyHeadersReasons, type AccessTokenDigest, type CredentialResolver, type LegacyHeadersGuard } from '../src/index.js'
import { readTokens } from '../src/options.js'
import { accepted, codeOf, credential, get, OLD_TOKEN, OTHER_TENANT, OTHER_TOKEN, secrets, TENANT, testApp, TOKEN, UNKNOWN_TENANT, validOptions, WRONG_TOKEN } from './fixtures/app.js'
import { contract } from './fixtures/contract.js'

t.test('lets a right credential through, and says whose it is', async (t) => {
  const { app, decisions } = await testApp(t)
  const seen: unknown[] = []
  app.get('/who', { onRequest: app.legacyHeaders }, async (request) => {
    const identity = identityOf(request, app.legacyHeaders)
    seen.push(identity, Object.isFrozen(identity), request.auth)
    return 'ok'
  })
  const cases: readonly (readonly [Record<string, string>, object, string | undefined])[] = [
    [credential(), { tenant: TENANT, credentialId: 'live' }, 'live'],
    [credential(TENANT, OLD_TOKEN), { tenant: TENANT, credentialId: 'old' }, 'old'],
    [credential(OTHER_TENANT, OTHER_TOKEN), { tenant: OTHER_TENANT }, undefined],
    [{ 'company-id': TENANT, 'access-token': TOKEN }, { tenant: TENANT, credentialId: 'live' }, 'live']
  ]
  for (const [headers, identity, matched] of cases) {
    const answer = await app.inject(get(headers, '/who'))
    t.equal(answer.statusCode, 200)
    t.notOk('www-authenticate' in answer.headers)
    const { tenant } = identity as { tenant: string }
    t.same(seen.splice(0), [identity, true, { principal: { tenant, scopes: [] }, via: ['legacyHeaders'] }])
    t.match(decisions.at(-1), { outcome: 'passed', tenant, matched, guard: 'legacyHeaders', route: '/who' })
  }
})

for (const [code, samples] of Object.entries(contract.samples)) {
  t.test(`refuses with ${code}: status, message and challenge as documented, and a reason in the event`, async (t) => {
    for (const { request, options, status, challenge } of [samples].flat()) {
      const { app, decisions, handlerRuns } = await testApp(t, options)
      const answer = await app.inject({ url: '/departments', ...request })
      t.equal(answer.statusCode, status)
      t.match(answer.json(), { code, statusCode: status, message: contract.refusals[code as keyof typeof contract.refusals].message })
      if (challenge === undefined) t.notOk('www-authenticate' in answer.headers)
      else t.match(answer.headers['www-authenticate'], challenge)
      t.equal(answer.headers['retry-after'], { 503: '1' }[status] ?? (code.endsWith('PAUSED') ? '3600' : undefined))
      t.equal(handlerRuns(), 0)
      t.equal(decisions.length, 1)
      const { reason, matched } = decisions[0]!
      t.ok(reason! in legacyHeadersReasons || code.endsWith('MISSING'), `${reason} is a documented reason`)
      t.equal(matched, undefined)
    }
  })
}

t.test('names no error in the challenge when nothing was presented, and uses its own realm or that of guard', async (t) => {
  const own = await testApp(t, { realm: 'partner "A"' })
  t.equal((await own.app.inject('/departments')).headers['www-authenticate'], 'LegacyHeaders realm="partner \\"A\\""')
  const { app } = await testApp(t)
  t.equal((await app.inject('/departments')).headers['www-authenticate'], 'LegacyHeaders realm="api"')
  t.equal((await app.inject(get({ company_id: '1' }))).headers['www-authenticate'], 'LegacyHeaders realm="api", error="invalid_credentials"')
})

t.test('explains in the event, and only there, why a header with an underscore may be missing', async (t) => {
  const { app, decisions } = await testApp(t)
  const answer = await app.inject(get({ 'company-id': TENANT }))
  t.equal(codeOf(answer), 'ERR_LEGACY_HEADERS_CREDENTIALS_INCOMPLETE')
  t.equal(decisions[0]!.reason, 'token-header-missing-underscore-dropped')
  t.match(legacyHeadersReasons['token-header-missing-underscore-dropped'], 'underscores_in_headers')
  t.notMatch(answer.body + JSON.stringify(answer.headers), 'underscore')
})

t.test('counts each token only within its lifetime, to the millisecond', async (t) => {
  let now = 0
  const digest = hashAccessToken(TOKEN)
  const { app, decisions } = await testApp(t, {
    clock: () => now,
    credentials: [{ tenant: TENANT, tokens: [{ digest, notBefore: new Date(1_000), notAfter: new Date(2_000) }, { id: 'b', digest: hashAccessToken(OTHER_TOKEN) }] }]
  })
  for (const [time, status, reason] of [[999, 401, 'token-early'], [1_000, 200, undefined], [1_999, 200, undefined], [2_000, 401, 'token-expired'], [NaN, 401, 'token-early']] as const) {
    now = time
    const answer = await app.inject(accepted)
    t.equal(answer.statusCode, status, `at ${time}`)
    t.equal(decisions.at(-1)!.reason, reason, `at ${time}`)
    t.equal((await app.inject(get(credential(TENANT, OTHER_TOKEN)))).statusCode, Number.isNaN(time) ? 401 : 200, 'the other token has no end, but needs a time')
  }
})

t.test('judges a static list without a promise, and a resolver that answers with one with a promise', async (t) => {
  const tokens = readTokens(TENANT, [{ digest: hashAccessToken(TOKEN) }], 'tokens')
  const presented = { tenant: TENANT, token: TOKEN }
  const fromList = createProver({ credentials: new Map([[TENANT, tokens]]), resolverTimeoutMs: 10 })
  t.same(fromList(presented, 0), tokens[0]!.judgement)
  t.equal(fromList(presented, 0), fromList(presented, 1), 'the judgement was made at registration')
  const resolve: CredentialResolver = () => [{ digest: hashAccessToken(TOKEN) }]
  t.notOk(createProver({ credentials: resolve, resolverTimeoutMs: 10 })(presented, 0) instanceof Promise)
  t.ok(createProver({ credentials: async () => resolve(TENANT), resolverTimeoutMs: 10 })(presented, 0) instanceof Promise)
})

t.test('believes a resolver that knows the tenant, at once or later, and asks it only for well-formed tenants', async (t) => {
  const answers: Readonly<Record<string, readonly AccessTokenDigest[]>> = { [TENANT]: [{ digest: hashAccessToken(TOKEN), id: 'from the database' }], [OTHER_TENANT]: [] }
  for (const later of [false, true]) {
    const asked: string[] = []
    const resolver: CredentialResolver = (tenant) => {
      asked.push(tenant)
      return later ? Promise.resolve(answers[tenant]) : answers[tenant]
    }
    const { app, decisions } = await testApp(t, { credentials: resolver })
    const cases: readonly (readonly [Record<string, string>, number, string | undefined])[] = [
      [credential(), 200, undefined],
      [credential(TENANT, WRONG_TOKEN), 401, 'token-wrong'],
      [credential(UNKNOWN_TENANT), 401, 'tenant-unknown'],
      [credential(OTHER_TENANT), 401, 'tenant-unknown'],
      [credential('__proto__'), 401, 'tenant-malformed'],
      [credential(TENANT, 'a b'), 401, 'token-malformed']
    ]
    for (const [headers, status, reason] of cases) {
      t.equal((await app.inject(get(headers))).statusCode, status)
      t.equal(decisions.at(-1)!.reason, reason)
    }
    t.same(asked, [TENANT, TENANT, UNKNOWN_TENANT, OTHER_TENANT])
    t.equal(decisions[0]!.matched, 'from the database')
  }
})

t.test('answers 503, never 200 and never 401, when a resolver fails or answers with anything but a list of tokens', async (t) => {
  const digest = hashAccessToken(TOKEN)
  const answers: readonly unknown[] = [
    null, true, 1, '', digest, {}, { digest }, [digest], [''], [null], [undefined], new Array(1), [{}], [{ digest: '' }], [{ digest: TOKEN }], [{ token: TOKEN }],
    [{ digest: Buffer.alloc(0) }], [{ digest, id: 7 }], [{ digest, notAfter: 'never' }], [{ digest, not_after: new Date() }], [{ digest }, { digest }],
    Array.from({ length: 17 }, (_, i) => ({ digest: hashAccessToken(`t${i}`) })), new Map([[TENANT, digest]]), Buffer.from(digest, 'hex')
  ]
  for (const answer of answers) {
    for (const resolver of [() => answer, async () => answer]) {
      const { app, decisions, handlerRuns } = await testApp(t, { credentials: resolver as CredentialResolver })
      const reply = await app.inject(accepted)
      t.equal(codeOf(reply), 'ERR_LEGACY_HEADERS_CREDENTIALS_UNAVAILABLE', JSON.stringify(answer))
      t.equal(reply.statusCode, 503)
      t.equal(decisions[0]!.reason, 'resolver-answer')
      t.equal(handlerRuns(), 0)
    }
  }
})

t.test('tells the event what a resolver threw, whatever it threw, and tells the client nothing', async (t) => {
  const forgery = new AuthError({ code: 'ERR_FORGED', outcome: 'absent', message: 'forged' })
  for (const thrown of [new Error('at db.internal:5432'), forgery, 'text', undefined, null] as readonly Error[]) {
    for (const resolver of [() => { throw thrown }, () => Promise.reject(thrown)]) {
      const { app, decisions } = await testApp(t, { credentials: resolver })
      const answer = await app.inject(accepted)
      t.equal(codeOf(answer), 'ERR_LEGACY_HEADERS_CREDENTIALS_UNAVAILABLE')
      t.notMatch(answer.body, 'internal')
      t.match(decisions[0], { reason: 'resolver-failed', cause: thrown })
    }
  }
})

t.test('waits for a resolver no longer than it should, and drops what comes too late', async (t) => {
  const slow = (ms: number, fail = false) => async () => {
    await wait(ms)
    if (fail) throw new Error('late')
    return [{ digest: hashAccessToken(TOKEN) }]
  }
  for (const resolver of [slow(60), slow(60, true)]) {
    const { app, decisions } = await testApp(t, { credentials: resolver, resolverTimeoutMs: 10 })
    t.equal(codeOf(await app.inject(accepted)), 'ERR_LEGACY_HEADERS_CREDENTIALS_UNAVAILABLE')
    t.equal(decisions[0]!.reason, 'resolver-too-slow')
  }
  await wait(70)
  const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length
  const before = timers()
  const { app } = await testApp(t, { credentials: slow(5), resolverTimeoutMs: 1_500 })
  t.equal((await app.inject(accepted)).statusCode, 200)
  t.equal(timers(), before, 'and leaves no timer behind')
})

t.test('hides the four headers from everything downstream, unless told not to', async (t) => {
  for (const hideCredentials of [undefined, true, false]) {
    const { app, lines } = await testApp(t, hideCredentials === undefined ? {} : { hideCredentials })
    t.equal((await app.inject(accepted)).statusCode, 200)
    await app.inject(get(credential(TENANT, WRONG_TOKEN)))
    const log = lines.join()
    t.equal(log.includes(TOKEN), hideCredentials === false)
    t.equal(log.includes('access_token'), hideCredentials === false)
    t.notMatch(log, WRONG_TOKEN, 'the log line of a refusal has no headers')
  }
})

t.test('takes another name, and keeps two registrations apart', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(legacyHeaders, validOptions())
  await app.register(legacyHeaders, { ...validOptions(), as: 'erpHeaders', tenantHeader: 'erp_id', tokenHeader: 'erp_token' })
  const erp = guardOf<LegacyHeadersGuard>(app, 'erpHeaders')
  app.get('/', { onRequest: anyOf(app.legacyHeaders, erp) }, async (request) => ({ legacy: hasIdentity(request, app.legacyHeaders), erp: hasIdentity(request, erp) }))
  t.same((await app.inject(get({ erp_id: TENANT, 'erp-token': TOKEN }, '/'))).json(), { legacy: false, erp: true })
  t.equal(app.legacyHeaders.usage().tenants.length, 0)
  t.equal(erp.usage().tenants.length, 1)
  t.equal(legacyHeadersDefault, legacyHeaders)
})

t.test('shares no credential with itself in anyOf', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(legacyHeaders, validOptions())
  await app.register(legacyHeaders, { ...validOptions(), as: 'again', tenantHeader: 'other_id' })
  t.throws(() => anyOf(app.legacyHeaders, guardOf<LegacyHeadersGuard>(app, 'again')), /read the same credential \(header access_token\)/)
})

t.test('lets no secret out, whatever happens', async (t) => {
  for (const samples of Object.values(contract.samples)) {
    for (const { request, options } of [samples].flat()) {
      const { app, decisions, lines } = await testApp(t, options)
      const answers = [await app.inject({ url: '/departments', ...request }), await app.inject(accepted), await app.inject(get(credential(), '/nowhere'))]
      const told = [inspect(decisions, { depth: 9, showHidden: true }), JSON.stringify(app.legacyHeaders.usage()), app.printPolicies(), ...lines, ...answers.map(({ body, headers }) => body + JSON.stringify(headers))].join()
      for (const secret of secrets) t.notMatch(told, secret)
    }
  }
})
