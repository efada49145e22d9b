import t, { type Test } from 'tap'
import Fastify, { type FastifyInstance, type FastifyServerOptions, type InjectOptions, type LightMyRequestResponse } from 'fastify'
import { guard, isOptionsError, open } from '@sallyport/guard'
import {
  allowlistRoutes, allowlistRoutesErrors, ipAllowlist, memoryListStore, type AllowlistRoutesOptions, type ListEntry, type ListEvent, type ListStore
} from '../src/index.js'
import { adminGuard } from './fixtures/admin-guard.js'

type Asked = Omit<InjectOptions, 'url'> & { readonly user?: string }

interface Api {
  readonly app: FastifyInstance
  readonly store: ListStore
  readonly events: readonly ListEvent[]
  /** From the administrator at 10.0.0.1, unless it says otherwise. */
  readonly ask: (method: 'GET' | 'HEAD' | 'PUT' | 'PATCH' | 'DELETE', path: string, asked?: Asked) => Promise<LightMyRequestResponse>
  readonly tagOf: (list: string) => Promise<string>
}

/** Codes and statuses of the API's own errors. */
const answered = new Set<string>()
const now = Date.parse('2026-11-26T12:00:00Z')
const initial = { office: ['10.0.0.0/24', { entry: '192.0.2.1', note: 'branch' }], blocked: ['198.51.100.0/24'] }

async function served (t: Test, options: Partial<AllowlistRoutesOptions> = {}, server: FastifyServerOptions = {}): Promise<Api> {
  const app = Fastify(server)
  t.teardown(() => app.close())
  await app.register(guard)
  const store = options.store ?? memoryListStore({ lists: initial })
  const events: ListEvent[] = []
  await app.register(ipAllowlist, { store, allow: { list: 'office' }, deny: { list: 'blocked' }, refreshMs: 60_000, clock: () => now })
  app.get('/', { onRequest: app.ipAllowlist }, () => 'served')
  await app.register(allowlistRoutes, {
    prefix: '/lists', policy: adminGuard(), store, denyLists: ['blocked'], clock: () => now, onListEvent: (event: ListEvent) => { events.push(event) }, ...options
  })
  const ask: Api['ask'] = async (method, path, { user = 'admin', headers, ...asked } = {}) => {
    const response = await app.inject({ method, url: `/lists${path}`, remoteAddress: '10.0.0.1', headers: { 'x-user': user, ...headers }, ...asked })
    const { code = '' } = method !== 'HEAD' && response.statusCode >= 400 ? response.json<{ code?: string }>() : {}
    if (code.startsWith('ERR_IP_ALLOWLIST')) answered.add(`${code} ${response.statusCode}`)
    return response
  }
  return { app, store, events, ask, tagOf: async (list) => `"${(await store.read(list))!.version}"` }
}

function codeOf (response: LightMyRequestResponse): string {
  return response.json<{ code: string }>().code
}

t.test('reading', async (t) => {
  t.test('gives names with versions, and one list with its ETag', async (t) => {
    const { ask, tagOf } = await served(t)
    const index = await ask('GET', '')
    t.equal(index.statusCode, 200)
    t.same(index.json(), { lists: [{ list: 'office', version: (await tagOf('office')).slice(1, -1) }, { list: 'blocked', version: (await tagOf('blocked')).slice(1, -1) }] })
    const office = await ask('GET', '/office')
    t.equal(office.headers.etag, await tagOf('office'))
    t.equal(office.headers['cache-control'], 'private, no-cache')
    t.same(office.json(), { list: 'office', entries: initial.office })
    t.equal((await ask('HEAD', '/office')).headers.etag, await tagOf('office'))
  })

  t.test('gives nothing again that the client has', async (t) => {
    const { ask, tagOf } = await served(t)
    const tag = await tagOf('office')
    for (const [header, status] of [[tag, 304], [`W/${tag}`, 304], [`"x", ${tag}`, 304], ['*', 304], ['"x"', 200]] as const) {
      const response = await ask('GET', '/office', { headers: { 'if-none-match': header } })
      t.equal(response.statusCode, status, header)
      t.equal(response.headers.etag, tag)
      if (status === 304) t.equal(response.body, '')
    }
  })

  t.test('knows no other lists', async (t) => {
    const { ask } = await served(t)
    for (const path of ['/none', '/toString', '/__proto__x', '/office/nothing']) t.equal((await ask('GET', path)).statusCode, path === '/__proto__x' ? 400 : 404, path)
    t.equal(codeOf(await ask('GET', '/none')), 'ERR_IP_ALLOWLIST_LIST_UNKNOWN')
  })
})

