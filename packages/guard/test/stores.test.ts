import { deepStrictEqual as same } from 'node:assert/strict'
import { fork, spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import * as fc from 'fast-check'
import t from 'tap'
import type { Test } from 'tap'
import { StoreUnavailable } from '../src/claim-store.js'
import type { ClaimResult, StateStore } from '../src/claim-store.js'
import { memoryStore } from '../src/memory-store.js'
import { redisStore } from '../src/redis-store.js'
import type { RedisClient } from '../src/redis-store.js'
import { OwnRedis, connect, hasRedisServer, needs, untilAnswered } from './fixtures/redis-server.js'

const redisUrl = process.env['REDIS_URL'] ?? 'redis://127.0.0.1:6379'
const fixture = (name: string) => fileURLToPath(new URL(`./fixtures/${name}`, import.meta.url))

function countClaimed (results: readonly ClaimResult[]): number {
  return results.filter((result) => result.claimed).length
}

function fullOrThrow (error: unknown): 'full' {
  if (error instanceof StoreUnavailable) return 'full'
  throw error
}

function refusesOptions (t: Test, make: (options: never) => unknown, wrong: [option: string, options: unknown][]): void {
  for (const [option, options] of wrong) t.throws(() => make(options as never), { code: 'ERR_GUARD_OPTIONS', option })
}

/** What every store does. Each behaviour gets a key of its own. */
const contract: Record<string, (t: Test, store: StateStore, key: string) => Promise<void>> = {
  'lets exactly one of 200 concurrent claims win, and tells the others its value': async (t, store, key) => {
    const results = await Promise.all(Array.from({ length: 200 }, (_, i) => store.claim(key, 60_000, `owner-${i}`)))
    t.equal(countClaimed(results), 1)
    const winner = `owner-${results.findIndex((result) => result.claimed)}`
    t.ok(results.every((result) => result.claimed || result.value === winner))
    t.equal(await store.get(key), winner)
  },
  'stores an empty value when none is given': async (t, store, key) => {
    t.same(await store.claim(key, 60_000), { claimed: true })
    t.same(await store.claim(key, 60_000, 'late'), { claimed: false, value: '' })
    t.equal(await store.get(key), '')
  },
  'lets a key be claimed again after it expired': async (t, store, key) => {
    await store.claim(key, 150, 'first')
    t.same(await store.claim(key, 150, 'second'), { claimed: false, value: 'first' })
    await sleep(200)
    t.equal(await store.get(key), undefined)
    t.same(await store.claim(key, 60_000, 'second'), { claimed: true })
    await store.release(key, 'first')
    t.equal(await store.get(key), 'second', 'the first owner lost it by then')
  },
  'keeps the time of the first claim when others fail': async (t, store, key) => {
    await store.claim(key, 150)
    await store.claim(key, 60_000)
    await sleep(200)
    t.same(await store.claim(key, 60_000), { claimed: true })
  },
  'releases a key for its owner only': async (t, store, key) => {
    await store.claim(key, 60_000, 'owner')
    for (const other of ['other', '', 'owner ']) await store.release(key, other)
    t.same(await store.claim(key, 60_000), { claimed: false, value: 'owner' })
    await store.release(key, 'owner')
    t.same(await store.claim(key, 60_000, 'next'), { claimed: true })
    await store.release(`${key}-never-claimed`, 'owner')
  },
  'replaces a value and its time with set, and forgets with delete': async (t, store, key) => {
    await store.set(key, 'one', 40)
    await store.set(key, 'two', 60_000)
    await sleep(60)
    t.equal(await store.get(key), 'two')
    t.same(await store.claim(key, 60_000), { claimed: false, value: 'two' })
    await store.delete(key)
    await store.delete(key)
    t.equal(await store.get(key), undefined)
    t.same(await store.claim(key, 60_000), { claimed: true })
  },
  'tells all keys apart, long ones and ill-formed ones too': async (t, store, key) => {
    const keys = ['', ' ', 'é', 'e\u0301', '\ud800', '\ud801', '\ufffd', '\0', 'x'.repeat(100_000), `${'x'.repeat(99_999)}y`]
    const results = await Promise.all(keys.map((each) => store.claim(key + each, 60_000)))
    t.equal(countClaimed(results), keys.length)
  },
  'refuses a time to live that is not a whole number, 1 or more': async (t, store, key) => {
    for (const ttlMs of [0, -1, 1.5, NaN, Infinity, '60' as unknown as number]) {
      await t.rejects(store.claim(key, ttlMs), TypeError)
      await t.rejects(store.set(key, 'value', ttlMs), TypeError)
    }
    t.equal(await store.get(key), undefined)
  }
}

async function storeContract (t: Test, makeStore: () => StateStore): Promise<void> {
  for (const [title, behave] of Object.entries(contract)) await t.test(title, async (t) => behave(t, makeStore(), randomUUID()))
}

t.test('memoryStore keeps the contract', async (t) => storeContract(t, () => memoryStore()))

t.test('memoryStore', async (t) => {
  t.test('refuses a new key when full of live ones, evicts none, and takes it once one has expired', async (t) => {
    let now = 1_000
    const store = memoryStore({ maxEntries: 3, clock: () => now })
    t.equal(store.createdAt, 1_000)
    for (const [key, ttlMs] of [['a', 100], ['b', 50], ['c', 100]] as const) await store.claim(key, ttlMs, key)
    now = 1_049
    await t.rejects(store.claim('d', 10), StoreUnavailable)
    await t.rejects(store.set('d', 'd', 10), StoreUnavailable)
    for (const key of ['a', 'b', 'c']) t.same(await store.claim(key, 100), { claimed: false, value: key })
    await store.set('a', 'A', 100)
    now = 1_050
    t.same(await store.claim('d', 100), { claimed: true })
    await t.rejects(store.claim('b', 10), StoreUnavailable)
    t.equal(store.size, 3)
  })

  t.test('drains expired keys a few at a time', async (t) => {
    let now = 0
    const store = memoryStore({ clock: () => now })
    for (let i = 0; i < 1_000; i++) await store.claim(`old-${i}`, 1_000 + i, 'value')
    now = 10_000
    await store.claim('new', 1)
    t.equal(store.size, 999)
    for (let i = 0; i < 1_000; i++) await store.claim(`new-${i}`, 1_000)
    t.equal(store.size, 1_001, 'of the old ones none is left')
  })

  t.test('answers nothing about unknown keys while the clock is behind keys it forgot', async (t) => {
    let now = 10_000
    const store = memoryStore({ clock: () => now })
    await store.claim('used', 100)
    now = 10_100
    await store.claim('other', 1_000, 'o')
    now = 10_099
    await t.rejects(store.claim('used', 100), StoreUnavailable)
    await t.rejects(store.get('used'), StoreUnavailable)
    t.same(await store.claim('other', 100), { claimed: false, value: 'o' })
    now = 10_100
    t.same(await store.claim('used', 100), { claimed: true })
    now = NaN
    await t.rejects(store.claim('used', 100), TypeError)
  })

  t.test('agrees with a plain map, whatever is asked of it', async () => {
    const ask = {
      claim: (store: StateStore, key: string, value: string, ttlMs: number) => store.claim(key, ttlMs, value),
      release: (store: StateStore, key: string, value: string) => store.release(key, value),
      get: (store: StateStore, key: string) => store.get(key),
      set: (store: StateStore, key: string, value: string, ttlMs: number) => store.set(key, value, ttlMs),
      delete: (store: StateStore, key: string) => store.delete(key)
    }
    const step = fc.record({
      waitMs: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 20 })),
      act: fc.constantFrom('claim', 'claim', 'claim', ...Object.keys(ask) as (keyof typeof ask)[]),
      key: fc.nat(40).map((n) => `key-${n}`),
      value: fc.constantFrom('', 'a', 'b'),
      ttlMs: fc.integer({ min: 1, max: 120 })
    })
    const steps = fc.array(step, { maxLength: 300, size: 'max' })
    await fc.assert(fc.asyncProperty(fc.integer({ min: 1, max: 35 }), steps, async (maxEntries, steps) => {
      let now = 0
      const store = memoryStore({ maxEntries, clock: () => now })
      const oracle = new Map<string, { value: string, expiresAt: number }>()
      for (const { waitMs, act, key, value, ttlMs } of steps) {
        now += waitMs
        for (const [old, { expiresAt }] of oracle) if (expiresAt <= now) oracle.delete(old)
        const held = oracle.get(key)
        const stores = act === 'set' || (act === 'claim' && held === undefined)
        const full = stores && held === undefined && oracle.size === maxEntries
        const claimed = held === undefined ? { claimed: true } : { claimed: false, value: held.value }
        const expected = full ? 'full' : act === 'claim' ? claimed : act === 'get' ? held?.value : undefined
        same(await ask[act](store, key, value, ttlMs).catch(fullOrThrow), expected)
        if (stores && !full) oracle.set(key, { value, expiresAt: now + ttlMs })
        if (act === 'delete' || (act === 'release' && held?.value === value)) oracle.delete(key)
      }
    }), { numRuns: 200 })
  })

  t.test('never lets a key be claimed again at a time before its expiry, however the clock jumps', async () => {
    const step = fc.record({ key: fc.nat(5), ttlMs: fc.integer({ min: 1, max: 40 }), jump: fc.integer({ min: -30, max: 30 }) })
    await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 200, size: 'max' }), async (steps) => {
      let now = 1_000
      const store = memoryStore({ clock: () => now })
      const expiries = new Map<number, number>()
      for (const { key, ttlMs, jump } of steps) {
        now += jump
        const result = await store.claim(`key-${key}`, ttlMs).catch(fullOrThrow)
        if (result === 'full' || !result.claimed) continue
        if (now < (expiries.get(key) ?? 0)) throw new Error(`claimed again at ${now}`)
        expiries.set(key, now + ttlMs)
      }
    }), { numRuns: 200 })
  })

  t.test('holds a million live claims in less than 200 MB', async (t) => {
    const script = fileURLToPath(new URL('../prove/million-claims.mjs', import.meta.url))
    const { stdout, stderr, status } = spawnSync(process.execPath, ['--expose-gc', script], { encoding: 'utf8' })
    t.equal(status, 0, stderr)
    const facts = stdout.trim().split('\n').map((line) => JSON.parse(line) as Record<string, unknown>)
    t.equal(facts.length, 3)
    for (const { name, value, unit, target, holds } of facts) t.equal(holds, true, `${String(name)}: ${String(value)} ${String(unit)}, ${String(target)}`)
  })

  t.test('refuses wrong options by name', async (t) => {
    refusesOptions(t, memoryStore, [
      ...[0, -1, 1.5, NaN, '10', 100_000_001].map((maxEntries): [string, unknown] => ['maxEntries', { maxEntries }]),
      ['clock', { clock: 5 }], ['maxKeys', { maxKeys: 5 }]
    ])
    t.ok(memoryStore(Object.freeze({ maxEntries: 1 })))
  })
})

