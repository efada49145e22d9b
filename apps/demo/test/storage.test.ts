import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { chownSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { inspect } from 'node:util'
import type { ClaimResult } from '@sallyport/guard'
import t, { type Test } from 'tap'
import { DatabaseError, openDatabase, type Database, type DatabaseOptions } from '../src/database.js'
import { migrate, migrations } from '../src/migrations.js'
import { sqlStore } from '../src/sql-store.js'

const serverUrl = process.env['DATABASE_URL'] || 'postgres://postgres@127.0.0.1:5432/test'
const temporary = mkdtempSync(join(tmpdir(), 'sallyport-storage-'))
t.teardown(() => rmSync(temporary, { recursive: true, force: true }))

/** Options for a test that needs a service: skipped with the reason where it is missing, a failure where REQUIRE_SERVICES=1. */
function needs (missing: string | undefined): { skip?: string } {
  if (missing === undefined) return {}
  if (process.env['REQUIRE_SERVICES'] === '1') throw new Error(`${missing}, and REQUIRE_SERVICES=1`)
  return { skip: missing }
}

/** The error that `work` is refused with. */
async function refusal (work: Promise<unknown>): Promise<DatabaseError> {
  const error: unknown = await work.then(() => undefined, (error: unknown) => error)
  if (!(error instanceof DatabaseError)) throw new Error('expected a DatabaseError', { cause: error })
  return error
}

/** Asks until it is answered, for five seconds at most. */
async function untilAnswered<T> (ask: () => Promise<T>, tries = 100): Promise<T> {
  return ask().catch(async (error: unknown) => {
    if (tries === 0) throw error
    await sleep(50)
    return untilAnswered(ask, tries - 1)
  })
}

function countClaimed (results: readonly ClaimResult[]): number {
  return results.filter(({ claimed }) => claimed).length
}

/** A process of its own on the built code. It has the database open when this resolves, and runs `body` when it is told to. */
async function startProcess (t: Test, options: DatabaseOptions, body: string): Promise<{ child: ChildProcess, run: () => Promise<unknown> }> {
  const dist = new URL('../dist/', import.meta.url).href
  const script = `
    const [{ openDatabase }, { migrate }, { sqlStore }] = await Promise.all(['database', 'migrations', 'sql-store'].map((name) => import('${dist}' + name + '.js')))
    const database = await openDatabase(JSON.parse(process.argv[1]))
    const store = sqlStore(database)
    process.once('message', async () => process.send(await (async () => { ${body} })()))
    process.send('ready')`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script, JSON.stringify(options)], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'], env: { ...process.env, NODE_OPTIONS: '' }
  })
  t.teardown(() => child.kill('SIGKILL'))
  const ended = once(child, 'exit').then(() => { throw new Error('the process ended') })
  const message = async (): Promise<unknown> => (await Promise.race([once(child, 'message'), ended]) as unknown[])[0]
  await message()
  return { child, async run () { const said = message(); child.send('run'); return said } }
}

/** What `body` returned in each of four processes that ran it at the same time. */
async function inFourProcesses<T> (t: Test, options: DatabaseOptions, body: string): Promise<T[]> {
  const processes = await Promise.all(Array.from({ length: 4 }, async () => startProcess(t, options, body)))
  return Promise.all(processes.map(async ({ run }) => run() as Promise<T>))
}