t.test('PUT', async (t) => {
  t.test('replaces a list, and the guards go by it at once', async (t) => {
    const { app, ask, tagOf } = await served(t)
    t.equal((await app.inject({ url: '/', remoteAddress: '192.0.2.1' })).statusCode, 200)
    const before = await tagOf('office')
    const response = await ask('PUT', '/office', { headers: { 'if-match': before }, payload: { entries: ['10.0.0.0/8', '::ffff:192.0.2.9', { entry: '2001:DB8::0/32', note: 'v6' }] } })
    t.equal(response.statusCode, 200)
    t.same(response.json(), { list: 'office', entries: ['10.0.0.0/8', '192.0.2.9', { entry: '2001:db8::/32', note: 'v6' }] })
    t.equal(response.headers.etag, await tagOf('office'))
    t.not(response.headers.etag, before)
    for (const [address, status] of [['192.0.2.1', 403], ['192.0.2.9', 200], ['2001:db8::9', 200], ['10.9.9.9', 200]] as const) {
      t.equal((await app.inject({ url: '/', remoteAddress: address })).statusCode, status, address)
    }
  })

  t.test('makes a new list only where there is none', async (t) => {
    const { ask, tagOf } = await served(t)
    const made = await ask('PUT', '/tenant:1', { headers: { 'if-none-match': '*' }, payload: { entries: ['10.0.0.1'] } })
    t.equal(made.statusCode, 201)
    t.equal(made.headers.etag, await tagOf('tenant:1'))
    const again = await ask('PUT', '/tenant:1', { headers: { 'if-none-match': '*' }, payload: { entries: ['10.0.0.1'] } })
    t.equal(again.statusCode, 412)
    t.equal((await ask('PUT', '/tenant:2', { headers: { 'if-match': '*' }, payload: { entries: ['10.0.0.1'] } })).statusCode, 412, 'If-Match needs a list')
  })

  t.test('reports host bits, and joins what means the same', async (t) => {
    const { ask } = await served(t)
    const entries = ['10.0.0.9/8', '10.0.0.0/8', { entry: '192.0.2.1', expiresAt: '2028-01-01T00:00:00Z' }, { entry: '::ffff:192.0.2.1', expiresAt: '2027-01-01T00:00:00Z' }, '2001:db8::1/128', { entry: '2001:DB8::1', expiresAt: '2027-01-01T00:00:00Z' }]
    const { entries: kept, warnings } = (await ask('PUT', '/office', { headers: { 'if-match': '*' }, payload: { entries } })).json<{ entries: unknown, warnings: unknown }>()
    t.same(kept, ['10.0.0.0/8', { entry: '192.0.2.1', expiresAt: '2028-01-01T00:00:00.000Z' }, '2001:db8::1'])
    t.same(warnings, [{ entry: '10.0.0.9/8', network: '10.0.0.0/8' }])
  })
})

t.test('PATCH', async (t) => {
  t.test('adds and removes, whatever the spelling, with or without a version', async (t) => {
    const { ask, tagOf } = await served(t)
    const first = await ask('PATCH', '/office', { payload: { add: ['203.0.113.9', { entry: '10.0.0.0/24', note: 'all' }], remove: ['::ffff:192.0.2.1'] } })
    t.equal(first.statusCode, 200)
    t.same(first.json(), { list: 'office', entries: [{ entry: '10.0.0.0/24', note: 'all' }, '203.0.113.9'] })
    const second = await ask('PATCH', '/office', { headers: { 'if-match': await tagOf('office') }, payload: { remove: ['203.0.113.9/32'] } })
    t.same(second.json(), { list: 'office', entries: [{ entry: '10.0.0.0/24', note: 'all' }] })
    t.equal((await ask('PATCH', '/none', { payload: { add: ['10.0.0.1'] } })).statusCode, 404)
  })

  t.test('refuses to remove what is not there as such', async (t) => {
    const { ask, store } = await served(t)
    const before = await store.read('office')
    const response = await ask('PATCH', '/office', { payload: { add: ['203.0.113.9'], remove: ['10.0.0.7'] } })
    t.equal(response.statusCode, 422)
    t.match(response.json(), { code: 'ERR_IP_ALLOWLIST_ENTRIES_INVALID', detail: '"remove" must hold only what is on the list' })
    t.same(await store.read('office'), before)
  })

  t.test('loses nothing when many come at the same time', async (t) => {
    const { ask, store } = await served(t)
    const statuses = await Promise.all([1, 2, 3, 4].map(async (i) => (await ask('PATCH', '/office', { payload: { add: [`203.0.113.${i}`] } })).statusCode))
    t.same(statuses, [200, 200, 200, 200])
    t.equal((await store.read('office'))!.entries.length, 6)
  })
})

