import { createDecipheriv, createHash, createHmac, createSecretKey, randomBytes, type KeyObject } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { createTokenService, type IssuedToken } from '@sallyport/bearer-jwt'
import { memoryStore, type StateStore } from '@sallyport/guard'
import t from 'tap'
import { createAccountTokens, fulfilmentScopes, type AccountTokenRequest, type FulfilmentEnvironment } from '../src/account-tokens.js'
import { fulfilmentErrors } from '../src/authentication-errors.js'
import { appFolder } from '../src/config.js'
import { keyInUse } from '../src/key-rings.js'
import { createRingTokens, MAX_LIVE_TOKENS } from '../src/ring-tokens.js'
import { brokenDatabase, brokenStore, sign, spellingsOf, startDemo, type Answer, type Demo } from './fixtures/demo.js'

const nordlys = 'nordlys-outfitters'
const havn = 'havn-trading'
const hosts: Readonly<Record<FulfilmentEnvironment, string>> = { production: 'api.localhost', sandbox: 'sandbox.localhost' }

/** As the operator's command makes them: without the server, from the keys that both know. */
async function issue (demo: Demo, request: Partial<AccountTokenRequest> = {}, environment: FulfilmentEnvironment = 'production'): Promise<IssuedToken> {
  const { accounts, keyRings } = demo
  const clock = (): number => demo.nowMs
  const tokens = createAccountTokens(environment, { accounts, keyRings, clock, store: memoryStore({ clock, maxEntries: 10 }) })
  const issued = await tokens.issue({ slug: nordlys, scopes: fulfilmentScopes, ...request })
  await tokens.close()
  return issued
}

async function tokenOf (...args: Parameters<typeof issue>): Promise<string> {
  return (await issue(...args)).token
}

interface Request {
  readonly token?: string
  readonly slug?: string
  readonly environment?: FulfilmentEnvironment
  readonly method?: string
  readonly body?: unknown
  readonly host?: string
}

async function call (demo: Demo, resource: string, { token, slug = nordlys, environment = 'production', method, body, host = hosts[environment] }: Request = {}): Promise<Answer> {
  return demo.send({
    host,
    method: method ?? (body === undefined ? 'GET' : 'POST'),
    path: `/fulfilment/${slug}/api/v1/${resource}`,
    headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
    ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) })
  })
}

const phrase = 'correct horse battery staple'
const order = { order_number: 'A-1', ship_to: { name: 'Åse Ñ', address1: 'Main St 1', city: 'Oslo', country: 'NO' }, line_items: [{ sku: 'TENT-2', quantity: 2 }] }

function numbersIn ({ json }: Answer): readonly string[] {
  return (json['orders'] as { order_number: string }[]).map(({ order_number }) => order_number)
}

/** Seals a token as this system's are, whoever signed it. */
async function sealed (demo: Demo, claims: { readonly issuer?: string, readonly audience?: string, readonly signing?: KeyObject, readonly environment?: FulfilmentEnvironment } = {}): Promise<string> {
  const { environment = 'production' } = claims
  const ring = demo.keyRings.of(environment)
  const own = `urn:sallyport:fulfilment:${environment}`
  const encryption = { id: keyInUse(ring.encryption).id, key: keyInUse(ring.encryption).key, algorithm: 'dir', contentEncryption: 'A256GCM' } as const
  const service = await createTokenService({
    issuer: claims.issuer ?? own,
    audience: claims.audience ?? own,
    signing: { id: keyInUse(ring.signing).id, key: claims.signing ?? keyInUse(ring.signing).key },
    encryption,
    decryption: { mode: 'required', keys: [{ id: encryption.id, key: encryption.key, algorithm: 'dir' }], keyManagement: ['dir'], contentEncryption: ['A256GCM'] },
    tenantClaim: 'account_slug',
    store: memoryStore({ clock: () => demo.nowMs, maxEntries: 10 }),
    clock: () => demo.nowMs
  })
  const { token } = await service.issue({ subject: nordlys, tenant: nordlys, scopes: fulfilmentScopes })
  service.close()
  return token
}

