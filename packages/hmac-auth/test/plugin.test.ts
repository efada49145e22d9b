import { connect } from 'node:http2'
import { allOf, anyOf, decisionChannel, defineGuard, memoryStore, type ClaimStore } from '@sallyport/guard'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { text } from 'node:stream/consumers'
import type { AddressInfo } from 'node:net'
import Fastify, { type FastifyInstance } from 'fastify'
import t from 'tap'
import { authorizationHmac, headers, hmacAuth, rfc9421, type HmacAuthOptions, type HmacKey, type KeyAnswer } from '../src/index.js'
import { isRefused, KEY_ID, NOW, ORIGIN, otherSecret, secret, sendRaw, signed, signerFor, TENANT, testApp, validOptions } from './fixtures/app.js'

const key: HmacKey = { id: KEY_ID, secret, tenant: TENANT }
const replacement = Buffer.from('canary-77aa88bb99cc00dd-replacement-')
const json = { 'content-type': 'application/json' }

t.test('a signed request proves its key\'s tenant and no subject', async (t) => {
  const { send, decisions } = await testApp(t)
  const answer = await send(signed())
  t.equal(answer.statusCode, 200, answer.body)
  t.same(answer.json(), { principal: { tenant: TENANT, scopes: [] }, body: null })
  t.match(decisions, [{ guard: 'hmacAuth', outcome: 'passed', tenant: TENANT, matched: KEY_ID }])
})

t.test('keys without a tenant prove none', async (t) => {
  const { send } = await testApp(t, { keys: [{ id: KEY_ID, secret }], provesTenant: false })
  t.same((await send(signed())).json(), { principal: { scopes: [] }, body: null })
})

t.test('a secret is replaced with an overlap, and events say which one matched', async (t) => {
  const keys = [{ ...key, label: 'erp-1 of 2025', notAfter: new Date(NOW + 1) }, { ...key, secret: replacement, label: 'erp-1 of 2026', notBefore: new Date(NOW) }]
  for (const [given, at] of [[keys, NOW], [() => keys, NOW]] as const) {
    const { send, decisions } = await testApp(t, { keys: given, clock: () => at })
    t.equal((await send(signed())).statusCode, 200)
    t.equal((await send(signed({}, signerFor({ secret: replacement })))).statusCode, 200)
    isRefused(t, await send(signed({}, signerFor({ secret: otherSecret }))), 'ERR_HMAC_AUTH_SIGNATURE_INVALID')
    t.same(decisions.map(({ matched, reason }) => matched ?? reason).filter((_, i) => i < 2), ['erp-1 of 2025', 'erp-1 of 2026'])
  }
  for (const [ms, right, reason] of [[NOW + 1, secret, 'key-expired'], [NOW - 1, replacement, 'key-early']] as const) {
    const { send, decisions } = await testApp(t, { keys, clock: () => ms })
    isRefused(t, await send(signed({}, signerFor({ secret: right }))), 'ERR_HMAC_AUTH_SIGNATURE_INVALID')
    t.equal(decisions[0]?.reason, reason)
  }
})

t.test('a resolver is asked by key id, and what it knows is remembered for a while', async (t) => {
  let now = NOW
  const asked: string[] = []
  const { send } = await testApp(t, {
    keys: async (keyId) => { asked.push(keyId); return keyId === KEY_ID ? { secret, tenant: TENANT } : undefined },
    keyCacheSeconds: 10,
    clock: () => now
  })
  const signer = signerFor({ clock: () => now })
  for (let i = 0; i < 3; i++) t.equal((await send(signed({}, signer))).statusCode, 200)
  t.same(asked, [KEY_ID])
  now += 10_000
  t.equal((await send(signed({}, signer))).statusCode, 200)
  t.same(asked, [KEY_ID, KEY_ID])
  for (let i = 0; i < 2; i++) isRefused(t, await send(signed({}, signerFor({ keyId: 'nobody', clock: () => now }))), 'ERR_HMAC_AUTH_SIGNATURE_INVALID')
  t.same(asked.slice(2), ['nobody', 'nobody'], 'what does not exist is not remembered')
})

