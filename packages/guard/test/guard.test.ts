import Fastify, { type FastifyInstance, type FastifyServerOptions, type InjectOptions } from 'fastify'
import t from 'tap'
import type { Test } from 'tap'
import {
  allOf, anyOf, assertForwardingIsSafe, guard, guardOf, isOptionsError, open, optional, type GuardOptions, type Policy
} from '../src/index.js'
import { codeOf, guardedApp, keyGuard, keyPlugin, placeGuard, type KeyGuard } from './fixtures/guards.js'

const handler = () => 'reached'
const ready = (app: FastifyInstance) => async () => { await app.ready() }
const part = (app: FastifyInstance, name: string): KeyGuard => (app as unknown as Record<string, KeyGuard>)[name]!

/** A Fastify that nobody awaits and that is closed when the test is over. */
function bareApp (t: Test, server: FastifyServerOptions = {}): FastifyInstance {
  const app: FastifyInstance = Fastify(server)
  t.teardown(() => app.close())
  return app
}

/** The warnings of this process while something runs. */
async function warningsDuring (run: () => Promise<unknown>): Promise<readonly (Error & { code?: string })[]> {
  const seen: (Error & { code?: string })[] = []
  const note = (warning: Error): void => { seen.push(warning) }
  process.on('warning', note)
  await run()
  await new Promise((resolve) => setImmediate(resolve))
  process.off('warning', note)
  return seen
}

// Registration

t.test('guard is registered once, before routes, with known options', async (t) => {
  const app = await guardedApp(t)
  await t.rejects(async () => { await app.register(guard) }, { name: 'OptionsError', option: 'register', message: /already registered/ })

  const nested = await guardedApp(t)
  await t.rejects(async () => { await nested.register(async (child) => { await child.register(guard) }) }, /already registered/)

  const late = bareApp(t)
  late.get('/early', handler)
  await t.rejects(async () => { await late.register(guard) }, /came after routes/)

  const wrong: readonly (readonly [string, unknown])[] = [
    ['adit', { adit: 'warn' }], ['audit', { audit: 'off' }], ['requireHttps', { requireHttps: 'yes' }], ['requireHttps.source', { requireHttps: { source: 'proxy' } }],
    ['requireHttps.from', { requireHttps: { from: 'socket' } }], ['realm', { realm: 'é' }], ['realm', { realm: '' }], ['realm', { realm: 'a\r\nb' }], ['judgeTimeoutMs', { judgeTimeoutMs: 0 }],
    ['judgeTimeoutMs', { judgeTimeoutMs: Infinity }], ['clock', { clock: 0 }], ['onDecision', { onDecision: 'log' }]
  ]
  for (const [option, options] of wrong) {
    await t.rejects(guardedApp(t, options as GuardOptions), { name: 'OptionsError', option }, JSON.stringify(options))
  }
})

t.test('a plugin brings guard in where it is missing, and its name is free or refused', async (t) => {
  const app = bareApp(t)
  await app.register(keyPlugin('alpha'))
  await app.register(keyPlugin('alpha'), { as: 'other' })
  app.get('/', { onRequest: part(app, 'alpha') }, (request) => [...request.auth.via])
  app.get('/other', { onRequest: guardOf<KeyGuard>(app, 'other') }, (request) => request.auth.via)
  t.same((await app.inject({ url: '/', headers: { 'x-alpha': 'pass' } })).json(), ['alpha'])
  t.same((await app.inject({ url: '/other', headers: { 'x-alpha': 'pass' } })).json(), ['other'])
  t.throws(() => guardOf<Policy>(app, 'nobody'), { name: 'TypeError', message: /"nobody"/ })
  t.throws(() => guardOf<Policy>(app, 'policies'), { name: 'TypeError', message: /"policies"/ }, 'a decorator that is no guard')

  for (const [title, register] of Object.entries({
    'in the same scope': async (app: FastifyInstance) => { await app.register(keyPlugin('alpha')) },
    'in a child scope': async (app: FastifyInstance) => { await app.register(async (child) => { await child.register(keyPlugin('alpha')) }) },
    'as a decorator of the app': async (app: FastifyInstance) => { app.decorate('beta', 1); await app.register(keyPlugin('beta')) }
  })) {
    const taken = bareApp(t)
    await taken.register(keyPlugin('alpha'))
    await t.rejects(register(taken), { name: 'OptionsError', option: 'as', message: /taken in this scope/ }, title)
  }
})

// The audit