/** What stands in a sealed token, opened and verified with the keys of the ring. */
function openedOf (demo: Demo, token: string, environment: FulfilmentEnvironment = 'production'): { readonly claims: Readonly<Record<string, unknown>>, readonly texts: readonly string[] } {
  const { signing, encryption } = demo.keyRings.of(environment)
  const [header = '', , iv = '', content = '', tag = ''] = token.split('.')
  const decipher = createDecipheriv('aes-256-gcm', keyInUse(encryption).key, Buffer.from(iv, 'base64url')).setAAD(Buffer.from(header)).setAuthTag(Buffer.from(tag, 'base64url'))
  const inner = Buffer.concat([decipher.update(content, 'base64url'), decipher.final()]).toString()
  const [innerHeader = '', payload = '', signature] = inner.split('.')
  if (signature !== createHmac('sha256', keyInUse(signing).key).update(`${innerHeader}.${payload}`).digest('base64url')) throw new Error('signed with another key')
  const texts = [innerHeader, payload, header].map((part) => Buffer.from(part, 'base64url').toString())
  return { claims: JSON.parse(texts[1]!) as Readonly<Record<string, unknown>>, texts: [token, inner, ...texts] }
}

t.test('an account lists and creates its orders by encrypted token, and they are stored', async (t) => {
  const demo = await startDemo(t)
  const token = await tokenOf(demo)
  t.match(token, /^[\w-]+\.\.[\w-]+\.[\w-]+\.[\w-]+$/, 'a JWE under a shared key')
  t.match(JSON.parse(Buffer.from(token.split('.')[0]!, 'base64url').toString()), { alg: 'dir', enc: 'A256GCM', cty: 'JWT', kid: String })
  t.match(await call(demo, 'orders', { token }), { status: 200, json: { environment: 'production', orders: [] }, headers: { 'cache-control': 'no-store' } })
  const created = await call(demo, 'orders', { token, body: order })
  t.match(created, { status: 201, json: { ...order, id: /^[\da-f-]{36}$/, created_at: String } })
  t.match(await call(demo, 'orders', { token, body: { ...order, order_number: 'A-2', customer_email: 'ann@example.com' } }), { status: 201 })
  t.match(await call(demo, 'orders', { token, body: order }), { status: 409, json: { code: 'ERR_FULFILMENT_ORDER_EXISTS' } })
  t.same(numbersIn(await call(demo, 'orders', { token })), ['A-2', 'A-1'], 'the newest first')
  t.same(await demo.database.query('select account_slug, environment, order_number from fulfilment_orders order by position'), [
    { account_slug: nordlys, environment: 'production', order_number: 'A-1' }, { account_slug: nordlys, environment: 'production', order_number: 'A-2' }
  ])
  t.same(numbersIn(await call(demo, 'orders', { token: await tokenOf(demo, { slug: havn }), slug: havn })), [], 'other accounts see none of them')
  const sandbox = await tokenOf(demo, {}, 'sandbox')
  t.match(await call(demo, 'orders', { token: sandbox, environment: 'sandbox' }), { status: 200, json: { environment: 'sandbox', orders: [] } })
  t.match(await call(demo, 'orders', { token: sandbox, environment: 'sandbox', body: order }), { status: 201 }, 'the sandbox has numbers of its own')
  t.equal((await call(demo, 'orders', { token, method: 'HEAD' })).status, 200)
})

t.test('orders that are not as the schema says are refused, and nothing is stored', async (t) => {
  const demo = await startDemo(t)
  const token = await tokenOf(demo)
  const { ship_to: place, line_items: [item] } = order
  const wrong: readonly unknown[] = [
    {}, [], 'null', '{', '', { ...order, order_number: '' }, { ...order, order_number: 1 }, { ...order, order_number: 'a\u0000' }, { ...order, order_number: 'x'.repeat(65) }, { ...order, more: 1 },
    { ...order, ship_to: { ...place, country: 'no' } }, { ...order, ship_to: { ...place, city: undefined } }, { ...order, ship_to: { ...place, door: 'left' } }, { ...order, ship_to: [] },
    { ...order, line_items: [] }, { ...order, line_items: [{ ...item, quantity: 0 }] }, { ...order, line_items: [{ ...item, quantity: '1' }] }, { ...order, line_items: [{ ...item, quantity: 1.5 }] },
    { ...order, line_items: [{ ...item, price: 1 }] }, { ...order, line_items: Array.from({ length: 101 }, () => item) },
    `{"__proto__":{"order_number":"A"},${JSON.stringify(order).slice(1)}`, JSON.stringify({ ...order, order_number: '?' }).replace('?', '\\ud800')
  ]
  for (const body of wrong) t.match(await call(demo, 'orders', { token, body }), { status: 400, headers: { 'content-type': /^application\/problem\+json/ } }, JSON.stringify(body).slice(0, 60))
  t.equal((await call(demo, 'orders', { token, body: `"${'a'.repeat(70_000)}"` })).status, 413)
  t.same(await demo.database.query('select id from fulfilment_orders'), [])
})