t.test('an answer that comes late takes no newer one\'s place, and a clock that is set back keeps none', async (t) => {
  let now = NOW
  const answers: ((key: KeyAnswer) => void)[] = []
  const { send } = await testApp(t, { keys: () => new Promise((resolve) => { answers.push(resolve) }), clock: () => now })
  const asking = async (count: number): Promise<void> => { while (answers.length < count) await new Promise((resolve) => { setImmediate(resolve) }) }
  const first = send(signed())
  await asking(1)
  now += 1_000
  const second = send(signed())
  await asking(2)
  answers[1]!({ secret: replacement, tenant: TENANT })
  isRefused(t, await second, 'ERR_HMAC_AUTH_SIGNATURE_INVALID')
  answers[0]!({ secret, tenant: TENANT })
  t.equal((await first).statusCode, 200, 'its own request goes by it')
  isRefused(t, await send(signed()), 'ERR_HMAC_AUTH_SIGNATURE_INVALID')
  t.equal(answers.length, 2, 'and the others by the newer one')
  now -= 1_500
  const third = send(signed())
  await asking(3)
  answers[2]!({ secret, tenant: TENANT })
  t.equal((await third).statusCode, 200)
})

t.test('an answer of a resolver that is no key is an outage, not a verdict', async (t) => {
  const wrong: readonly unknown[] = [
    '', 'secret', 5, true, {}, { secret: '' }, { secret: Buffer.alloc(0), tenant: TENANT }, { secret: Buffer.alloc(31, 1), tenant: TENANT }, { secret }, { secret, tenant: TENANT, id: 'another' },
    [{ secret, tenant: TENANT }, { secret: replacement, tenant: 'other' }], { secret, tenant: TENANT, extra: 1 }, [null]
  ]
  for (const answer of wrong) {
    const { send, handlerRuns } = await testApp(t, { keys: (() => answer) as never })
    const refused = await send(signed())
    isRefused(t, refused, 'ERR_HMAC_AUTH_KEYS_UNAVAILABLE')
    t.equal(refused.headers['retry-after'], '1')
    t.equal(handlerRuns(), 0)
  }
  for (const nothing of [undefined, null, []]) {
    const { send } = await testApp(t, { keys: (() => nothing) as never })
    isRefused(t, await send(signed()), 'ERR_HMAC_AUTH_SIGNATURE_INVALID')
  }
})

t.test('the time window is judged with the server\'s clock, and refusals tell its time', async (t) => {
  const cases = [[-64_999, 200], [-65_000, 401], [5_000, 200], [5_001, 401]] as const
  for (const [ms, status] of cases) {
    const { send } = await testApp(t, { profile: headers({ timestampFormat: 'milliseconds' }) })
    const answer = await send(signed({}, signerFor({ profile: headers({ timestampFormat: 'milliseconds' }), clock: () => NOW + ms })))
    t.equal(answer.statusCode, status, `${ms} ms`)
    if (status === 401) isRefused(t, answer, 'ERR_HMAC_AUTH_TIMESTAMP_EXPIRED')
  }
  const { send } = await testApp(t, { windowSeconds: 1, clockToleranceSeconds: 0 })
  t.equal((await send(signed())).statusCode, 200)
  isRefused(t, await send(signed({}, signerFor({ clock: () => NOW - 1_000 }))), 'ERR_HMAC_AUTH_TIMESTAMP_EXPIRED')
})

t.test('behind a proxy: what the client called this server, and what was taken off its path', async (t) => {
  const client = { url: 'https://partner.example/partner/orders?page=2' }
  const sent = (): object => ({ url: '/orders?page=2', headers: { host: 'internal:8080', ...signerFor().sign(client) } })
  const proxied = { authority: 'partner.example', pathPrefix: '/partner' }
  t.equal((await (await testApp(t, proxied)).send(sent())).statusCode, 200)
  for (const options of [{}, { authority: 'partner.example' }, { pathPrefix: '/partner' }, { ...proxied, pathPrefix: '/other' }]) {
    isRefused(t, await (await testApp(t, options)).send(sent()), 'ERR_HMAC_AUTH_SIGNATURE_INVALID', JSON.stringify(options))
  }
})

