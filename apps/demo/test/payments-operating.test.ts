import { randomUUID } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ListChange, ListReplacement } from '@sallyport/ip-allowlist'
import t, { type Test } from 'tap'
import { openDatabase, type Database } from '../src/database.js'
import { openMerchants } from '../src/merchants.js'
import { migrate } from '../src/migrations.js'
import { sqlListStore } from '../src/sql-list-store.js'
import { copyDatabase, spellingsOf, tempFolder, type Answer } from './fixtures/demo.js'
import { command, needsPostgres, ownSchema, startMain, type Running } from './fixtures/processes.js'

const merchant = command('merchant')
const listPath = '/payments/gateway/allowlist/merchants'

/** In other processes a revocation counts after this time at the latest. */
const MAX_STALENESS_MS = 1_000

/**
 * Asks every 25 ms until it is 401, for 5 s at most. Resolves with the last answer, and with how long after the revocation a
 * request was sent that was still accepted: to count from the sending leaves out how slowly the machine answers.
 */
async function untilRefused (ask: () => Promise<number>, revokedAt: number): Promise<{ readonly answer: number, readonly acceptedForMs: number }> {
  for (let acceptedForMs = 0; ;) {
    const afterMs = Date.now() - revokedAt
    const answer = await ask()
    if (answer === 200) acceptedForMs = afterMs
    if (answer === 401 || afterMs > 5_000) return { answer, acceptedForMs }
    await sleep(25)
  }
}

/** What the store does on either database. */
async function keepsLists (t: Test, database: Database): Promise<void> {
  const store = sqlListStore(database)
  const change = (list: string, at = '2030-01-01T00:00:00.000Z'): ListChange => ({ list, at, by: { subject: 'ann' }, action: 'patched', forced: false, added: ['::1'], addedCount: 1, removed: [], removedCount: 0 })
  const replacement = (name: string, expected: string | undefined, entries: ListReplacement['entries']): ListReplacement => ({ name, expected, entries, change: change(name) })
  t.same(await store.read('merchants'), { version: 'first', entries: [{ entry: '127.0.0.1', note: 'this machine' }, { entry: '::1', note: 'this machine' }] }, 'the list to begin with')
  t.equal(await store.read('others'), undefined)

  const entries = ['10.0.0.0/8', { entry: '192.0.2.1', note: 'it\'s "Ångström"', expiresAt: '2030-01-01T00:00:00.000Z' }]
  const made = await store.replace(replacement('others', undefined, entries))
  if (!made.replaced) throw new Error('not made')
  t.same(await store.read('others'), { version: made.version, entries })
  t.same(await store.versions(), new Map([['merchants', 'first'], ['others', made.version]]))
  for (const expected of [undefined, 'first', '', randomUUID()]) t.same(await store.replace(replacement('others', expected, [])), { replaced: false }, `expecting ${String(expected)}`)
  for (const expected of ['first', randomUUID()]) t.same(await store.replace(replacement('others', expected, undefined)), { replaced: false }, 'nor is it removed')
  t.same(await store.replace(replacement('nowhere', undefined, undefined)), { replaced: false })
  t.same(await store.replace(replacement('nowhere', 'first', [])), { replaced: false })

  const results = await Promise.all(Array.from({ length: 20 }, async (_, i) => store.replace(replacement('others', made.version, [`10.0.0.${i}`]))))
  const winners = results.flatMap((result, i) => result.replaced ? [{ version: result.version, entries: [`10.0.0.${i}`] }] : [])
  t.equal(winners.length, 1, 'of twenty that expect one version')
  t.same(await store.read('others'), winners[0])
  const created = await Promise.all(Array.from({ length: 20 }, async () => store.replace(replacement('new', undefined, []))))
  t.equal(created.filter(({ replaced }) => replaced).length, 1, 'of twenty that make one list')
  t.equal((await store.replace(replacement('others', winners[0]!.version, undefined))).replaced, true)
  t.equal(await store.read('others'), undefined)
  const again = await store.replace(replacement('others', undefined, entries))
  t.notOk('version' in again && [made.version, winners[0]!.version].includes(again.version), 'no version comes again')

  t.same(await store.history('others', 100), Array.from({ length: 4 }, () => change('others')), 'what was made, and nothing of what was not; of a removed list too')
  t.equal(JSON.stringify((await store.history('others', 1))[0]), JSON.stringify(change('others')), 'as it was written')
  await database.query('insert into address_list_changes (list, change) values ($1, $2)', ['others', JSON.stringify(change('others', 'later'))])
  t.match(await store.history('others', 2), [{ at: 'later' }, { at: '2030-01-01T00:00:00.000Z' }], 'the newest first')
}