const redis = await connect(redisUrl).catch(() => undefined)
const prefix = `sallyport-test:${randomUUID()}:`

t.test('redisStore on a real Redis', needs(redis === undefined ? `no Redis answers at ${redisUrl}` : undefined), async (t) => {
  const client = redis!
  t.teardown(async () => {
    for await (const keys of client.scanStream({ match: `${prefix}*`, count: 1_000 })) {
      if ((keys as string[]).length > 0) await client.del(keys as string[])
    }
    client.disconnect()
  })
  await storeContract(t, () => redisStore(client, { prefix }))

  t.test('keeps stores with different prefixes apart, and every key short', async (t) => {
    const key = 'x'.repeat(10_000)
    for (const name of ['one:', 'two:']) t.same(await redisStore(client, { prefix: prefix + name }).claim(key, 60_000), { claimed: true })
    const names = await client.keys(`${prefix}one:*`)
    t.same(names.map((name) => name.length), [prefix.length + 'one:'.length + 43])
    t.ok(await client.pttl(names[0]!) > 0)
  })

  t.test('lets exactly one claim of four processes with 200 each win', async (t) => {
    const args = [redisUrl, prefix, randomUUID(), '200']
    const workers = Array.from({ length: 4 }, () => fork(fixture('claim-worker.mjs'), args, { execArgv: [] }))
    await Promise.all(workers.map(async (worker) => once(worker, 'message')))
    const reports = await Promise.all(workers.map(async (worker) => {
      worker.send('claim')
      return (await once(worker, 'message'))[0] as { wins: number, winners: string[] }
    }))
    t.equal(reports.reduce((sum, report) => sum + report.wins, 0), 1)
    t.equal(new Set(reports.flatMap((report) => report.winners)).size, 1, 'all see the same winner')
  })
})

