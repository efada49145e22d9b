import { fork, spawn } from 'node:child_process'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import t, { type Test } from 'tap'
import Fastify, { type FastifyInstance } from 'fastify'
import { allOf, isOptionsError, type Decision, type Policy } from '@sallyport/guard'
import {
  fileListStore, ipAllowlist, listChannel, memoryListStore, refreshLists, type IpAllowlistOptions, type ListEntry, type ListEvent, type ListReplacement,
  type ListStore
} from '../src/index.js'
import { changeOf } from './fixtures/list-changes.js'
import { tenantGuard } from './fixtures/tenant-guard.js'

const hour = 3_600_000

async function served (t: Test, options: IpAllowlistOptions, policy: (app: FastifyInstance) => Policy = (app) => app.ipAllowlist): Promise<FastifyInstance> {
  const app = Fastify()
  t.teardown(() => app.close())
  // Polls are not waited for in these tests, save where they are the point.
  await app.register(ipAllowlist, { refreshMs: 60_000, ...options })
  app.get('/', { onRequest: policy(app) }, () => 'served')
  return app
}

async function statusFrom (app: FastifyInstance, remoteAddress: string, tenant?: string): Promise<number> {
  return (await app.inject({ url: '/', remoteAddress, headers: tenant === undefined ? {} : { 'x-tenant': tenant } })).statusCode
}

async function setList (store: ListStore, name: string, entries: readonly ListEntry[] | undefined): Promise<void> {
  const { replaced } = await store.replace({ name, expected: (await store.read(name))?.version, entries, change: changeOf(name) })
  if (!replaced) throw new Error('somebody else changed the list')
}

async function fileWith (t: Test, text: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'sallyport-lists-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const path = join(folder, 'lists.json')
  await writeFile(path, text)
  return path
}

/** A store that fails where and when it is told to. */
function fragileStore (lists: Record<string, readonly ListEntry[]> = {}): ListStore & { failing: string | undefined, calls: number } {
  const store = memoryListStore({ lists })
  const fragile = {
    failing: undefined as string | undefined,
    calls: 0,
    versions: () => asked('versions', () => store.versions()),
    read: (name: string) => asked(name, () => store.read(name)),
    replace: (replacement: ListReplacement) => store.replace(replacement),
    history: (name: string, limit: number) => store.history(name, limit)
  }
  async function asked<T> (what: string, answer: () => Promise<T>): Promise<T> {
    fragile.calls++
    if (fragile.failing === 'slow') await wait(200)
    else if (fragile.failing === what) throw new Error('down')
    return answer()
  }
  return fragile
}