t.test('DELETE removes a list that the request knows', async (t) => {
  const { app, ask, tagOf, store } = await served(t)
  t.equal((await ask('DELETE', '/blocked', { headers: { 'if-match': '"x"' } })).statusCode, 412)
  const response = await ask('DELETE', '/blocked', { headers: { 'if-match': await tagOf('blocked') } })
  t.equal(response.statusCode, 204)
  t.equal(response.body, '')
  t.equal(await store.read('blocked'), undefined)
  t.equal((await app.inject({ url: '/', remoteAddress: '10.0.0.1' })).statusCode, 403, 'a deny list that is gone lets nobody pass')
  t.equal((await ask('DELETE', '/blocked', { headers: { 'if-match': '*' } })).statusCode, 412)
})

t.test('versions', async (t) => {
  t.test('are required to replace and to remove', async (t) => {
    const { ask } = await served(t)
    const requests: [method: 'PUT' | 'DELETE', headers: Record<string, string>][] = [['PUT', {}], ['PUT', { 'if-none-match': '"x"' }], ['DELETE', {}], ['DELETE', { 'if-none-match': '"x"' }]]
    for (const [method, headers] of requests) {
      const response = await ask(method, '/office', { headers, ...(method === 'PUT' && { payload: { entries: ['10.0.0.1'] } }) })
      t.equal(response.statusCode, 428, `${method} ${JSON.stringify(headers)}`)
      t.equal(codeOf(response), 'ERR_IP_ALLOWLIST_VERSION_REQUIRED')
    }
  })

  t.test('that are not current, or weak, are a conflict for every change', async (t) => {
    const { ask, tagOf, store } = await served(t)
    const current = await tagOf('office')
    for (const header of ['"x"', `W/${current}`, '"x", "y"', current.toUpperCase()]) {
      for (const [method, payload] of [['PUT', { entries: ['10.0.0.1'] }], ['PATCH', { add: ['10.0.0.1'] }], ['DELETE', undefined]] as const) {
        const response = await ask(method, '/office', { headers: { 'if-match': header }, ...(payload && { payload }) })
        t.equal(response.statusCode, 412, `${method} ${header}`)
        t.equal(codeOf(response), 'ERR_IP_ALLOWLIST_VERSION_CONFLICT')
      }
    }
    t.equal(await tagOf('office'), current)
    t.equal((await store.history('office', 10)).length, 0)
    t.equal((await ask('PUT', '/office', { headers: { 'if-match': `"x", ${current}` }, payload: { entries: ['10.0.0.1'] } })).statusCode, 200, 'one of several is enough')
  })

  t.test('let one of two editors win', async (t) => {
    const { ask, tagOf } = await served(t)
    const tag = await tagOf('office')
    const statuses = await Promise.all(['10.0.0.0/25', '10.0.0.0/26'].map(async (entry) => (await ask('PUT', '/office', { headers: { 'if-match': tag }, payload: { entries: [entry] } })).statusCode))
    t.same(statuses.sort(), [200, 412])
  })

  t.test('must be written as entity-tags', async (t) => {
    const { ask } = await served(t)
    for (const header of ['x', '""x', '"a" "b"', '"a",', ',"a"', 'w/"a"', '"a b"', '*, "a"', '']) {
      t.equal((await ask('PUT', '/office', { headers: { 'if-match': header }, payload: { entries: ['10.0.0.1'] } })).statusCode, 400, header)
    }
  })
})

