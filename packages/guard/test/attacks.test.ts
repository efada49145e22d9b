import { connect as connectHttp2 } from 'node:http2'
import { connect, type AddressInfo, type Socket } from 'node:net'
import type { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import Fastify, { type FastifyError, type FastifyInstance, type FastifyServerOptions } from 'fastify'
import t from 'tap'
import type { Test } from 'tap'
import { allOf, anyOf, bodyVerified, guard, memoryStore, open, optional, type Claim, type Policy } from '../src/index.js'
import { digestGuard, digestOf, macGuard, macOf } from './fixtures/body-guards.js'
import { codeOf, guardedApp, keyGuard, MapStore, placeGuard, refusedBy, watchProcess } from './fixtures/guards.js'
import { rawRequest } from './fixtures/raw-request.js'

const handler = () => 'reached'

// Paths (P-17): what decides is the route that answers, never the text of a URL

const routers: readonly (readonly [string, FastifyServerOptions])[] = [
  ['with the router as it is', {}],
  ['with ignoreTrailingSlash', { routerOptions: { ignoreTrailingSlash: true } }],
  ['with ignoreDuplicateSlashes', { routerOptions: { ignoreDuplicateSlashes: true } }],
  ['with caseSensitive off', { routerOptions: { caseSensitive: false } }],
  ['with useSemicolonDelimiter', { routerOptions: { useSemicolonDelimiter: true } as object }],
  ['with everything loose', { routerOptions: { ignoreTrailingSlash: true, ignoreDuplicateSlashes: true, caseSensitive: false, useSemicolonDelimiter: true } as object }]
]

const spellings: readonly string[] = [
  '/admin', '/%61dmin', '/%61%64%6d%69%6e', '/adm%69n', '//admin', '///admin', '/admin/', '/admin//', '/ADMIN', '/Admin', '/aDMIN', '/admin?x', '/admin?', '/admin?/public', '/admin#x',
  '/admin;', '/admin;x', '/admin;x=1', '/;/admin', '/.;/admin', '/./admin', '/public/../admin', '/public/%2e%2e/admin', '/%2fadmin', '/admin%2f', '/admin%00', '/admin%20', '/admin.',
  '/admin%3f', '/admin%23', '/admin\\', '\\admin', '/admin%5c', '/%2561dmin', '/admin/../admin', 'http://localhost/admin', 'http://localhost//admin', 'http://other/admin', '/wild/x', '/wild//x', '/WILD/x',
  '/wild/%2e%2e/admin', '/wild/', '/wild', '/items/1', '/items/%31', '/items/1/', '//items/1', '/items/1;x', '/items//', '/scope/deep', '/scope//deep', '/SCOPE/deep', '/scope/%64eep', '/scope/none', '/scope', '/scope/'
]

for (const [title, server] of routers) {
  t.test(`no spelling of a path gets past its guard, ${title}`, async (t) => {
    const app = await guardedApp(t, {}, server)
    let handled = 0
    const counting = () => { handled++; return 'reached' }
    const alpha = keyGuard('alpha')
    app.get('/admin', { onRequest: alpha }, counting)
    app.get('/wild/*', { onRequest: alpha }, counting)
    app.get('/items/:id', { onRequest: alpha }, counting)
    await app.register(async (scope) => {
      scope.protect(alpha)
      scope.setNotFoundHandler(counting)
      scope.get('/deep', counting)
    }, { prefix: '/scope' })
    await app.listen({ port: 0, host: '127.0.0.1' })
    for (const path of spellings) {
      for (const method of ['GET', 'HEAD', 'OPTIONS', 'POST', 'QUERY', 'get']) {
        const { status } = await rawRequest(app, [`${method} ${path} HTTP/1.1`])
        t.ok([400, 401, 404].includes(status), `${method} ${path}: ${status}`)
      }
    }
    t.equal(handled, 0)
    const right = ['X-Alpha: pass']
    t.same([(await rawRequest(app, ['GET /admin HTTP/1.1', ...right])).status, (await rawRequest(app, ['GET /scope/deep HTTP/1.1', ...right])).status], [200, 200])
    t.equal(handled, 2, 'the right credential gets there')
  })
}

t.test('a method that a plugin adds later, and a method override in a header, change nothing', async (t) => {
  const app = await guardedApp(t)
  let handled = 0
  app.addHttpMethod('PROPFIND')
  app.route({ method: ['PROPFIND', 'GET', 'DELETE'], url: '/admin', onRequest: keyGuard('alpha'), handler () { handled++; return 'reached' } })
  await app.listen({ port: 0, host: '127.0.0.1' })
  for (const method of ['PROPFIND', 'DELETE', 'HEAD', 'GET']) {
    t.equal((await rawRequest(app, [`${method} /admin HTTP/1.1`, 'X-HTTP-Method-Override: OPTIONS', 'X-Original-URL: /public', 'X-Rewrite-URL: /public'])).status, 401, method)
  }
  t.equal(handled, 0)
})

t.test('a rewritten URL is judged by the route that it reaches', async (t) => {
  const app = await guardedApp(t, {}, { rewriteUrl: ({ url = '' }) => url.replace('/public', '/admin') })
  app.get('/admin', { onRequest: keyGuard('alpha') }, handler)
  t.equal((await app.inject('/public')).statusCode, 401)
})

// Composition (P-16)

t.test('an outage opens no door, whatever stands beside it', async (t) => {
  const down = keyGuard('down', { judge () { throw new Error('connection refused') } })
  const policies: Readonly<Record<string, Policy>> = {
    'anyOf(down, good)': anyOf(down, keyGuard('good')),
    'anyOf(allOf(down, good), other)': anyOf(allOf(down, keyGuard('good')), keyGuard('other')),
    'optional(down)': optional(down),
    'allOf(good, down)': allOf(keyGuard('good'), down),
    'anyOf(place, good)': anyOf(placeGuard('place', { judge () { throw new Error('list unreadable') } }), keyGuard('later'))
  }
  for (const [title, onRequest] of Object.entries(policies)) {
    const app = await guardedApp(t)
    app.get('/', { onRequest }, handler)
    const answer = await app.inject({ url: '/', headers: { 'x-down': 'pass', 'x-good': 'pass', 'x-other': 'pass' } })
    t.same([answer.statusCode, codeOf(answer)], [503, 'ERR_GUARD_JUDGE_FAILED'], title)
  }
})

t.test('a refused alternative leaves nothing behind, not even a subject', async (t) => {
  for (const later of [false, true]) {
    const named = placeGuard('named', { judge: () => ({ identity: 1, principal: { subject: 'ghost', scopes: ['haunt'] } }) })
    const shut = placeGuard('shut', { judge () { if (!later) throw refusedBy('shut', 'forbidden'); return Promise.reject(refusedBy('shut', 'forbidden')) } })
    const app = await guardedApp(t)
    app.get('/', { onRequest: anyOf(allOf(named, shut), placeGuard()) }, (request) => request.auth)
    t.same((await app.inject('/')).json(), { principal: { scopes: [] }, via: ['place'] })
  }
})

// Hooks: what runs is what Fastify was given in the end, in the place where it runs

t.test('what another plugin does to a route when it is declared is what the audit sees', async (t) => {
  const dropped = await guardedApp(t)
  dropped.addHook('onRoute', (route) => { route.onRequest = async () => undefined })
  dropped.get('/dropped', { onRequest: keyGuard('alpha') }, handler)
  await t.rejects(async () => { await dropped.ready() }, /declare no policy: GET \/dropped/)

  const lost = await guardedApp(t, { audit: 'warn' })
  lost.addHook('onRoute', (route) => { Object.assign(route, { onRequest: undefined }) })
  lost.get('/lost', { onRequest: keyGuard('alpha') }, handler)
  await t.rejects(async () => { await lost.ready() }, /is undefined at GET \/lost/)

  const added = await guardedApp(t)
  added.addHook('onRoute', (route) => { route.onRequest = keyGuard('alpha') })
  added.get('/added', { exposeHeadRoute: false }, handler)
  t.equal((await added.inject('/added')).statusCode, 401)
  t.same(added.policies(), [{ method: 'GET', url: '/added', policy: { guard: 'alpha', plugin: '@test/guards' } }])
})

t.test('a guard in a hook that can tell nobody of a verdict refuses all, and ends no process', async (t) => {
  const fatal = watchProcess(t)
  for (const hook of ['preParsing', 'preSerialization', 'onSend']) {
    for (const later of [false, true]) {
      const alpha = keyGuard('alpha', { judge: () => later ? Promise.resolve({ identity: 1 }) : { identity: 1 } })
      const app = await guardedApp(t, { audit: 'warn' })
      app.addHook(hook as 'preParsing', alpha as never)
      app.get('/', { onRequest: alpha }, () => ({ reached: true }))
      const answer = await app.inject({ url: '/', headers: { 'x-alpha': 'pass' } })
      t.equal(answer.statusCode, 503, hook)
      t.notMatch(answer.body, /reached/)
    }
  }
  const alone = await guardedApp(t)
  alone.get('/', { preParsing: keyGuard('alpha') as never }, handler)
  await t.rejects(async () => { await alone.ready() }, /declare no policy: GET \//)
  t.same(await fatal(), [])
})

t.test('what a body is refused with shows no credential to error handlers, nor to their logs', async (t) => {
  const app = await guardedApp(t, {}, { bodyLimit: 20 })
  const seen: string[] = []
  app.addHook('onError', async (request) => { seen.push(JSON.stringify([request.headers, request.raw.rawHeaders])) })
  app.setErrorHandler((error: FastifyError, request, reply) => {
    seen.push(JSON.stringify([request.headers, request.raw.rawHeaders]))
    return reply.code(error.statusCode!).send(error)
  })
  const schema = { body: { type: 'object', required: ['name'] } }
  app.post('/', { onRequest: keyGuard('alpha'), schema }, handler)
  const bodies = { 413: ['application/json', `"${'a'.repeat(30)}"`], 400: ['application/json', '{'], 415: ['text/strange', 'x'], 422: ['application/json', '{}'] } as const
  for (const [title, [type, payload]] of Object.entries(bodies)) {
    const { statusCode } = await app.inject({ method: 'POST', url: '/', headers: { 'x-alpha': 'canary', 'content-type': type }, payload })
    t.equal(statusCode, title === '422' ? 400 : Number(title))
  }
  t.equal(seen.length, 8)
  t.notMatch(seen.join(), /canary|x-alpha/i)
})

// Floods and races

t.test('ten thousand refused requests leave the claim store empty', async (t) => {
  const store = memoryStore()
  const claim: Claim = { store, key: 'k', expiresAtMs: Date.now() + 60_000, storeTimeoutMs: 250, repeated: () => refusedBy('k', 'rejected') }
  const app = await guardedApp(t)
  app.get('/', { onRequest: allOf(keyGuard('alpha', { judge: () => ({ identity: 1, claims: [claim] }) }), keyGuard('beta')) }, handler)
  for (let i = 0; i < 10; i++) {
    const statuses = await Promise.all(Array.from({ length: 1_000 }, async () => (await app.inject({ url: '/', headers: { 'x-alpha': 'pass', 'x-beta': 'rejected' } })).statusCode))
    if (statuses.some((status) => status !== 401)) t.fail('one was not refused')
  }
  t.equal(store.size, 0)
})

t.test('a client that goes away while it is judged reaches no handler and ends no process', async (t) => {
  const fatal = watchProcess(t)
  const app = await guardedApp(t)
  let handled = 0
  const store = new MapStore()
  let asked: (() => void) | undefined
  const wasAsked = new Promise<void>((resolve) => { asked = resolve })
  store.before = async () => { asked!(); await new Promise((resolve) => setTimeout(resolve, 30)) }
  const claim: Claim = { store, key: 'k', expiresAtMs: Date.now() + 60_000, storeTimeoutMs: 250, repeated: () => refusedBy('k', 'rejected') }
  app.post('/', { onRequest: keyGuard('alpha', { judge: async () => ({ identity: 1, claims: [claim] }) }) }, () => { handled++; return 'reached' })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const socket = sendPart(t, app, 'POST / HTTP/1.1\r\nHost: x\r\nX-Alpha: pass\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{"half":')
  await wasAsked
  socket.destroy()
  await new Promise((resolve) => setTimeout(resolve, 80))
  t.equal(handled, 0)
  t.same(await fatal(), [])
})

/** A route that keeps its claim for the digest, and is slow to come to a verdict on the body. */
const slowVerdicts: Readonly<Record<string, (app: FastifyInstance, store: MapStore, reach: () => void) => void>> = {
  'a parser that waits' (app, store, reach) {
    app.addContentTypeParser('text/slow', { parseAs: 'string' }, async (_request: unknown, body: string) => { await sleep(40); return body })
    app.post('/', { onRequest: digestGuard({ store }) }, () => { reach(); return 'reached' })
  },
  'a verdict that waits' (app, store, reach) {
    app.addContentTypeParser('text/slow', { parseAs: 'string' }, (_request, body, done) => { done(null, body) })
    const judge = digestGuard({ store })
    const waits = keyGuard('waits', {
      judgesBody: true,
      isPresented: () => true,
      judge: () => ({ identity: {}, obligations: [{ description: 'waits', watch: () => ({ update () {}, verify: async () => { await sleep(40) } }) }] })
    })
    app.post('/', { onRequest: allOf(judge, waits) }, () => { reach(); return 'reached' })
  },
  'a handler that reads' (app, store, reach) {
    app.addContentTypeParser('text/slow', (_request, payload, done) => { done(null, payload) })
    app.post('/', { onRequest: digestGuard({ store }).require({ body: 'stream' }) }, async (request) => {
      for await (const piece of request.body as Readable) void piece
      await sleep(40)
      await bodyVerified(request)
      reach()
      return 'reached'
    })
  },
  'a handler that answers first' (app, store, reach) {
    app.addContentTypeParser('text/slow', (_request, payload, done) => { done(null, payload) })
    app.post('/', { onRequest: digestGuard({ store }).require({ body: 'stream' }) }, async (request, reply) => {
      for await (const piece of request.body as Readable) void piece
      await reply.code(422).send('too hard')
      await sleep(40)
      await bodyVerified(request).then(reach, () => undefined)
    })
  },
  'a handler that answers while it asks' (app, store, reach) {
    app.addContentTypeParser('text/slow', (_request, payload, done) => { done(null, payload) })
    app.post('/', { onRequest: digestGuard({ store }).require({ body: 'stream' }) }, async (request, reply) => {
      const asked = bodyVerified(request).then(reach, () => undefined)
      reply.send('too early')
      const body = request.body as Readable
      body.resume()
      await asked
    })
  },
  'a parser that fails' (app, store, reach) {
    app.addContentTypeParser('text/slow', { parseAs: 'string' }, async () => { await sleep(40); throw new Error('it does not parse') })
    app.post('/', { onRequest: digestGuard({ store }) }, () => { reach(); return 'reached' })
  }
}

for (const [title, route] of Object.entries(slowVerdicts)) {
  for (const http2 of [false, true]) {
    t.test(`over HTTP/${http2 ? 2 : 1}, a client that goes before the verdict gets nothing done twice, with ${title}`, async (t) => {
      const store = new MapStore()
      const app = (http2 ? Fastify({ http2: true }) : Fastify()) as unknown as FastifyInstance
      t.teardown(async () => app.close())
      await app.register(guard)
      let reached = 0
      route(app, store, () => { reached++ })
      await app.listen({ port: 0, host: '127.0.0.1' })
      const headers = { 'content-type': 'text/slow', 'x-digest': digestOf('abc'), 'content-length': '3' }
      for (let i = 0; i < 3; i++) {
        const before = store.asked
        if (http2) {
          const session = connectHttp2(`http://127.0.0.1:${(app.server.address() as AddressInfo).port}`).on('error', () => undefined)
          session.request({ ':method': 'POST', ':path': '/', ...headers }).on('error', () => undefined).end('abc')
          await until(() => store.asked > before)
          await sleep(15)
          session.destroy()
        } else {
          const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`)
          const socket = sendPart(t, app, ['POST / HTTP/1.1', 'Host: x', ...lines, '', 'abc'].join('\r\n'))
          await until(() => store.asked > before)
          await sleep(15)
          socket.destroy()
        }
        await sleep(80)
      }
      // On a busy machine the last verdict may take longer.
      await until(() => reached === store.keys.size)
      await sleep(80)
      t.ok(reached <= 1, `reached ${reached} times`)
      t.equal(reached, store.keys.size, 'and what was not done can be tried again')
    })
  }
}

t.test('a request that was answered while its claim was being made holds none', async (t) => {
  const store = new MapStore()
  store.before = async () => sleep(60)
  const claim: Claim = { store, key: 'k', expiresAtMs: Date.now() + 60_000, storeTimeoutMs: 250 }
  const app = await guardedApp(t)
  let reached = 0
  app.addHook('onRequest', (_request, reply, done) => { setTimeout(() => { reply.code(504).send('too late') }, 20); done() })
  app.get('/', { onRequest: keyGuard('alpha', { judge: () => ({ identity: 1, claims: [claim] }) }) }, () => { reached++; return 'reached' })
  t.equal((await app.inject({ url: '/', headers: { 'x-alpha': 'pass' } })).statusCode, 504)
  await until(() => store.released.length > 0)
  t.same([store.keys.size, reached], [0, 0])
})

t.test('what an upload claimed that never had its turn on a connection is given back', async (t) => {
  const store = new MapStore()
  const app: FastifyInstance = Fastify({ bodyLimit: 20 })
  t.teardown(async () => app.close())
  await app.register(guard)
  let release: (() => void) | undefined
  app.get('/slow', { onRequest: open('the first of the connection') }, async () => new Promise<string>((resolve) => { release = () => { resolve('slow') } }))
  app.post('/', { onRequest: digestGuard({ store }) }, () => 'reached')
  await app.listen({ port: 0, host: '127.0.0.1' })
  const upload = (type: string, body: string, sent = body): string => `POST / HTTP/1.1\r\nHost: x\r\nContent-Type: ${type}\r\nX-Digest: ${digestOf(body)}\r\nContent-Length: ${body.length}\r\n\r\n${sent}`
  for (const [title, text] of [['cut', upload('text/plain', 'abcdef', 'abc')], ['413', upload('text/plain', 'x'.repeat(50))], ['415', upload('text/none', 'abcdef')]] as const) {
    const before = store.asked
    const socket = sendPart(t, app, `GET /slow HTTP/1.1\r\nHost: x\r\n\r\n${text}`)
    await until(() => store.asked > before)
    socket.destroy()
    release!()
    await until(() => store.keys.size === 0)
    t.equal(store.keys.size, 0, title)
  }
})

t.test('what one use of a guard asks for holds beside its other uses, also where only the body proves who it is', async (t) => {
  const app = await guardedApp(t, { audit: 'warn' })
  const mac = macGuard()
  const narrow = mac.require({ tenantParam: 'tenant' })
  await app.register(async (scope) => {
    scope.protect(narrow)
    scope.post('/scope/:tenant', { onRequest: mac }, () => 'reached')
  })
  app.post('/first/:tenant', { onRequest: [narrow, mac] }, () => 'reached')
  app.post('/last/:tenant', { onRequest: [mac, narrow] }, () => 'reached')
  app.post('/all/:tenant', { onRequest: allOf(narrow, mac) }, () => 'reached')
  await app.register(async (scope) => {
    scope.addHook('preHandler', narrow)
    scope.post('/late/:tenant', { onRequest: mac }, () => 'reached')
  })
  for (const path of ['scope', 'first', 'last', 'all', 'late']) {
    const post = async (tenant: string) => app.inject({ method: 'POST', url: `/${path}/${tenant}`, headers: { 'content-type': 'text/plain', 'x-mac': `acme:${macOf('abc')}` }, payload: 'abc' })
    t.equal((await post('acme')).statusCode, 200, path)
    t.equal((await post('globex')).statusCode, 403, path)
  }
})

async function until (isSo: () => boolean): Promise<void> {
  for (let tries = 0; tries < 300 && !isSo(); tries++) await sleep(10)
}

function sendPart (t: Test, app: FastifyInstance, text: string): Socket {
  const socket = connect({ port: (app.server.address() as AddressInfo).port, host: '127.0.0.1' })
  t.teardown(() => socket.destroy())
  socket.on('error', () => undefined)
  socket.write(text)
  return socket
}

t.test('hostile header names and values change nothing for anybody else', async (t) => {
  const app = await guardedApp(t)
  app.get('/', { onRequest: keyGuard('alpha') }, (request) => ({ via: request.auth.via, polluted: ({} as { isAdmin?: unknown }).isAdmin }))
  await app.listen({ port: 0, host: '127.0.0.1' })
  for (const line of ['__proto__: x', 'constructor: x', 'x-alpha: __proto__', 'x-alpha: constructor', 'x-alpha:', 'X-Alpha: \xff\xfe', `x-alpha: ${'a'.repeat(10_000)}`]) {
    const { status, body } = await rawRequest(app, ['GET / HTTP/1.1', line])
    t.ok(status === 200 || status === 401, `${line.slice(0, 30)}: ${status}`)
    t.notMatch(body, /isAdmin|polluted/)
  }
})