/** What both databases do. Each behaviour gets a key of its own. */
const behaviours: Record<string, (t: Test, database: Database, key: string) => Promise<void>> = {
  'lets exactly one of 200 concurrent claims win, and tells the others its value': async (t, database, key) => {
    const store = sqlStore(database)
    const results = await Promise.all(Array.from({ length: 200 }, async (_, i) => store.claim(key, 60_000, `owner-${i}`)))
    t.equal(countClaimed(results), 1)
    const winner = `owner-${results.findIndex(({ claimed }) => claimed)}`
    t.ok(results.every((result) => result.claimed || result.value === winner))
    t.equal(await store.get(key), winner)
  },
  'keeps a key to the millisecond of its expiry, and then lets exactly one of 100 have it': async (t, database, key) => {
    let now = Date.UTC(2030, 0, 1)
    const store = sqlStore(database, { clock: () => now })
    t.same(await store.claim(key, 50, 'first'), { claimed: true })
    now += 49
    t.same(await store.claim(key, 60_000), { claimed: false, value: 'first' })
    now += 1
    t.equal(await store.get(key), undefined)
    const results = await Promise.all(Array.from({ length: 100 }, async (_, i) => store.claim(key, 50, `owner-${i}`)))
    t.equal(countClaimed(results), 1)
    await store.release(key, 'first')
    t.match(await store.get(key), /^owner-/, 'the first owner lost it by then')
    now = NaN
    await t.rejects(store.claim(key, 50), TypeError)
  },
  'lets a key expire by the clock of the database, and releases it for its owner only': async (t, database, key) => {
    const store = sqlStore(database)
    await store.claim(key, 250, 'first')
    t.same(await store.claim(key, 60_000), { claimed: false, value: 'first' })
    await sleep(300)
    t.equal(await store.get(key), undefined)
    t.same(await store.claim(key, Number.MAX_SAFE_INTEGER, 'owner'), { claimed: true })
    for (const other of ['first', '', 'owner ', '%']) await store.release(key, other)
    t.same(await store.claim(key, 60_000), { claimed: false, value: 'owner' })
    await store.release(key, 'owner')
    t.same(await store.claim(key, 60_000), { claimed: true })
  },
  'never has two holders while twenty claim and release': async (t, database, key) => {
    const store = sqlStore(database)
    let [holders, most, wins] = [0, 0, 0]
    await Promise.all(Array.from({ length: 20 }, async (_, i) => {
      for (let tries = 0; tries < 20; tries++) {
        if (!(await store.claim(key, 60_000, String(i))).claimed) continue
        most = Math.max(most, ++holders)
        wins++
        await sleep(1)
        holders--
        await store.release(key, String(i))
      }
    }))
    t.equal(most, 1)
    t.ok(wins > 1, `${wins} wins`)
  },
  'replaces a value and its time with set, and forgets with delete': async (t, database, key) => {
    const store = sqlStore(database)
    await store.set(key, 'one', 1)
    await store.set(key, 'two', 60_000)
    t.same(await store.claim(key, 60_000), { claimed: false, value: 'two' })
    await store.delete(key)
    t.equal(await store.get(key), undefined)
    t.same(await store.claim(key, 60_000), { claimed: true })
    for (const ttlMs of [0, -1, 1.5, NaN, Infinity]) {
      await t.rejects(store.claim(key, ttlMs), TypeError)
      await t.rejects(store.set(key, 'value', ttlMs), TypeError)
    }
  },
  'tells all keys apart, and keeps none readable': async (t, database, key) => {
    const store = sqlStore(database)
    const keys = ['', ' ', 'é', 'e\u0301', '\ud800', '\ud801', '\ufffd', '\0', 'x'.repeat(100_000)]
    t.equal(countClaimed(await Promise.all(keys.map(async (each) => store.claim(key + each, 60_000)))), keys.length)
    const rows = await database.query<{ key: string }>('select key from state')
    t.ok(rows.every((row) => /^[\w-]{43}$/.test(row.key)))
  },
  'sweeps what expired as others write, and nothing else': async (t, database, key) => {
    await database.query('delete from state')
    let now = Date.UTC(2030, 0, 1)
    const store = sqlStore(database, { clock: () => now })
    for (let i = 0; i < 100; i++) await store.claim(`${key}-old-${i}`, 1_000)
    now += 2_000
    await store.claim(`${key}-recent`, 1_000)
    now += 60_000
    for (let i = 0; i < 128; i++) await store.set(`${key}-live-${i}`, '', 1_000)
    const left = async (): Promise<readonly unknown[]> => database.query('select key from state')
    for (let tries = 0; tries < 100 && (await left()).length > 129; tries++) await sleep(20)
    t.equal((await left()).length, 129, 'the live ones, and one within the minute of grace')
  },
  'speaks of values neither in messages nor anywhere else': async (t, database) => {
    await database.query('insert into accounts (slug, name) values ($1, $2)', ['secret-slug', 'a'])
    const duplicate = await refusal(database.query('insert into accounts (slug, name) values ($1, $2)', ['secret-slug', 'b']))
    t.match(duplicate, { code: '23505', constraint: 'accounts_pkey', statusCode: 500 })
    const wrong = await refusal(database.query('select $1::integer', ['secret-text']))
    t.match(wrong, { code: '22P02', constraint: undefined })
    const nul = await refusal(sqlStore(database).set('key', 'secret\0value', 1_000))
    for (const error of [duplicate, wrong, nul]) t.notMatch(inspect(error, { showHidden: true, depth: 9 }), /secret/)
    t.match((await refusal(database.query('select * from nowhere', []))).message, /"nowhere" does not exist/)
  },
  'answers with the same types': async (t, database) => {
    const [row] = await database.query(`select $1::bigint as small, $2::bigint as big, $3::jsonb as json, $4::text[] as list, $5::timestamptz as moment,
      $6::boolean as flag, $7::text as nothing`, [5, '9007199254740993', '[{"a":1}]', ['a,b', '"{}'], new Date(86_400_000), true, undefined])
    t.strictSame(row, { small: 5, big: 9_007_199_254_740_993n, json: [{ a: 1 }], list: ['a,b', '"{}'], moment: new Date(86_400_000), flag: true, nothing: null })
    t.strictSame(await database.query('select 1 as a; select 2 as b'), [{ b: 2 }])
  },
  'commits a transaction whole or not at all': async (t, database, key) => {
    const insert = 'insert into accounts (slug, name) values ($1, $2)'
    const slugs = async (): Promise<readonly unknown[]> => database.query('select slug from accounts where name = $1 order by slug', [key])
    let kept: Database | undefined
    t.equal(await database.transaction(async (inner) => {
      kept = inner
      await Promise.all(['a', 'b'].map(async (slug) => inner.query(insert, [slug + key, key])))
      await t.rejects(database.query('select 1'), TypeError, 'it would wait for the transaction')
      await t.rejects(inner.transaction(async () => {}), TypeError)
      return 5
    }), 5)
    await t.rejects(kept!.query('select 1'), TypeError, 'it has ended')
    const own = new Error('changed my mind')
    await t.rejects(database.transaction(async (inner) => { await inner.query(insert, [`c${key}`, key]); throw own }), own)
    const swallowed = database.transaction(async (inner) => {
      await inner.query(insert, [`d${key}`, key])
      await inner.query('select 1 / 0').catch(() => {})
    })
    t.equal((await refusal(swallowed)).code, '25P02')
    t.same(await slugs(), [{ slug: `a${key}` }, { slug: `b${key}` }])
  },
  'leaves nothing of a migration that fails, and applies none twice': async (t, database) => {
    t.same(await migrate(database), [])
    const broken = { id: 'broken', sql: 'create table half (a integer); select nonsense;' }
    t.equal((await refusal(migrate(database, [broken]))).code, '42703')
    t.same(await migrate(database, [{ ...broken, sql: 'create table half (a integer);' }]), ['broken'])
    t.same(await migrate(database, [broken]), [])
  }
}