t.test('X-Forwarded-Host counts from named proxies only, and never with source: socket', async (t) => {
  const request = () => ({ ...signed({ path: '/orders' }, signerFor()), headers: { host: 'internal', 'x-forwarded-host': 'api.example', ...signerFor().sign({ url: `${ORIGIN}/orders` }) } })
  t.equal((await (await testApp(t, {}, { server: { trustProxy: ['127.0.0.1'] } })).send(request())).statusCode, 200)
  isRefused(t, await (await testApp(t, {}, { server: { trustProxy: ['10.0.0.1'] } })).send(request()), 'ERR_HMAC_AUTH_SIGNATURE_INVALID')
  isRefused(t, await (await testApp(t, { authority: { source: 'socket' } }, { server: { trustProxy: ['127.0.0.1'] } })).send(request()), 'ERR_HMAC_AUTH_SIGNATURE_INVALID')
  t.equal((await (await testApp(t, { authority: { source: 'socket' } })).send(signed())).statusCode, 200)
})

t.test('the path is signed as it was sent: not decoded, not sorted, not rewritten', async (t) => {
  const { app } = await testApp(t, {}, { server: { rewriteUrl: (request) => request.url!.replace('/old', '/new') } })
  for (const target of ['/a%2Fb?x=%7E&a=1&a=0&', '/%7Euser', '/old/x?y', '/a;b=c/d', '/a?']) {
    const { 'signature-input': input, signature } = signerFor().sign({ url: `${ORIGIN}${target}` })
    const answer = await sendRaw(app, `GET ${target} HTTP/1.1`, ['Host: api.example', `Signature-Input: ${input}`, `Signature: ${signature}`])
    t.equal(answer.status, 200, `${target}: ${answer.body}`)
  }
})

t.test('the signature is gone before handlers run, unless it is to stay', async (t) => {
  for (const hideCredentials of [true, false]) {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(hmacAuth, { ...validOptions(), hideCredentials })
    app.get('/orders', { onRequest: app.hmacAuth }, async ({ headers, raw }) => ({ headers, raw: raw.rawHeaders, distinct: raw.headersDistinct }))
    const { body } = await app.inject(signed())
    t.equal(/signature/i.test(body), !hideCredentials)
    t.match(body, /api\.example/)
  }
})

t.test('explains a signature to both sides alike', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  const explained: unknown[] = []
  app.addHook('onRequest', async (request) => { explained.push(app.hmacAuth.explainSignature(request)) })
  await app.register(hmacAuth, validOptions())
  app.post('/orders', { onRequest: app.hmacAuth }, async () => 'ok')
  const signer = signerFor()
  const request = { method: 'POST', url: `${ORIGIN}/orders`, body: '{"a":1}', headers: json }
  const fields = signer.sign(request)
  await app.inject({ method: 'POST', url: '/orders', headers: { host: 'api.example', ...json, ...fields }, payload: request.body })
  t.same(explained[0], signer.explainSignature({ ...request, headers: { ...json, ...fields } }))
  await app.inject({ method: 'POST', url: '/orders', headers: { signature: 'sig1=:AA==:', 'signature-input': 'sig1=()' } })
  t.match(explained[1], { lacks: [], reason: 'not-covered-key-id' })
  await app.inject({ method: 'POST', url: '/orders' })
  t.same(explained[2], { lacks: [], reason: 'signature-incomplete' })
})

