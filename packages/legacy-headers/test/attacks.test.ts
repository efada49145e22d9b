import crypto from 'node:crypto'
import { anyOf, AuthError, defineGuard } from '@sallyport/guard'
import Fastify, { type FastifyInstance } from 'fastify'
import t from 'tap'
import { hashAccessToken, legacyHeaders, type LegacyHeadersOptions } from '../src/index.js'
import { readTokens } from '../src/options.js'
import { accepted, at, codeOf, credential, get, NOW, OLD_TOKEN, OTHER_TENANT, OTHER_TOKEN, sendRaw, TENANT, testApp, TOKEN, UNKNOWN_TENANT, validOptions, WRONG_TOKEN } from './fixtures/app.js'

t.test('repeated, aliased and joined headers: refused over a real socket in every order', async (t) => {
  const { app, handlerRuns } = await testApp(t)
  const right = [`company_id: ${TENANT}`, `access_token: ${TOKEN}`]
  t.equal((await sendRaw(app, right)).status, 200)
  const extra = [
    `company_id: ${TENANT}`, `Company_ID: ${OTHER_TENANT}`, `company-id: ${TENANT}`, 'company-id: 5', 'company_id:',
    `access_token: ${TOKEN}`, `ACCESS_TOKEN: ${WRONG_TOKEN}`, `access-token: ${TOKEN}`, 'access-token: x', 'access-token:'
  ]
  for (const line of extra) {
    for (const lines of [[line, ...right], [right[0]!, line, right[1]!], [...right, line]]) {
      const answer = await sendRaw(app, lines)
      t.equal(answer.status, 401, line)
      t.equal(codeOf(answer), 'ERR_LEGACY_HEADERS_CREDENTIALS_AMBIGUOUS')
      t.same(answer.headers['www-authenticate'], ['LegacyHeaders realm="api", error="invalid_credentials"'])
    }
  }
  for (const [tenant, token] of [[`${TENANT},${TENANT}`, TOKEN], [`${TENANT}, 5`, TOKEN], [TENANT, `${TOKEN}, ${TOKEN}`], [TENANT, `,${TOKEN}`]]) {
    t.equal((await sendRaw(app, [`company_id: ${tenant}`, `access_token: ${token}`])).status, 401)
  }
  t.equal(handlerRuns(), 1)
})

t.test('credentials out of place: a query, a cookie, a body, another header or a trailer count for nothing', async (t) => {
  const { app, handlerRuns } = await testApp(t)
  const elsewhere = [
    get({}, `/departments?company_id=${TENANT}&access_token=${TOKEN}`),
    get({ cookie: `company_id=${TENANT}; access_token=${TOKEN}` }),
    get({ authorization: `Bearer ${TOKEN}`, company: TENANT }),
    get({ 'x-company_id': TENANT, 'x-access_token': TOKEN }),
    { ...get({}), payload: { company_id: TENANT, access_token: TOKEN } }
  ]
  for (const request of elsewhere) t.equal(codeOf(await app.inject(request)), 'ERR_LEGACY_HEADERS_CREDENTIALS_MISSING')
  const trailer = await sendRaw(app, ['Transfer-Encoding: chunked', 'Trailer: company_id, access_token', '', '0', `company_id: ${TENANT}`, `access_token: ${TOKEN}`])
  t.equal(trailer.status, 401)
  t.equal(handlerRuns(), 0)
})

t.test('tokens of every length and spelling: 401, never 500', async (t) => {
  const { app, decisions } = await testApp(t)
  const tokens = ['', 'a', 'a'.repeat(31), 'a'.repeat(32), 'a'.repeat(33), 'a'.repeat(63), 'a'.repeat(65), 'a'.repeat(1_024), 'a'.repeat(1_025), 'a'.repeat(10_000), `é${'a'.repeat(63)}`, '\u{1f512}', '%00', '%zz', TOKEN.slice(1), TOKEN.toUpperCase(), `${TOKEN}x`, ` ${TOKEN}`, `${TOKEN} `, `"${TOKEN}"`]
  for (const token of tokens) {
    const answer = await app.inject(get(credential(TENANT, token)))
    t.equal(codeOf(answer), 'ERR_LEGACY_HEADERS_CREDENTIALS_INVALID', `${token.length} characters`)
    t.ok(['token-wrong', 'token-malformed'].includes(decisions.at(-1)!.reason!))
  }
})