async function behaves (t: Test, database: Database): Promise<void> {
  t.same(await migrate(database), migrations.map(({ id }) => id))
  for (const [title, behave] of Object.entries(behaviours)) await t.test(title, async (t) => behave(t, database, randomUUID()))
}

const claimAndStay = 'return store.claim(\'survivor\', 600_000, \'killed\')'

t.test('the embedded database', async (t) => {
  const folder = join(temporary, 'embedded')
  mkdirSync(join(folder, 'database.draft'), { recursive: true })
  writeFileSync(join(folder, 'database.draft', 'PG_VERSION'), '18\n')
  let database = await openDatabase({ folder })
  t.comment('opened on what an interrupted first start left')
  await behaves(t, database)
  await Promise.all([database.close(), database.close()])
  t.match(await refusal(database.query('select 1')), { code: 'ERR_DATABASE_CLOSED', statusCode: 503 })

  const { child, run } = await startProcess(t, { folder }, claimAndStay)
  t.same(await run(), { claimed: true })
  await t.rejects(openDatabase({ folder }), { message: new RegExp(`process ${child.pid} has .* open`) }, 'two would destroy it')
  child.kill('SIGKILL')
  await once(child, 'exit')
  database = await openDatabase({ folder })
  t.same(await sqlStore(database).claim('survivor', 1_000), { claimed: false, value: 'killed' }, 'survives kill -9')
  await database.close()
})