t.test('a change that would shut out its caller', async (t) => {
  t.test('is refused unless it is forced, and forced changes say so in the trail', async (t) => {
    const { ask, tagOf, store, app } = await served(t)
    const cases: [what: string, method: 'PUT' | 'PATCH' | 'DELETE', path: string, payload: object | undefined][] = [
      ['replaces the list', 'PUT', '/office', { entries: ['192.0.2.1'] }],
      ['empties the list', 'PUT', '/office', { entries: [] }],
      ['removes the caller\'s network', 'PATCH', '/office', { remove: ['10.0.0.0/24'] }],
      ['puts an end to the caller\'s network that is past', 'PATCH', '/office', { add: [{ entry: '10.0.0.0/24', expiresAt: '2026-11-26T12:00:00Z' }] }],
      ['removes the list', 'DELETE', '/office', undefined],
      ['denies the caller', 'PATCH', '/blocked', { add: ['10.0.0.0/8'] }]
    ]
    for (const [what, method, path, payload] of cases) {
      const response = await ask(method, path, { headers: { 'if-match': '*' }, ...(payload && { payload }) })
      t.equal(response.statusCode, 409, what)
      t.equal(codeOf(response), 'ERR_IP_ALLOWLIST_CALLER_EXCLUDED')
    }
    t.equal((await ask('PUT', '/new', { headers: { 'if-none-match': '*' }, payload: { entries: ['192.0.2.1'] } })).statusCode, 409, 'makes a list without the caller')
    t.equal((await store.history('office', 10)).length, 0)
    const forced = await ask('PUT', '/office?force=true', { headers: { 'if-match': await tagOf('office') }, payload: { entries: ['192.0.2.1'] } })
    t.equal(forced.statusCode, 200)
    t.match(await store.history('office', 10), [{ forced: true }])
    t.equal((await app.inject({ url: '/', remoteAddress: '10.0.0.1' })).statusCode, 403)
  })

  t.test('is a matter of whether the caller passes now', async (t) => {
    const { ask, store } = await served(t)
    const from = { remoteAddress: '203.0.113.1', headers: { 'if-match': '*' } }
    t.equal((await ask('PUT', '/office', { ...from, payload: { entries: ['192.0.2.1'] } })).statusCode, 200, 'who is not on the list loses nothing')
    t.equal((await ask('DELETE', '/blocked', { ...from })).statusCode, 204, 'who is not denied, either')
    t.match(await store.history('office', 10), [{ forced: false }])
  })

  t.test('is told by every spelling of the address, and by what trusted proxies say', async (t) => {
    const { ask } = await served(t, {}, { trustProxy: ['127.0.0.1'] })
    const payload = { entries: ['192.0.2.1'] }
    const headers = { 'if-match': '*' }
    t.equal((await ask('PUT', '/office', { remoteAddress: '::ffff:a00:1', headers, payload })).statusCode, 409)
    t.equal((await ask('PUT', '/office', { remoteAddress: '127.0.0.1', headers: { ...headers, 'x-forwarded-for': '10.0.0.1' }, payload })).statusCode, 409)
  })

  t.test('is refused where nobody can tell, and a broken list can be replaced all the same', async (t) => {
    const { ask } = await served(t, { store: memoryListStore({ lists: { office: ['nonsense'], blocked: [] } }) })
    const headers = { 'if-match': '*' }
    t.equal((await ask('PATCH', '/office', { headers, payload: { add: ['10.0.0.1'] } })).statusCode, 422)
    t.equal((await ask('PUT', '/office', { headers, payload: { entries: ['192.0.2.1'] } })).statusCode, 409)
    t.equal((await ask('PUT', '/office', { headers, payload: { entries: ['10.0.0.1'] } })).statusCode, 200)
  })
})

