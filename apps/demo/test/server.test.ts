import { spawn } from 'node:child_process'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { writeFileSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { decisionChannel, redisStore } from '@sallyport/guard'
import { Redis } from 'ioredis'
import t from 'tap'
import { brokenStore, departmentsPath, needsCurl, needsRedis, redisUrl, sign, spellingsOf, startDemo, type Answer, type Call, type Demo } from './fixtures/demo.js'

const legacy = { company_id: '10238497', access_token: '01298347edf923874a' }
function namesIn ({ json }: Answer): readonly string[] {
  return (json['departments'] as { name: string }[]).map(({ name }) => name)
}

t.test('a right JWT gets the departments of its company and no others', async (t) => {
  const demo = await startDemo(t)
  const nordlys = await demo.send({ headers: { JWT: demo.tokenOf('100001') } })
  t.equal(nordlys.status, 200)
  t.same(namesIn(nordlys), ['Reception', 'Surgery'])
  t.match(nordlys.headers, { 'cache-control': 'no-store', 'x-content-type-options': 'nosniff', 'content-security-policy': String })
  for (const header of ['deprecation', 'sunset', 'link', 'www-authenticate']) t.notOk(nordlys.headers[header], `no ${header}`)
  const old = await demo.send({ headers: { JWT: demo.tokenOf('10238497') } })
  t.same(namesIn(old), ['Administration'], 'a short secret signs as well')
  t.notOk(old.headers['deprecation'])
  t.equal((await demo.send({ method: 'HEAD', headers: { JWT: demo.tokenOf('100001') } })).status, 200)
  t.equal((await demo.send({ path: '/health' })).status, 200, 'health is public')
  t.match(await demo.send({ path: '/nowhere' }), { status: 404, headers: { 'content-type': 'application/problem+json; charset=utf-8' } })
  t.match(await demo.send({ path: '/%zz' }), { status: 400, json: { code: 'FST_ERR_BAD_URL' } })
  t.match(await demo.send({ path: '/departments/v3/core/moving-to-jwt' }), { status: 200, headers: { 'content-type': 'text/html; charset=utf-8' } })
})

t.test('tokens that are not right are refused with 401 and a challenge', async (t) => {
  const demo = await startDemo(t)
  const now = demo.nowMs / 1000
  const right = demo.claimsOf('100001')
  const own = demo.secretOf('100001')
  const without = (name: string): object => Object.fromEntries(Object.entries(right).filter(([key]) => key !== name))
  const wrong: Readonly<Record<string, Call['headers']>> = {
    'no credentials': {},
    'an empty token': { JWT: '' },
    'no token at all': { JWT: 'abc' },
    'exp - nbf of 16 seconds': { JWT: sign({ ...right, exp: now + 16 }, own) },
    'exp - nbf of 15.5 seconds': { JWT: sign({ ...right, exp: now + 15.5 }, own) },
    'exp missing': { JWT: sign({ ...without('exp') }, own) },
    'nbf missing': { JWT: sign({ ...without('nbf') }, own) },
    'nbf missing beside iat': { JWT: sign({ ...without('nbf'), iat: now }, own) },
    'exp null': { JWT: sign({ ...right, exp: null }, own) },
    'nbf as text': { JWT: sign({ ...right, nbf: String(now) }, own) },
    'company_id missing': { JWT: sign({ ...without('company_id') }, own) },
    'nbf 2 seconds ahead': { JWT: sign({ ...right, nbf: now + 2 }, own) },
    'exp equal to now': { JWT: sign({ ...right, nbf: now - 10, exp: now }, own) },
    'exp before nbf, both in time': { JWT: sign({ ...right, nbf: now, exp: now - 1 }, own) },
    'the secret of another company': { JWT: sign(right, demo.secretOf('100002')) },
    'the id of another company under its own secret': { JWT: sign({ ...right, company_id: 100002 }, own) },
    'an unknown company': { JWT: sign({ ...right, company_id: 999 }, own) },
    'an empty secret': { JWT: sign(right, '') },
    'alg none': { JWT: sign(right, own, { alg: 'none' }) },
    'alg none with a signature': { JWT: `${sign(right, own, { alg: 'none' })}AAAA` },
    'HS512': { JWT: sign(right, own, { alg: 'HS512' }) },
    'HS384': { JWT: sign(right, own, { alg: 'HS384' }) },
    'RS256 over the same bytes': { JWT: sign(right, own, { alg: 'RS256' }) },
    'a scheme before the token': { JWT: `Bearer ${demo.tokenOf('100001')}` },
    'the token in Authorization': { authorization: `Bearer ${demo.tokenOf('100001')}` },
    'a wrong token beside right legacy headers': { JWT: sign(right, demo.secretOf('100002')), ...legacy },
    'an empty token beside right legacy headers': { JWT: '', ...legacy },
    ...Object.fromEntries(['0100001', '1e5', '100001.0', '-100001', ' 100001', '+100001', '0x186a1', '', '__proto__'].map((id) => {
      return [`company_id ${JSON.stringify(id)}`, { JWT: sign({ ...right, company_id: id }, own) }]
    })),
    ...Object.fromEntries([-100001, 100001.5, true, null, [100001], { id: 100001 }].map((id) => {
      return [`company_id ${JSON.stringify(id)} (no text)`, { JWT: sign({ ...right, company_id: id }, own) }]
    })),
    'company_id -0': { JWT: sign(`{"exp":${now + 15},"nbf":${now},"company_id":-0}`, own) }
  }
  for (const [what, headers] of Object.entries(wrong)) {
    for (const method of ['GET', 'POST']) {
      const answer = await demo.send({ method, headers: headers!, ...(method === 'POST' && { body: '{"name":"Intruders"}' }) })
      t.equal(answer.status, 401, `${method} ${what}`)
      t.match(answer.headers['www-authenticate'], /^Bearer realm="sallyport-demo", header="jwt"/, `${what}: challenge`)
      t.match(answer.headers['content-type'], /^application\/problem\+json/)
    }
  }
  const anonymous = await demo.send()
  t.equal(anonymous.headers['www-authenticate'], 'Bearer realm="sallyport-demo", header="jwt", LegacyHeaders realm="sallyport-demo"')
  t.match(anonymous.json, { status: 401, code: 'ERR_GUARD_CREDENTIAL_MISSING' })
  t.same(namesIn(await demo.send({ headers: { JWT: demo.tokenOf('100001') } })), ['Reception', 'Surgery'], 'nothing was stored')
  t.notOk(demo.logLines.some((line) => /"statusCode":5/.test(line)), 'no answer was a 5xx')
})

t.test('no spelling of a path or method gets past the policy', async (t) => {
  const demo = await startDemo(t)
  const targets = [
    '/%64epartments/v3/core/departments', '/departments/v3/core/%64%65partments', '//departments/v3/core/departments', `${departmentsPath}/`, departmentsPath.toUpperCase(),
    `${departmentsPath}?a=b`, `${departmentsPath};a=b`, `${departmentsPath}%2f`, `/health/..${departmentsPath}`, `/./${departmentsPath}`, `https://localhost${departmentsPath}`, '*'
  ]
  for (const method of ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH']) {
    for (const target of targets) {
      const { status, text } = await demo.sendRaw([`${method} ${target} HTTP/1.1`, 'Content-Length: 0'])
      t.ok([400, 401, 404].includes(status), `${method} ${target}: ${status}`)
      t.notMatch(text, 'Reception')
    }
  }
})

t.test('two JWT headers are refused in every order, right ones too', async (t) => {
  const demo = await startDemo(t)
  const token = demo.tokenOf('100001')
  for (const pair of [[token, token], [token, 'x'], ['x', token], [token, ''], ['', token]]) {
    const answer = await demo.sendRaw([`GET ${departmentsPath} HTTP/1.1`, ...pair.map((value) => `JWT: ${value}`)])
    t.equal(answer.status, 401)
    t.match(answer.text, 'ERR_BEARER_JWT_TOKEN_AMBIGUOUS')
  }
  t.equal((await demo.send({ headers: { JWT: `${token}, ${token}` } })).status, 401, 'joined')
  t.equal((await demo.send({ headers: { jwt: token } })).status, 200, 'the name in any case')
})

t.test('what is right is accepted in all its forms', async (t) => {
  const demo = await startDemo(t)
  const right = demo.claimsOf('100001')
  const now = demo.nowMs / 1000
  const own = demo.secretOf('100001')
  const accepted = {
    'the documented shape, without typ': sign(right, own),
    'with typ': sign(right, own, { alg: 'HS256', typ: 'JWT' }),
    'company_id as text': sign({ ...right, company_id: '100001' }, own),
    'company_id as a number with an exponent': sign(`{"exp":${now + 15},"nbf":${now},"company_id":1.00001e5}`, own),
    'the last of its 15 seconds': sign({ ...right, nbf: now - 14, exp: now + 1 }, own)
  }
  for (const [what, token] of Object.entries(accepted)) {
    const answer = await demo.send({ headers: { JWT: token } })
    t.equal(answer.status, 200, what)
    t.same(namesIn(answer), ['Reception', 'Surgery'])
  }
  demo.nowMs += 14_999
  t.equal((await demo.send({ headers: { JWT: sign(right, own) } })).status, 200, 'one millisecond before exp')
  demo.nowMs += 1
  t.equal((await demo.send({ headers: { JWT: sign(right, own) } })).status, 401, 'at exp')
})

t.test('a token is good for one POST and for many GETs', async (t) => {
  const demo = await startDemo(t)
  const post = (headers: Call['headers'], body = '{"name":"Laboratory"}'): Promise<Answer> => demo.send({ method: 'POST', headers: headers!, body })
  const token = demo.tokenOf('100001')
  for (let i = 0; i < 3; i++) t.equal((await demo.send({ headers: { JWT: token } })).status, 200)
  t.match(await post({ JWT: token }), { status: 201, json: { id: 3, name: 'Laboratory' } })
  t.match(await post({ JWT: token }), { status: 401, json: { code: 'ERR_BEARER_JWT_TOKEN_REUSED' }, headers: { 'www-authenticate': /error="invalid_token"/ } })
  t.same(namesIn(await demo.send({ headers: { JWT: token } })), ['Reception', 'Surgery', 'Laboratory'], 'a GET takes it again, and shows what was stored')
  const other = demo.tokenOf('100003')
  const all = await Promise.all(Array.from({ length: 20 }, () => post({ JWT: other })))
  t.same(all.map(({ status }) => status).sort(), [201, ...Array.from({ length: 19 }, () => 401)], 'of twenty at once one passes')
  for (const body of ['{}', '{"name":""}', '{"name":1}', '{"name":"a","more":1}', '[]', '{', `{"name":"${'a'.repeat(101)}"}`]) {
    demo.nowMs += 1000
    t.match(await post({ JWT: demo.tokenOf('100001') }, body), { status: 400, headers: { 'content-type': /^application\/problem\+json/ } }, body.slice(0, 20))
  }
  demo.nowMs += 1000
  t.equal((await post({ JWT: demo.tokenOf('100001') }, `{"name":"${'a'.repeat(70_000)}"}`)).status, 413)
  t.match(await post(legacy), { status: 201, headers: { deprecation: '@1704067200' } })
  t.match(await post(legacy), { status: 201 }, 'the legacy headers know no single use')
  for (let i = 0; i < 97; i++) await post(legacy)
  t.match(await post(legacy), { status: 409, json: { code: 'ERR_DEPARTMENTS_FULL' } }, 'nobody fills the memory')
})

t.test('right legacy headers pass and announce their end', async (t) => {
  const demo = await startDemo(t)
  const answer = await demo.send({ headers: legacy })
  t.equal(answer.status, 200)
  t.same(namesIn(answer), ['Administration'])
  t.match(answer.headers, {
    deprecation: '@1704067200', sunset: 'Tue, 01 Jan 2030 00:00:00 GMT', link: /^<https:\/\/localhost:8443\/departments\/v3\/core\/moving-to-jwt>; rel="deprecation"/
  })
  t.equal((await demo.send({ headers: { 'company-id': legacy.company_id, 'access-token': legacy.access_token } })).status, 200, 'dashes, for proxies that drop underscores')
  t.equal((await demo.send({ headers: { company_id: '100001', access_token: demo.secretOf('100001') } })).status, 200, 'every company has them')
  const jwt = await demo.send({ headers: { JWT: demo.tokenOf('10238497'), ...legacy } })
  t.equal(jwt.status, 200)
  t.notOk(jwt.headers['deprecation'], 'a JWT beside them decides, and announces nothing')
})

t.test('legacy headers that are not right are refused with 401', async (t) => {
  const demo = await startDemo(t)
  const { company_id: id, access_token: token } = legacy
  const refused: readonly (readonly [what: string, code: string, lines: readonly string[]])[] = [
    ['a wrong token', 'INVALID', [`company_id: ${id}`, 'access_token: 01298347edf923874b']],
    ['an unknown company', 'INVALID', ['company_id: 999', `access_token: ${token}`]],
    ['the token of another company', 'INVALID', ['company_id: 100001', `access_token: ${token}`]],
    ['a leading zero', 'INVALID', [`company_id: 0${id}`, `access_token: ${token}`]],
    ['a number in another spelling', 'INVALID', ['company_id: 10238497.0', `access_token: ${token}`]],
    ['an empty token', 'INVALID', [`company_id: ${id}`, 'access_token:']],
    ['no token', 'INCOMPLETE', [`company_id: ${id}`]],
    ['no company', 'INCOMPLETE', [`access_token: ${token}`]],
    ['a company twice', 'AMBIGUOUS', [`company_id: ${id}`, `company_id: ${id}`, `access_token: ${token}`]],
    ['a token twice', 'AMBIGUOUS', [`company_id: ${id}`, `access_token: ${token}`, `access_token: ${token}`]],
    ['two companies in one line', 'AMBIGUOUS', ['company_id: 1, 2', `access_token: ${token}`]],
    ['both spellings that disagree', 'AMBIGUOUS', [`company_id: ${id}`, 'company-id: 100001', `access_token: ${token}`]],
    ['both spellings that agree', 'AMBIGUOUS', [`company_id: ${id}`, `company-id: ${id}`, `access_token: ${token}`]]
  ]
  for (const [what, code, lines] of refused) {
    const { status, text } = await demo.sendRaw([`GET ${departmentsPath} HTTP/1.1`, ...lines])
    t.equal(status, 401, what)
    t.match(text, `ERR_LEGACY_HEADERS_CREDENTIALS_${code}`, what)
    t.match(text, /www-authenticate: LegacyHeaders realm="sallyport-demo"/i)
    t.match(text, /\r\ndeprecation: @1704067200\r\n/i, 'refusals announce the end as well')
  }
})

t.test('brown-outs and the sunset refuse right legacy headers, and the report counts', async (t) => {
  const from = Date.now() + 3_600_000
  const second = (ms: number): string => `${new Date(ms).toISOString().slice(0, 19)}Z`
  const day = 86_400_000
  const env = {
    LEGACY_BROWNOUTS: `${second(from)}/${second(from + 900_000)}`,
    LEGACY_SUNSET_AT: second(from + 10 * day),
    LEGACY_LINK: 'https://docs.example/jwt'
  }
  const first = await startDemo(t, { env })
  await first.companies.setLegacyUntil({ id: '100001', until: new Date(from + 20 * day) })
  const demo = await startDemo(t, { env, folder: first.folder })
  const extended = { company_id: '100001', access_token: demo.secretOf('100001') }

  t.match(await demo.send({ headers: legacy }), { status: 200, headers: { link: /docs\.example/ } })
  demo.nowMs = Math.floor(from / 1000) * 1000 + 600_000
  t.match(await demo.send({ headers: legacy }), {
    status: 401, json: { code: 'ERR_LEGACY_HEADERS_PAUSED' }, headers: { 'retry-after': '300', 'www-authenticate': /error="paused"/, 'deprecation': '@1704067200' }
  })
  t.equal((await demo.send({ headers: { JWT: demo.tokenOf('10238497') } })).status, 200, 'a JWT is not paused')
  demo.nowMs = from + 11 * day
  t.match(await demo.send({ headers: legacy }), { status: 401, json: { code: 'ERR_LEGACY_HEADERS_RETIRED' }, headers: { 'www-authenticate': /error="retired"/ } })
  t.match(await demo.send({ headers: extended }), { status: 200, headers: { sunset: new Date(Math.floor((from + 20 * day) / 1000) * 1000).toUTCString() } }, 'a company with a later end')
  demo.nowMs = from + 21 * day
  t.match(await demo.send({ headers: extended }), { status: 401, json: { code: 'ERR_LEGACY_HEADERS_RETIRED' } })

  const report = demo.app.reports.get('Legacy headers')!() as { tenants: { tenant: string, count: number, refused: number, routes: unknown }[] }
  t.match(report.tenants.map(({ tenant, count, refused }) => ({ tenant, count, refused })), [
    { tenant: '100001', count: 1, refused: 1 }, { tenant: '10238497', count: 1, refused: 2 }
  ])
  t.match(report.tenants[1]!.routes, [{ method: 'GET', route: departmentsPath, count: 1, refused: 2 }])
})

t.test('an allowlist shuts out other addresses, by JWT and by legacy headers alike', async (t) => {
  const demo = await startDemo(t)
  for (const [company, status] of [['100001', 200], ['100002', 403], ['100003', 200]] as const) {
    const byJwt = await demo.send({ headers: { JWT: demo.tokenOf(company) } })
    const byHeaders = await demo.send({ headers: { company_id: company, access_token: demo.secretOf(company) } })
    t.equal(byJwt.status, status, `${company} by JWT`)
    t.equal(byHeaders.status, status, `${company} by legacy headers`)
    if (status === 403) t.match([byJwt.json, byHeaders.json], [{ code: 'ERR_IP_ALLOWLIST_ADDRESS_DENIED' }, { code: 'ERR_IP_ALLOWLIST_ADDRESS_DENIED' }])
  }
  const token = demo.tokenOf('100002')
  t.equal((await demo.send({ headers: { 'JWT': token, 'x-forwarded-for': '203.0.113.7' } })).status, 403, 'nobody chooses an address')
  t.equal((await demo.send({ method: 'POST', headers: { JWT: token }, body: '{"name":"Quay"}' })).status, 403)
  await demo.companies.setAllowlist({ id: '100002', allow: ['127.0.0.0/8'] })
  t.equal((await demo.send({ method: 'POST', headers: { JWT: token }, body: '{"name":"Quay"}' })).status, 201, 'a changed list counts at once, and the refusal did not use the token up')
  await demo.companies.setAllowlist({ id: '100003', allow: ['198.51.100.1'] })
  t.equal((await demo.send({ headers: { JWT: demo.tokenOf('100003') } })).status, 403)
})

const hasIPv6 = Object.values(networkInterfaces()).flat().some((address) => address?.family === 'IPv6')
t.test('an IPv4 address that comes mapped into IPv6 is the same address', { skip: hasIPv6 ? false : 'this machine has no IPv6' }, async (t) => {
  const demo = await startDemo(t, { host: '::' })
  t.equal((await demo.send({ headers: { JWT: demo.tokenOf('100003') } })).status, 200)
  t.ok(demo.logLines.some((line) => line.includes('::ffff:127.0.0.1')), 'it did come mapped')
  t.equal((await demo.send({ headers: { JWT: demo.tokenOf('100002') } })).status, 403)
  t.equal((await demo.send({ headers: { JWT: demo.tokenOf('100001') }, address: '::1' })).status, 403, 'an IPv6 address is refused: the system knows only IPv4')
})

t.test('plain HTTP is refused, whatever the client says of it', async (t) => {
  const demo = await startDemo(t, { tls: false })
  const call = async (more: Readonly<Record<string, string>> = {}): Promise<Answer> => demo.send({ headers: { JWT: demo.tokenOf('100001'), ...more } })
  t.match(await call(), { status: 403, json: { code: 'ERR_GUARD_HTTPS_REQUIRED' } })
  t.equal((await call({ 'x-forwarded-proto': 'https' })).status, 403)
  t.equal((await demo.send({ headers: legacy })).status, 403)
  t.equal((await demo.send({ path: '/health' })).status, 200, 'open() is open')
  const login = { method: 'POST', path: '/commerce/api/login', body: '{"name":"admin","password":"canary-password"}', headers: { 'content-type': 'application/json' } }
  t.match(await demo.send(login), { status: 403, json: { code: 'ERR_GUARD_HTTPS_REQUIRED' } }, 'a password is not taken either')
})

t.test('a token that a client puts into an address stands in no log', async (t) => {
  const demo = await startDemo(t)
  const token = demo.tokenOf('100001')
  const statuses = []
  for (const path of [`/health?access_token=${token}`, `/health/${token}`, `${departmentsPath}/${token}/x?${token}`, `//${token}`, `/%${token}`]) statuses.push((await demo.send({ path })).status)
  t.same(statuses, [200, 404, 404, 404, 400])
  const logs = demo.logLines.join('')
  for (const part of token.split('.')) t.notOk(logs.includes(part))
  for (const told of ['"url":"/health?[...]"', '"url":"/health/[...]"', `"url":"${departmentsPath}/[...]/x?[...]"`]) t.ok(logs.includes(told), told)
})

t.test('behind a trusted proxy its word counts, and nobody else\'s', async (t) => {
  const trusting = await startDemo(t, { tls: false, env: { TLS: 'off', TRUST_PROXY: '127.0.0.1' } })
  const proxied = { 'x-forwarded-proto': 'https', 'x-forwarded-for': '203.0.113.7' }
  t.equal((await trusting.send({ headers: { JWT: trusting.tokenOf('100002'), ...proxied } })).status, 200, 'the address of the client is in the list')
  t.equal((await trusting.send({ headers: { JWT: trusting.tokenOf('100003'), ...proxied } })).status, 403)
  t.equal((await trusting.send({ headers: { JWT: trusting.tokenOf('100001'), 'x-forwarded-proto': 'http' } })).status, 403)
  t.match((await trusting.send({ headers: { JWT: trusting.tokenOf('100001'), ...proxied } })).headers, { 'strict-transport-security': String })
  for (const junk of ['garbage', '203.0.113.7:80', '3405803783', '0xcb.0.113.7', '203.0.113', '', '203.0.113.7, garbage', '203.0.113.7, 198.51.100.1', '[203.0.113.7]']) {
    t.equal((await trusting.send({ headers: { 'JWT': trusting.tokenOf('100002'), ...proxied, 'x-forwarded-for': junk } })).status, 403, `from ${junk}`)
  }
  const elsewhere = await startDemo(t, { tls: false, env: { TLS: 'off', TRUST_PROXY: '192.0.2.1,10.0.0.0/8' } })
  t.equal((await elsewhere.send({ headers: { JWT: elsewhere.tokenOf('100001'), ...proxied } })).status, 403)
  await t.rejects(startDemo(t, { env: { TRUST_PROXY: '128.0.0.0/1' } }), /requireHttps/, 'trusting everybody fails the start')
})

t.test('a running server follows the register, and keeps the last good one', async (t) => {
  const demo = await startDemo(t)
  const { company, secret } = await demo.companies.add({ name: 'New' })
  const claims = demo.claimsOf(company.id)
  t.equal((await demo.send({ headers: { JWT: sign(claims, secret) } })).status, 200)
  t.same(namesIn(await demo.send({ headers: { company_id: company.id, access_token: secret } })), [])
  const rotated = await demo.companies.rotate({ id: company.id, overlapMs: 5_000 })
  for (const live of [secret, rotated.secret]) t.equal((await demo.send({ headers: { JWT: sign(claims, live) } })).status, 200, 'both live')
  demo.nowMs += 5_000
  t.equal((await demo.send({ headers: { JWT: sign(claims, secret) } })).status, 401, 'the overlap is over')
  t.equal((await demo.send({ headers: { company_id: company.id, access_token: secret } })).status, 401)
  t.equal((await demo.send({ headers: { JWT: sign(claims, rotated.secret) } })).status, 200)
  const last = await demo.companies.rotate({ id: company.id, overlapMs: 0 })
  t.equal((await demo.send({ headers: { JWT: sign(claims, rotated.secret) } })).status, 401, 'no overlap')
  writeFileSync(join(demo.folder, 'companies.json'), '{ "companies": [')
  t.equal((await demo.send({ headers: { JWT: sign(claims, last.secret) } })).status, 200, 'the last good register stays in force')
  t.equal(demo.logLines.filter((line) => line.startsWith('unreadable: ')).length, 1, 'said once')
})

t.test('several processes share one-shot tokens through Redis; without it they are refused, and all else goes on', await needsRedis(), async (t) => {
  const client = new Redis(redisUrl, { enableOfflineQueue: false, maxRetriesPerRequest: 0, socketTimeout: 1_000, lazyConnect: true })
  client.on('error', () => { /* seen in the answers */ })
  await client.connect()
  t.teardown(() => { client.disconnect() })
  const store = redisStore(client, { prefix: `sallyport-demo-test-${process.pid}:` })
  const one = await startDemo(t, { store })
  const two = await startDemo(t, { store, folder: one.folder })
  const post = (demo: Demo, token: string): Promise<Answer> => demo.send({ method: 'POST', headers: { JWT: token }, body: '{"name":"Shared"}' })
  const token = one.tokenOf('100001')
  const both = await Promise.all([post(one, token), post(two, token)])
  t.same(both.map(({ status }) => status).sort(), [201, 401])
  client.disconnect()
  t.match(await post(one, one.tokenOf('100003')), { status: 503, json: { code: 'ERR_GUARD_STORE_UNAVAILABLE' }, headers: { 'retry-after': '1' } })
  t.equal((await one.send({ headers: { JWT: token } })).status, 200)
})

t.test('curl trusts the certificate by --cacert and nothing else', needsCurl(), async (t) => {
  const demo = await startDemo(t)
  const curl = async (...args: readonly string[]): Promise<{ code: number | null, output: string }> => {
    const child = spawn('curl', ['-sS', '-w', ' %{http_code}', '-H', `JWT: ${demo.tokenOf('100001')}`, ...args], { stdio: ['ignore', 'pipe', 'ignore'] })
    const output = Buffer.concat(await child.stdout.toArray()).toString()
    return { code: child.exitCode ?? await new Promise((resolve) => child.once('close', resolve)), output }
  }
  const url = `https://localhost:${demo.port}${departmentsPath}`
  const cacert = ['--cacert', join(demo.folder, 'certificate.pem')]
  t.match(await curl(...cacert, url), { code: 0, output: /Reception.* 200$/ })
  t.match(await curl(...cacert, '--connect-to', `::127.0.0.1:${demo.port}`, `https://api.localhost${departmentsPath}`), { code: 0, output: / 200$/ })
  t.equal((await curl(url)).code, 60, 'unknown to everybody else')
})

t.test('no secret comes out anywhere, whatever is sent', async (t) => {
  const decisions: string[] = []
  const note = (decision: unknown): void => { decisions.push(inspect(decision, { depth: 8, showHidden: true })) }
  subscribe(decisionChannel, note)
  t.teardown(() => unsubscribe(decisionChannel, note))
  const [demo, down] = [await startDemo(t), await startDemo(t, { store: brokenStore() })]
  const tokens: string[] = []
  const out: string[] = []
  const statuses = new Set<number>()
  const tour = async (on: Demo, call: Call): Promise<void> => {
    tokens.push(...[call.headers?.['JWT'] ?? []].flat().filter((token) => token.length > 20))
    const answer = await on.send(call)
    statuses.add(answer.status)
    out.push(inspect(answer.headers), answer.text)
  }
  const body = '{"name":"Canary"}'
  const all = demo.companies.list().map(({ id }) => id)
  for (const id of all) {
    const right = demo.tokenOf(id)
    const headers = { company_id: id, access_token: demo.secretOf(id) }
    for (const credentials of [{ JWT: right }, headers, { JWT: right, ...headers }]) {
      await tour(demo, { headers: credentials })
      await tour(demo, { method: 'POST', headers: credentials, body })
      await tour(demo, { method: 'POST', headers: credentials, body })
      await tour(demo, { method: 'POST', headers: credentials, body: '{' })
      await tour(demo, { method: 'POST', headers: credentials, body: `{"name":"${'a'.repeat(70_000)}"}` })
      await tour(demo, { path: '/nowhere', headers: credentials })
      await tour(demo, { path: '/%zz', headers: credentials })
      await tour(demo, { path: '/health', headers: credentials })
      await tour(demo, { method: 'DELETE', headers: credentials })
      await tour(down, { method: 'POST', headers: { ...credentials, ...('JWT' in credentials && { JWT: down.tokenOf(id) }) }, body })
    }
    await tour(demo, { headers: { JWT: demo.tokenOf(id, { ...demo.claimsOf(id), exp: 1 }) } })
    await tour(demo, { headers: { ...headers, company_id: '100009' } })
    await tour(demo, { headers: { JWT: sign(demo.claimsOf('100001'), demo.secretOf(id)) } })
    await demo.sendRaw([`GET ${departmentsPath} HTTP/1.1`, `JWT: ${right}`, `JWT: ${right}`, `access_token: ${demo.secretOf(id)}`])
  }
  t.same([...statuses].sort(), [200, 201, 400, 401, 403, 404, 413, 503], 'the tour saw them all')
  const secrets = [demo, down].flatMap((on) => all.map((id) => on.secretOf(id)))
  const canaries = [...secrets, ...tokens, ...tokens.map((token) => token.split('.')[2]!)].filter((canary) => canary !== '').flatMap(spellingsOf)
  const traces = { 'log line': [...demo.logLines, ...down.logLines], 'answer': out, 'decision': decisions }
  for (const [where, texts] of Object.entries(traces)) {
    t.ok(texts.length > 50, `${where}s were looked at`)
    const all = texts.join('\n')
    t.notOk(canaries.some((canary) => all.includes(canary)), `no secret in any ${where}`)
  }
})