t.test('tenants made to confuse an object or a database: 401, never 500', async (t) => {
  const asked: string[] = []
  const strange = ['__proto__', 'constructor', 'toString', '1;DROP', '1e9', '0x10', '-0', '1_000', '１', '100001\0', '[object Object]', 'null', 'true', `${TENANT}.0`, 'a'.repeat(5_000)]
  for (const options of [{}, { credentials: (tenant: string) => { asked.push(tenant); return undefined } }, { tenantFormat: () => true }] satisfies Partial<LegacyHeadersOptions>[]) {
    const { app } = await testApp(t, options)
    for (const tenant of strange) t.equal(codeOf(await app.inject(get(credential(tenant)))), 'ERR_LEGACY_HEADERS_CREDENTIALS_INVALID', tenant.slice(0, 20))
  }
  t.same(asked, [], 'no resolver is asked for what is no tenant')
})

t.test('a leaked digest: it is no token', async (t) => {
  const { app } = await testApp(t)
  const digest = hashAccessToken(TOKEN)
  const bytes = Buffer.from(digest, 'hex')
  for (const token of [digest, digest.toUpperCase(), bytes.toString('base64'), bytes.toString('base64url')]) {
    t.equal(codeOf(await app.inject(get(credential(TENANT, token)))), 'ERR_LEGACY_HEADERS_CREDENTIALS_INVALID')
  }
})

t.test('a token of one tenant for another: refused, whoever uses the same one', async (t) => {
  const { app } = await testApp(t)
  t.equal((await app.inject(get(credential(OTHER_TENANT, TOKEN)))).statusCode, 401)
  t.equal((await app.inject(get(credential(TENANT, OTHER_TOKEN)))).statusCode, 401)
  t.equal((await app.inject(get(credential(OTHER_TENANT, OLD_TOKEN)))).statusCode, 401)
})

/** All of an answer that an outsider sees. */
async function answerTo ({ app }: Awaited<ReturnType<typeof testApp>>, headers: Record<string, string>): Promise<string> {
  const { statusCode, headers: visible, body } = await app.inject(get(headers))
  return JSON.stringify([statusCode, { ...visible, date: undefined }, body])
}

const deprecation = {
  deprecatedAt: at('2026-01-01T00:00:00Z'),
  sunsetAt: at('2027-01-01T00:00:00Z'),
  brownouts: [{ from: at('2026-12-01T00:00:00Z'), to: at('2026-12-02T00:00:00Z') }, { from: at('2027-02-01T00:00:00Z'), to: at('2027-02-02T00:00:00Z') }],
  extensions: [{ tenant: OTHER_TENANT, sunsetAt: at('2027-06-01T00:00:00Z') }]
}

t.test('guessing tenants: an unknown one, a wrong token, an expired one and one with an extension look the same at all times', async (t) => {
  let now = 0
  const { app, decisions, ...rest } = await testApp(t, { clock: () => now, deprecation })
  for (const time of ['2026-11-01', '2026-12-01', '2027-01-01', '2027-02-01', '2027-03-01', '2027-06-01']) {
    now = at(`${time}T00:00:00Z`).getTime()
    const unknown = await answerTo({ app, decisions, ...rest }, credential(UNKNOWN_TENANT))
    t.match(unknown, '[401,')
    for (const headers of [credential(TENANT, WRONG_TOKEN), credential(OTHER_TENANT, WRONG_TOKEN), credential(OTHER_TENANT, TOKEN)]) {
      t.equal(await answerTo({ app, decisions, ...rest }, headers), unknown, time)
    }
    if (now >= at('2027-01-01T00:00:00Z').getTime()) {
      t.equal(await answerTo({ app, decisions, ...rest }, credential()), unknown, 'after the end a right token looks like a wrong one')
      t.equal(await answerTo({ app, decisions, ...rest }, credential(TENANT, OLD_TOKEN)), unknown, 'and so does an expired one')
    }
  }
})

