import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { StateStore } from '@sallyport/guard'
import { createRequestSigner, headers, layeredGateway, rfc9421, type Profile, type RequestToSign } from '@sallyport/hmac-auth'
import t from 'tap'
import { paymentsErrors } from '../src/authentication-errors.js'
import { appFolder } from '../src/config.js'
import { ADMINISTRATOR_SCOPE, createMerchantTokens, GATEWAY } from '../src/merchant-tokens.js'
import type { Onboarded } from '../src/merchants.js'
import { brokenDatabase, brokenStore, spellingsOf, startDemo, type Answer, type Demo } from './fixtures/demo.js'

const [transactionsPath, listPath] = ['/payments/v3.0/transactions', '/payments/gateway/allowlist/merchants']
const ownHeaders = headers(layeredGateway)
const profiles: Readonly<Record<string, Profile>> = { 'the gateway\'s own headers': ownHeaders, 'RFC 9421': rfc9421() }
const transaction = { reference: 'A-1', amount: 12_500, currency: 'NOK' }

interface Request { readonly method?: string, readonly token?: string | undefined, readonly body?: unknown, readonly headers?: Readonly<Record<string, string | readonly string[]>> }

async function call (demo: Demo, path: string, { method, token, body, headers }: Request = {}): Promise<Answer> {
  return demo.send({
    method: method ?? (body === undefined ? 'GET' : 'POST'),
    path,
    headers: { ...(token !== undefined && { authorization: `Bearer ${token}` }), ...headers },
    ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) })
  })
}

interface Pair { readonly access: string, readonly refresh: string }

function pairOf ({ status, text, json }: Answer): Pair {
  if (status !== 200) throw new Error(text)
  return { access: String(json['access_token']), refresh: String(json['refresh_token']) }
}

async function login (demo: Demo, { merchant, clientSecret }: Onboarded): Promise<Pair> {
  return pairOf(await call(demo, '/payments/auth/token', { body: { client_id: merchant.id, client_secret: clientSecret } }))
}

async function refresh (demo: Demo, token: string): Promise<Answer> {
  return call(demo, '/payments/auth/refresh', { body: { refresh_token: token } })
}

/** The headers that sign a request as that merchant. */
function signatureOf (demo: Demo, { keyId, keySecret }: Pick<Onboarded, 'keyId' | 'keySecret'>, request: Partial<RequestToSign> = {}, profile = ownHeaders): Readonly<Record<string, string>> {
  const signer = createRequestSigner({ profile, keyId, secret: Buffer.from(keySecret), clock: () => demo.nowMs })
  return signer.sign({ method: 'POST', url: `https://127.0.0.1:${demo.port}${transactionsPath}`, body: JSON.stringify(transaction), ...request })
}

/** A transaction as it should be, unless told otherwise. */
async function pay (demo: Demo, by: Onboarded, { token, body = transaction, ...request }: Request = {}): Promise<Answer> {
  const signed = { ...signatureOf(demo, by, { body: JSON.stringify(body) }), ...request.headers }
  return call(demo, transactionsPath, { token: token ?? (await login(demo, by)).access, body, ...request, headers: signed })
}

async function administratorToken (demo: Demo, scopes: readonly string[] = [ADMINISTRATOR_SCOPE]): Promise<string> {
  const tokens = createMerchantTokens({ ...demo, store: forgetful, clock: () => demo.nowMs })
  const { token } = await tokens.issue({ subject: 'ann', tenant: GATEWAY, scopes, lifetimeSeconds: 3_600 })
  await tokens.close()
  return token
}

/** Takes everything and keeps nothing: enough to sign a token. */
const forgetful: StateStore = {
  claim: () => Promise.resolve({ claimed: true }), get: () => Promise.resolve(undefined), set: () => Promise.resolve(), release: () => Promise.resolve(), delete: () => Promise.resolve()
}

async function rows (demo: Demo): Promise<number> {
  return (await demo.database.query('select from transactions')).length
}

