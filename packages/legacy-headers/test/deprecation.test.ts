import { allOf, anyOf, AuthError, defineGuard, optional } from '@sallyport/guard'
import t from 'tap'
import { createDeprecation } from '../src/deprecation.js'
import type { LegacyHeadersOptions } from '../src/index.js'
import { accepted, at, codeOf, credential, get, NOW, OTHER_TENANT, OTHER_TOKEN, TENANT, testApp, UNKNOWN_TENANT, WRONG_TOKEN } from './fixtures/app.js'

const deprecatedAt = at('2026-01-01T00:00:00Z')
const sunsetAt = at('2027-01-01T00:00:00Z')
const extendedTo = at('2027-06-30T22:00:00Z')
const link = 'https://developer.example.com/jwt?from=<old>'
const linkHeader = '<https://developer.example.com/jwt?from=%3Cold%3E>; rel="deprecation"; type="text/html", <https://developer.example.com/jwt?from=%3Cold%3E>; rel="sunset"; type="text/html"'
const wayOut = { deprecatedAt, sunsetAt, link, extensions: [{ tenant: OTHER_TENANT, sunsetAt: extendedTo }] }

t.test('announces deprecation and sunset on every answer to a request with these headers, and on no other', async (t) => {
  const { app } = await testApp(t, { deprecation: wayOut })
  const strong = defineGuard({
    owner: 'test', name: 'strong', credentials: [{ header: 'x-strong' }], proves: ['tenant'],
    missing: () => new AuthError({ code: 'ERR_STRONG', outcome: 'absent', message: 'strong' }),
    isPresented: (request) => 'x-strong' in request.headers,
    judge: () => ({ identity: 1, principal: { tenant: TENANT } })
  })
  app.get('/either', { onRequest: anyOf(strong, app.legacyHeaders) }, async () => 'ok')
  app.get('/tenants/:tenant', { onRequest: app.legacyHeaders.require({ tenantParam: 'tenant' }) }, async () => 'ok')
  app.get('/broken', { onRequest: app.legacyHeaders }, async () => { throw new Error('broken') })
  app.get('/maybe', { onRequest: optional(app.legacyHeaders) }, async () => 'ok')

  const general = { deprecation: '@1767225600', sunset: 'Fri, 01 Jan 2027 00:00:00 GMT', link: linkHeader }
  const extended = { ...general, sunset: 'Wed, 30 Jun 2027 22:00:00 GMT' }
  const none = { deprecation: undefined, sunset: undefined, link: undefined }
  const other = credential(OTHER_TENANT, OTHER_TOKEN)
  const cases: readonly (readonly [title: string, url: string, headers: Record<string, string>, status: number, expected: object])[] = [
    ['a right credential', '/departments', credential(), 200, general],
    ['a right credential with an extension', '/departments', other, 200, extended],
    ['a wrong token', '/departments', credential(TENANT, WRONG_TOKEN), 401, general],
    ['a wrong token where there is an extension', '/departments', credential(OTHER_TENANT, WRONG_TOKEN), 401, general],
    ['an unknown tenant', '/departments', credential(UNKNOWN_TENANT), 401, general],
    ['half a credential', '/departments', { 'company-id': TENANT }, 401, general],
    ['the wrong tenant for the route', `/tenants/${TENANT}`, other, 403, general],
    ['the right tenant for the route', `/tenants/${OTHER_TENANT}`, other, 200, extended],
    ['a handler that fails', '/broken', credential(), 500, general],
    ['an alternative that decided', '/either', { ...credential(), 'x-strong': '1' }, 200, none],
    ['the alternative taken', '/either', other, 200, extended],
    ['nothing presented', '/departments', {}, 401, none],
    ['nothing needed', '/maybe', {}, 200, none],
    ['not needed but sent', '/maybe', credential(), 200, general]
  ]
  for (const [title, url, headers, status, expected] of cases) {
    const answer = await app.inject(get(headers, url))
    t.equal(answer.statusCode, status, title)
    const { deprecation, sunset, link } = answer.headers
    t.same({ deprecation, sunset, link }, expected, title)
  }
})

t.test('announces only what is set', async (t) => {
  const bare = await testApp(t, { deprecation: { deprecatedAt: new Date(deprecatedAt.getTime() + 999) } })
  t.match((await bare.app.inject(accepted)).headers, { deprecation: '@1767225600', sunset: undefined, link: undefined })
  const linked = await testApp(t, { deprecation: { deprecatedAt, link: 'https://example.com' } })
  t.match((await linked.app.inject(accepted)).headers, { link: '<https://example.com/>; rel="deprecation"; type="text/html"', sunset: undefined })
  const none = await testApp(t)
  t.match((await none.app.inject(accepted)).headers, { deprecation: undefined, sunset: undefined, link: undefined })
})