t.test('measuring time: an unknown tenant costs as many hashes and comparisons as a wrong token and as a right one', async (t) => {
  const work: string[] = []
  const counting = {
    ...crypto,
    hash: (...given: Parameters<typeof crypto.hash>) => { work.push('hash'); return crypto.hash(...given) },
    timingSafeEqual: (a: Uint8Array, b: Uint8Array) => { work.push('compare'); return crypto.timingSafeEqual(a, b) }
  }
  const verifying = await t.mockImport<typeof import('../src/verify-credential.js')>('../src/verify-credential.js', { 'node:crypto': counting })
  const { createProver } = await t.mockImport<typeof import('../src/credential-source.js')>('../src/credential-source.js', { '../src/verify-credential.js': verifying })
  const three = [TOKEN, OLD_TOKEN, 'third'].map((token) => ({ digest: hashAccessToken(token) }))
  const one = [{ digest: hashAccessToken(OTHER_TOKEN) }]
  const compiled = new Map([[TENANT, readTokens(TENANT, three, 'tokens')], [OTHER_TENANT, readTokens(OTHER_TENANT, one, 'tokens')]])
  const cases = [[TENANT, TOKEN], [TENANT, 'third'], [TENANT, WRONG_TOKEN], [OTHER_TENANT, OTHER_TOKEN], [OTHER_TENANT, WRONG_TOKEN], [UNKNOWN_TENANT, TOKEN]] as const

  const resolver = (tenant: string) => ({ [TENANT]: three, [OTHER_TENANT]: one })[tenant]
  for (const [credentials, comparisons] of [[compiled, 3], [resolver, 16]] as const) {
    const prove = createProver({ credentials, resolverTimeoutMs: 10 })
    for (const [tenant, token] of cases) {
      work.length = 0
      try { void prove({ tenant, token }, NOW.getTime()) } catch { /* the verdict is not the question */ }
      t.same(work, ['hash', ...Array<string>(comparisons).fill('compare')], `${tenant} ${token}`)
    }
  }
})

t.test('an empty key: nothing that a resolver gives for it lets an empty token in', async (t) => {
  for (const answer of [undefined, [], null, '', [''], [{ digest: '' }], [{ digest: crypto.hash('sha256', '') }], [{ digest: Buffer.alloc(0) }], [{ digest: Buffer.alloc(32) }]]) {
    const { app, handlerRuns } = await testApp(t, { credentials: () => answer as undefined })
    for (const token of ['', ' ', 'undefined', 'null']) {
      const { statusCode } = await app.inject(get(credential(TENANT, token)))
      t.ok(statusCode === 401 || statusCode === 503)
    }
    t.equal(handlerRuns(), 0)
  }
})

t.test('flooding: ten thousand wrong credentials leave nothing behind', async (t) => {
  const app: FastifyInstance = Fastify()
  await app.register(legacyHeaders, { ...validOptions(), deprecation, clock: () => at('2026-12-01T00:00:00Z').getTime() })
  app.get('/departments/:id', { onRequest: app.legacyHeaders }, () => 'reached')
  for (let i = 0; i < 10_000; i++) {
    if ((await app.inject(get(credential(String(i), `guess-${i}`), `/departments/${i}`))).statusCode !== 401) t.fail(`${i} was not refused`)
  }
  t.same(app.legacyHeaders.usage().tenants, [])
  await app.close()
})

t.test('downgrade: a wrong stronger credential is not saved by right legacy headers', async (t) => {
  const { app, handlerRuns } = await testApp(t)
  const strong = defineGuard({
    owner: 'test', name: 'strong', credentials: [{ header: 'jwt' }], proves: ['tenant'],
    missing: () => new AuthError({ code: 'ERR_STRONG_MISSING', outcome: 'absent', message: 'missing' }),
    isPresented: (request) => 'jwt' in request.headers,
    judge: () => { throw new AuthError({ code: 'ERR_STRONG_WRONG', outcome: 'rejected', message: 'wrong' }) }
  })
  app.get('/either', { onRequest: anyOf(strong, app.legacyHeaders) }, async () => 'ok')
  t.equal(codeOf(await app.inject(get({ ...credential(), jwt: 'x' }, '/either'))), 'ERR_STRONG_WRONG')
  t.equal((await app.inject(get(credential(), '/either'))).statusCode, 200)
  t.equal(handlerRuns(), 0)
  t.same(app.legacyHeaders.usage().tenants.map(({ count }) => count), [1])
})

t.test('a handler that tampers with its identity: the next request gets the right one', async (t) => {
  const { app } = await testApp(t)
  app.get('/tamper', { onRequest: app.legacyHeaders }, async (request) => {
    t.throws(() => { (request.auth.principal as { tenant: string }).tenant = OTHER_TENANT }, TypeError)
    return 'ok'
  })
  await app.inject(get(credential(), '/tamper'))
  t.same((await app.inject(accepted)).json(), { principal: { tenant: TENANT, scopes: [] } })
})