t.test('a list by name', async (t) => {
  t.test('is what the store holds, for allow and for deny', async (t) => {
    const store = memoryListStore({ lists: { office: ['10.0.0.0/8', '2001:db8::/32'], blocked: ['10.6.6.0/24'] } })
    const app = await served(t, { store, allow: { list: 'office' }, deny: { list: 'blocked' } })
    for (const [address, status] of [['10.1.1.1', 200], ['::ffff:10.1.1.1', 200], ['2001:db8::1', 200], ['10.6.6.6', 403], ['192.0.2.1', 403]] as const) {
      t.equal(await statusFrom(app, address), status, address)
    }
    t.match(app.printPolicies(), /ipAllowlist \[named lists: office, blocked\]/)
  })

  t.test('counts as it is changed, removed and made again', async (t) => {
    const store = memoryListStore({ lists: { office: ['10.0.0.1'] } })
    const app = await served(t, { store, allow: { list: 'office' } })
    const steps: [entries: readonly ListEntry[] | undefined, statuses: readonly [number, number]][] = [
      [['10.0.0.2'], [403, 200]], [[], [403, 403]], [['10.0.0.0/24'], [200, 200]], [undefined, [403, 403]], [['10.0.0.1'], [200, 403]]
    ]
    for (const [entries, [first, second]] of steps) {
      await setList(store, 'office', entries)
      await refreshLists(store)
      t.equal(await statusFrom(app, '10.0.0.1'), first, JSON.stringify(entries))
      t.equal(await statusFrom(app, '10.0.0.2'), second, JSON.stringify(entries))
    }
  })

  t.test('lets nobody pass while the store has no such list, on deny lists too', async (t) => {
    const store = memoryListStore()
    const decisions: Decision[] = []
    const allowing = await served(t, { store, allow: { list: 'office' }, onDecision: (decision) => decisions.push(decision) })
    const denying = await served(t, { store, deny: { list: 'blocked' } })
    t.equal(await statusFrom(allowing, '10.0.0.1'), 403)
    t.equal(await statusFrom(denying, '10.0.0.1'), 403)
    t.match(decisions, [{ code: 'ERR_IP_ALLOWLIST_ADDRESS_DENIED', reason: 'list-missing' }])
    await setList(store, 'blocked', [])
    await refreshLists(store)
    t.equal(await statusFrom(denying, '10.0.0.1'), 200, 'an empty deny list denies nobody, once it is there')
  })

  t.test('is followed by polling alone, in less than a second', async (t) => {
    const store = memoryListStore({ lists: { office: ['10.0.0.1'] } })
    const app = await served(t, { store, allow: { list: 'office' }, refreshMs: 20 })
    await setList(store, 'office', ['10.0.0.2'])
    const until = Date.now() + 1_000
    while (await statusFrom(app, '10.0.0.2') !== 200 && Date.now() < until) await wait(5)
    t.equal(await statusFrom(app, '10.0.0.2'), 200)
    t.equal(await statusFrom(app, '10.0.0.1'), 403)
  })

  t.test('that another process changes in a file counts here within a second', async (t) => {
    const path = await fileWith(t, '{ "lists": { "a": [] } }')
    const app = await served(t, { store: fileListStore({ path }), allow: { list: 'a' }, refreshMs: 500 })
    t.equal(await statusFrom(app, '10.0.7.0'), 403)
    const other = fork(join(import.meta.dirname, 'fixtures', 'add-to-list.mjs'), [path, '7', '1'], { execArgv: [] })
    await once(other, 'exit')
    const changedAt = Date.now()
    while (await statusFrom(app, '10.0.7.0') !== 200 && Date.now() < changedAt + 5_000) await wait(10)
    t.equal(await statusFrom(app, '10.0.7.0'), 200)
    t.ok(Date.now() - changedAt < 1_000, `${Date.now() - changedAt} ms`)
  })

  t.test('is no longer followed once the app is closed', async (t) => {
    const store = fragileStore({ office: ['10.0.0.1'] })
    const app = await served(t, { store, allow: { list: 'office' }, refreshMs: 10 })
    await app.ready()
    await app.close()
    await wait(20)
    const { calls } = store
    await wait(40)
    await refreshLists(store)
    t.equal(store.calls, calls)
  })

  t.test('lets an entry end without anything being read again', async (t) => {
    let now = Date.parse('2026-11-26T12:00:00Z')
    const at = (ms: number): string => new Date(now + ms).toISOString()
    const store = fragileStore({
      office: [{ entry: '10.0.0.0/24', expiresAt: at(hour) }, { entry: '10.0.0.1', expiresAt: at(2 * hour) }, '10.0.0.2'],
      blocked: [{ entry: '10.0.0.2', expiresAt: at(3 * hour) }]
    })
    const app = await served(t, { store, allow: { list: 'office' }, deny: { list: 'blocked' }, clock: () => now })
    const { calls } = store
    const statuses = async (): Promise<number[]> => Promise.all(['10.0.0.9', '10.0.0.1', '10.0.0.2'].map((address) => statusFrom(app, address)))
    t.same(await statuses(), [200, 200, 403])
    for (const expected of [[403, 200, 403], [403, 403, 403], [403, 403, 200]]) {
      now += hour
      t.same(await statuses(), expected)
    }
    t.equal(store.calls, calls)
  })
})