t.test('redisStore on a Redis that goes away', needs(hasRedisServer() ? undefined : 'there is no redis-server to start'), async (t) => {
  const own = new OwnRedis()
  await own.start()
  const client = await connect(own.url)
  t.teardown(async () => { client.disconnect(); await own.kill() })
  const store = redisStore(client)
  t.same(await store.claim('before', 60_000, 'first'), { claimed: true })

  await client.config('SET', 'maxmemory', '1')
  await t.rejects(store.claim('full', 60_000), /OOM/, 'refuses what it has no room for')
  t.equal(await store.get('before'), 'first', 'and drops nothing')
  await client.config('SET', 'maxmemory', '0')

  own.signal('SIGSTOP')
  for (const key of ['before', 'frozen-1', 'frozen-2']) await t.rejects(store.claim(key, 60_000))
  own.signal('SIGCONT')
  t.same(await untilAnswered(async () => store.claim('before', 60_000)), { claimed: false, value: 'first' })

  await own.kill()
  for (const key of ['before', 'dead']) await t.rejects(store.claim(key, 60_000))
  await t.rejects(store.get('before'))
  await own.start()
  t.same(await untilAnswered(async () => store.claim('after', 60_000, 'second')), { claimed: true })
  t.same(await store.claim('after', 60_000), { claimed: false, value: 'second' })
})