t.test('audit "enforce" fails the boot and lists every route without a policy, in every scope', async (t) => {
  const app = await guardedApp(t)
  app.get('/guarded', { onRequest: keyGuard('alpha') }, handler)
  app.get('/forgotten', handler)
  app.options('/forgotten', handler)
  app.route({ method: ['PUT', 'PATCH'], url: '/both', onRequest: async () => undefined, handler })
  app.route({ method: ['OPTIONS', 'DELETE'], url: '/preflight-and-more', handler })
  await app.register(async (child) => { child.post('/nested', handler) }, { prefix: '/scope' })
  const failure = await ready(app)().catch((error: unknown) => error)
  t.ok(isOptionsError(failure))
  t.match(failure, { option: 'audit', message: /5 route\(s\) declare no policy: GET \/forgotten, HEAD \/forgotten, PUT\|PATCH \/both, OPTIONS\|DELETE \/preflight-and-more, POST \/scope\/nested;/ })
})

t.test('audit "warn", the default where a plugin brought guard in, names them in one warning', async (t) => {
  for (const register of [
    async (app: FastifyInstance) => { await app.register(guard, { audit: 'warn' }) },
    async (app: FastifyInstance) => { await app.register(keyPlugin('alpha')) }
  ]) {
    const app = bareApp(t)
    await register(app)
    app.get('/a', { exposeHeadRoute: false }, handler)
    app.get('/b', { exposeHeadRoute: false }, handler)
    const warnings = await warningsDuring(ready(app))
    t.same(warnings.map(({ code, message }) => [code, message]), [['SALLYPORT_UNDECLARED', '2 route(s) declare no policy: GET /a, GET /b']])
    t.equal((await app.inject('/a')).statusCode, 200, 'undeclared is not refused there')
  }
})

t.test('a guard that is not there when the route is declared fails the boot, whatever the audit', async (t) => {
  const forgotten: Readonly<Record<string, (app: FastifyInstance) => unknown>> = {
    'its plugin was not awaited': (app) => {
      void app.register(keyPlugin('alpha'))
      app.get('/lost', { onRequest: part(app, 'alpha') }, handler)
    },
    'its plugin is in a sibling scope': async (app) => {
      await app.register(async (one) => {
        await one.register(keyPlugin('alpha'))
        one.get('/one', { onRequest: part(one, 'alpha') }, handler)
      })
      await app.register(keyPlugin('other'))
      await app.register(async (two) => { two.get('/lost', { onRequest: part(two, 'alpha') }, handler) })
    },
    'its name is misspelt': async (app) => {
      await app.register(keyPlugin('alpha'))
      app.get('/lost', { onRequest: part(app, 'alhpa') }, handler)
    },
    'guard itself is registered by hand': async (app) => {
      await app.register(guard, { audit: 'warn' })
      void app.register(keyPlugin('alpha'))
      app.get('/lost', { onRequest: part(app, 'alpha') }, handler)
    }
  }
  for (const [title, declare] of Object.entries(forgotten)) {
    const app = bareApp(t)
    await declare(app)
    await t.rejects(ready(app), { name: 'OptionsError', option: 'onRequest', message: /is undefined at GET \/lost/ }, title)
  }
  const listed = await guardedApp(t)
  t.throws(() => listed.get('/', { onRequest: [part(listed, 'alpha')] }, handler), /onRequest/, 'in a list Fastify itself refuses it')
})

t.test('an app without any guard is told of a route whose guard is not there, and left alone', async (t) => {
  const other = bareApp(t)
  await other.register(keyPlugin('alpha'))
  const app = bareApp(t)
  app.get('/lost', { onRequest: part(app, 'alpha'), exposeHeadRoute: false }, handler)
  app.get('/plain', handler)
  const warnings = await warningsDuring(ready(app))
  t.match(warnings, [{ code: 'SALLYPORT_UNGUARDED', message: /undefined at GET \/lost, so anybody may call/ }])
  t.equal(warnings.length, 1)
  t.equal((await app.inject('/plain')).statusCode, 200)
})

t.test('open() can\'t stand in a protected scope', async (t) => {
  const app = await guardedApp(t)
  await app.register(async (scope) => {
    scope.protect(keyGuard('alpha'))
    await scope.register(async (inner) => { inner.get('/health', { onRequest: open('liveness probe') }, handler) })
  })
  await t.rejects(ready(app), { name: 'OptionsError', message: /GET \/health is open\(\) inside a protected scope/ })

  const fine = await guardedApp(t)
  fine.get('/health', { onRequest: open('liveness probe') }, (request) => request.auth)
  t.same((await fine.inject('/health')).json(), { principal: { scopes: [] }, via: [] })
})