t.test('the audit trail', async (t) => {
  t.test('says who changed what and when, to readers and to listeners', async (t) => {
    const { ask, tagOf, events } = await served(t)
    const headers = { 'if-match': '*' }
    await ask('PATCH', '/office', { headers, payload: { add: ['203.0.113.9'], remove: ['192.0.2.1'] } })
    await ask('PUT', '/office', { headers, payload: { entries: ['10.0.0.0/24', { entry: '203.0.113.9', note: 'mine' }] } })
    await ask('DELETE', '/office?force=true', { headers: { 'if-match': await tagOf('office') } })
    await ask('PUT', '/office', { headers: { 'if-none-match': '*' }, payload: { entries: ['10.0.0.1'] } })
    const by = { subject: 'admin', tenant: 'acme', address: '10.0.0.1' }
    const at = '2026-11-26T12:00:00.000Z'
    const expected = [
      { list: 'office', at, by, action: 'created', forced: false, added: ['10.0.0.1'], addedCount: 1, removed: [], removedCount: 0 },
      { list: 'office', at, by, action: 'deleted', forced: true, added: [], addedCount: 0, removed: ['10.0.0.0/24', { entry: '203.0.113.9', note: 'mine' }], removedCount: 2 },
      { list: 'office', at, by, action: 'replaced', forced: false, added: [{ entry: '203.0.113.9', note: 'mine' }], addedCount: 1, removed: ['203.0.113.9'], removedCount: 1 },
      { list: 'office', at, by, action: 'patched', forced: false, added: ['203.0.113.9'], addedCount: 1, removed: [{ entry: '192.0.2.1', note: 'branch' }], removedCount: 1 }
    ]
    const history = await ask('GET', '/office/history')
    t.same(history.json(), { list: 'office', changes: expected })
    t.same(events.map((event) => event.kind === 'changed' && event.change), expected.toReversed())
    t.same((await ask('GET', '/office/history?limit=1')).json<{ changes: unknown[] }>().changes, expected.slice(0, 1))
  })

  t.test('tells the first hundred entries and counts the rest', async (t) => {
    const { ask, store } = await served(t)
    const entries = ['10.0.0.0/24', ...Array.from({ length: 150 }, (_, i) => `203.0.113.${i}`)]
    await ask('PUT', '/office', { headers: { 'if-match': '*' }, payload: { entries } })
    const [change] = await store.history('office', 1)
    t.same([change!.added.length, change!.addedCount, change!.removedCount], [100, 150, 1])
  })

  t.test('refuses a limit that is none', async (t) => {
    const { ask } = await served(t)
    for (const limit of ['0', '-1', '1001', '1e2', '', 'all', '5&limit=6']) t.equal((await ask('GET', `/office/history?limit=${limit}`)).statusCode, 400, limit)
  })
})