t.test('a merchant logs in, sends signed transactions and sees them, and nobody else\'s', async (t) => {
  const demo = await startDemo(t)
  const [fjord, havn] = [await demo.merchants.add('Fjord'), await demo.merchants.add('Havn')]
  const answer = await call(demo, '/payments/auth/token', { body: { client_id: fjord.merchant.id, client_secret: fjord.clientSecret } })
  t.match(answer, { status: 200, headers: { 'cache-control': 'no-store' }, json: { token_type: 'Bearer', expires_in: 900, scope: 'transactions:read transactions:write' } })
  const token = pairOf(answer).access
  for (const [i, [name, profile]] of Object.entries(profiles).entries()) {
    const body = { ...transaction, reference: `A-${i}`, description: 'Två biljetter' }
    const signed = signatureOf(demo, fjord, { body: JSON.stringify(body) }, profile)
    t.match(await call(demo, transactionsPath, { token, body, headers: signed }), { status: 201, json: { id: String, ...body } }, name)
  }
  t.match((await call(demo, transactionsPath, { token })).json, { transactions: [{ reference: 'A-1' }, { reference: 'A-0' }] }, 'reading needs no signature')
  t.same((await call(demo, transactionsPath, { token: (await login(demo, havn)).access })).json, { transactions: [] })
  t.same(await demo.database.query('select merchant_id, reference from transactions order by position'), [{ merchant_id: fjord.merchant.id, reference: 'A-0' }, { merchant_id: fjord.merchant.id, reference: 'A-1' }])
  t.match(await pay(demo, fjord), { status: 409, json: { code: 'ERR_PAYMENTS_TRANSACTION_EXISTS' } })
  t.equal((await pay(demo, havn)).status, 201, 'references are a merchant\'s own')
  for (const wrong of [{ amount: 0 }, { amount: 1.5 }, { amount: '1' }, { currency: 'nok' }, { reference: '' }, { more: 1 }]) t.equal((await pay(demo, havn, { body: { ...transaction, ...wrong } })).status, 400, JSON.stringify(wrong))
  demo.nowMs += 900_000
  t.match(await call(demo, transactionsPath, { token }), { status: 401, json: { code: 'ERR_BEARER_JWT_TOKEN_EXPIRED' } })
})