async function onDatabase (t: Test, url: string | undefined): Promise<void> {
  const folder = tempFolder(t)
  if (url === undefined) await copyDatabase(folder)
  const database = await openDatabase({ folder, url })
  t.teardown(() => database.close())
  await migrate(database)
  await keepsLists(t, database)
}

t.test('lists and their trail, on the embedded database', async (t) => onDatabase(t, undefined))
t.test('lists and their trail, on PostgreSQL', await needsPostgres(), async (t) => onDatabase(t, (await ownSchema(t)).href))

t.test('two processes on one PostgreSQL go by a changed list within a second, and are one to refresh tokens and nonces', await needsPostgres(), async (t) => {
  const folder = tempFolder(t)
  const env = { DATABASE_URL: (await ownSchema(t)).href }
  const [one, other] = [await startMain(t, folder, env), await startMain(t, folder, env)]
  const post = async ({ send }: Running, path: string, body: string, headers: Readonly<Record<string, string>> = {}, method = 'POST'): Promise<Answer> => send({ method, path, body, headers })
  const login = readFileSync(join(folder, 'merchants', '300001', 'login.json'), 'utf8')
  const pair = await post(one, '/payments/auth/token', login)
  t.equal(pair.status, 200)
  const get = async ({ send }: Running): Promise<number> => (await send({ path: '/payments/v3.0/transactions', headers: { authorization: `Bearer ${String(pair.json['access_token'])}` } })).status
  t.same([await get(one), await get(other)], [200, 200])

  const authorization = `Bearer ${(await merchant(folder, 'administrator', 'ann')).stdout.trim()}`
  const change = async (body: object): Promise<Answer> => post(one, `${listPath}?force=true`, JSON.stringify(body), { authorization }, 'PATCH')
  for (const [body, status] of [[{ remove: ['127.0.0.1'] }, 403], [{ add: ['127.0.0.1'] }, 200]] as const) {
    t.equal((await change(body)).status, 200)
    const changedAt = Date.now()
    t.equal(await get(one), status, 'at once where it was changed')
    while (await get(other) !== status && Date.now() - changedAt < 5_000) await sleep(20)
    t.ok(Date.now() - changedAt < 1_000, `${Date.now() - changedAt} ms elsewhere`)
  }

  const refresh = async (running: Running): Promise<number> => (await post(running, '/payments/auth/refresh', JSON.stringify({ refresh_token: pair.json['refresh_token'] }))).status
  t.equal(await refresh(one), 200)
  t.equal(await refresh(other), 401, 'a refresh token that the other process used')
  const revokedAt = Date.now()
  t.equal(await get(other), 401, 'ends the family, at once here')
  const { answer, acceptedForMs } = await untilRefused(async () => get(one), revokedAt)
  t.equal(answer, 401, 'and soon there')
  t.ok(acceptedForMs < MAX_STALENESS_MS, `accepted there for ${acceptedForMs} ms`)
})