/** The code of each request at each time; `passed` for a 200. */
async function verdictsAt (t: Parameters<typeof testApp>[0], options: Partial<LegacyHeadersOptions>, times: readonly string[]) {
  let now = 0
  const { app, decisions } = await testApp(t, { ...options, clock: () => now })
  const verdictOf = async (headers: Record<string, string>) => {
    const answer = await app.inject(get(headers))
    return answer.statusCode === 200 ? 'passed' : `${codeOf(answer).replace(/^.*_/, '')} ${decisions.at(-1)!.reason}${answer.headers['retry-after'] === undefined ? '' : ` ${String(answer.headers['retry-after'])}`}`
  }
  const verdicts: Record<string, readonly string[]> = {}
  for (const time of times) {
    now = at(time).getTime()
    const right = await verdictOf(credential())
    const extended = await verdictOf(credential(OTHER_TENANT, OTHER_TOKEN))
    const wrong = await verdictOf(credential(OTHER_TENANT, WRONG_TOKEN))
    verdicts[time] = [right, extended, wrong]
  }
  return verdicts
}

t.test('pauses in brown-outs and ends at the sunset, to the millisecond, and later for whom it was extended', async (t) => {
  const brownouts = [
    { from: at('2026-12-01T10:00:00Z'), to: at('2026-12-01T10:30:00Z') },
    { from: at('2027-03-01T00:00:00Z'), to: at('2027-03-02T00:00:00Z') }
  ]
  const times = [
    '2026-12-01T09:59:59.999Z', '2026-12-01T10:00:00.000Z', '2026-12-01T10:29:59.999Z', '2026-12-01T10:30:00.000Z',
    '2026-12-31T23:59:59.999Z', '2027-01-01T00:00:00.000Z', '2027-03-01T12:00:00.000Z', '2027-06-30T21:59:59.999Z', '2027-06-30T22:00:00.000Z'
  ]
  t.same(await verdictsAt(t, { deprecation: { ...wayOut, brownouts } }, times), {
    '2026-12-01T09:59:59.999Z': ['passed', 'passed', 'INVALID token-wrong'],
    '2026-12-01T10:00:00.000Z': ['PAUSED brownout 1800', 'PAUSED brownout 1800', 'PAUSED token-wrong 1800'],
    '2026-12-01T10:29:59.999Z': ['PAUSED brownout 1', 'PAUSED brownout 1', 'PAUSED token-wrong 1'],
    '2026-12-01T10:30:00.000Z': ['passed', 'passed', 'INVALID token-wrong'],
    '2026-12-31T23:59:59.999Z': ['passed', 'passed', 'INVALID token-wrong'],
    '2027-01-01T00:00:00.000Z': ['RETIRED sunset', 'passed', 'RETIRED token-wrong'],
    '2027-03-01T12:00:00.000Z': ['RETIRED sunset', 'PAUSED brownout 43200', 'RETIRED token-wrong'],
    '2027-06-30T21:59:59.999Z': ['RETIRED sunset', 'passed', 'RETIRED token-wrong'],
    '2027-06-30T22:00:00.000Z': ['RETIRED sunset', 'RETIRED sunset', 'RETIRED token-wrong']
  })
})

t.test('lets an outage count only as long as somebody could pass', async (t) => {
  const brownouts = [{ from: at('2026-12-01T10:00:00Z'), to: at('2026-12-01T10:30:00Z') }, { from: at('2027-03-01T00:00:00Z'), to: at('2027-03-02T00:00:00Z') }]
  const down = () => { throw new Error('table dropped') }
  const outage = 'UNAVAILABLE resolver-failed 1'
  const times = ['2026-12-01T09:00:00Z', '2026-12-01T10:15:00Z', '2027-01-01T00:00:00Z', '2027-03-01T12:00:00Z', '2027-07-01T00:00:00Z']
  for (const credentials of [down, async () => down()]) {
    t.same(await verdictsAt(t, { credentials, deprecation: { ...wayOut, brownouts } }, times), {
      '2026-12-01T09:00:00Z': [outage, outage, outage],
      '2026-12-01T10:15:00Z': Array(3).fill('PAUSED resolver-failed 900'),
      '2027-01-01T00:00:00Z': [outage, outage, outage],
      '2027-03-01T12:00:00Z': [outage, outage, outage],
      '2027-07-01T00:00:00Z': Array(3).fill('RETIRED resolver-failed')
    })
  }
})

t.test('covers up no bug: what is no refusal stays what it was, at any time', async (t) => {
  const { overrule } = createDeprecation({ deprecatedAtMs: 0, sunsetAtMs: 1, link: undefined, brownouts: [], extensions: new Map() }, 'api')
  const bug = new TypeError('bug')
  t.equal(overrule(bug, 0), bug)
  t.equal(overrule(bug, 2), bug)
})