t.test('a store that fails', async (t) => {
  t.test('leaves the last good list in force, and is reported once until it works again', async (t) => {
    const events: ListEvent[] = []
    const store = fragileStore({ office: ['10.0.0.1'] })
    const app = await served(t, { store, allow: { list: 'office' }, onListEvent: (event) => events.push(event) })
    t.match(events, [{ kind: 'loaded', list: 'office', size: 1 }])
    await setList(store, 'office', ['10.0.0.2'])
    for (const [failing, list] of [['versions', undefined], ['office', 'office']] as const) {
      events.length = 0
      store.failing = failing
      await refreshLists(store)
      await refreshLists(store)
      t.equal(await statusFrom(app, '10.0.0.1'), 200, failing)
      t.match(events, [{ kind: 'failed', list, cause: { message: 'down' } }], failing)
      t.equal(events.length, 1)
    }
    store.failing = undefined
    await refreshLists(store)
    t.equal(await statusFrom(app, '10.0.0.1'), 403)
    t.equal(await statusFrom(app, '10.0.0.2'), 200)
    t.match(events.at(-1), { kind: 'loaded', list: 'office' })
  })

  t.test('is unavailable where the list was never read, and counts as soon as it can be', async (t) => {
    for (const failing of ['versions', 'office']) {
      const store = fragileStore({ office: ['10.0.0.1'] })
      store.failing = failing
      const app = await served(t, { store, allow: { list: 'office' } })
      const { calls } = store
      for (let i = 0; i < 3; i++) {
        const response = await app.inject({ url: '/', remoteAddress: '10.0.0.1' })
        t.equal(response.statusCode, 503, failing)
        t.equal(response.json<{ code: string }>().code, 'ERR_IP_ALLOWLIST_LIST_UNAVAILABLE')
        t.ok(response.headers['retry-after'])
      }
      t.equal(store.calls, calls, 'requests do not add to the store\'s trouble')
      store.failing = undefined
      await refreshLists(store)
      t.equal(await statusFrom(app, '10.0.0.1'), 200, failing)
    }
  })

  t.test('has failed when it takes too long', async (t) => {
    const events: ListEvent[] = []
    const store = fragileStore({ office: ['10.0.0.1'] })
    store.failing = 'slow'
    const app = await served(t, { store, allow: { list: 'office' }, storeTimeoutMs: 20, onListEvent: (event) => events.push(event) })
    t.equal(await statusFrom(app, '10.0.0.1'), 503)
    t.match(events, [{ kind: 'failed', list: undefined, cause: { message: /no answer within 20 ms/ } }])
  })

  t.test('that answers nonsense has failed', async (t) => {
    const right = memoryListStore({ lists: { office: ['10.0.0.1'] } })
    const nonsense: Partial<ListStore>[] = [
      { versions: async () => ({ office: '1' }) as never }, { versions: async () => undefined as never }, { versions: () => { throw new Error('down') } },
      { read: async () => null as never }, { read: async () => ({ version: '1' }) as never }, { read: async () => ({ version: '1', entries: '10.0.0.1' }) as never }
    ]
    for (const method of nonsense) {
      const app = await served(t, { store: { ...right, ...method }, allow: { list: 'office' } })
      t.equal(await statusFrom(app, '10.0.0.1'), 503)
    }
  })

  t.test('keeps the last good list when the new one holds what is no entry, and does not read it over and over', async (t) => {
    const events: ListEvent[] = []
    const store = fragileStore({ office: ['10.0.0.1'], blocked: ['10.0.0.9'] })
    const app = await served(t, { store, allow: { list: 'office' }, deny: { list: 'blocked' }, onListEvent: (event) => events.push(event) })
    await setList(store, 'office', ['10.0.0.1', '010.0.0.2'])
    await setList(store, 'blocked', ['10.0.0.1'])
    events.length = 0
    await refreshLists(store)
    const { calls } = store
    await refreshLists(store)
    t.equal(store.calls, calls + 1, 'only the versions')
    t.match(events.find(({ kind }) => kind === 'failed'), { list: 'office', cause: { option: 'lists.office[1]' } })
    t.equal(await statusFrom(app, '10.0.0.1'), 403, 'the other list of the store goes on')
    await setList(store, 'blocked', [])
    await refreshLists(store)
    t.equal(await statusFrom(app, '10.0.0.1'), 200)
    t.equal(await statusFrom(app, '10.0.0.2'), 403)
    await setList(store, 'office', ['10.0.0.2'])
    await refreshLists(store)
    t.equal(await statusFrom(app, '10.0.0.2'), 200)
  })

  t.test('holds entries to the rules of the registration', async (t) => {
    const lists = { wide: ['0.0.0.0/0'], span: ['10.0.0.1-10.0.0.9'], six: ['2001:db8::1'] }
    for (const [list, rule] of [['wide', { allowAny: true }], ['span', { allowRanges: true }], ['six', { families: ['ipv6'] }]] as const) {
      const address = list === 'six' ? '2001:db8::1' : '10.0.0.1'
      t.equal(await statusFrom(await served(t, { store: memoryListStore({ lists }), allow: { list }, families: ['ipv4'] }), address), list === 'six' ? 403 : 503, list)
      t.equal(await statusFrom(await served(t, { store: memoryListStore({ lists }), allow: { list }, ...rule }), address), 200, list)
    }
    const mixed = await served(t, { store: memoryListStore({ lists: { mixed: ['10.0.0.1', '2001:db8::1'] } }), allow: { list: 'mixed' }, families: ['ipv4'] })
    t.equal(await statusFrom(mixed, '10.0.0.1'), 503)
  })

  t.test('with a corrupt file keeps the last good list', async (t) => {
    const path = await fileWith(t, '{ "lists": { "office": ["10.0.0.1"] } }')
    const events: ListEvent[] = []
    const store = fileListStore({ path })
    const app = await served(t, { store, allow: { list: 'office' }, onListEvent: (event) => events.push(event) })
    await writeFile(path, '{ "lists": { "office": ["10.0.0.2"')
    await refreshLists(store)
    t.equal(await statusFrom(app, '10.0.0.1'), 200)
    t.match(events.at(-1), { kind: 'failed', list: undefined, cause: { name: 'SyntaxError' } })
    await writeFile(path, '{ "lists": { "office": ["10.0.0.2"] } }')
    await refreshLists(store)
    t.equal(await statusFrom(app, '10.0.0.1'), 403)
    t.equal(await statusFrom(app, '10.0.0.2'), 200)
  })
})