t.test('what is not signed as it was sent is refused, stored nowhere, and uses nothing up', async (t) => {
  const demo = await startDemo(t)
  const [fjord, havn] = [await demo.merchants.add('Fjord'), await demo.merchants.add('Havn')]
  const token = (await login(demo, fjord)).access
  const text = JSON.stringify(transaction)
  for (const [name, profile] of Object.entries(profiles)) {
    const signed = signatureOf(demo, fjord, {}, profile)
    const send = async (headers: Readonly<Record<string, string>>, more: Request = {}, path = transactionsPath): Promise<Answer> => call(demo, path, { token, body: text, headers, ...more })
    const [digest, signature] = profile === ownHeaders ? ['x-content-sha256', 'x-signature'] : ['content-digest', 'signature']
    const without = (header: string): Readonly<Record<string, string>> => Object.fromEntries(Object.entries(signed).filter(([each]) => each !== header))
    const flipped = signed[signature]!.replace(/\w/, (letter) => letter === 'a' ? 'b' : 'a')
    const invalid = { status: 401, json: { code: 'ERR_HMAC_AUTH_SIGNATURE_INVALID' } }
    t.match(await send({}), { status: 401, json: { code: 'ERR_GUARD_CREDENTIAL_INCOMPLETE' }, headers: { 'www-authenticate': /^HMAC .*, Signature / } }, `${name}: none`)
    t.match(await send(signed, { body: text.replace('12500', '92500') }), { status: 401, json: { code: 'ERR_HMAC_AUTH_DIGEST_INVALID' } }, `${name}: another body`)
    t.match(await send({ ...signatureOf(demo, fjord, { body: '{}' }, profile) }), { status: 401, json: { code: 'ERR_HMAC_AUTH_DIGEST_INVALID' } }, `${name}: signed for another body`)
    t.equal((await send(without(digest))).status, 401, `${name}: no digest`)
    t.match(await send({ ...signed, [signature]: flipped }), invalid, `${name}: another signature`)
    t.match(await send(signed, {}, `${transactionsPath}?x=1`), invalid, `${name}: another query`)
    t.match(await send(signatureOf(demo, fjord, { url: `https://127.0.0.1:${demo.port}/payments/v3.0/transaction` }, profile)), invalid, `${name}: another path`)
    t.match(await send(signatureOf(demo, fjord, { method: 'PUT' }, profile)), invalid, `${name}: another method`)
    t.match(await send(signatureOf(demo, fjord, { url: `https://localhost:${demo.port}${transactionsPath}` }, profile)), invalid, `${name}: another host`)
    t.match(await send(signatureOf(demo, { ...fjord, keyId: havn.keyId }, {}, profile)), invalid, `${name}: another's key id`)
    t.match(await send(signatureOf(demo, { ...fjord, keyId: 'key-nobody' }, {}, profile)), invalid, `${name}: an unknown key id`)
    t.equal((await send(without(signature))).status, 401, `${name}: half of it`)
    t.equal(await rows(demo), 0)
    t.match(await send(signed), { status: 201 }, `${name}: nothing of it was used up`)
    t.match(await send(signed), { status: 401, json: { code: 'ERR_HMAC_AUTH_SIGNATURE_REPLAYED' } }, `${name}: a second time`)
    const old = signatureOf(demo, fjord, {}, profile)
    demo.nowMs += 66_000
    t.match(await send(old), { status: 401, json: { code: 'ERR_HMAC_AUTH_TIMESTAMP_EXPIRED' }, headers: { date: String } }, `${name}: too old`)
    t.match(await send(signatureOf(demo, fjord, {}, profile), { token: undefined }), { status: 401, json: { code: 'ERR_GUARD_CREDENTIAL_INCOMPLETE' } }, `${name}: without a token`)
    await demo.database.query('truncate transactions')
  }
  const [own, standard] = Object.values(profiles).map((profile) => signatureOf(demo, fjord, {}, profile))
  t.match(await call(demo, transactionsPath, { token, body: text, headers: { ...standard, ...own, 'x-signature': 'aa' } }), { status: 401 }, 'a wrong one beside a right one')
  t.match(await call(demo, transactionsPath), { status: 401, json: { code: 'ERR_BEARER_JWT_TOKEN_MISSING' } })
  t.match(await call(demo, transactionsPath, { body: text }), { status: 401, json: { code: 'ERR_GUARD_CREDENTIAL_MISSING' }, headers: { 'www-authenticate': /^HMAC .*, Signature / } }, 'layers are asked for in turn')
})

t.test('of twenty that send one signed request at once, one gets through', async (t) => {
  const demo = await startDemo(t)
  const fjord = await demo.merchants.add('Fjord')
  const [token, headers] = [(await login(demo, fjord)).access, signatureOf(demo, fjord)]
  const statuses = (await Promise.all(Array.from({ length: 20 }, async () => call(demo, transactionsPath, { token, body: transaction, headers })))).map(({ status }) => status)
  t.same(statuses.sort(), [201, ...Array.from({ length: 19 }, () => 401)])
  t.equal(await rows(demo), 1)
})

t.test('a signature of one merchant beside a token of another is 403', async (t) => {
  const demo = await startDemo(t)
  const [fjord, havn] = [await demo.merchants.add('Fjord'), await demo.merchants.add('Havn')]
  for (const [name, profile] of Object.entries(profiles)) {
    const headers = signatureOf(demo, fjord, {}, profile)
    t.match(await call(demo, transactionsPath, { token: (await login(demo, havn)).access, body: transaction, headers }), { status: 403, json: { code: 'ERR_GUARD_PRINCIPAL_CONFLICT' } }, name)
    t.equal((await call(demo, transactionsPath, { token: (await login(demo, fjord)).access, body: { ...transaction }, headers })).status, name === 'RFC 9421' ? 409 : 201, 'and its owner can still send it')
  }
  t.match(await call(demo, transactionsPath, { token: await administratorToken(demo), body: transaction, headers: signatureOf(demo, fjord) }), { status: 403 }, 'an administrator is no merchant')
  t.match(await call(demo, transactionsPath, { token: await administratorToken(demo) }), { status: 403, json: { code: 'ERR_BEARER_JWT_SCOPE_INSUFFICIENT' } })
})