t.test('what is no such request', async (t) => {
  t.test('is refused with a problem document, before anything is changed', async (t) => {
    const { ask, store } = await served(t)
    const before = await store.versions()
    const put: [payload: unknown, status: number, detail: RegExp][] = [
      [undefined, 400, /JSON object/], [[], 400, /JSON object/], [['10.0.0.1'], 400, /only members are lists: entries/], [{}, 400, /must have "entries"/], [{ entries: '10.0.0.1' }, 400, /lists/],
      [{ entries: null }, 400, /lists/], [{ entries: ['10.0.0.1'], force: [] }, 400, /lists/], [{ add: ['10.0.0.1'] }, 400, /lists/],
      [{ entries: ['10.0.0.1', 7] }, 422, /"entries\[1\]" must be a string, or an object/], [{ entries: [null] }, 422, /"entries\[0\]"/], [{ entries: ['10.0.0.1/33'] }, 422, /"entries\[0\]" must have a prefix length/],
      [{ entries: ['0.0.0.0/0'] }, 422, /"entries\[0\]".*allowAny/], [{ entries: ['10.0.0.1-10.0.0.2'] }, 422, /allowRanges/], [{ entries: [{ entry: '10.0.0.1', expires: '2027-01-01T00:00:00Z' }] }, 422, /no other members/],
      [{ entries: [{ entry: '10.0.0.1', expiresAt: '2027-01-01' }] }, 422, /expiresAt/], [{ entries: Array.from({ length: 10_001 }, () => '10.0.0.1') }, 422, /"entries" must hold at most 10000 entries/]
    ]
    for (const [payload, status, detail] of put) {
      const response = await ask('PUT', '/office', { headers: { 'if-match': '*' }, payload: payload as object })
      t.equal(response.statusCode, status, JSON.stringify(payload)?.slice(0, 60))
      t.match(response.headers['content-type'], 'application/problem+json')
      t.match(response.json(), { type: 'about:blank', status, detail })
    }
    for (const payload of [{}, { add: [], remove: [] }, { add: '10.0.0.1' }, { entries: ['10.0.0.1'] }]) t.equal((await ask('PATCH', '/office', { payload })).statusCode, 400, JSON.stringify(payload))
    for (const payload of [{ add: ['x'] }, { remove: ['x'] }, { remove: [{ entry: '10.0.0.0/24', notes: '' }] }]) t.equal((await ask('PATCH', '/office', { payload })).statusCode, 422, JSON.stringify(payload))
    for (const path of ['/-x', '/a%20b', '/a%2Fb', `/${'x'.repeat(101)}`]) t.ok([400, 404, 414].includes((await ask('PUT', path, { headers: { 'if-none-match': '*' }, payload: { entries: ['10.0.0.1'] } })).statusCode), path)
    for (const force of ['yes', '1', '', 'true&force=true']) t.equal((await ask('PUT', `/office?force=${force}`, { headers: { 'if-match': '*' }, payload: { entries: ['10.0.0.1'] } })).statusCode, 400, force)
    t.same(await store.versions(), before)
  })

  t.test('is bounded in size, and is JSON', async (t) => {
    const { ask } = await served(t, { bodyLimit: 1_000, maxEntries: 3 })
    const headers = { 'if-match': '*' }
    t.equal((await ask('PUT', '/office', { headers, payload: { entries: [`10.0.0.1${' '.repeat(1_000)}`] } })).statusCode, 413)
    t.equal((await ask('PATCH', '/office', { headers, payload: { add: ['10.0.1.1'] } })).statusCode, 200)
    t.equal((await ask('PATCH', '/office', { headers, payload: { add: ['10.0.1.2'] } })).statusCode, 422)
    t.equal((await ask('PUT', '/office', { headers: { ...headers, 'content-type': 'application/json' }, payload: '{' })).statusCode, 400)
    t.equal((await ask('PUT', '/office', { headers: { ...headers, 'content-type': 'text/csv' }, payload: '10.0.0.1' })).statusCode, 415)
  })

  t.test('is judged alike, whatever validator the app has', async (t) => {
    const app = Fastify({ ajv: { customOptions: { removeAdditional: 'all', coerceTypes: 'array' } } })
    t.teardown(() => app.close())
    app.setValidatorCompiler(() => { throw new Error('takes other schemas') })
    app.setSerializerCompiler(() => { throw new Error('takes other schemas') })
    await app.register(guard)
    await app.register(allowlistRoutes, { policy: adminGuard(), store: memoryListStore({ lists: initial }) })
    const payload = { entries: [{ entry: '127.0.0.1', expires: '2027-01-01T00:00:00Z' }] }
    const response = await app.inject({ method: 'PUT', url: '/office', headers: { 'x-user': 'admin', 'if-match': '*' }, payload })
    t.equal(response.statusCode, 422)
    t.equal((await app.inject({ url: '/', headers: { 'x-user': 'admin' } })).statusCode, 200, 'without a prefix too')
  })
})

t.test('the policy stands before every route, and its refusals are problem documents too', async (t) => {
  const { ask, app, store } = await served(t)
  const versions = await store.versions()
  const routes = app.policies().filter(({ url }) => url.startsWith('/lists'))
  t.equal(routes.length, 9)
  t.ok(routes.every(({ policy }) => JSON.stringify(policy).includes('userHeader')))
  for (const [user, status] of [['guest', 403], [undefined, 401]] as const) {
    for (const [method, path] of [['GET', ''], ['GET', '/office'], ['PUT', '/office'], ['PATCH', '/office'], ['DELETE', '/office'], ['GET', '/office/history'], ['GET', '/none']] as const) {
      const headers = user === undefined ? { 'if-match': '*' } : { 'if-match': '*', 'x-user': user }
      const response = await app.inject({ method, url: `/lists${path}`, headers, remoteAddress: '10.0.0.1', ...(method.startsWith('P') && { payload: { entries: ['10.0.0.1'] } }) })
      t.equal(response.statusCode, status, `${method} ${path}`)
      t.match(response.headers['content-type'], 'application/problem+json')
    }
  }
  t.same(await store.versions(), versions)
  t.equal((await ask('GET', '')).statusCode, 200)
})

t.test('lists that are not managed here do not exist here', async (t) => {
  const { ask, store } = await served(t, { lists: ['office'] })
  t.same((await ask('GET', '')).json<{ lists: { list: string }[] }>().lists.map(({ list }) => list), ['office'])
  const before = await store.versions()
  for (const [method, path] of [['GET', '/blocked'], ['PUT', '/blocked'], ['PATCH', '/blocked'], ['DELETE', '/blocked'], ['GET', '/blocked/history']] as const) {
    const payload = method === 'PUT' ? { entries: ['10.9.9.9'] } : { add: ['10.9.9.9'] }
    t.equal((await ask(method, path, { headers: { 'if-match': '*' }, ...(method.startsWith('P') && { payload }) })).statusCode, 404, `${method} ${path}`)
  }
  t.same(await store.versions(), before)
})