t.test('a token is good for its account, its environment and its scopes, and for nothing else', async (t) => {
  const demo = await startDemo(t)
  const [production, sandbox] = [await tokenOf(demo), await tokenOf(demo, {}, 'sandbox')]
  const readOnly = await tokenOf(demo, { scopes: ['orders:read'] })
  const commerce = createRingTokens({
    ring: () => demo.keyRings.of('commerce'), issuer: 'urn:sallyport:commerce', audience: 'urn:sallyport:commerce', clock: () => demo.nowMs, store: memoryStore({ clock: () => demo.nowMs, maxEntries: 10 })
  })
  t.teardown(commerce.close)
  const { token: foreign } = await commerce.issue({ subject: nordlys, scopes: fulfilmentScopes, claims: { account_slug: nordlys } })
  const ring = demo.keyRings.of('production')
  const claims = { iss: 'urn:sallyport:fulfilment:production', aud: 'urn:sallyport:fulfilment:production', sub: nordlys, account_slug: nordlys, scope: 'orders:read', jti: 'x', iat: demo.nowMs / 1000, exp: demo.nowMs / 1000 + 60 }
  const signedOnly = sign(claims, keyInUse(ring.signing).key.export().toString('latin1'), { alg: 'HS256', typ: 'at+jwt', kid: keyInUse(ring.signing).id })
  const mismatch = { status: 403, json: { code: 'ERR_GUARD_TENANT_MISMATCH' } }
  const invalid = { status: 401, json: { code: 'ERR_BEARER_JWT_TOKEN_INVALID' }, headers: { 'www-authenticate': 'Bearer realm="sallyport-demo", error="invalid_token"' } }
  const insufficient = (scope: string): object => ({ status: 403, json: { code: 'ERR_BEARER_JWT_SCOPE_INSUFFICIENT' }, headers: { 'www-authenticate': new RegExp(`error="insufficient_scope", scope="${scope}"`) } })
  const refused: readonly (readonly [what: string, request: Request, answer: object])[] = [
    ['no token', {}, { status: 401, json: { code: 'ERR_BEARER_JWT_TOKEN_MISSING' }, headers: { 'www-authenticate': 'Bearer realm="sallyport-demo"' } }],
    ['another account', { token: production, slug: havn }, mismatch],
    ['another account, to write', { token: production, slug: havn, body: order }, mismatch],
    ['an account that is not there', { token: production, slug: 'nobody' }, mismatch],
    ['the account in capitals', { token: production, slug: nordlys.toUpperCase() }, mismatch],
    ['a sandbox token in production', { token: sandbox }, invalid],
    ['a production token in the sandbox', { token: production, environment: 'sandbox' }, invalid],
    ['a token of the commerce API', { token: foreign }, invalid],
    ['a right token that is not encrypted', { token: signedOnly }, invalid],
    ['sealed rightly, signed by somebody else', { token: await sealed(demo, { signing: createSecretKey(randomBytes(32)) }) }, invalid],
    ['a token of another issuer', { token: await sealed(demo, { issuer: 'urn:sallyport:fulfilment:sandbox' }) }, { status: 401 }],
    ['a token for another audience', { token: await sealed(demo, { audience: 'urn:sallyport:fulfilment:sandbox' }) }, { status: 401 }],
    ['the tag changed', { token: production.replace(/.{4}$/, 'AAAA') }, invalid],
    ['a callback token', { token: await tokenOf(demo, { use: 'callback' }) }, { status: 401, json: { code: 'ERR_BEARER_JWT_CLAIMS_INVALID' } }],
    ['to write without the scope', { token: readOnly, body: order }, insufficient('orders:write')]
  ]
  for (const [what, request, answer] of refused) t.match(await call(demo, 'orders', request), answer, what)
  t.match(await call(demo, 'secrets', { token: readOnly, body: { secret_phrase: phrase } }), insufficient('secrets:write'))
  t.match(await call(demo, 'secrets', { token: await tokenOf(demo, { slug: havn }), body: { secret_phrase: phrase } }), mismatch)
  t.equal((await call(demo, 'orders', { token: await sealed(demo) })).status, 200, 'what all of them are but for one thing')
  for (const [host, environment] of [['SANDBOX.localhost', 'sandbox'], ['sandbox.example.com', 'sandbox'], ['localhost', 'production'], ['sandbox', 'production'], ['my.sandbox.localhost', 'production'], ['sandbox-api.localhost', 'production']] as const) {
    const answers = await Promise.all([production, sandbox].map(async (token) => demo.send({ path: `/fulfilment/${nordlys}/api/v1/orders`, headers: { host, authorization: `Bearer ${token}` } })))
    t.same(answers.map(({ status }) => status), environment === 'production' ? [200, 401] : [401, 200], host)
  }
  const forwarded = await demo.sendRaw([`GET /fulfilment/${nordlys}/api/v1/orders HTTP/1.1`, `Authorization: Bearer ${sandbox}`, 'X-Forwarded-Host: sandbox.localhost', 'Forwarded: host=sandbox.localhost'])
  t.equal(forwarded.status, 401, 'nobody chooses an environment but by Host')
  demo.nowMs += 30 * 86_400_000
  t.match(await call(demo, 'orders', { token: production }), { status: 401, json: { code: 'ERR_BEARER_JWT_TOKEN_EXPIRED' } }, '30 days later')
  t.same(await demo.database.query('select id from fulfilment_orders'), [])
})