t.test('redisStore', async (t) => {
  t.test('sends one command a call, and takes nothing but nil for a win', async (t) => {
    const sent: unknown[][] = []
    let reply: unknown = null
    const store = redisStore({ call: async (...words) => { sent.push(words); return reply } })
    t.same(await store.claim('key', 5), { claimed: true })
    t.match(sent, [['set', /^sallyport:[\w-]{43}$/, '', 'PX', 5, 'NX', 'GET']])
    reply = 'QUEUED'
    t.same(await store.claim('key', 5), { claimed: false, value: 'QUEUED' })
    for (reply of [undefined, 0, 1, true, [], Buffer.from('')]) {
      await t.rejects(store.claim('key', 5), StoreUnavailable)
      await t.rejects(store.get('key'), StoreUnavailable)
      await t.rejects(store.set('key', 'value', 5), StoreUnavailable)
    }
  })

  t.test('refuses wrong options by name', async (t) => {
    const client: RedisClient = { call: async () => null }
    refusesOptions(t, (options) => redisStore(client, options), [
      ...['', 'pré:', 'a\n', 5].map((prefix): [string, unknown] => ['prefix', { prefix }]), ['keyPrefix', { keyPrefix: 'a' }]
    ])
    refusesOptions(t, redisStore, [['client', undefined], ['client', { set: () => 'OK' }]])
    t.ok(redisStore(client, Object.freeze({ prefix: 'orders api:' })))
  })
})