t.test('policies() and printPolicies() say who guards what', async (t) => {
  const app = await guardedApp(t)
  const alpha = keyGuard('alpha', { proves: ['tenant'], notes: ['no nonce'] })
  app.get('/health', { onRequest: open('liveness probe') }, handler)
  app.get('/tenants/:tenant/orders', { onRequest: [anyOf(alpha.require({ tenantParam: 'tenant' }), keyGuard('beta')), placeGuard()] }, handler)
  await app.register(async (scope) => {
    scope.protect(optional(keyGuard('beta')))
    scope.post('/', { onRequest: allOf(placeGuard()) }, handler)
  }, { prefix: '/scope' })
  app.get('/bare', handler)
  const alphaPolicy = { guard: 'alpha', plugin: '@test/guards', requires: ['tenantParam: tenant'], notes: ['no nonce'] }
  const [beta, place] = ['beta', 'place'].map((name) => ({ guard: name, plugin: '@test/guards' }))
  t.match(app.policies(), [
    { method: 'GET', url: '/health', policy: { open: 'liveness probe' } },
    { method: 'HEAD', url: '/health', policy: { open: 'liveness probe' } },
    { method: 'GET', url: '/tenants/:tenant/orders', policy: { all: [{ any: [alphaPolicy, beta] }, place] } },
    { method: 'HEAD', url: '/tenants/:tenant/orders' },
    { method: 'POST', url: '/scope', policy: { all: [{ optional: beta }, { all: [place] }] } },
    { method: 'GET', url: '/bare', policy: undefined },
    { method: 'HEAD', url: '/bare', policy: undefined }
  ])
  const lines = app.printPolicies().split('\n')
  t.match(lines[0], /^GET \/health +open: liveness probe$/)
  t.match(lines[1], /^GET \/tenants\/:tenant\/orders +\(alpha \[tenantParam: tenant; no nonce\] or beta\) and place$/)
  t.match(lines[2], /^POST \/scope +optional beta and place$/)
  t.match(lines.at(-2), /^GET \/bare +NO POLICY$/)
})

t.test('a tenant parameter that the route lacks fails the boot', async (t) => {
  const alpha = keyGuard('alpha', { proves: ['tenant'] })
  const wrong = await guardedApp(t)
  wrong.get('/tenants/:tenantId', { onRequest: alpha.require({ tenantParam: 'account' }) }, handler)
  await t.rejects(ready(wrong), { name: 'OptionsError', option: 'tenantParam', message: /"account" is no parameter of GET \/tenants\/:tenantId/ })
  const prefix = await guardedApp(t)
  prefix.get('/tenants/:tenantId', { onRequest: alpha.require({ tenantParam: 'tenant' }) }, handler)
  await t.rejects(ready(prefix), /"tenant" is no parameter/, 'a parameter that only begins like it is another')

  t.throws(() => keyGuard('beta').require({ tenantParam: 'tenant' }), { name: 'OptionsError', message: /needs a guard that proves a tenant/ })
  t.throws(() => alpha.require({}), { name: 'OptionsError', message: /asks for nothing/ })
  t.throws(() => alpha.require({ tenantParm: 'tenant' }), { name: 'OptionsError', option: 'require().tenantParm' })

  const app = await guardedApp(t)
  for (const url of ['/a/:tenant', '/b/:tenant(^\\d+$)', '/c/:kind-:tenant', '/d/:tenant.json', '/e/:tenant?']) app.get(url, { onRequest: alpha.require({ tenantParam: 'tenant' }) }, handler)
  const ask = (url: string, tenant = '42') => app.inject({ url, headers: { 'x-alpha': `tenant:${tenant}` } })
  for (const url of ['/a/42', '/b/42', '/c/x-42', '/d/42.json', '/e/42', '/a/%34%32']) t.equal((await ask(url)).statusCode, 200, url)
  for (const url of ['/a/43', '/b/43', '/c/42-43', '/d/43.json', '/e', '/a/%3042', '/a/42%20']) {
    const answer = await ask(url)
    t.same([answer.statusCode, codeOf(answer)], [403, 'ERR_GUARD_TENANT_MISMATCH'], url)
  }
  t.equal((await ask('/a/__proto__', 'acme')).statusCode, 403)
})

// Protection of scopes