t.test('POST secrets gives tokens of the same account and environment, and no more than the caller could', async (t) => {
  const demo = await startDemo(t)
  const caller = await tokenOf(demo, { scopes: ['orders:read', 'secrets:write'] })
  const secret = async (body: object, request: Request = {}): Promise<Answer> => call(demo, 'secrets', { token: caller, body: { secret_phrase: phrase, ...body }, ...request })
  const [first, again, other] = [await secret({}), await secret({}), await secret({ secret_phrase: `${phrase}!` })]
  t.match(first, { status: 201, json: { id: String, use: 'bearer', environment: 'production', scopes: ['orders:read', 'secrets:write'], expires_at: String } })
  const tokens = [first, again, other].map(({ json }) => String(json['token']))
  t.equal(new Set(tokens).size, 3, 'another phrase gives another token')
  for (const token of tokens) t.equal((await call(demo, 'orders', { token })).status, 200)
  const [token = ''] = tokens
  t.equal((await call(demo, 'orders', { token, body: order })).status, 403, 'what the caller could not do')
  t.equal((await call(demo, 'orders', { token, slug: havn })).status, 403)
  t.equal((await call(demo, 'orders', { token, environment: 'sandbox' })).status, 401)
  t.match(await secret({ scopes: ['orders:write'] }), { status: 403, json: { code: 'ERR_FULFILMENT_SCOPE_EXCEEDED' } })
  const narrow = String((await secret({ scopes: ['orders:read'] })).json['token'])
  t.equal((await call(demo, 'orders', { token: narrow })).status, 200)
  t.equal((await secret({}, { token: narrow })).status, 403, 'it can make no further ones')
  t.equal((await call(demo, 'secrets', { token: narrow })).status, 403)
  const callback = await secret({ use: 'callback', scopes: ['orders:write'] })
  t.match(callback, { status: 201, json: { use: 'callback', scopes: [], token: /^[\w-]+\.\.[\w-]+\.[\w-]+\.[\w-]+$/ } })
  t.equal((await call(demo, 'orders', { token: String(callback.json['token']) })).status, 401, 'a callback token can\'t act as a bearer')
  for (const body of [{ secret_phrase: 'short' }, { secret_phrase: 1 }, { secret_phrase: undefined }, { use: 'refresh' }, { scopes: ['admin'] }, { scopes: 'orders:read' }, { account_slug: havn }]) {
    t.equal((await secret(body)).status, 400, JSON.stringify(body))
  }

  const listed = await call(demo, 'secrets', { token: caller })
  t.match(listed.json['secrets'], [{ use: 'bearer', revoked: false, last_used_at: String }, { use: 'bearer' }, { use: 'bearer' }, { use: 'bearer', scopes: ['orders:read'] }, { use: 'callback' }])
  t.equal((listed.json['secrets'] as unknown[]).length, 5)
  const remove = async (id: unknown, slug = nordlys, by = caller): Promise<Answer> => call(demo, `secrets/${String(id)}`, { method: 'DELETE', token: by, slug })
  t.equal((await remove(first.json['id'], havn, await tokenOf(demo, { slug: havn }))).status, 404, 'another account can\'t')
  t.equal((await remove(first.json['id'], nordlys, narrow)).status, 403)
  t.equal((await call(demo, 'orders', { token })).status, 200)
  t.equal((await remove(first.json['id'])).status, 204)
  t.match(await call(demo, 'orders', { token }), { status: 401, json: { code: 'ERR_BEARER_JWT_TOKEN_REVOKED' }, headers: { 'www-authenticate': /error="invalid_token"/ } })
  t.equal((await call(demo, 'orders', { token: tokens[1]! })).status, 200, 'the others are still good')
  t.equal((await remove('nothing')).status, 404)

  for (const spelling of [phrase, ...tokens].flatMap(spellingsOf)) {
    if (JSON.stringify(demo.logLines).includes(spelling)) t.fail('a log line holds a phrase or a token')
    if (listed.text.includes(spelling)) t.fail('the list holds a phrase or a token')
  }
})