t.test('a refresh token is good once: its second use ends all that descends from the login', async (t) => {
  const demo = await startDemo(t)
  const fjord = await demo.merchants.add('Fjord')
  const [first, other] = [await login(demo, fjord), await login(demo, fjord)]
  const second = pairOf(await refresh(demo, first.refresh))
  const status = async (token: string): Promise<number> => (await call(demo, transactionsPath, { token })).status
  t.same(await Promise.all([first, second, other].map(async ({ access }) => status(access))), [200, 200, 200])
  t.match(await refresh(demo, first.refresh), { status: 401, json: { code: 'ERR_BEARER_JWT_REFRESH_REUSED' }, headers: { 'www-authenticate': 'Bearer realm="sallyport-demo", error="invalid_token"' } })
  t.match(await call(demo, transactionsPath, { token: second.access }), { status: 401, json: { code: 'ERR_BEARER_JWT_TOKEN_REVOKED' } })
  t.same(await Promise.all([first, second, other].map(async ({ access }) => status(access))), [401, 401, 200], 'other logins stay')
  t.match(await refresh(demo, second.refresh), { status: 401, json: { code: 'ERR_BEARER_JWT_REFRESH_INVALID' } })
  for (const token of [other.access, 'x', `${other.refresh}x`, await administratorToken(demo)]) t.match(await refresh(demo, token), { status: 401, json: { code: 'ERR_BEARER_JWT_REFRESH_INVALID' } })
  t.equal(await status(other.refresh), 401, 'and no bearer token')
  const both = await Promise.all([refresh(demo, other.refresh), refresh(demo, other.refresh)])
  t.same(both.map((answer) => answer.status).sort(), [200, 401], 'of two at once')
  demo.nowMs += 86_400_000
  t.equal((await refresh(demo, (await login(demo, fjord)).refresh)).status, 200)
  const late = (await login(demo, fjord)).refresh
  demo.nowMs += 86_400_000
  t.match(await refresh(demo, late), { status: 401, json: { code: 'ERR_BEARER_JWT_REFRESH_INVALID' } }, 'after a day')
})

t.test('wrong logins are 401 alike, and too many are 429', async (t) => {
  const demo = await startDemo(t)
  const [fjord, havn] = [await demo.merchants.add('Fjord'), await demo.merchants.add('Havn')]
  const attempt = async (client_id: unknown, client_secret: unknown): Promise<Answer> => call(demo, '/payments/auth/token', { body: { client_id, client_secret } })
  const wrong = [await attempt(fjord.merchant.id, havn.clientSecret), await attempt('300999', fjord.clientSecret), await attempt(GATEWAY, fjord.clientSecret), await attempt(fjord.merchant.id, fjord.keySecret)]
  for (const refused of wrong) {
    t.match(refused, { status: 401, json: { code: 'ERR_PAYMENTS_LOGIN_FAILED' }, headers: { 'www-authenticate': 'Login realm="sallyport-demo"' } })
    t.equal(refused.text, wrong[0]!.text)
  }
  for (const [id, secret] of [[300_001, 'x'], ['', 'x'], ['300001', ''], ['300001', ['x']], [undefined, 'x']]) t.equal((await attempt(id, secret)).status, 400)
  for (const body of ['{', '{}', { client_id: '1', client_secret: 'x', more: 1 }]) t.equal((await call(demo, '/payments/auth/token', { body })).status, 400)
  const answers = await Promise.all(Array.from({ length: 60 }, async () => attempt('300999', 'x')))
  const busy = answers.find(({ status }) => status === 429)
  t.match(busy, { status: 429, json: { code: 'ERR_DEMO_RATE_LIMITED' }, headers: { 'retry-after': /^\d+$/ } })
})