t.test('a store that fails is unavailable, and says nothing of why', async (t) => {
  const right = memoryListStore({ lists: initial })
  const down = () => Promise.reject(new Error('password of the database'))
  const failing: [Partial<ListStore>, 'GET' | 'PUT', string][] = [
    [{ versions: down }, 'GET', ''], [{ read: down }, 'GET', '/office'], [{ history: down }, 'GET', '/office/history'], [{ replace: down }, 'PUT', '/office'], [{ read: () => { throw new Error('x') } }, 'PUT', '/office'],
    [{ read: () => new Promise(() => undefined) }, 'GET', '/office']
  ]
  for (const [broken, method, path] of failing) {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(guard)
    await app.register(allowlistRoutes, { prefix: '/lists', policy: adminGuard(), store: { ...right, ...broken }, storeTimeoutMs: 20 })
    const response = await app.inject({ method, url: `/lists${path}`, remoteAddress: '10.0.0.1', headers: { 'x-user': 'admin', 'if-match': '*' }, ...(method === 'PUT' && { payload: { entries: ['127.0.0.1', '10.0.0.0/24'] } }) })
    t.equal(response.statusCode, 503, `${method} ${path}`)
    t.equal(response.headers['retry-after'], '1')
    t.equal(codeOf(response), 'ERR_IP_ALLOWLIST_LIST_UNAVAILABLE')
    t.notMatch(response.body, /password/)
  }
})

t.test('every error of the table has been answered by now, with its status, and none beside them', async (t) => {
  const expected = Object.entries(allowlistRoutesErrors).map(([code, { statusCode }]) => `${code} ${statusCode}`)
  t.same([...answered].sort(), expected.sort())
})

t.test('options that can not be meant are refused by name', async (t) => {
  const store = memoryListStore()
  const policy = adminGuard()
  const wrong: readonly [Record<string, unknown>, RegExp][] = [
    [{ store }, /"policy" is required/], [{ store, policy: open('for all') }, /"policy"/], [{ store, policy: () => undefined }, /"policy"/], [{ policy }, /"store" is required/], [{ policy, store: {} }, /"store"/],
    [{ policy, store, lists: [] }, /"lists"/], [{ policy, store, denyLists: 'blocked' }, /"denyLists"/], [{ policy, store, maxEntries: 0 }, /"maxEntries"/], [{ policy, store, maxEntries: 100_001 }, /"maxEntries"/],
    [{ policy, store, bodyLimit: 0 }, /"bodyLimit"/], [{ policy, store, source: 'header' }, /"source"/], [{ policy, store, force: true }, /"force" is unknown/], [{ policy, store, onListEvent: 1 }, /"onListEvent"/]
  ]
  for (const [options, message] of wrong) {
    const app = Fastify()
    await app.register(guard)
    const error = await app.register(allowlistRoutes, options as never).then(() => undefined, (thrown: unknown) => thrown)
    t.ok(isOptionsError(error), JSON.stringify(Object.keys(options)))
    t.match((error as Error | undefined)?.message, message)
  }
  const trusting = Fastify({ trustProxy: true })
  await trusting.register(guard)
  await t.rejects(async () => trusting.register(allowlistRoutes, { policy, store }), /"source".*trustProxy/s)
  const app = Fastify({ trustProxy: true })
  await app.register(guard)
  await app.register(allowlistRoutes, { policy, store: memoryListStore({ lists: { a: ['10.0.0.1'] } satisfies Record<string, ListEntry[]> }), source: 'socket', prefix: '/lists', logLevel: 'warn' })
  const spoofed = { method: 'PUT', url: '/lists/a', remoteAddress: '10.0.0.1', headers: { 'x-user': 'admin', 'if-match': '*', 'x-forwarded-for': '192.0.2.1' }, payload: { entries: ['192.0.2.1'] } } as const
  t.equal((await app.inject(spoofed)).statusCode, 409, 'with source: socket the connection counts')
})