t.test('the phrase takes part in the token, as a digest of account and phrase that tells nothing', async (t) => {
  const demo = await startDemo(t)
  const opened = async (secret_phrase: string, slug = nordlys, environment: FulfilmentEnvironment = 'production'): Promise<ReturnType<typeof openedOf>> => {
    const answer = await call(demo, 'secrets', { token: await tokenOf(demo, { slug }, environment), body: { secret_phrase }, slug, environment })
    t.equal(answer.status, 201)
    return openedOf(demo, String(answer.json['token']), environment)
  }
  const own = await opened(phrase)
  const others = { 'another phrase': await opened(`${phrase}!`), 'another account': await opened(phrase, havn), 'the sandbox': await opened(phrase, nordlys, 'sandbox') }
  t.match(own.claims, { account_slug: nordlys, phr: /^[\w-]{43}$/ }, '256 bits')
  t.equal((await opened(phrase)).claims['phr'], own.claims['phr'], 'the same phrase once more')
  t.match(others['another account'].claims, { account_slug: havn })
  for (const [what, { claims }] of Object.entries(others)) {
    t.match(claims['phr'], /^[\w-]{43}$/, what)
    t.not(claims['phr'], own.claims['phr'], what)
  }
  t.notOk('phr' in openedOf(demo, await tokenOf(demo)).claims, 'a token that no phrase made has none')

  const digest = Buffer.from(String(own.claims['phr']), 'base64url').toString('latin1')
  const texts = [digest, ...[own, ...Object.values(others)].flatMap((each) => each.texts)]
  t.ok(texts.some((text) => text.includes(havn)), 'the texts were opened')
  t.same(spellingsOf(phrase).filter((spelling) => texts.some((text) => text.includes(spelling))), [], 'neither claim nor token holds the phrase')
  for (const unkeyed of [phrase, JSON.stringify(['secret phrase', nordlys, phrase])]) {
    t.not(own.claims['phr'], createHash('sha256').update(unkeyed).digest('base64url'), 'nobody without the key can try phrases')
  }
})

t.test('an account has no more tokens than can be listed and ended', async (t) => {
  const store = memoryStore({ maxEntries: 10_000 })
  const demo = await startDemo(t, { store })
  demo.nowMs += 1000
  const tokens = createAccountTokens('production', { ...demo, store, clock: () => demo.nowMs })
  t.teardown(tokens.close)
  for (let i = 0; i < MAX_LIVE_TOKENS; i++) await tokens.issue({ slug: havn, scopes: [] })
  const { token } = await tokens.issue({ slug: nordlys, scopes: fulfilmentScopes })
  t.equal((await call(demo, 'secrets', { token, body: { secret_phrase: phrase } })).status, 201)
  const full = await tokenOf(demo, { slug: havn })
  t.match(await call(demo, 'secrets', { token: full, slug: havn, body: { secret_phrase: phrase } }), { status: 409, json: { code: 'ERR_FULFILMENT_SECRETS_FULL' } })
})