const admin = await openDatabase({ folder: temporary, url: serverUrl })
const unreachable = await admin.query('select 1').then(() => undefined, (error: unknown) => `no PostgreSQL answers at DATABASE_URL: ${String(error)}`)

t.test('a PostgreSQL server', needs(unreachable), async (t) => {
  const inSchema = async (): Promise<DatabaseOptions> => {
    const schema = `sallyport_${randomUUID().replaceAll('-', '')}`
    await admin.query(`create schema ${schema}`)
    t.teardown(async () => admin.query(`drop schema ${schema} cascade`))
    const url = new URL(serverUrl)
    url.searchParams.set('options', `-c search_path=${schema}`)
    return { folder: temporary, url: url.href }
  }
  const options = await inSchema()
  const database = await openDatabase(options)
  await behaves(t, database)
  const store = sqlStore(database)

  await t.test('lets exactly one claim of four processes with 200 each win', async (t) => {
    const reports = await inFourProcesses<string[]>(t, options, `
      const results = await Promise.all(Array.from({ length: 200 }, () => store.claim('shared', 60_000, String(process.pid))))
      return results.map((result) => result.claimed ? 'won' : result.value)`)
    t.equal(reports.flat().filter((each) => each === 'won').length, 1)
    t.equal(new Set(reports.flat()).size, 2, 'all others see the same winner')
  })

  await t.test('lets exactly one of four processes have a key at each moment of its expiry', async (t) => {
    const reports = await inFourProcesses<number[]>(t, options, `
      let now = 0
      const store = sqlStore(database, { clock: () => now })
      const wins = []
      for (let round = 0; round < 50; round++) {
        now = 1e12 + round * 1_000
        const results = await Promise.all(Array.from({ length: 10 }, () => store.claim('hot', 1_000)))
        wins.push(...results.filter((result) => result.claimed).map(() => round))
      }
      return wins`)
    t.same(reports.flat().sort((a, b) => a - b), Array.from({ length: 50 }, (_, round) => round))
  })

  await t.test('applies each migration once when four processes start at once', async (t) => {
    const reports = await inFourProcesses<string[]>(t, await inSchema(), 'return migrate(database)')
    t.same(reports.flat().sort(), migrations.map(({ id }) => id))
  })

  await t.test('keeps the claim of a process that is killed', async (t) => {
    const { child, run } = await startProcess(t, options, claimAndStay)
    t.same(await run(), { claimed: true })
    child.kill('SIGKILL')
    t.same(await store.claim('survivor', 1_000), { claimed: false, value: 'killed' })
  })

  await t.test('undoes a transaction whose connection breaks, and carries on', async (t) => {
    const broken = database.transaction(async (inner) => {
      const [row] = await inner.query<{ pid: number }>('insert into accounts (slug, name) values (\'lost\', \'\') returning pg_backend_pid() as pid')
      await admin.query('select pg_terminate_backend($1)', [row!.pid])
      await sleep(50)
      await inner.query('select 1')
    })
    t.equal((await refusal(broken)).statusCode, 503)
    t.same(await database.query('select slug from accounts where slug = \'lost\''), [])
  })
  await database.close()
})