t.test('secrets and keys are rotated, and tokens ended, while the server runs', async (t) => {
  const demo = await startDemo(t)
  const fjord = await demo.merchants.add('Fjord')
  const { merchant: { id } } = fjord
  const pair = await login(demo, fjord)
  const next = await demo.merchants.rotate({ id, overlapMs: 3_600_000 })
  let n = 0
  const paid = async (by: Onboarded): Promise<number> => (await pay(demo, by, { token: pair.access, body: { ...transaction, reference: `R-${n++}` } })).status
  t.same([await paid(fjord), await paid(next)], [201, 201], 'both count for the overlap')
  await login(demo, fjord)
  demo.nowMs += 3_600_000
  const { access: token, refresh: renewable } = await login(demo, next)
  t.match(await pay(demo, fjord, { token }), { status: 401, json: { code: 'ERR_HMAC_AUTH_SIGNATURE_INVALID' } })
  await t.rejects(login(demo, fjord), /ERR_PAYMENTS_LOGIN_FAILED/)
  await demo.merchants.rotate({ id, overlapMs: 0 })
  await t.rejects(login(demo, next), /ERR_PAYMENTS_LOGIN_FAILED/)

  await demo.keyRings.rotate({ name: 'payments', overlapMs: 7_200_000 })
  t.equal((await call(demo, transactionsPath, { token })).status, 200)
  const renewed = pairOf(await refresh(demo, renewable))
  t.equal((await call(demo, transactionsPath, { token: renewed.access })).status, 200, 'a refresh token outlives the key that signed it')
  await demo.merchants.revokeTokens(id)
  for (const ended of [token, renewed.access]) t.match(await call(demo, transactionsPath, { token: ended }), { status: 401, json: { code: 'ERR_BEARER_JWT_TOKEN_REVOKED' } })
  t.match(await refresh(demo, renewed.refresh), { status: 401, json: { code: 'ERR_BEARER_JWT_REFRESH_INVALID' } }, 'nor can they be renewed')
  const stored = ['merchants.json', 'keys.json'].map((name) => readFileSync(join(demo.folder, name), 'utf8')).join('')
  for (const spelling of [fjord.clientSecret, fjord.keySecret, next.clientSecret, next.keySecret].flatMap(spellingsOf)) if (stored.includes(spelling)) t.fail('a secret lies in clear')
})