t.test('requests beyond the limit of an account or an address are 429, and the sandbox allows more', async (t) => {
  const demo = await startDemo(t)
  const many = async (count: number, request: Request): Promise<readonly number[]> => {
    const statuses: number[] = []
    for (let i = 0; i < count; i += 10) statuses.push(...(await Promise.all(Array.from({ length: Math.min(10, count - i) }, async () => call(demo, 'orders', request)))).map(({ status }) => status))
    return [...new Set(statuses)]
  }
  const [own, other, sandbox] = [await tokenOf(demo), await tokenOf(demo, { slug: havn }), await tokenOf(demo, {}, 'sandbox')]
  t.same(await many(120, { token: own }), [200])
  t.match(await call(demo, 'orders', { token: own }), {
    status: 429, json: { code: 'ERR_DEMO_RATE_LIMITED' }, headers: { 'retry-after': /^([1-9]|[1-5]\d|60)$/, 'x-ratelimit-limit': '120', 'x-ratelimit-remaining': '0' }
  })
  t.match(await call(demo, 'orders', { token: other, slug: havn }), { status: 200, headers: { 'x-ratelimit-remaining': '119' } }, 'another account of the same address has its own')
  t.match(await call(demo, 'orders', { token: own, slug: havn }), { status: 403 }, 'a refusal of the policy comes first, and counts for nobody')
  t.same(await many(360 - 123, {}), [401])
  t.equal((await call(demo, 'orders', {})).status, 429, 'an address that only tries is stopped')
  t.equal((await call(demo, 'orders', { token: other, slug: havn })).status, 429)
  t.same(await many(121, { token: sandbox, environment: 'sandbox' }), [200], 'the sandbox counts by itself, and higher')
})

t.test('keys are rotated while the server runs: old tokens live for the overlap, in that environment alone', async (t) => {
  const demo = await startDemo(t)
  const [old, sandbox] = [await tokenOf(demo), await tokenOf(demo, {}, 'sandbox')]
  const status = async (token: string, environment: FulfilmentEnvironment = 'production'): Promise<number> => (await call(demo, 'orders', { token, environment })).status
  t.equal(await status(old), 200)
  const held = String((await call(demo, 'secrets', { token: old, body: { secret_phrase: phrase } })).json['id'])
  await demo.keyRings.rotate({ name: 'production', overlapMs: 60_000 })
  const created = await call(demo, 'secrets', { token: old, body: { secret_phrase: phrase } })
  const fresh = String(created.json['token'])
  const kidOf = (token: string): unknown => (JSON.parse(Buffer.from(token.split('.')[0]!, 'base64url').toString()) as { kid: unknown }).kid
  t.not(kidOf(fresh), kidOf(old), 'what is issued from now on is sealed with the new key')
  t.same([await status(old), await status(fresh), await status(sandbox, 'sandbox')], [200, 200, 200])
  t.equal((await call(demo, `secrets/${held}`, { method: 'DELETE', token: fresh })).status, 204, 'what was issued before the rotation can be ended after it')
  demo.nowMs += 60_000
  t.same([await status(old), await status(fresh), await status(sandbox, 'sandbox')], [401, 200, 200], 'the overlap is over')
  for (let i = 0; i < 8; i++) {
    await demo.keyRings.rotate({ name: 'production', overlapMs: 60_000 })
    t.equal(await status(await tokenOf(demo)), 200, 'as often as one likes')
  }
  t.equal(await status(fresh), 200)
  await demo.keyRings.rotate({ name: 'production', overlapMs: 0 })
  t.equal(await status(fresh), 401, 'no overlap')
  t.same([await status(await tokenOf(demo)), await status(sandbox, 'sandbox')], [200, 200])
})

t.test('the operator ends all tokens of an account, in both environments', async (t) => {
  const demo = await startDemo(t)
  const [production, sandbox, other] = [await tokenOf(demo), await tokenOf(demo, {}, 'sandbox'), await tokenOf(demo, { slug: havn })]
  const made = String((await call(demo, 'secrets', { token: production, body: { secret_phrase: phrase } })).json['token'])
  await demo.accounts.revokeTokens(nordlys)
  const revoked = { status: 401, json: { code: 'ERR_BEARER_JWT_TOKEN_REVOKED' } }
  for (const token of [production, made]) t.match(await call(demo, 'orders', { token }), revoked)
  t.match(await call(demo, 'orders', { token: sandbox, environment: 'sandbox' }), revoked)
  t.equal((await call(demo, 'orders', { token: other, slug: havn })).status, 200)
  demo.nowMs += 1000
  t.equal((await call(demo, 'orders', { token: await tokenOf(demo) })).status, 200, 'a token issued later is good')
  const path = join(demo.folder, 'accounts.json')
  const register = JSON.parse(readFileSync(path, 'utf8')) as { accounts: { slug: string }[] }
  writeFileSync(path, JSON.stringify({ accounts: register.accounts.filter(({ slug }) => slug !== havn) }))
  t.match(await call(demo, 'orders', { token: other, slug: havn }), revoked, 'an account that is no more')
})