const parent = '/usr/lib/postgresql'
const bin = (existsSync(parent) ? readdirSync(parent) : []).map((version) => join(parent, version, 'bin')).find((bin) => existsSync(join(bin, 'initdb')))

/** A server of one's own, not started yet. It refuses to run as root. */
async function ownPostgres (bin: string): Promise<{ url: string, start: () => void, stop: () => Promise<void> }> {
  const folder = join(temporary, 'server')
  mkdirSync(folder)
  const [uid, gid] = ['-u', '-g'].map((flag) => Number(spawnSync('id', [flag, 'postgres'], { encoding: 'utf8' }).stdout))
  const user = process.getuid?.() === 0 ? { uid: uid!, gid: gid! } : {}
  if (user.uid !== undefined) for (const path of [temporary, folder]) chownSync(path, user.uid, user.gid)
  const made = spawnSync(join(bin, 'initdb'), ['-D', folder, '-A', 'trust', '-U', 'postgres', '--no-sync'], { ...user, encoding: 'utf8' })
  if (made.status !== 0) throw new Error(made.stderr)
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address() as AddressInfo
  probe.close()
  let server: ChildProcess | undefined
  return {
    url: `postgres://postgres@127.0.0.1:${port}/postgres`,
    start () { server = spawn(join(bin, 'postgres'), ['-D', folder, '-p', String(port), '-h', '127.0.0.1', '-k', folder, '-F'], { ...user, stdio: 'ignore' }) },
    async stop () {
      if (server?.kill('SIGQUIT') === true) await once(server, 'exit')
      server = undefined
    }
  }
}

t.test('a PostgreSQL server that goes away', needs(bin === undefined ? 'there is no PostgreSQL to start' : undefined), async (t) => {
  const own = await ownPostgres(bin!)
  t.teardown(async () => own.stop())
  const lost: DatabaseError[] = []
  const database = await openDatabase({ folder: temporary, url: own.url, maxConnections: 2, statementTimeoutMs: 400, onConnectionLost: (error) => { lost.push(error) } })
  t.teardown(async () => database.close())
  const store = sqlStore(database)

  const refusesQuickly = async (): Promise<void> => {
    const start = performance.now()
    t.match(await refusal(store.claim('key', 60_000)), { code: 'ECONNREFUSED', statusCode: 503 })
    t.ok(performance.now() - start < 500, 'rejects within 500 ms')
  }
  await refusesQuickly()
  own.start()
  t.same(await untilAnswered(async () => migrate(database)), migrations.map(({ id }) => id))
  t.same(await store.claim('key', 60_000, 'first'), { claimed: true })

  await own.stop()
  await refusesQuickly()
  t.ok(lost.length > 0, 'and tells of the connection')
  own.start()
  t.same(await untilAnswered(async () => store.claim('key', 60_000)), { claimed: false, value: 'first' })

  t.match(await refusal(database.query('select pg_sleep(5)')), { code: '57014', statusCode: 503 }, 'ends a statement that takes too long')
  const [row] = await database.query<{ pid: number }>('select pg_backend_pid() as pid')
  process.kill(row!.pid, 'SIGSTOP')
  const silent = await refusal(store.get('key'))
  process.kill(row!.pid, 'SIGCONT')
  t.match(silent, { code: 'ERR_DATABASE_UNREACHABLE', statusCode: 503 }, 'gives up a connection that went silent')
  t.equal(await store.get('key'), 'first', 'and opens another')
})

t.teardown(async () => admin.close())