t.test('an administrator changes who may call the gateway, and from the next call on it counts', async (t) => {
  const demo = await startDemo(t)
  const fjord = await demo.merchants.add('Fjord')
  const { access: token, refresh: renewable } = await login(demo, fjord)
  const admin = await administratorToken(demo)
  const manage = async (method: string, path: string, body?: unknown, headers = {}): Promise<Answer> => call(demo, path, { method, token: admin, body, headers })
  for (const [method, body] of [['GET', undefined], ['PUT', { entries: [] }], ['PATCH', { remove: ['::1'] }], ['DELETE', undefined]] as const) {
    t.match(await call(demo, `${listPath}?force=true`, { method, token, body }), { status: 403, json: { code: 'ERR_BEARER_JWT_SCOPE_INSUFFICIENT' }, headers: { 'www-authenticate': /scope="gateway:write"/ } }, `${method} by a merchant`)
    t.match(await call(demo, listPath, { method, body }), { status: 401, json: { code: 'ERR_BEARER_JWT_TOKEN_MISSING' } }, `${method} by nobody`)
  }
  const list = await manage('GET', listPath)
  t.match(list, { status: 200, json: { list: 'merchants', entries: ['127.0.0.1', '::1'] }, headers: { etag: /^"[\w-]+"$/ } })
  const etag = list.headers.etag!
  t.equal((await manage('PUT', listPath, { entries: ['127.0.0.1'] })).status, 428)
  const added = await manage('PUT', listPath, { entries: ['127.0.0.1', { entry: '203.0.113.0/24', note: 'Fjord' }] }, { 'if-match': etag })
  t.match(added, { status: 200, json: { entries: ['127.0.0.1', { entry: '203.0.113.0/24', note: 'Fjord' }] } })
  t.match(await manage('PUT', listPath, { entries: ['127.0.0.1'] }, { 'if-match': etag }), { status: 412, json: { code: 'ERR_IP_ALLOWLIST_VERSION_CONFLICT' } })
  t.equal((await manage('PUT', '/payments/gateway/allowlist/others', { entries: [] }, { 'if-none-match': '*' })).status, 404)

  t.equal((await call(demo, transactionsPath, { token })).status, 200)
  t.match(await manage('PATCH', listPath, { remove: ['127.0.0.1'] }), { status: 409, json: { code: 'ERR_IP_ALLOWLIST_CALLER_EXCLUDED' } })
  demo.nowMs += 60_000
  t.equal((await manage('PATCH', `${listPath}?force=true`, { remove: ['127.0.0.1'] })).status, 200)
  const shut = { status: 403, json: { code: 'ERR_IP_ALLOWLIST_ADDRESS_DENIED' } }
  t.match(await call(demo, transactionsPath, { token }), shut)
  t.match(await call(demo, transactionsPath, { token, body: transaction, headers: signatureOf(demo, fjord) }), shut)
  t.match(await call(demo, '/payments/auth/token', { body: { client_id: fjord.merchant.id, client_secret: fjord.clientSecret } }), shut)
  t.match(await refresh(demo, renewable), shut)
  const expiresAt = new Date(demo.nowMs + 30_000).toISOString()
  t.equal((await manage('PATCH', listPath, { add: [{ entry: '127.0.0.1', expiresAt }] })).status, 200, 'administrators are not held to the list')
  t.equal((await call(demo, transactionsPath, { token })).status, 200)
  demo.nowMs += 30_000
  t.match(await call(demo, transactionsPath, { token }), shut, 'until the entry ends')

  const history = await manage('GET', `${listPath}/history`)
  const by = { subject: 'ann', tenant: GATEWAY, address: '127.0.0.1' }
  t.match(history.json['changes'], [
    { action: 'patched', by, forced: false, added: [{ entry: '127.0.0.1', expiresAt }] },
    { action: 'patched', by, forced: true, removed: ['127.0.0.1'], at: new Date(demo.nowMs - 30_000).toISOString() },
    { action: 'replaced', by, added: [{ entry: '203.0.113.0/24', note: 'Fjord' }], removed: ['::1'], at: new Date(demo.nowMs - 90_000).toISOString() }
  ])
  t.equal((history.json['changes'] as unknown[]).length, 3, 'what was refused is no change')
  t.equal(demo.logLines.filter((line) => line.includes('a list of addresses was changed')).length, 3)
  t.equal((await manage('DELETE', `${listPath}?force=true`, undefined, { 'if-match': '*' })).status, 204)
  t.match(await call(demo, transactionsPath, { token }), shut, 'without a list nobody passes')
})