t.test('the table of authentication errors is served and stands in the README, and each can be had', async (t) => {
  const demo = await startDemo(t)
  const served = await demo.send({ path: '/fulfilment/authentication-errors' })
  t.same(served.json, { errors: fulfilmentErrors })
  const readme = readFileSync(join(appFolder, 'README.md'), 'utf8').split('\n### Authentication errors\n')[1]?.split('\n#')[0] ?? ''
  const rows = [...readme.matchAll(/^\| (\d+) \| `(\w+)` \| (.+) \|$/gm)].map(([, status, code, cause]) => ({ status: Number(status), code, cause }))
  t.same(rows, fulfilmentErrors)

  const token = await tokenOf(demo)
  const expired = await tokenOf(demo)
  const refused = async (on: Demo, request: Request, resource = 'orders'): Promise<Answer> => call(on, resource, request)
  const readOnly = await tokenOf(demo, { scopes: ['orders:read', 'secrets:write'] })
  const { text: ambiguous, status: ambiguousStatus } = await demo.sendRaw([`GET /fulfilment/${nordlys}/api/v1/orders HTTP/1.1`, ...[token, token].map((each) => `Authorization: Bearer ${each}`)])
  const answers = [
    await refused(demo, {}), await refused(demo, { token: 'x' }), await refused(demo, { token: await tokenOf(demo, { use: 'callback' }) }),
    await refused(demo, { token: readOnly, body: order }), await refused(demo, { token, slug: havn }), await refused(demo, { token: readOnly, body: { secret_phrase: phrase, scopes: ['orders:write'] } }, 'secrets')
  ]
  await demo.accounts.revokeTokens(nordlys)
  answers.push(await refused(demo, { token }))
  demo.nowMs += 31 * 86_400_000
  answers.push(await refused(demo, { token: expired }))
  const plain = await startDemo(t, { tls: false })
  answers.push(await plain.send({ path: `/fulfilment/${nordlys}/api/v1/orders` }))
  const down = await startDemo(t, { store: brokenStore() })
  answers.push(await refused(down, { token: await tokenOf(down) }))
  const slowGet: StateStore['get'] = async () => sleep(900)
  const slow = await startDemo(t, { store: { ...brokenStore(), get: slowGet } })
  answers.push(await refused(slow, { token: await tokenOf(slow) }))
  const busy = await startDemo(t)
  for (let i = 0; i < 36; i++) await Promise.all(Array.from({ length: 10 }, async () => refused(busy, {})))
  answers.push(await refused(busy, {}))

  const found = answers.map(({ status, json }) => ({ status, code: json['code'] }))
  found.push({ status: ambiguousStatus, code: /"code":"(\w+)"/.exec(ambiguous)?.[1] })
  const sorted = (list: readonly { readonly status: number, readonly code: unknown }[]): readonly string[] => list.map(({ status, code }) => `${status} ${String(code)}`).sort()
  t.same(sorted(found), sorted(fulfilmentErrors))
})

t.test('without the store or the database it is 503, never 200 and never 401', async (t) => {
  const unavailable = { status: 503, headers: { 'retry-after': '1' } }
  const noStore = await startDemo(t, { store: brokenStore() })
  const token = await tokenOf(noStore)
  for (const request of [{ token }, { token, body: order }]) t.match(await call(noStore, 'orders', request), unavailable)
  t.match(await call(noStore, 'secrets', { token, body: { secret_phrase: phrase } }), unavailable)
  t.equal((await call(noStore, 'orders', { token: `${token.slice(0, -4)}AAAA` })).status, 401, 'a wrong token is wrong all the same')
  const noDatabase = await startDemo(t, { database: brokenDatabase() })
  const right = await tokenOf(noDatabase)
  for (const request of [{ token: right }, { token: right, body: order }]) t.match(await call(noDatabase, 'orders', request), unavailable)
  t.equal((await call(noDatabase, 'orders', { token: right, slug: havn })).status, 403)
})
