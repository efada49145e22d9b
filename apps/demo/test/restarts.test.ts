import { spawn } from 'node:child_process'
import { createSecretKey, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { createTokenService, type TokenPair } from '@sallyport/bearer-jwt'
import { redisStore } from '@sallyport/guard'
import { createRequestSigner, headers, layeredGateway } from '@sallyport/hmac-auth'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { appFolder } from '../src/config.js'
import { openDatabase } from '../src/database.js'
import { sqlStore } from '../src/sql-store.js'
import { spellingsOf, tempFolder, type Answer, type Call } from './fixtures/demo.js'
import { command, end, gateTo, needsPostgres, needsRedisServer, ownSchema, script, startMain, startRedis, type Gate, type Running } from './fixtures/processes.js'

/** Where a demo keeps what it must not forget. */
interface Storage {
  readonly folder: string
  readonly databaseUrl?: string
  readonly redisUrl?: string
  /** What can be shut to take the store away. */
  readonly gate?: Gate
}

function environmentOf ({ databaseUrl, redisUrl }: Storage): Readonly<Record<string, string>> {
  return { LOG_LEVEL: 'trace', ...(databaseUrl !== undefined && { DATABASE_URL: databaseUrl }), ...(redisUrl !== undefined && { REDIS_URL: redisUrl }) }
}

/** Everything that must not be found anywhere. */
class Canaries {
  readonly secrets = new Set<string>()

  keep<T extends string> (secret: T): T {
    this.secrets.add(secret)
    return secret
  }

  /** The token of an answer, which holds one. */
  tokenOf ({ status, text, json }: Answer): string {
    if (typeof json['token'] !== 'string') throw new Error(`no token, but ${status} ${text}`)
    return this.keep(json['token'])
  }

  /** As they are, their signatures or seals alone, and in other encodings. */
  spellings (): readonly string[] {
    return [...this.secrets].flatMap((secret) => [secret, ...secret.split('.').slice(-1)]).flatMap(spellingsOf)
  }
}

const order = { order_number: 'A-1', ship_to: { name: 'Ann', address1: 'Main St 1', city: 'Oslo', country: 'NO' }, line_items: [{ sku: 'TENT-2', quantity: 1 }] }

function post (path: string, body: unknown, token?: string, method = 'POST'): Call {
  return { method, path, ...(body !== undefined && { body: JSON.stringify(body) }), headers: token === undefined ? {} : { authorization: `Bearer ${token}` } }
}

interface Toured { readonly ended: Readonly<Record<string, Call>>, readonly live: Readonly<Record<string, Call>> }

/** What a new user does, mistakes included. Resolves with calls that must be refused from now on, and with some that must not. */
async function tour (t: Test, running: Running, storage: Storage, canaries: Canaries): Promise<Toured> {
  const { send } = running
  const account = command('account')
  const added = await account(storage.folder, 'add', 'Fjell Sport')
  const [, slug = '', first = ''] = /^account {6}([a-z-]+)\n[^]*^token {8}(\S+)$/m.exec(added.stdout) ?? []
  t.equal(slug, 'fjell-sport', added.stderr)
  canaries.keep(first)
  const [orders, secrets] = [`/fulfilment/${slug}/api/v1/orders`, `/fulfilment/${slug}/api/v1/secrets`]
  t.equal((await send(post(orders, order, first))).status, 201)
  const secret = async (phrase: string, more: object = {}): Promise<{ readonly id: unknown, readonly token: string }> => {
    const answer = await send(post(secrets, { secret_phrase: canaries.keep(phrase), ...more }, first))
    return { id: answer.json['id'], token: canaries.tokenOf(answer) }
  }
  const [kept, ended] = [await secret('canary phrase one: zq81'), await secret('canary phrase two: xk97')]
  await secret('canary phrase three: wv55', { use: 'callback' })
  for (const { token } of [kept, ended]) t.match(await send(post(orders, undefined, token, 'GET')), { status: 200, json: { orders: [{ order_number: 'A-1' }] } })
  t.equal((await send(post(`${secrets}/${String(ended.id)}`, undefined, first, 'DELETE'))).status, 204)
  const gone = canaries.keep((await account(storage.folder, 'token', 'havn-trading')).stdout.trim())
  t.match(await account(storage.folder, 'revoke', 'havn-trading'), { code: 0, stdout: /havn-trading .* are refused\n$/ })

  const login = JSON.parse(readFileSync(join(storage.folder, 'admin-login.json'), 'utf8')) as { name: string, password: string }
  canaries.keep(login.password)
  const admin = canaries.tokenOf(await send(post('/commerce/api/login', login)))
  const boomi = { name: 'Boomi Integration', password: canaries.keep('canary password: rt44'), permissions: ['inventory:write', 'tokens:write'] }
  t.equal((await send(post('/commerce/api/users', boomi, admin))).status, 201)
  const own = canaries.tokenOf(await send(post('/commerce/api/login', { name: boomi.name, password: boomi.password })))
  const issued = await send(post('/commerce/api/tokens', { purpose: 'nightly stock', validitySeconds: 3600 }, own))
  const named = canaries.tokenOf(issued)
  const update = (token: string): Call => post('/commerce/api/updateInventory', { productId: 'TENT-2', facilityId: 'OSLO', quantity: 40 }, token)
  t.equal((await send(update(named))).status, 200)
  t.equal((await send(post(`/commerce/api/tokens/${String(issued.json['id'])}`, undefined, own, 'DELETE'))).status, 204)

  const paid = await tourPayments(t, running, storage, canaries)

  const mistakes: readonly Call[] = [
    post('/commerce/api/login', { name: boomi.name, password: canaries.keep('canary guess: pl73') }), post('/commerce/api/login', { name: canaries.keep('canary typed as a name: oo12') }),
    { ...post('/commerce/api/login', {}), body: `{"name":"x","password":"${boomi.password}` }, post('/commerce/api/users', { ...boomi, name: '' }, admin), post('/commerce/api/users', boomi, admin),
    post(secrets, { secret_phrase: canaries.keep('canary ff'), more: 1 }, first), post(secrets, [canaries.keep('canary phrase in a list: jj18')], first),
    post(orders, order, kept.token.slice(0, -2)), post(orders, order, `${kept.token} ${first}`), { path: orders, headers: { authorization: `Basic ${named}`, cookie: `token=${admin}` } }
  ]
  for (const mistake of mistakes) t.ok([400, 401, 409].includes((await send(mistake)).status))
  return {
    ended: { 'a token of POST secrets': post(orders, undefined, ended.token, 'GET'), 'a named token': update(named), 'an account\'s tokens': post('/fulfilment/havn-trading/api/v1/orders', undefined, gone, 'GET'), ...paid.ended },
    live: { 'the first token': post(orders, undefined, first, 'GET'), 'a token of POST secrets': post(orders, undefined, kept.token, 'GET'), 'a login': update(own), ...paid.live }
  }
}

/** A merchant's part: a pair, a signed transaction, a stolen refresh token; and a change of who may call. */
async function tourPayments (t: Test, { send, port }: Running, { folder }: Storage, canaries: Canaries): Promise<Toured> {
  const merchant = command('merchant')
  const added = await merchant(folder, 'add', 'Sjø Kiosk')
  const [id = '', clientSecret = '', keyId = '', keySecret = ''] = [...added.stdout.matchAll(/^(?:merchant|client secret|HMAC key id|HMAC secret) +(\S+)$/gm)].map(([, value]) => value!)
  t.equal(id, '300003', added.stderr)
  for (const secret of [clientSecret, keySecret]) canaries.keep(secret)
  const pair = async (path: string, body: object): Promise<{ readonly access: string, readonly refresh: string }> => {
    const { status, text, json } = await send(post(`/payments/auth/${path}`, body))
    t.equal(status, 200, text)
    return { access: canaries.keep(String(json['access_token'])), refresh: canaries.keep(String(json['refresh_token'])) }
  }
  const login = { client_id: id, client_secret: clientSecret }
  const [stolen, good] = [await pair('token', login), await pair('token', login)]
  const next = await pair('refresh', { refresh_token: stolen.refresh })
  t.equal((await send(post('/payments/auth/refresh', { refresh_token: stolen.refresh }))).status, 401)
  const transaction = post('/payments/v3.0/transactions', { reference: 'K-1', amount: 4900, currency: 'NOK' }, good.access)
  const signer = createRequestSigner({ profile: headers(layeredGateway), keyId, secret: Buffer.from(keySecret) })
  const signed: Call = { ...transaction, headers: { ...transaction.headers, ...signer.sign({ method: 'POST', url: `https://127.0.0.1:${port}/payments/v3.0/transactions`, body: transaction.body! }) } }
  t.equal((await send(signed)).status, 201)
  t.equal((await send(signed)).status, 401)
  const administrator = canaries.keep((await merchant(folder, 'administrator', 'ann')).stdout.trim())
  t.match(await send(post('/payments/gateway/allowlist/merchants', { add: ['192.0.2.7'] }, administrator, 'PATCH')), { status: 200 })
  const list = (token: string): Call => post('/payments/v3.0/transactions', undefined, token, 'GET')
  return { ended: { 'a family of tokens': list(next.access) }, live: { 'a merchant\'s login': list(good.access) } }
}

async function stands (t: Test, { send }: Running, { ended, live }: Toured): Promise<void> {
  for (const [what, call] of Object.entries(ended)) t.match(await send(call), { status: 401, json: { code: 'ERR_BEARER_JWT_TOKEN_REVOKED' } }, `${what}: ended`)
  for (const [what, call] of Object.entries(live)) t.equal((await send(call)).status, 200, `${what}: good`)
}

/** A process of its own that refreshes a token once and is killed. */
async function refreshAndDie (t: Test, { folder, databaseUrl, redisUrl }: Storage, key: Buffer): Promise<{ readonly first: TokenPair, readonly next: TokenPair }> {
  const code = `
    import { createSecretKey } from 'node:crypto'
    import { createTokenService } from '@sallyport/bearer-jwt'
    import { redisStore } from '@sallyport/guard'
    import { Redis } from 'ioredis'
    const { folder, databaseUrl: url, redisUrl, key, dist } = JSON.parse(process.argv[1])
    const [{ openDatabase }, { sqlStore }] = await Promise.all(['database', 'sql-store'].map((name) => import(dist + '/' + name + '.js')))
    const store = redisUrl === undefined ? sqlStore(await openDatabase({ folder, url })) : redisStore(new Redis(redisUrl))
    const service = await createTokenService({ issuer: 'urn:test', audience: 'urn:test', signing: { id: 'k', key: createSecretKey(Buffer.from(key, 'hex')) }, retrySeconds: 0, storeTimeoutMs: 1_500, store })
    const first = await service.issuePair({ subject: 'somebody' })
    process.send({ first, next: await service.refresh(first.refresh.token) })
    setInterval(() => {}, 1_000)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', code, JSON.stringify({ folder, databaseUrl, redisUrl, key: key.toString('hex'), dist: script('') })], {
    cwd: appFolder, stdio: ['ignore', 'inherit', 'inherit', 'ipc'], env: { ...process.env, NODE_OPTIONS: '' }
  })
  t.teardown(() => child.kill('SIGKILL'))
  const ended = once(child, 'exit').then(() => { throw new Error('the process ended') })
  const [pairs] = await Promise.race([once(child, 'message'), ended]) as [{ first: TokenPair, next: TokenPair }]
  ended.catch(() => { /* as it should */ })
  await end(child, 'SIGKILL')
  return pairs
}

async function refreshStands (t: Test, storage: Storage, canaries: Canaries): Promise<void> {
  const key = randomBytes(32)
  const { first, next } = await refreshAndDie(t, storage, key)
  for (const { token } of [first.access, first.refresh, next.access, next.refresh]) canaries.keep(token)
  const database = await openDatabase({ folder: storage.folder, url: storage.databaseUrl })
  const redis = storage.redisUrl === undefined ? undefined : new Redis(storage.redisUrl)
  const service = await createTokenService({
    issuer: 'urn:test', audience: 'urn:test', signing: { id: 'k', key: createSecretKey(key) }, retrySeconds: 0, storeTimeoutMs: 1_500, store: redis === undefined ? sqlStore(database) : redisStore(redis)
  })
  await t.rejects(service.refresh(first.refresh.token), { code: 'ERR_BEARER_JWT_REFRESH_REUSED' }, 'a used refresh token')
  await t.rejects(service.refresh(next.refresh.token), { code: 'ERR_BEARER_JWT_REFRESH_INVALID' }, 'and its family is ended')
  service.close()
  redis?.disconnect()
  await database.close()
}

type Places = Readonly<Record<string, readonly string[]>>

/** All that the database, the files of the embedded one and Redis hold. */
async function dump ({ folder, databaseUrl, redisUrl }: Storage): Promise<Places> {
  const database = await openDatabase({ folder, url: databaseUrl })
  const tables = await database.query<{ name: string }>('select table_name as name from information_schema.tables where table_schema = current_schema()')
  const rows = await Promise.all(tables.map(async ({ name }) => database.query(`select * from "${name}"`)))
  await database.close()
  return {
    'the database': rows.flat().map((row) => JSON.stringify(row)),
    ...(databaseUrl === undefined && { 'the files of the database': filesIn(join(folder, 'database')) }),
    ...(redisUrl !== undefined && { Redis: await dumpRedis(redisUrl) })
  }
}

function filesIn (folder: string): readonly string[] {
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((name) => join(folder, name))
  return files.filter((file) => statSync(file).isFile()).map((file) => readFileSync(file, 'latin1'))
}

async function dumpRedis (url: string): Promise<readonly string[]> {
  const redis = new Redis(url)
  const keys = await redis.keys('*')
  const entries = await Promise.all(keys.map(async (key) => `${key} ${await redis.get(key) ?? ''}`))
  redis.disconnect()
  return entries
}

/** Something in each place that is known to be there: whoever looks where nothing is finds nothing. */
const controls: Readonly<Record<string, readonly string[]>> = {
  'the logs': ['incoming request', 'fjell-sport'],
  'the database': ['"order_number":"A-1"', 'Boomi Integration', '"reference":"K-1"'],
  'the files of the database': ['Boomi Integration', 'fjell-sport'],
  'Redis': ['nightly stock', 'fjell-sport']
}

async function outage (t: Test, gate: Gate, running: Running, toured: Toured): Promise<void> {
  const { send } = running
  const { live } = toured
  await gate.close()
  // What is revoked is known for one second more.
  await sleep(1_100)
  for (const [what, call] of Object.entries(live)) t.match(await send(call), { status: 503, headers: { 'retry-after': '1' } }, `${what}: not 200, and not 401`)
  t.equal((await send({ path: '/health' })).status, 200)
  await gate.open()
  for (let tries = 0; tries < 100 && (await send(live['a login']!)).status !== 200; tries++) await sleep(50)
  await stands(t, running, toured)
}

async function holds (t: Test, storage: Storage): Promise<void> {
  const canaries = new Canaries()
  const first = await startMain(t, storage.folder, environmentOf(storage))
  const toured = await tour(t, first, storage, canaries)
  await stands(t, first, toured)
  await end(first.child, 'SIGKILL')
  await refreshStands(t, storage, canaries)
  const second = await startMain(t, storage.folder, environmentOf(storage))
  await stands(t, second, toured)
  if (storage.gate !== undefined) await outage(t, storage.gate, second, toured)
  await end(second.child, 'SIGKILL')

  const places: Places = { 'the logs': [first.output(), second.output()], ...await dump(storage) }
  t.same(Object.keys(places), ['the logs', 'the database', ...(storage.databaseUrl === undefined ? ['the files of the database'] : []), ...(storage.redisUrl === undefined ? [] : ['Redis'])])
  for (const [where, texts] of Object.entries(places)) {
    t.ok(texts.length > 0, `${where}: not empty`)
    for (const known of controls[where]!) t.ok(texts.some((text) => text.includes(known)), `${where}: holds ${known}`)
    const leaked = canaries.spellings().filter((spelling) => texts.some((text) => text.includes(spelling)))
    t.same(leaked, [], `no token, phrase or password in ${where}`)
  }
}

t.test('a secret would be found wherever in a text it stands, in base64 too', async (t) => {
  const canaries = new Canaries()
  const secret = canaries.keep('canary phrase: ~?~>Ñ 7')
  const finds = (text: string): boolean => canaries.spellings().some((spelling) => text.includes(spelling))
  const around = ['', 'a', 'ab', 'abc', 'abcd'].flatMap((before) => ['', 'y', 'yz'].map((after) => (inner: string) => `${before}${inner}${after}`))
  for (const encoding of ['utf8', 'hex', 'base64', 'base64url'] as const) {
    const texts = around.map((within) => Buffer.from(within(secret)).toString(encoding))
    t.same(texts.filter((text) => !finds(text)), [], encoding)
    t.same(around.map((within) => Buffer.from(within(secret.replace('~', '!'))).toString(encoding)).filter(finds), [], `${encoding}: but no other`)
  }
  t.ok(finds(`a=${encodeURIComponent(secret)}`))
})

t.test('on the embedded database', async (t) => holds(t, { folder: tempFolder(t) }))

t.test('on PostgreSQL', await needsPostgres(), async (t) => {
  const url = await ownSchema(t)
  const gate = await gateTo(t, { host: url.hostname, port: Number(url.port || 5432) })
  const gated = new URL(url)
  gated.host = `127.0.0.1:${gate.port}`
  await holds(t, { folder: tempFolder(t), databaseUrl: gated.href, gate })
})

t.test('on Redis', { ...await needsPostgres(), ...needsRedisServer() }, async (t) => {
  const gate = await gateTo(t, { host: '127.0.0.1', port: await startRedis(t) })
  await holds(t, { folder: tempFolder(t), databaseUrl: (await ownSchema(t)).href, redisUrl: `redis://127.0.0.1:${gate.port}`, gate })
})