t.test('the table of authentication errors is served and stands in the README, and each can be had', async (t) => {
  const demo = await startDemo(t)
  t.same((await call(demo, '/payments/authentication-errors')).json, { errors: paymentsErrors })
  const readme = readFileSync(join(appFolder, 'README.md'), 'utf8').split('\n### Authentication errors of the payments gateway\n')[1]?.split('\n#')[0] ?? ''
  t.same([...readme.matchAll(/^\| (\d+) \| `(\w+)` \| (.+) \|$/gm)].map(([, status, code, cause]) => ({ status: Number(status), code, cause })), paymentsErrors)

  const [fjord, havn] = [await demo.merchants.add('Fjord'), await demo.merchants.add('Havn')]
  const [pair, other] = [await login(demo, fjord), await login(demo, havn)]
  const signed = signatureOf(demo, fjord)
  const post = async (token: string | undefined, headers: Request['headers'] = {}, on = demo): Promise<Answer> => call(on, transactionsPath, { token, body: transaction, headers })
  const get = async (token?: string, on = demo): Promise<Answer> => call(on, transactionsPath, { token })
  const answers = [
    await post(undefined), await post(pair.access), await post(other.access, signed),
    await post(pair.access, { ...signed, 'x-signature': 'ab'.repeat(32) }), await post(pair.access, { ...signed, 'x-nonce': ['a', 'b'] }),
    await post(pair.access, signatureOf(demo, fjord, { body: '' })), await post(pair.access, signatureOf(demo, fjord, { body: '{}' })),
    await get(), await get('x'), await get(pair.refresh), await call(demo, listPath, { token: pair.access }), await refresh(demo, 'x'),
    await call(demo, '/payments/auth/token', { body: { client_id: '1', client_secret: 'x' } })
  ]
  const { text: ambiguous, status: ambiguousStatus } = await demo.sendRaw([`GET ${transactionsPath} HTTP/1.1`, ...[pair, pair].map(({ access }) => `Authorization: Bearer ${access}`)])
  t.equal((await post(pair.access, signed)).status, 201)
  answers.push(await post(pair.access, signed))
  t.equal((await refresh(demo, pair.refresh)).status, 200)
  answers.push(await refresh(demo, pair.refresh), await get(pair.access))
  const claimless: StateStore = { ...forgetful, claim: () => Promise.reject(new Error('down')) }
  const slowly: StateStore = { ...forgetful, get: async () => sleep(900) }
  const { folder, database } = demo
  const [half, down, slow] = await Promise.all([claimless, brokenStore(), slowly].map(async (store) => startDemo(t, { folder, database, store })))
  answers.push(await post(other.access, signatureOf(half!, havn), half), await get(other.access, down), await get(other.access, slow))
  const noDatabase = await startDemo(t, { folder, database: brokenDatabase() })
  answers.push(await get(other.access, noDatabase), await get(undefined, await startDemo(t, { folder, database, tls: false })))
  demo.nowMs += 900_000
  answers.push(await get(other.access), await post(other.access, signatureOf({ ...demo, nowMs: 0 }, havn)))
  for (let i = 0; i < 7; i++) await Promise.all(Array.from({ length: 10 }, async () => refresh(demo, 'x')))
  answers.push(await refresh(demo, 'x'))
  await call(demo, `${listPath}?force=true`, { method: 'DELETE', token: await administratorToken(demo), headers: { 'if-match': '*' } })
  answers.push(await get(other.access))

  const found = answers.map(({ status, json }) => ({ status, code: json['code'] }))
  found.push({ status: ambiguousStatus, code: /"code":"(\w+)"/.exec(ambiguous)?.[1] })
  const sorted = (list: readonly { readonly status: number, readonly code: unknown }[]): readonly string[] => list.map(({ status, code }) => `${status} ${String(code)}`).sort()
  t.same(sorted(found), sorted(paymentsErrors))
})

t.test('without the store or the database it is 503, never 201 and never 401', async (t) => {
  const unavailable = { status: 503, headers: { 'retry-after': '1' } }
  const demo = await startDemo(t)
  const fjord = await demo.merchants.add('Fjord')
  const { access: token, refresh: renewable } = await login(demo, fjord)
  const noStore = await startDemo(t, { folder: demo.folder, database: demo.database, store: brokenStore() })
  t.match(await call(noStore, transactionsPath, { token }), unavailable)
  t.match(await call(noStore, transactionsPath, { token, body: transaction, headers: signatureOf(noStore, fjord) }), unavailable)
  t.match(await call(noStore, '/payments/auth/token', { body: { client_id: fjord.merchant.id, client_secret: fjord.clientSecret } }), unavailable)
  t.match(await refresh(noStore, renewable), unavailable)
  t.match(await call(noStore, transactionsPath, { token, body: transaction, headers: { ...signatureOf(noStore, fjord), 'x-signature': 'ab'.repeat(32) } }), { status: 401 }, 'a wrong signature is wrong all the same')
  const noDatabase = await startDemo(t, { folder: demo.folder, database: brokenDatabase() })
  t.match(await call(noDatabase, transactionsPath, { token }), { ...unavailable, json: { code: 'ERR_IP_ALLOWLIST_LIST_UNAVAILABLE' } }, 'whom the list holds is not known')
  t.match(await call(noDatabase, listPath, { token: await administratorToken(noDatabase) }), unavailable)
})