t.test('reports who still uses the headers, on which routes, and who was turned away', async (t) => {
  let now = NOW.getTime()
  const tick = () => { now += 1_000 }
  const { app } = await testApp(t, { deprecation: wayOut, clock: () => now })
  app.get('/tenants/:tenant', { onRequest: app.legacyHeaders.require({ tenantParam: 'tenant' }) }, async () => 'ok')
  t.same(app.legacyHeaders.usage(), { since: '2026-11-15T12:00:00.000Z', tenants: [] })

  for (const url of ['/departments', '/departments/1', '/departments/2?token=x']) {
    tick()
    await app.inject(get(credential(), url))
  }
  await app.inject({ ...get(credential()), method: 'HEAD' })
  tick()
  await app.inject(get(credential(OTHER_TENANT, OTHER_TOKEN)))
  const counted = app.legacyHeaders.usage()
  t.same(counted, {
    since: '2026-11-15T12:00:00.000Z',
    tenants: [
      {
        tenant: OTHER_TENANT, count: 1, refused: 0, firstSeen: '2026-11-15T12:00:04.000Z', lastSeen: '2026-11-15T12:00:04.000Z',
        routes: [{ method: 'GET', route: '/departments', count: 1, refused: 0 }]
      },
      {
        tenant: TENANT, count: 4, refused: 0, firstSeen: '2026-11-15T12:00:01.000Z', lastSeen: '2026-11-15T12:00:03.000Z',
        routes: [
          { method: 'GET', route: '/departments', count: 1, refused: 0 },
          { method: 'GET', route: '/departments/:id', count: 2, refused: 0 },
          { method: 'HEAD', route: '/departments', count: 1, refused: 0 }
        ]
      }
    ]
  })
  t.ok([counted, counted.tenants, counted.tenants[0], counted.tenants[0]!.routes, counted.tenants[0]!.routes[0]].every(Object.isFrozen))

  tick()
  for (const [headers, url] of [
    [credential(TENANT, WRONG_TOKEN), '/departments'], [credential(UNKNOWN_TENANT), '/departments'], [{ company_id: TENANT }, '/departments'],
    [credential(), `/tenants/${OTHER_TENANT}`], [credential(), '/nowhere']
  ] as const) {
    await app.inject(get(headers, url))
  }
  t.same(app.legacyHeaders.usage(), counted, 'a refused request counts nothing, and neither does one that no policy asked about')

  now = sunsetAt.getTime()
  for (const headers of [credential(), credential(TENANT, WRONG_TOKEN), credential(UNKNOWN_TENANT), credential(OTHER_TENANT, OTHER_TOKEN)]) await app.inject(get(headers))
  const [other, first] = [...app.legacyHeaders.usage().tenants].sort((a, b) => b.tenant.localeCompare(a.tenant))
  t.match(first, { tenant: TENANT, count: 4, refused: 1, lastSeen: sunsetAt.toISOString() })
  t.match(first!.routes[0], { route: '/departments', count: 1, refused: 1 })
  t.match(other, { tenant: OTHER_TENANT, count: 2, refused: 0 })
})

t.test('counts a request once, however many policies of it ask, and whether it passes or is turned away', async (t) => {
  let now = NOW.getTime()
  const { app } = await testApp(t, { clock: () => now, deprecation: wayOut })
  const narrow = app.legacyHeaders.require({ tenantParam: 'tenant' })
  app.get('/tenants/:tenant', { onRequest: allOf(app.legacyHeaders, narrow) }, async () => 'ok')
  await app.register(async (scope) => {
    scope.setNotFoundHandler(async () => 'nothing')
    scope.protect(app.legacyHeaders)
    scope.get('/:tenant', { onRequest: narrow }, async () => 'ok')
  }, { prefix: '/protected' })
  const urls = [`/tenants/${TENANT}`, `/protected/${TENANT}`, '/protected/no/where']
  for (const url of urls) await app.inject(get(credential(), url))
  t.match(app.legacyHeaders.usage().tenants, [{ count: 3, refused: 0 }])
  now = sunsetAt.getTime()
  for (const url of urls) await app.inject(get(credential(), url))
  t.match(app.legacyHeaders.usage().tenants, [{
    count: 3,
    refused: 3,
    routes: ['/tenants/:tenant', '/protected/:tenant', '(no route)'].map((route) => ({ method: 'GET', route, count: 1, refused: 1 }))
  }])
})

t.test('keeps a hundred routes of a tenant apart, and counts the others together', async (t) => {
  const { app } = await testApp(t)
  for (let i = 0; i < 103; i++) app.get(`/r${i}`, { onRequest: app.legacyHeaders }, async () => 'ok')
  for (let i = 0; i < 103; i++) await app.inject(get(credential(), `/r${i}`))
  await app.inject(get(credential(), '/r0'))
  const { count, routes } = app.legacyHeaders.usage().tenants[0]!
  t.equal(count, 104)
  t.equal(routes.length, 101)
  t.same(routes[0], { method: 'GET', route: '/r0', count: 2, refused: 0 })
  t.same(routes[100], { method: '*', route: '(other routes)', count: 3, refused: 0 })
})
