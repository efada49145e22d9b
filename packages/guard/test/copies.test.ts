import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import Fastify, { type FastifyInstance } from 'fastify'
import t from 'tap'
import type { Test } from 'tap'

// Before guard is imported anywhere in this process: nobody saw this app's first route being declared
const early: FastifyInstance = Fastify()
early.get('/early', { exposeHeadRoute: false }, () => 'reached')

const original = await import('../src/index.js')
const { codeOf, guardedApp, keyGuard, MapStore, watchProcess } = await import('./fixtures/guards.js')
type Guard = typeof original

const packageFolder = resolve(import.meta.dirname, '..')
const handler = () => 'reached'
const ready = (app: FastifyInstance) => async () => { await app.ready() }

/** Another copy of this package, as a second version in `node_modules` would be. */
async function copyOf (t: Test, change = (source: string) => source): Promise<Guard> {
  // Outside of the package, so that its coverage counts the original only
  const folder = await mkdtemp(join(tmpdir(), 'sallyport-copy-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  await cp(join(packageFolder, 'src'), folder, { recursive: true })
  await writeFile(join(folder, 'package.json'), '{ "type": "module" }')
  await symlink(resolve(packageFolder, '../../node_modules'), join(folder, 'node_modules'))
  const policy = join(folder, 'policy.ts')
  const source = await readFile(policy, 'utf8')
  await writeFile(policy, change(source))
  const copy = await import(pathToFileURL(join(folder, 'index.ts')).href) as Guard
  t.not(copy.allOf, original.allOf, 'it is a module of its own')
  return copy
}

/** A guard made by a copy: `x-beta: tenant:acme`. */
function guardOfCopy (copy: Guard, overrides: Partial<import('../src/index.js').GuardDefinition> = {}) {
  return copy.defineGuard<{ tenant: string }, { scope?: string }>({
    owner: '@test/copy',
    name: 'beta',
    credentials: [{ header: 'x-beta' }],
    proves: ['tenant'],
    challenges: { absent: 'Beta' },
    missing: () => new copy.AuthError({ code: 'ERR_BETA_ABSENT', outcome: 'absent', message: 'beta is missing' }),
    isPresented: (request) => request.headers['x-beta'] !== undefined,
    judge (request) {
      const value = String(request.headers['x-beta'])
      if (value === 'rejected') throw new copy.AuthError({ code: 'ERR_BETA_REJECTED', outcome: 'rejected', message: 'beta is wrong' })
      return { identity: { tenant: value }, principal: { tenant: value } }
    },
    ...overrides as object
  })
}

t.test('routes declared before guard was loaded are refused at run time, since nobody knows their policy', async (t) => {
  t.teardown(() => early.close())
  await early.register(original.guard, { audit: 'warn' })
  early.get('/late', { onRequest: original.open('for the test') }, handler)
  await early.register(async (child) => { child.get('/child', { onRequest: keyGuard('alpha') }, handler) })
  const unseen = await early.inject('/early')
  t.same([unseen.statusCode, codeOf(unseen), unseen.headers['retry-after']], [503, 'ERR_GUARD_ROUTE_UNSEEN', undefined])
  t.equal((await early.inject('/late')).statusCode, 200)
  t.equal((await early.inject('/child')).statusCode, 401)
  t.equal((await early.inject('/nowhere')).statusCode, 404)
  t.same(early.policies().map(({ method, url }) => `${method} ${url}`), ['GET /late', 'HEAD /late', 'GET /child', 'HEAD /child'])
})

t.test('a policy on a route outside of guard\'s scope is refused, and so is open()', async (t) => {
  const app: FastifyInstance = Fastify()
  t.teardown(() => app.close())
  app.get('/', { onRequest: keyGuard('alpha') }, handler)
  app.get('/open', { onRequest: original.open('for the test') }, handler)
  for (const url of ['/', '/open']) {
    const answer = await app.inject({ url, headers: { 'x-alpha': 'pass' } })
    t.same([answer.statusCode, codeOf(answer)], [503, 'ERR_GUARD_ROUTE_UNSEEN'], url)
  }
})

t.test('two copies of the same protocol work as one', async (t) => {
  const copy = await copyOf(t)
  const alpha = keyGuard('alpha', { proves: ['tenant'] })
  const beta = guardOfCopy(copy)
  const store = new MapStore()
  const once = guardOfCopy(copy, {
    judge: () => ({
      identity: { tenant: 'acme' },
      principal: { tenant: 'acme' },
      claims: [{ store, key: 'k', expiresAtMs: Date.now() + 60_000, storeTimeoutMs: 250, repeated: () => new copy.AuthError({ code: 'ERR_BETA_USED', outcome: 'rejected', message: 'used' }) }]
    })
  })

  const twice = await guardedApp(t)
  await t.rejects(async () => { await twice.register(copy.guard) }, { name: 'OptionsError', option: 'register' }, 'the copy sees that guard is there')
  const app = await guardedApp(t)
  app.get('/all', { onRequest: original.allOf(alpha, beta) }, (request) => ({
    auth: request.auth, seenBy: [original.identityOf(request, beta), copy.identityOf(request, beta), copy.hasIdentity(request, alpha)]
  }))
  app.get('/reverse', { onRequest: copy.allOf(beta, alpha) }, (request) => [...request.auth.via])
  app.get('/any', { onRequest: copy.anyOf(beta, alpha) }, (request) => [...request.auth.via])
  app.get('/once', { onRequest: once }, handler)
  app.get('/open', { onRequest: copy.open('for the test') }, handler)
  const send = (url: string, alpha?: string, beta?: string) => app.inject({ url, headers: { ...alpha && { 'x-alpha': `tenant:${alpha}` }, ...beta && { 'x-beta': beta } } })

  t.same((await send('/all', 'acme', 'acme')).json(), { auth: { principal: { tenant: 'acme', scopes: [] }, via: ['alpha', 'beta'] }, seenBy: [{ tenant: 'acme' }, { tenant: 'acme' }, true] })
  t.same((await send('/reverse', 'acme', 'acme')).json(), ['beta', 'alpha'])
  t.same((await send('/any', undefined, 'acme')).json(), ['beta'])
  t.equal(codeOf(await send('/all', 'acme', 'other')), 'ERR_GUARD_PRINCIPAL_CONFLICT')
  t.equal(codeOf(await send('/all', 'acme', 'rejected')), 'ERR_BETA_REJECTED', 'a refusal of the copy is a refusal')
  t.equal(codeOf(await send('/all', 'acme')), 'ERR_GUARD_CREDENTIAL_INCOMPLETE')
  const missing = await send('/any')
  t.same([codeOf(missing), missing.headers['www-authenticate']], ['ERR_GUARD_CREDENTIAL_MISSING', 'Beta, Key-alpha'])
  t.equal((await send('/open')).statusCode, 200)
  t.same([(await send('/once', undefined, 'acme')).statusCode, codeOf(await send('/once', undefined, 'acme'))], [200, 'ERR_BETA_USED'], 'claims of the copy are made')
  t.match(app.printPolicies(), /GET \/all +alpha and beta\n/)
  t.ok(original.isAuthError(new copy.AuthError({ code: 'X', outcome: 'absent', message: 'x' })))
  t.ok(copy.isOptionsError(new original.OptionsError('a', 'b', 'c')))

  const brought: FastifyInstance = Fastify()
  t.teardown(() => brought.close())
  await brought.register(copy.guard)
  await brought.register(original.guardPluginOf({ owner: '@test/plugin', name: 'plugged', optionNames: [], define: () => ({ ...definitionOf(), name: 'plugged' }) }))
  brought.get('/', { onRequest: original.guardOf(brought, 'plugged') }, (request) => [...request.auth.via])
  t.same((await brought.inject({ url: '/', headers: { 'x-plugged': '1' } })).json(), ['plugged'], 'a plugin finds the guard of the copy')
})

function definitionOf () {
  return {
    credentials: [{ header: 'x-plugged' }], proves: [], missing: () => new original.AuthError({ code: 'X', outcome: 'absent', message: 'x' }),
    isPresented: (request: { headers: Record<string, unknown> }) => 'x-plugged' in request.headers, judge: () => ({ identity: 'plugged' })
  }
}

t.test('copies that speak different protocols refuse each other by name', async (t) => {
  const fatal = watchProcess(t)
  const other = await copyOf(t, (source) => source.replace(/PROTOCOL = (\d+)/, (_all, number) => `PROTOCOL = ${Number(number) + 1}`))
  const differs = { name: 'OptionsError', message: /another version of @sallyport\/guard \(protocol \d+, this one speaks \d+\); install one version/ }
  const foreign = guardOfCopy(other)

  t.throws(() => original.allOf(keyGuard('alpha'), foreign), differs)
  t.throws(() => other.anyOf(keyGuard('alpha'), foreign), differs)
  const app = await guardedApp(t)
  t.throws(() => app.get('/', { onRequest: foreign }, handler), differs, 'on a route')
  t.throws(() => app.protect(foreign), differs, 'on a scope')
  const guards = await guardedApp(t)
  await t.rejects(async () => { await guards.register(other.guard) }, differs, 'its guard beside ours')
  const plugins = await guardedApp(t)
  await t.rejects(async () => {
    await plugins.register(other.guardPluginOf({ owner: '@test/plugin', name: 'plugged', optionNames: [], define: () => definitionOf() }))
  }, differs, 'a plugin of its own')
  t.same(await fatal(), [])
})

t.test('copies of different protocols in two scopes of one app never pass each other\'s requests', async (t) => {
  const other = await copyOf(t, (source) => source.replace(/PROTOCOL = (\d+)/, (_all, number) => `PROTOCOL = ${Number(number) + 1}`))
  const app: FastifyInstance = Fastify()
  t.teardown(() => app.close())
  let handled = 0
  await t.rejects(async () => {
    await app.register(async (one) => {
      await one.register(original.guard)
      one.get('/one', { onRequest: keyGuard('alpha') }, () => { handled++; return 'reached' })
    })
    await app.register(async (two) => {
      await two.register(other.guard)
      two.get('/two', { onRequest: guardOfCopy(other) }, () => { handled++; return 'reached' })
    })
    await ready(app)()
  }, { name: 'OptionsError' })
  t.equal(handled, 0)
})
