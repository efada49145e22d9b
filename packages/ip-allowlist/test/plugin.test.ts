import t from 'tap'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import { allOf, anyOf, identityOf, isOptionsError } from '@sallyport/guard'
import { createAddressSet, ipAllowlist, type AddressLists, type IpAllowlistOptions } from '../src/index.js'
import { tenantGuard } from './fixtures/tenant-guard.js'

async function served (options: IpAllowlistOptions, server: FastifyServerOptions = {}): Promise<FastifyInstance> {
  const app = Fastify(server)
  await app.register(ipAllowlist, options)
  app.get('/', { onRequest: app.ipAllowlist }, (request) => identityOf(request, app.ipAllowlist))
  return app
}

async function servedTenants (options: IpAllowlistOptions): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(ipAllowlist, options)
  app.get('/', { onRequest: allOf(tenantGuard(), app.ipAllowlist) }, () => 'served')
  return app
}

async function statusFrom (app: FastifyInstance, remoteAddress: string, headers: Record<string, string> = {}): Promise<number> {
  return (await app.inject({ url: '/', remoteAddress, headers })).statusCode
}

t.test('allow lists', async (t) => {
  t.test('let their members pass and nobody else', async (t) => {
    const app = await served({ allow: ['10.0.0.0/8', '2001:db8::/32'] })
    for (const [address, status] of [['10.9.9.9', 200], ['11.0.0.1', 403], ['2001:db8::1', 200], ['2001:db9::1', 403], ['::ffff:10.1.1.1', 200], ['::ffff:a01:101', 200]] as const) {
      t.equal(await statusFrom(app, address), status, address)
    }
  })

  t.test('let nobody pass when they are empty', async (t) => {
    const app = await served({ allow: [] })
    t.equal(await statusFrom(app, '127.0.0.1'), 403)
    t.equal(await statusFrom(app, '::1'), 403)
  })

  t.test('give the handler the canonical address', async (t) => {
    const app = await served({ allow: ['10.0.0.0/8'] })
    const { body } = await app.inject({ url: '/', remoteAddress: '::ffff:a01:203' })
    t.same(JSON.parse(body), { address: '10.1.2.3', family: 'ipv4' })
  })

  t.test('take a compiled set', async (t) => {
    const app = await served({ allow: createAddressSet(['10.0.0.1']) })
    t.equal(await statusFrom(app, '10.0.0.1'), 200)
    t.equal(await statusFrom(app, '10.0.0.2'), 403)
  })
})

t.test('deny lists', async (t) => {
  t.test('win over allow lists, and alone let the rest pass', async (t) => {
    const both = await served({ allow: ['10.0.0.0/8'], deny: ['10.6.6.0/24'] })
    t.equal(await statusFrom(both, '10.6.6.6'), 403)
    t.equal(await statusFrom(both, '10.6.7.6'), 200)
    const alone = await served({ deny: ['10.6.6.0/24'] })
    t.equal(await statusFrom(alone, '10.6.6.6'), 403)
    t.equal(await statusFrom(alone, '192.0.2.1'), 200)
  })
})