t.test('lists of tenants by name', async (t) => {
  const behindTenant = (app: FastifyInstance): Policy => allOf(tenantGuard(), app.ipAllowlist)

  t.test('are read at their first use, and count together with the list of the route', async (t) => {
    const store = memoryListStore({ lists: { 'gateway': ['10.0.0.0/24'], 'tenant:a': ['10.0.0.1', '10.0.1.1'], 'tenant:b': [] } })
    const app = await served(t, { store, allow: { list: 'gateway' }, tenants: (tenant) => ({ allow: { list: `tenant:${tenant}` } }) }, behindTenant)
    t.equal(await statusFrom(app, '10.0.0.1', 'a'), 200)
    t.equal(await statusFrom(app, '10.0.0.2', 'a'), 403, 'on the route\'s list only')
    t.equal(await statusFrom(app, '10.0.1.1', 'a'), 403, 'on the tenant\'s list only')
    t.equal(await statusFrom(app, '10.0.0.1', 'b'), 403)
    t.equal(await statusFrom(app, '10.0.0.1', 'c'), 403, 'a tenant without a list')
    await setList(store, 'tenant:c', ['10.0.0.1'])
    await refreshLists(store)
    t.equal(await statusFrom(app, '10.0.0.1', 'c'), 200)
  })

  t.test('that are missing count for what tenantWithoutList says', async (t) => {
    const store = memoryListStore({ lists: { a: ['10.0.0.1'], blocked: ['10.0.0.9'] } })
    const tenants = (tenant: string) => ({ allow: { list: tenant }, deny: { list: 'blocked' } })
    const app = await served(t, { store, tenants, tenantWithoutList: 'allow' }, behindTenant)
    t.equal(await statusFrom(app, '10.0.0.2', 'a'), 403)
    t.equal(await statusFrom(app, '10.0.0.2', 'b'), 200)
    t.equal(await statusFrom(app, '10.0.0.9', 'b'), 403, 'another list of the tenant goes on')
  })

  t.test('are unavailable, and never missing, while the store can\'t be read', async (t) => {
    const store = fragileStore({ a: ['10.0.0.1'] })
    store.failing = 'versions'
    const app = await served(t, { store, tenants: (tenant) => ({ allow: { list: tenant } }), tenantWithoutList: 'allow' }, behindTenant)
    t.equal(await statusFrom(app, '10.0.0.9', 'a'), 503)
    store.failing = 'a'
    await refreshLists(store)
    t.equal(await statusFrom(app, '10.0.0.9', 'a'), 503)
    t.equal(await statusFrom(app, '10.0.0.9', 'b'), 200)
    store.failing = undefined
    await refreshLists(store)
    t.equal(await statusFrom(app, '10.0.0.9', 'a'), 403)
  })

  t.test('are read once, however many requests ask at the same time', async (t) => {
    const store = fragileStore({ a: ['10.0.0.1'] })
    const app = await served(t, { store, tenants: { a: { allow: { list: 'a' } }, b: { allow: ['10.0.0.2'] } } }, behindTenant)
    const { calls } = store
    t.equal(calls, 2, 'lists that are named in the options are read before the first request')
    t.equal(await statusFrom(app, '10.0.0.2', 'b'), 200)
    const lazy = await served(t, { store, tenants: (tenant) => ({ allow: { list: tenant } }) }, behindTenant)
    const statuses = await Promise.all(Array.from({ length: 50 }, (_, i) => statusFrom(lazy, `10.0.0.${i % 2 + 1}`, 'a')))
    t.same(new Set(statuses.filter((_, i) => i % 2 === 0)), new Set([200]))
    t.same(new Set(statuses.filter((_, i) => i % 2 === 1)), new Set([403]))
    t.equal(store.calls, calls + 2, 'the versions at registration, and the list')
  })
})