t.test('protect() guards earlier and later routes, HEAD and the scope\'s own 404, and nothing beside the scope', async (t) => {
  const app = await guardedApp(t)
  let handled = 0
  const counting = () => { handled++; return 'reached' }
  app.get('/beside', { onRequest: open('for the test') }, handler)
  await app.register(async (scope) => {
    scope.get('/early', counting)
    scope.setNotFoundHandler(counting)
    await scope.register(async (child) => { child.decorate('nothing', true) })
    scope.protect(keyGuard('alpha'))
    scope.get('/late', { onRequest: keyGuard('beta') }, counting)
    await scope.register(async (inner) => {
      inner.get('/inner', counting)
      inner.protect(keyGuard('gamma'))
    })
  }, { prefix: '/scope' })
  for (const method of ['GET', 'HEAD'] as const) {
    for (const url of ['/scope/early', '/scope/late', '/scope/inner', '/scope/nothing', '/scope', '/scope/']) {
      t.equal((await app.inject({ method, url })).statusCode, 401, `${method} ${url}`)
    }
  }
  t.equal((await app.inject({ method: 'POST', url: '/scope/early' })).statusCode, 401, 'a method without a route is the scope\'s 404')
  t.equal(handled, 0)
  t.equal((await app.inject('/beside')).statusCode, 200)
  t.equal((await app.inject('/nowhere')).statusCode, 404)
  const asked = async (url: string, ...names: string[]) => (await app.inject({ url, headers: Object.fromEntries(names.map((name) => [`x-${name}`, 'pass'])) })).statusCode
  t.same([await asked('/scope/early', 'alpha'), await asked('/scope/nothing', 'alpha')], [200, 200])
  t.same([await asked('/scope/late', 'alpha'), await asked('/scope/late', 'beta'), await asked('/scope/late', 'alpha', 'beta')], [401, 401, 200])
  t.same([await asked('/scope/inner', 'alpha'), await asked('/scope/inner', 'alpha', 'gamma')], [401, 200])
})

t.test('protect() at the root covers the default 404', async (t) => {
  const app = await guardedApp(t)
  app.protect(keyGuard('alpha'))
  app.get('/', handler)
  t.equal((await app.inject('/nowhere')).statusCode, 401)
  t.equal((await app.inject({ url: '/nowhere', headers: { 'x-alpha': 'pass' } })).statusCode, 404)
})

t.test('protect() refuses what it can\'t hold, and to come too late', async (t) => {
  const app = await guardedApp(t)
  for (const policy of [undefined, () => undefined, open('all of it')]) {
    t.throws(() => app.protect(policy as Policy), { name: 'OptionsError', option: 'policy' })
  }
  await app.register(async (child) => { child.get('/child', { onRequest: keyGuard('alpha') }, handler) })
  t.throws(() => app.protect(keyGuard('beta')), { name: 'OptionsError', message: /too late for GET \/child/ })

  const queued = await guardedApp(t)
  void queued.register(async (child) => { child.get('/child', handler) })
  queued.protect(keyGuard('alpha'))
  t.equal((await queued.inject('/child')).statusCode, 401, 'a scope that is not loaded yet is in time')
})

t.test('a scope loaded before protect() can\'t slip routes past it', async (t) => {
  const app = await guardedApp(t)
  let child: FastifyInstance | undefined
  await app.register(async (scope) => { child = scope })
  try {
    app.protect(keyGuard('alpha'))
    child!.get('/slipped', handler)
    await app.ready()
  } catch (error) {
    t.ok(isOptionsError(error), 'refused by name')
    return
  }
  t.equal((await app.inject('/slipped')).statusCode, 401, 'else guarded')
})

// HTTPS and forwarded headers