t.test('lists per tenant', async (t) => {
  const tenants = { a: { allow: ['10.0.0.1'] }, b: { deny: ['10.0.0.1'] } }

  t.test('are chosen by the proved tenant', async (t) => {
    const app = await servedTenants({ tenants })
    t.equal(await statusFrom(app, '10.0.0.1', { 'x-tenant': 'a' }), 200)
    t.equal(await statusFrom(app, '10.0.0.2', { 'x-tenant': 'a' }), 403)
    t.equal(await statusFrom(app, '10.0.0.1', { 'x-tenant': 'b' }), 403)
    t.equal(await statusFrom(app, '10.0.0.1', { 'x-tenant': 'toString' }), 403, 'an inherited name is no list')
    t.equal(await statusFrom(app, '10.0.0.1'), 401)
  })

  t.test('deny a tenant that has none, unless the option says otherwise', async (t) => {
    t.equal(await statusFrom(await servedTenants({ tenants }), '10.0.0.1', { 'x-tenant': 'c' }), 403)
    t.equal(await statusFrom(await servedTenants({ tenants, tenantWithoutList: 'allow' }), '10.0.0.1', { 'x-tenant': 'c' }), 200)
    t.equal(await statusFrom(await servedTenants({ tenants: {}, tenantWithoutList: 'allow' }), '10.0.0.1', { 'x-tenant': 'c' }), 200)
  })

  t.test('count together with the lists of the registration', async (t) => {
    const app = await servedTenants({ tenants: { a: { allow: ['10.0.0.0/24'] } }, deny: ['10.0.0.9'], allow: ['10.0.0.0/8'] })
    t.equal(await statusFrom(app, '10.0.0.1', { 'x-tenant': 'a' }), 200)
    t.equal(await statusFrom(app, '10.0.0.9', { 'x-tenant': 'a' }), 403)
    t.equal(await statusFrom(app, '10.0.1.1', { 'x-tenant': 'a' }), 403)
  })

  t.test('come from a resolver, at once or later', async (t) => {
    for (const later of [false, true]) {
      const lists = new Map<string, AddressLists>([['a', { allow: ['10.0.0.1'] }]])
      const app = await servedTenants({ tenants: (tenant) => later ? Promise.resolve(lists.get(tenant)) : lists.get(tenant) })
      t.equal(await statusFrom(app, '10.0.0.1', { 'x-tenant': 'a' }), 200)
      lists.set('a', { allow: ['10.0.0.2'] })
      t.equal(await statusFrom(app, '10.0.0.1', { 'x-tenant': 'a' }), 403, 'a new list counts at once')
      t.equal(await statusFrom(app, '10.0.0.1', { 'x-tenant': 'b' }), 403)
    }
  })

  t.test('are unavailable when the resolver fails or gives no list', async (t) => {
    const failures: Record<string, () => unknown> = {
      'throws': () => { throw new Error('down') },
      'rejects': () => Promise.reject(new Error('down')),
      'gives null': () => null,
      'gives a list of addresses': () => ['10.0.0.1'],
      'gives an object without lists': () => ({}),
      'gives an empty deny list': () => ({ deny: [] }),
      'gives a wrong entry': () => ({ allow: ['10.0.0'] }),
      'gives text': () => '10.0.0.1'
    }
    for (const [what, resolver] of Object.entries(failures)) {
      const app = await servedTenants({ tenants: resolver as () => AddressLists, tenantWithoutList: 'allow' })
      const response = await app.inject({ url: '/', remoteAddress: '10.0.0.1', headers: { 'x-tenant': 'a' } })
      t.equal(response.statusCode, 503, what)
      t.equal(response.json<{ code: string }>().code, 'ERR_IP_ALLOWLIST_LIST_UNAVAILABLE', what)
      t.ok(response.headers['retry-after'], what)
    }
  })

  t.test('fail the boot where no guard proves the tenant', async (t) => {
    const app = Fastify()
    await app.register(ipAllowlist, { tenants })
    app.get('/', { onRequest: app.ipAllowlist }, () => 'served')
    await t.rejects(async () => app.ready(), /needs a tenant/)
    t.throws(() => allOf(app.ipAllowlist, tenantGuard()), /before the guard that proves it/)
  })
})

t.test('families', async (t) => {
  const app = await served({ families: ['ipv4'], deny: ['10.0.0.1'] })
  t.equal(await statusFrom(app, '2001:db8::1'), 403, 'an address of another family is refused')
  t.equal(await statusFrom(app, '::ffff:10.0.0.2'), 200, 'an IPv4-mapped peer is IPv4')
  await t.rejects(served({ families: ['ipv4'], allow: ['10.0.0.1', '2001:db8::/32'] }), /"allow\[1\]" is not of a family/)
})