t.test('debug tells a refused client the reason and the string to sign, and changes nothing else', async (t) => {
  const strings = { rfc: rfc9421(), body: headers({ digest: false, parts: ['method', 'authority', 'target', 'timestamp', 'key-id', 'nonce', 'body'] }) }
  for (const [name, profile] of Object.entries(strings)) {
    const { send } = await testApp(t, { profile, debug: true })
    const signer = signerFor({ profile })
    const right = signed({ method: 'POST', body: 'text', headers: { 'content-type': 'text/plain' } }, signer)
    t.equal((await send(right)).headers['hmac-auth-debug'], undefined)
    const wrong = signed({ method: 'POST', body: 'text', headers: { 'content-type': 'text/plain' } }, signerFor({ profile, secret: otherSecret }))
    const refused = await send(wrong)
    isRefused(t, refused, 'ERR_HMAC_AUTH_SIGNATURE_INVALID')
    t.equal(refused.json<{ message: string }>().message, 'The signature is not valid')
    const told = JSON.parse(String(refused.headers['hmac-auth-debug'])) as { reason: string, stringToSign: string }
    t.equal(told.reason, 'signature-wrong')
    t.match(told.stringToSign, name === 'rfc' ? '"@authority": api.example\n' : '\n<body>')
    t.notMatch(String(refused.headers['hmac-auth-debug']), /canary/)
    const late = await send(signed({}, signerFor({ profile, clock: () => NOW - 100_000 })))
    t.match(late.headers['hmac-auth-debug'], /^\{"reason":"too-old","stringToSign":/)
    const long = await send({ method: 'GET', url: `/${'x'.repeat(7_000)}`, headers: { ...signed({}, signer).headers } })
    t.ok(String(long.headers['hmac-auth-debug']).length < 6_500)
    t.equal((await send({ method: 'GET', url: '/' })).headers['hmac-auth-debug'], undefined, 'nothing was presented')
  }
  const { send, app } = await testApp(t, { debug: true, keys: async () => { throw new Error('down') } })
  t.match((await send(signed())).headers['hmac-auth-debug'], /"reason":"resolver"/)
  t.match(app.printPolicies(), /debug: refusals tell the string to sign/)
})

t.test('a store that is down, slow or full is 503 in time, and the handler does not run', async (t) => {
  const release = async (): Promise<void> => {}
  const stores: Readonly<Record<string, ClaimStore>> = {
    down: { claim: () => Promise.reject(new Error('connection refused')), release },
    throwing: { claim () { throw new Error('no connection') }, release },
    slow: { claim: () => new Promise(() => undefined), release }
  }
  for (const [name, store] of Object.entries(stores)) {
    const { send, handlerRuns } = await testApp(t, { store })
    const before = performance.now()
    const answer = await send(signed())
    t.ok(performance.now() - before < 450, `${name}: in time`)
    t.equal(answer.statusCode, 503, name)
    t.equal(answer.json<{ code: string }>().code, 'ERR_GUARD_STORE_UNAVAILABLE')
    t.equal(handlerRuns(), 0)
  }
  const { send } = await testApp(t, { store: memoryStore({ maxEntries: 1, clock: () => NOW - 3_600_000 }) })
  t.equal((await send(signed())).statusCode, 200)
  t.equal((await send(signed())).statusCode, 503, 'a live nonce is never dropped for another')
})

t.test('one key can\'t fill the store for all others', async (t) => {
  const { send } = await testApp(t, { maxLiveClaimsPerKey: 2 })
  const statuses = []
  for (let i = 0; i < 3; i++) statuses.push((await send(signed())).statusCode)
  t.same(statuses, [200, 200, 429])
  t.equal((await send(signed({}, signerFor({ keyId: 'wms-1', secret: otherSecret })))).statusCode, 200)
})

t.test('requests dated before the memory store was made are refused, however right', async (t) => {
  const { send } = await testApp(t, { store: memoryStore({ clock: () => NOW - 10_000 }) })
  isRefused(t, await send(signed({}, signerFor({ clock: () => NOW - 11_000 }))), 'ERR_HMAC_AUTH_STATE_UNAVAILABLE')
  t.equal((await send(signed({}, signerFor({ clock: () => NOW - 10_000 })))).statusCode, 200)
})

t.test('a signature of one tenant beside a credential of another is a conflict', async (t) => {
  const tokenOf = (tenant: string) => defineGuard({
    owner: 'test', name: 'token', credentials: [{ header: 'x-token' }], proves: ['tenant'], missing: () => { throw new Error() },
    isPresented: () => true, judge: () => ({ identity: { tenant }, principal: { tenant } })
  })
  for (const profile of [rfc9421(), headers({ digest: false })]) {
    const request = () => signed({ method: 'POST', body: 'x', headers: { 'content-type': 'text/plain' } }, signerFor({ profile }))
    for (const [tenant, status] of [[TENANT, 200], ['200002', 403]] as const) {
      const { send, handlerRuns } = await testApp(t, { profile }, { policy: (guard) => allOf(tokenOf(tenant), guard) })
      const answer = await send(request())
      t.equal(answer.statusCode, status, answer.body)
      if (status === 403) t.equal(answer.json<{ code: string }>().code, 'ERR_GUARD_PRINCIPAL_CONFLICT')
      t.equal(handlerRuns(), status === 200 ? 1 : 0)
    }
  }
})

t.test('a signature over the body is judged when the body has come, and its time once more', async (t) => {
  let now = NOW
  const profile = headers({ digest: false, parts: ['method', 'authority', 'target', 'timestamp', 'key-id', 'nonce', 'body'] })
  const keys = [{ ...key, label: 'old' }, { ...key, secret: replacement, label: 'new' }]
  const { app, send, handlerRuns } = await testApp(t, { profile, keys, clock: () => now })
  app.addHook('preParsing', async (_request, _reply, payload) => { now += 70_000; return payload })
  const post = (options = {}) => signed({ method: 'POST', body: Buffer.from([0xff, 0xfe, 0x00]), headers: { 'content-type': 'application/octet-stream' } }, signerFor({ profile, secret: replacement, ...options }))
  isRefused(t, await send(post()), 'ERR_HMAC_AUTH_TIMESTAMP_EXPIRED', 'the body ended after the window')
  now = NOW
  t.equal((await send(signed({}, signerFor({ profile })))).statusCode, 200, 'without a body it is decided at once')
  t.equal(handlerRuns(), 1)
  const inTime = await testApp(t, { profile, keys })
  const right = post()
  t.equal((await inTime.send(right)).statusCode, 200)
  isRefused(t, await inTime.send(right), 'ERR_HMAC_AUTH_SIGNATURE_REPLAYED')
  isRefused(t, await inTime.send({ ...post(), payload: Buffer.from([0xff, 0xff, 0x00]) }), 'ERR_HMAC_AUTH_SIGNATURE_INVALID')
  isRefused(t, await inTime.send(post({ keyId: 'nobody' })), 'ERR_HMAC_AUTH_SIGNATURE_INVALID')
  t.throws(() => anyOf(inTime.app.hmacAuth, app.hmacAuth), { name: 'OptionsError' }, 'it stands last in anyOf')
})

t.test('HTTP/2 requests are signed and judged alike', async (t) => {
  const app = Fastify({ http2: true }) as unknown as FastifyInstance
  t.teardown(() => app.close())
  await app.register(hmacAuth, validOptions())
  app.post('/orders', { onRequest: app.hmacAuth }, async (request) => ({ body: request.body }))
  app.get('/orders', { onRequest: app.hmacAuth }, async () => ({ body: null }))
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as AddressInfo
  const session = connect(`http://127.0.0.1:${port}`)
  t.teardown(() => session.close())
  const ask = async (method: string, body: string | undefined, sent = body): Promise<string> => {
    const fields = signerFor().sign({ method, url: `http://127.0.0.1:${port}/orders`, headers: json, ...(body !== undefined && { body }) })
    const stream = session.request({ ':method': method, ':path': '/orders', ...json, ...fields }, { endStream: sent === undefined })
    if (sent !== undefined) stream.end(sent)
    return text(stream)
  }
  t.equal(await ask('GET', undefined), '{"body":null}')
  t.equal(await ask('POST', '{"a":1}'), '{"body":{"a":1}}')
  t.match(await ask('POST', '{"a":1}', '{"a":2}'), 'ERR_HMAC_AUTH_DIGEST_INVALID')
  t.match(await ask('POST', undefined, '{"a":2}'), 'ERR_HMAC_AUTH_COVERAGE_INSUFFICIENT')
})

t.test('two configurations live side by side, and one key id is two in them', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  const store = memoryStore({ clock: () => NOW - 3_600_000 })
  const gateway = authorizationHmac({ dialect: 'apisix', accepts: ['no-nonce'] })
  await app.register(hmacAuth, { ...validOptions(), store })
  await app.register(hmacAuth, { ...validOptions(), store, as: 'gatewayHmac', profile: gateway } satisfies HmacAuthOptions)
  app.get('/orders', { onRequest: anyOf(app.hmacAuth, (app as unknown as { gatewayHmac: typeof app.hmacAuth }).gatewayHmac) }, async (request) => request.auth.via)
  t.same((await app.inject(signed())).json(), ['hmacAuth'])
  t.same((await app.inject(signed({}, signerFor({ profile: gateway })))).json(), ['gatewayHmac'])
  const none = await app.inject('/orders')
  t.match(none.headers['www-authenticate'], /^Signature realm="api", covers=.*, Signature realm="api", headers=/)
})

t.test('decisions reach the channel without any secret or nonce', async (t) => {
  const { send } = await testApp(t)
  const heard: unknown[] = []
  const listen = (decision: unknown): void => { heard.push(decision) }
  subscribe(decisionChannel, listen)
  t.teardown(() => unsubscribe(decisionChannel, listen))
  await send({ url: '/orders' })
  await send(signed({}, signerFor({ nonce: () => 'nonce-of-this-request' })))
  t.match(heard, [{ outcome: 'absent' }, { outcome: 'passed' }])
  t.notMatch(JSON.stringify(heard), /nonce-of-this-request|canary/)
})