t.test('requireHttps refuses plain HTTP inside policies, counts trusted proxies only, and leaves open() alone', async (t) => {
  const ask = async (options: GuardOptions, server: FastifyServerOptions, request: InjectOptions, isEncrypted = false) => {
    const app = await guardedApp(t, options, server)
    app.addHook('onRequest', async ({ raw }) => { if (isEncrypted) Object.assign(raw.socket, { encrypted: true }) })
    app.get('/', { onRequest: keyGuard('alpha') }, handler)
    app.get('/open', { onRequest: open('liveness probe') }, handler)
    app.get('/login', { onRequest: open('the password is in the body', { requireHttps: true }) }, handler)
    t.equal((await app.inject('/open')).statusCode, 200)
    const [answer, login] = await Promise.all(['/', '/login'].map((url) => app.inject({ url, ...request, headers: { 'x-alpha': 'pass', ...request.headers } })))
    t.equal(codeOf(login!) ?? login!.statusCode, codeOf(answer!) ?? answer!.statusCode, 'a login is held to it though it is open')
    return codeOf(answer!) ?? answer!.statusCode
  }
  const refused = 'ERR_GUARD_HTTPS_REQUIRED'
  const forwarded = { 'x-forwarded-proto': 'https' }
  const behind = { trustProxy: ['10.0.0.0/8'] }
  const fromProxy = { remoteAddress: '10.1.2.3', headers: forwarded }
  t.equal(await ask({}, {}, {}), 200, 'not required')
  t.equal(await ask({ requireHttps: false }, {}, {}), 200)
  t.equal(await ask({ requireHttps: true }, {}, {}), refused)
  t.equal(await ask({ requireHttps: true }, {}, { headers: forwarded }), refused, 'nobody is trusted')
  t.equal(await ask({ requireHttps: true }, {}, {}, true), 200, 'a TLS connection')
  t.equal(await ask({ requireHttps: true }, behind, fromProxy), 200)
  t.equal(await ask({ requireHttps: true }, behind, { remoteAddress: '10.1.2.3' }), refused, 'the proxy was reached by HTTP')
  t.equal(await ask({ requireHttps: true }, behind, { remoteAddress: '10.1.2.3', headers: { 'x-forwarded-proto': 'http' } }), refused)
  t.equal(await ask({ requireHttps: true }, behind, { remoteAddress: '192.0.2.1', headers: forwarded }), refused, 'a client that plays proxy')
  t.equal(await ask({ requireHttps: { source: 'socket' } }, behind, fromProxy), refused)
  t.equal(await ask({ requireHttps: { source: 'socket' } }, { trustProxy: true }, {}, true), 200)
  const app = await guardedApp(t, { requireHttps: true })
  app.get('/', { onRequest: keyGuard('alpha') }, handler)
  const answer = await app.inject({ url: '/', headers: { 'x-alpha': 'pass' } })
  t.equal(answer.statusCode, 403)
  t.notOk('location' in answer.headers, 'never a redirect')
  for (const [option, given] of Object.entries({ requireHttps: 'yes', https: true })) t.throws(() => open('login', { [option]: given }), { name: 'OptionsError', option })
})

t.test('trustProxy settings with which any client is a proxy are refused by name', async (t) => {
  const believing: Readonly<Record<string, FastifyServerOptions['trustProxy']>> = {
    'true': true,
    'a number': 1 as unknown as boolean,
    'the lower half of IPv4': '0.0.0.0/1',
    'the upper half of IPv4': ['128.0.0.0/1'],
    'the lower half of IPv6': '::/1',
    'the upper half of IPv6': '8000::/1',
    'all of IPv4, mapped': '::ffff:0.0.0.0/96',
    'a function that trusts all': () => true
  }
  for (const [title, trustProxy] of Object.entries(believing)) {
    await t.rejects(guardedApp(t, { requireHttps: true }, { trustProxy: trustProxy! }), { name: 'OptionsError', option: 'requireHttps', message: /trustProxy|source: 'socket'/ }, title)
    await t.resolves(guardedApp(t, { requireHttps: { source: 'socket' } }, { trustProxy: trustProxy! }), title)
  }
  for (const trustProxy of [false, 'loopback', '10.0.0.1', ['10.0.0.0/8', 'fd00::/8'], (address: string) => address === '10.0.0.1']) {
    await t.resolves(guardedApp(t, { requireHttps: true }, { trustProxy }), String(trustProxy))
  }
  t.throws(() => assertForwardingIsSafe({} as FastifyInstance, { owner: '@test/x', option: 'source', otherwise: 'use y' }), {
    name: 'OptionsError', message: /can't be found out; name the proxies .* or use y/
  })
  const child = bareApp(t, { trustProxy: true })
  await child.register(async (scope) => {
    t.throws(() => assertForwardingIsSafe(scope, { owner: '@test/x', option: 'source', otherwise: 'use y' }), /trustProxy: true/, 'seen from a child scope')
  })
})

t.test('Fastify keeps trustProxy under Symbol(fastify.options), and not in initialConfig', async (t) => {
  const app = bareApp(t, { trustProxy: '10.0.0.1' })
  const symbol = Object.getOwnPropertySymbols(app).find(({ description }) => description === 'fastify.options')!
  t.match((app as unknown as Record<symbol, unknown>)[symbol], { trustProxy: '10.0.0.1' })
  t.notOk('trustProxy' in app.initialConfig)
})