t.test('require({ list })', async (t) => {
  t.test('asks for one more list', async (t) => {
    const store = memoryListStore({ lists: { gateway: ['10.0.0.0/24'], payouts: ['10.0.0.1', '192.0.2.1'] } })
    const app = await served(t, { store, allow: { list: 'gateway' } }, (app) => app.ipAllowlist.require({ list: 'payouts' }))
    t.equal(await statusFrom(app, '10.0.0.1'), 200)
    t.equal(await statusFrom(app, '10.0.0.2'), 403)
    t.equal(await statusFrom(app, '192.0.2.1'), 403)
    t.match(app.printPolicies(), /list: payouts/)
  })

  t.test('lets nobody pass without that list, and is unavailable while it can\'t be read', async (t) => {
    const store = fragileStore({ payouts: ['10.0.0.1'] })
    const app = await served(t, { store, allow: ['10.0.0.1'] }, (app) => app.ipAllowlist.require({ list: 'payouts' }))
    store.failing = 'payouts'
    t.equal(await statusFrom(app, '10.0.0.1'), 503)
    const without = await served(t, { store, allow: ['10.0.0.1'] }, (app) => app.ipAllowlist.require({ list: 'none' }))
    t.equal(await statusFrom(without, '10.0.0.1'), 403)
  })

  t.test('needs a store, and a name', async (t) => {
    const app = await served(t, { allow: ['10.0.0.1'] })
    t.throws(() => app.ipAllowlist.require({ list: 'payouts' }), /"require\(\)\.list" needs the option "store"/)
    t.throws(() => app.ipAllowlist.require({ list: '' }), /"require\(\)\.list"/)
    t.throws(() => app.ipAllowlist.require({}), /asks for nothing/)
  })
})

t.test('no request is judged by anything but one whole version of its list', async (t) => {
  const numbers = { requests: 1_500, swaps: 15, entries: 1_000, 'large-swaps': 1, 'large-entries': 20_000, seed: Date.now() % 1_000_000 }
  const script = spawn(process.execPath, [join(import.meta.dirname, '..', 'prove', 'swaps.mjs'), ...Object.entries(numbers).flatMap(([name, value]) => [`--${name}`, String(value)])])
  let said = ''
  for (const stream of [script.stdout, script.stderr]) stream.on('data', (chunk) => { said += String(chunk) })
  const [code] = await once(script, 'close') as [number]
  t.equal(code, 0, `seed ${numbers.seed}: ${said}`)
})

t.test('events of lists go to the channel too, and no listener can disturb', async (t) => {
  const published: ListEvent[] = []
  const listen = (event: unknown): void => { published.push(event as ListEvent) }
  subscribe(listChannel, listen)
  t.teardown(() => unsubscribe(listChannel, listen))
  const store = memoryListStore({ lists: { office: ['10.1.2.3/24'] } })
  const app = await served(t, { store, allow: { list: 'office' }, onListEvent: () => { throw new Error('mine') } })
  t.equal(await statusFrom(app, '10.1.2.9'), 200)
  t.match(published, [{ kind: 'loaded', list: 'office', size: 1, warnings: [{ entry: '10.1.2.3/24', network: '10.1.2.0/24' }] }])
})

t.test('options about stores that can not be meant are refused by name', async (t) => {
  const store = memoryListStore()
  const wrong: readonly [Record<string, unknown>, RegExp][] = [
    [{ store }, /"allow" or "deny" or "tenants" is required/],
    [{ store: {}, allow: { list: 'a' } }, /"store" must be a list store/],
    [{ store: null, allow: { list: 'a' } }, /"store" must be a list store/],
    [{ allow: { list: 'a' } }, /"allow" names a list, which needs the option "store"/],
    [{ tenants: { x: { deny: { list: 'a' } } } }, /"tenants\.x\.deny" names a list/],
    [{ store, allow: { list: '' } }, /"allow\.list"/],
    [{ store, allow: {} }, /"allow\.list" is required/],
    [{ store, allow: { list: 'a', name: 'b' } }, /"allow\.name" is unknown/],
    [{ store, allow: { list: 'a' }, refreshMs: 5 }, /"refreshMs"/],
    [{ store, allow: { list: 'a' }, storeTimeoutMs: 0 }, /"storeTimeoutMs"/],
    [{ store, allow: { list: 'a' }, onListEvent: 'log' }, /"onListEvent"/]
  ]
  for (const [options, message] of wrong) {
    const error = await served(t, options as IpAllowlistOptions).then(() => undefined, (thrown: unknown) => thrown)
    t.ok(isOptionsError(error), JSON.stringify(options))
    t.match((error as Error | undefined)?.message, message)
  }
})