t.test('the operator onboards merchants, rotates what they have and ends their tokens while the server runs', async (t) => {
  const folder = tempFolder(t)
  const { send } = await startMain(t, folder)
  const told = (text: string): Readonly<Record<string, string>> => Object.fromEntries([...text.matchAll(/^(merchant|client secret|HMAC key id|HMAC secret) +(\S+)$/gm)].map(([, name, value]) => [name!, value!]))
  const token = async (client_id: string, client_secret: string): Promise<Answer> => send({ method: 'POST', path: '/payments/auth/token', body: JSON.stringify({ client_id, client_secret }) })
  const added = await merchant(folder, 'add', ' Sjø "Kiosk" ')
  t.match(added, { code: 0, stdout: /^merchant {7}300003\nname {11}Sjø "Kiosk"\n[^]*shown this once/ })
  const first = told(added.stdout)
  const login = await token('300003', first['client secret']!)
  t.equal(login.status, 200)
  const next = told((await merchant(folder, 'rotate', '300003', '--overlap-hours', '1')).stdout)
  t.same([(await token('300003', first['client secret']!)).status, (await token('300003', next['client secret']!)).status], [200, 200])
  t.match(await merchant(folder, 'list'), { code: 0, stdout: new RegExp(`\n300003 +Sjø "Kiosk"; keys: ${first['HMAC key id']!} until \\S+, ${next['HMAC key id']!}\n$`) })
  t.match(await merchant(folder, 'revoke', '300003'), { code: 0, stdout: /; tokens issued until \S+ are refused\n$/ })
  t.equal((await send({ path: '/payments/v3.0/transactions', headers: { authorization: `Bearer ${String(login.json['access_token'])}` } })).status, 401)
  t.equal((await send({ method: 'POST', path: '/payments/auth/refresh', body: JSON.stringify({ refresh_token: login.json['refresh_token'] }) })).status, 401)
  const { exp, iat, sub, scope } = JSON.parse(Buffer.from((await merchant(folder, 'administrator', 'ann', '--hours', '1')).stdout.split('.')[1]!, 'base64url').toString()) as { exp: number, iat: number, sub: unknown, scope: unknown }
  t.same({ lifetime: exp - iat, sub, scope }, { lifetime: 3_600, sub: 'ann', scope: 'gateway:write' })

  const refused: readonly (readonly [args: readonly string[], says: RegExp])[] = [
    [[], /usage/], [['add'], /usage/], [['add', ' '], /usage/], [['add', 'A', 'B'], /usage/], [['toString'], /usage/], [['list', '--hours', '1'], /usage/],
    [['rotate', '1'], /there is no merchant 1/], [['rotate', '300003', '--overlap-hours', '-1'], /./], [['revoke', '1'], /there is no merchant 1/],
    [['administrator', ''], /usage/], [['administrator', 'ann', '--hours', '25'], /--hours must be .* 1 to 24\n/], [['administrator', 'ann', '--hours', '0'], /--hours must be .* 1 to 24\n/]
  ]
  await Promise.all(refused.map(async ([args, says]) => t.match(await merchant(folder, ...args), { code: 1, stdout: '', stderr: says }, args.join(' '))))
  const stored = readFileSync(join(folder, 'merchants.json'), 'utf8')
  const secrets = [first, next].flatMap((each) => [each['client secret']!, each['HMAC secret']!])
  t.notOk(secrets.flatMap(spellingsOf).some((spelling) => stored.includes(spelling)), 'no secret lies in clear')
})

t.test('a register of merchants that was tampered with is not believed', async (t) => {
  const folder = tempFolder(t)
  await openMerchants({ folder })
  interface Entry { id: string, revokedAt?: string, credentials: [Record<'keyId' | 'sealedKey' | 'clientSecretHash' | 'notAfter', string>] }
  const tampered: Readonly<Record<string, (merchants: [Entry, Entry]) => unknown>> = {
    'a key of another merchant': ([one, other]) => { one.credentials = other.credentials },
    'the seal of another key': ([one, other]) => { one.credentials[0].sealedKey = other.credentials[0].sealedKey },
    'one key id twice': ([one, other]) => { one.credentials[0].keyId = other.credentials[0].keyId },
    'a hash that is none': ([{ credentials: [own] }]) => { own.clientSecretHash = 'short' },
    'one number twice': ([one, other]) => { one.id = other.id },
    'a number that is the administrators\'': ([one]) => { one.id = 'gateway' },
    'no credentials': ([one]) => Object.assign(one, { credentials: [] }),
    'an end that is none': ([{ credentials: [own] }]) => { own.notAfter = 'soon' },
    'a member too many': ([one]) => Object.assign(one, { scopes: ['gateway:write'] })
  }
  const path = join(folder, 'merchants.json')
  const text = readFileSync(path, 'utf8')
  for (const [what, tamper] of Object.entries(tampered)) {
    const register = JSON.parse(text) as { merchants: [Entry, Entry] }
    tamper(register.merchants)
    writeFileSync(path, JSON.stringify(register))
    await t.rejects(openMerchants({ folder }), /merchant register/, what)
  }
  writeFileSync(path, text)
  t.equal((await openMerchants({ folder })).list().length, 2)
})