t.test('the address', async (t) => {
  t.test('comes from request.ip, by what trusted proxies say', async (t) => {
    const app = await served({ allow: ['192.0.2.1'] }, { trustProxy: ['10.0.0.1'] })
    t.equal(await statusFrom(app, '10.0.0.1', { 'x-forwarded-for': '192.0.2.1' }), 200)
    t.equal(await statusFrom(app, '10.0.0.2', { 'x-forwarded-for': '192.0.2.1' }), 403, 'nobody else is believed')
    t.equal(await statusFrom(app, '10.0.0.1', { 'x-forwarded-for': '192.0.2.1, 198.51.100.1' }), 403)
  })

  t.test('comes from the connection with source: socket', async (t) => {
    const app = await served({ allow: ['10.0.0.1'], source: 'socket' }, { trustProxy: true })
    t.equal(await statusFrom(app, '10.0.0.1', { 'x-forwarded-for': '192.0.2.1' }), 200)
    t.equal(await statusFrom(app, '192.0.2.1', { 'x-forwarded-for': '10.0.0.1' }), 403)
  })

  t.test('fails the registration where any client could choose it', async (t) => {
    const everyone = [true, 1, 2, ['0.0.0.0/1', '128.0.0.0/1'], () => true] as const
    for (const trustProxy of everyone) {
      await t.rejects(served({ allow: ['10.0.0.1'] }, { trustProxy: trustProxy as true }), /option "source" .*trustProxy.*source: 'socket'/s, String(trustProxy))
    }
  })
})

t.test('anyOf of addresses', async (t) => {
  const app = Fastify()
  await app.register(ipAllowlist, { allow: ['10.0.0.1'], as: 'office' })
  await app.register(ipAllowlist, { allow: ['10.0.0.2'], as: 'branch' })
  const { office, branch } = app as unknown as Record<string, typeof app.ipAllowlist>
  app.get('/', { onRequest: anyOf(office!, branch!) }, () => 'served')
  t.equal(await statusFrom(app, '10.0.0.1'), 200)
  t.equal(await statusFrom(app, '10.0.0.2'), 200)
  t.equal(await statusFrom(app, '10.0.0.3'), 403)
})

t.test('options that can not be meant are refused by name', async (t) => {
  const wrong: readonly [Record<string, unknown>, RegExp][] = [
    [{}, /"allow" or "deny" or "tenants" is required/],
    [{ deny: [] }, /"deny" must not be empty/],
    [{ allow: [], deny: [] }, /"deny" must not be empty/],
    [{ allow: '10.0.0.1' }, /"allow" must be a list/],
    [{ allow: ['10.0.0.1', '010.0.0.1'] }, /"allow\[1\]"/],
    [{ allow: ['0.0.0.0/0'] }, /"allow\[0\]".*allowAny/],
    [{ allow: ['10.0.0.1-10.0.0.9'] }, /"allow\[0\]".*allowRanges/],
    [{ allow: ['10.0.0.1'], families: ['ipv5'] }, /"families"/],
    [{ allow: ['10.0.0.1'], families: [] }, /"families"/],
    [{ allow: ['10.0.0.1'], source: 'header' }, /"source" must be one of/],
    [{ tenants: ['10.0.0.1'] }, /"tenants" must be an object/],
    [{ tenants: { a: {} } }, /"tenants\.a\.allow" or "deny" is required/],
    [{ tenants: { a: { allow: ['x'] } } }, /"tenants\.a\.allow\[0\]"/],
    [{ tenants: { a: { alow: ['10.0.0.1'] } } }, /"tenants\.a\.alow" is unknown/],
    [{ tenants: {}, tenantWithoutList: 'maybe' }, /"tenantWithoutList"/]
  ]
  for (const [options, message] of wrong) {
    const error = await served(options as IpAllowlistOptions).then(() => undefined, (thrown: unknown) => thrown)
    t.ok(isOptionsError(error), JSON.stringify(options))
    t.match((error as Error).message, message)
  }
})
