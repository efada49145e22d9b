import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { setTimeout as sleep } from 'node:timers/promises'
import { inspect } from 'node:util'
import Fastify, { type FastifyInstance } from 'fastify'
import t from 'tap'
import type { Test } from 'tap'
import {
  allOf, anyOf, AuthError, challenge, decisionChannel, guard, hasIdentity, identityOf, optional, problemDetails, type Decision, type Judgement, type Outcome,
  type Policy
} from '../src/index.js'
import { guardedApp, keyGuard, placeGuard, refusedBy, viewsOf, watchProcess, type KeyGuard } from './fixtures/guards.js'
import { rawRequest } from './fixtures/raw-request.js'
import { sendHttp2 } from './fixtures/send-body.js'

const handler = () => 'reached'
const right: Judgement = { identity: { right: true }, principal: { scopes: [] } }

async function listening (t: Test): Promise<FastifyInstance> {
  const app = await guardedApp(t, { audit: 'warn' })
  app.addHook('onClose', async () => app.server.closeAllConnections())
  return app
}

// Hiding credentials

t.test('a judged credential is gone from every view of the request, in handlers and in error handlers', async (t) => {
  const app = await listening(t)
  app.addHook('onRequest', async (request) => {
    // As a plugin that reads early may have done
    if (request.url.includes('early')) viewsOf(request)
    if (request.url.includes('assigned')) request.headers = { 'x-alpha': 'canary', 'x-kept': 'kept' }
  })
  app.setErrorHandler((_error, request, reply) => reply.code(401).send(viewsOf(request)))
  const guards: Readonly<Record<string, Policy>> = {
    alpha: keyGuard('alpha', { judge: () => right }),
    wrong: keyGuard('alpha', { judge () { throw refusedBy('alpha', 'rejected') } }),
    throwing: keyGuard('alpha', { judge () { throw new Error('fell over') } }),
    slow: keyGuard('alpha', { judge: async () => sleep(2, right) }),
    'in-all': allOf(keyGuard('alpha', { judge: () => right }), keyGuard('beta')),
    'in-optional': optional(keyGuard('alpha', { judge: () => right }))
  }
  for (const [name, policy] of Object.entries(guards)) {
    for (const when of ['early', 'late', 'assigned']) app.get(`/${name}/${when}`, { onRequest: policy }, viewsOf)
  }
  await app.listen({ port: 0, host: '127.0.0.1' })
  for (const name of Object.keys(guards)) {
    for (const when of ['early', 'late', 'assigned']) {
      const { status, body } = await rawRequest(app, [`GET /${name}/${when} HTTP/1.1`, 'X-Alpha: canary', 'x-kept: kept', 'x-ALPHA: canary', 'X-Beta: rejected'])
      t.equal(status, ['alpha', 'slow', 'in-optional'].includes(name) ? 200 : 401, `${name}, ${when}`)
      t.match(body, /"own":\{.*kept.*"headers":\{.*kept.*"rawHeaders":\[.*kept.*"headersDistinct":\{.*kept/, 'the other headers stay')
      t.notMatch(body, /canary|x-alpha/i, `${name}, ${when}`)
    }
  }
})

t.test('a judged credential is gone from every view of a message of HTTP/2', async (t) => {
  const app = Fastify({ http2: true }) as unknown as FastifyInstance
  t.teardown(() => app.close())
  await app.register(guard)
  const session = keyGuard('session', { credentials: [{ cookie: 'session' }], isPresented: ({ headers }) => /session=/.test(String(headers.cookie)), judge: () => right })
  app.get('/', { onRequest: allOf(keyGuard('alpha', { judge: () => right }), session) }, viewsOf)
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { status, body } = await sendHttp2(app, { method: 'GET', headers: { 'x-alpha': 'canary', 'x-kept': 'kept', 'cookie': 'session=canary; other=kept' } })
  t.equal(status, 200)
  t.match(body, /"headers":\{.*"x-kept":"kept".*"rawHeaders":\[.*"x-kept","kept"/, 'the other headers stay')
  t.match(body, /other=kept/)
  t.notMatch(body, /canary|x-alpha/)
})

t.test('a judged credential is gone from error hooks and logs where the body is what is wrong', async (t) => {
  const app = await guardedApp(t)
  const seen: string[] = []
  app.addHook('onError', async (request) => { seen.push(JSON.stringify(viewsOf(request))) })
  app.post('/', { onRequest: keyGuard('alpha', { judge: () => right }), schema: { body: { type: 'object', required: ['a'] } } }, viewsOf)
  for (const [type, payload, status] of [['application/json', '{', 400], ['application/json', '{}', 400], ['nothing', 'x', 415]] as const) {
    const { statusCode } = await app.inject({ method: 'POST', url: '/', headers: { 'x-alpha': 'canary', 'content-type': type }, payload })
    t.equal(statusCode, status, payload)
  }
  t.equal(seen.length, 3)
  t.notMatch(seen.join(), /canary|x-alpha/i)
})

t.test('a cookie is hidden alone, wherever it stands among others', async (t) => {
  const app = await listening(t)
  app.decorateRequest('cookies', null as unknown as object)
  app.addHook('onRequest', async (request) => { (request as { cookies?: object }).cookies = { session: 'canary', other: 'kept' } })
  const session = keyGuard('session', { credentials: [{ cookie: 'session' }], isPresented: ({ headers }) => /session=/.test(String(headers.cookie)), judge: () => right })
  app.get('/', { onRequest: session }, viewsOf)
  await app.listen({ port: 0, host: '127.0.0.1' })
  for (const line of ['session=canary; other=kept', 'other=kept; session=canary', 'a=1;session=canary;other=kept;b=2', 'session=canary; other=kept; session=canary2']) {
    const { status, body } = await rawRequest(app, ['GET / HTTP/1.1', `Cookie: ${line}`])
    t.equal(status, 200)
    t.notMatch(body, /canary/, line)
    t.equal(body.match(/other=kept/g)?.length, 4, `${line}: once in each view`)
  }
  t.notMatch((await rawRequest(app, ['GET / HTTP/1.1', 'Cookie: session=canary'])).body, /canary|"cookie"/i)
  const kept = await rawRequest(app, ['GET / HTTP/1.1', 'Cookie: my-session=kept; session=canary'])
  t.match(kept.body, /my-session=kept/)
})

t.test('a cookie is hidden from the lines that came, also where a hook has changed the headers made of them', async (t) => {
  const app = await listening(t)
  const session = keyGuard('session', { credentials: [{ cookie: 'session' }], isPresented: ({ raw }) => raw.rawHeaders.some((text) => /session=/.test(text)), judge: () => right })
  const changes: readonly [path: string, change: (headers: { cookie?: string | undefined }) => void, kept: RegExp][] = [
    ['/deleted', (headers) => { delete headers.cookie }, /"headers":\{(?!.*"cookie".*"rawHeaders")/],
    ['/rewritten', (headers) => { headers.cookie = 'mine=kept' }, /"cookie":"mine=kept"/]
  ]
  for (const [path, change] of changes) app.get(path, { onRequest: [(request, _reply, done) => { change(request.raw.headers); done() }, session] }, viewsOf)
  await app.listen({ port: 0, host: '127.0.0.1' })
  for (const [path, , kept] of changes) {
    const { status, body } = await rawRequest(app, [`GET ${path} HTTP/1.1`, 'Cookie: session=canary; other=x'])
    t.equal(status, 200)
    t.notMatch(body, /canary/, path)
    t.match(body, kept)
  }
})

t.test('credentials that nobody judged stay, and so do those that a guard leaves on purpose', async (t) => {
  const app = await guardedApp(t)
  app.get('/left', { onRequest: keyGuard('alpha', { hideCredentials: false }) }, viewsOf)
  const bearer = keyGuard('bearer', { credentials: [{ header: 'authorization', scheme: 'Bearer' }], isPresented: ({ headers }) => /^bearer /i.test(String(headers.authorization)) })
  app.get('/basic', { onRequest: optional(bearer) }, viewsOf)
  t.match((await app.inject({ url: '/left', headers: { 'x-alpha': 'canary' } })).body, /canary/)
  t.match((await app.inject({ url: '/basic', headers: { authorization: 'Basic kept' } })).body, /Basic kept/, 'another scheme is another credential')
})

t.test('a refused request loses the whole header, since a credential may stand in it under a scheme that is misspelt', async (t) => {
  const app = await guardedApp(t)
  app.setErrorHandler((_error, request, reply) => reply.code(401).send(viewsOf(request)))
  app.get('/', { onRequest: keyGuard('bearer', { credentials: [{ header: 'authorization', scheme: 'Bearer' }], isPresented: () => false }) }, handler)
  for (const authorization of ['Bearr canary', 'canary', 'Basic canary']) {
    const answer = await app.inject({ url: '/', headers: { authorization } })
    t.equal(answer.statusCode, 401)
    t.notMatch(answer.body, /canary/, authorization)
  }
})

t.test('a presented credential of the policy is hidden even if another one decided', async (t) => {
  const app = await guardedApp(t)
  app.get('/', { onRequest: anyOf(keyGuard('alpha'), keyGuard('beta')) }, viewsOf)
  const answer = await app.inject({ url: '/', headers: { 'x-alpha': 'pass', 'x-beta': 'canary' } })
  t.equal(answer.statusCode, 200)
  t.notMatch(answer.body, /canary/)
})

t.test('a refusal hides what earlier policies of the route have judged', async (t) => {
  const app = await guardedApp(t)
  app.setErrorHandler((_error, request, reply) => reply.code(401).send(viewsOf(request)))
  app.get('/', { onRequest: [keyGuard('alpha'), keyGuard('beta')] }, handler)
  const answer = await app.inject({ url: '/', headers: { 'x-alpha': 'canary', 'x-beta': 'rejected' } })
  t.equal(answer.statusCode, 401)
  t.notMatch(answer.body, /canary/)
})

// Headers of the answer

t.test('a refusal that brings a challenge of its own keeps it', async (t) => {
  const app = await guardedApp(t)
  const own = new AuthError({ code: 'ERR_ALPHA_REJECTED', outcome: 'rejected', message: 'no', challenge: 'Own error="special"' })
  app.get('/', { onRequest: keyGuard('alpha', { judge () { throw own } }) }, handler)
  t.equal((await app.inject({ url: '/', headers: { 'x-alpha': 'x' } })).headers['www-authenticate'], 'Own error="special"')
})

t.test('challenges are on the answer as it finally is: kept by a custom error handler, never on a 200', async (t) => {
  const app = await guardedApp(t)
  const challenges = { absent: 'Alpha', rejected: 'Alpha error="invalid"', forbidden: 'Alpha error="insufficient_scope"', unavailable: 'Alpha' }
  app.get('/', { onRequest: keyGuard('alpha', { challenges }) }, handler)
  let finalStatus: number | undefined
  app.setErrorHandler((error: AuthError, _request, reply) => reply.code(finalStatus ?? error.statusCode).send('custom'))
  const ask = async (value?: string) => {
    const answer = await app.inject({ url: '/', headers: value === undefined ? {} : { 'x-alpha': value } })
    return [answer.statusCode, answer.headers['www-authenticate'], answer.headers['retry-after']]
  }
  t.same(await ask(), [401, 'Alpha', undefined])
  t.same(await ask('rejected'), [401, 'Alpha error="invalid"', undefined])
  t.same(await ask('forbidden'), [403, 'Alpha error="insufficient_scope"', undefined])
  t.same(await ask('unavailable'), [503, 'Alpha', '1'])
  t.same(await ask('pass'), [200, undefined, undefined])
  for (finalStatus of [200, 204, 302, 404, 500]) {
    for (const value of [undefined, 'rejected', 'forbidden', 'unavailable']) t.same((await ask(value)).slice(1), [undefined, undefined], `${value ?? 'absent'} turned into ${finalStatus}`)
  }
})

t.test('a refusal that was overcome leaves no challenge on what the handler answers', async (t) => {
  const app = await guardedApp(t, { audit: 'warn' })
  const { default: fastifyAuth } = await import('@fastify/auth')
  await app.register(fastifyAuth)
  app.get('/', { onRequest: app.auth([keyGuard('alpha'), keyGuard('beta')]) }, (_request, reply) => reply.code(403).send('the handler says no'))
  const answer = await app.inject({ url: '/', headers: { 'x-beta': 'pass' } })
  t.same([answer.statusCode, answer.body, answer.headers['www-authenticate']], [403, 'the handler says no', undefined])
})

t.test('challenge() quotes and escapes, so that no value can split a header', async (t) => {
  t.equal(challenge('Bearer', { realm: 'a"b\\c', error: 'x' }), 'Bearer realm="a\\"b\\\\c", error="x"')
  t.equal(challenge('Bearer', {}), 'Bearer')
  t.equal(challenge('Bearer', { realm: 'a\r\nSet-Cookie: x\u0000é\u2028' }), 'Bearer realm="a??Set-Cookie: x???"')
  const app = await guardedApp(t)
  app.get('/', { onRequest: keyGuard('alpha', { challenges: { absent: challenge('Alpha', { realm: 'x\r\ny: z, "q"' }) } }) }, handler)
  t.equal((await app.inject('/')).headers['www-authenticate'], 'Alpha realm="x??y: z, \\"q\\""')
})

t.test('replyHeaders are on the answer of guards whose credential was presented and that were asked', async (t) => {
  const app = await guardedApp(t)
  const announcing = (name: string) => keyGuard(name, { replyHeaders: (_request, judgement) => ({ [`x-from-${name}`]: judgement === undefined ? 'refused' : 'passed' }) })
  app.get('/any', { onRequest: anyOf(announcing('alpha'), announcing('beta')) }, handler)
  app.get('/all', { onRequest: allOf(announcing('alpha'), optional(announcing('beta'))) }, handler)
  const ask = async (url: string, headers: Record<string, string>) => {
    const answer = await app.inject({ url, headers })
    return [answer.statusCode, answer.headers['x-from-alpha'], answer.headers['x-from-beta']]
  }
  t.same(await ask('/any', {}), [401, undefined, undefined])
  t.same(await ask('/any', { 'x-beta': 'pass' }), [200, undefined, 'passed'])
  t.same(await ask('/any', { 'x-alpha': 'pass', 'x-beta': 'pass' }), [200, 'passed', undefined])
  t.same(await ask('/any', { 'x-alpha': 'rejected', 'x-beta': 'pass' }), [401, 'refused', undefined])
  t.same(await ask('/all', { 'x-alpha': 'pass' }), [200, 'passed', undefined])
  t.same(await ask('/all', { 'x-alpha': 'pass', 'x-beta': 'pass' }), [200, 'passed', 'passed'])
})

t.test('problemDetails renders RFC 9457, and nothing of what went wrong inside', async (t) => {
  const app = await guardedApp(t)
  app.setErrorHandler(problemDetails)
  app.get('/', { onRequest: keyGuard('alpha') }, handler)
  app.get('/broken', { onRequest: placeGuard() }, () => { throw new Error('password of the database') })
  app.get('/teapot', { onRequest: placeGuard() }, () => { throw Object.assign(new Error('short and stout'), { statusCode: 418, code: 'TEAPOT' }) })
  app.get('/strange', { onRequest: placeGuard() }, () => { throw Object.assign(new Error('strange'), { statusCode: 200 }) })
  const ask = async (url: string, headers: Record<string, string> = {}) => {
    const answer = await app.inject({ url, headers })
    t.match(answer.headers['content-type'], /^application\/problem\+json/)
    t.equal(answer.json<{ status: number }>().status, answer.statusCode)
    return { ...answer.json<object>(), challenge: answer.headers['www-authenticate'] }
  }
  t.same(await ask('/'), { type: 'about:blank', title: 'Unauthorized', status: 401, detail: 'alpha says absent', code: 'ERR_ALPHA_ABSENT', challenge: 'Key-alpha' })
  t.match(await ask('/', { 'x-alpha': 'unavailable' }), { title: 'Service Unavailable', status: 503, code: 'ERR_ALPHA_UNAVAILABLE' })
  t.same(await ask('/broken'), { type: 'about:blank', title: 'Internal Server Error', status: 500, challenge: undefined })
  t.match(await ask('/teapot'), { status: 418, detail: 'short and stout', code: 'TEAPOT' })
  t.match(await ask('/strange'), { status: 500 })
})

// Events

t.test('every decision is published: guard, route, outcome, reason, tenant, key, duration', async (t) => {
  const heard: Decision[] = []
  const listen = (decision: unknown): void => { heard.push(decision as Decision) }
  const asGiven: Decision[] = []
  const app = await guardedApp(t, { onDecision: (decision) => asGiven.push(decision) })
  const cause = new Error('underneath')
  const alpha = keyGuard('alpha', {
    proves: ['tenant'],
    judge (request) {
      const value = String(request.headers['x-alpha']) as Outcome | 'pass'
      if (value === 'unavailable') throw cause
      if (value !== 'pass') throw new AuthError({ code: 'ERR_ALPHA', outcome: value, message: 'constant', reason: 'the-true-reason' })
      return { identity: 'alpha', principal: { tenant: 'acme' }, matched: 'key-2' }
    }
  })
  app.get('/orders/:id', { onRequest: allOf(alpha, placeGuard()) }, handler)
  const send = async (headers: Record<string, string>) => {
    heard.length = asGiven.length = 0
    await app.inject({ url: '/orders/7?secret=canary', headers })
  }
  await send({})
  t.equal(heard.length, 0, 'nobody has subscribed yet')
  subscribe(decisionChannel, listen)
  t.teardown(() => unsubscribe(decisionChannel, listen))
  const facts = { guard: 'alpha', method: 'GET', route: '/orders/:id' }
  await send({ 'x-alpha': 'pass' })
  t.match(heard, [{ ...facts, outcome: 'passed', code: undefined, reason: undefined, tenant: 'acme', matched: 'key-2' }, { guard: 'place', outcome: 'passed' }])
  t.ok(heard.every(({ durationMs }) => durationMs >= 0 && durationMs < 1_000))
  t.same(asGiven, heard, 'onDecision of guard hears the same')
  t.notMatch(inspect(heard), /canary/, 'the route, never the URL')
  await send({})
  t.match(heard, [{ ...facts, outcome: 'absent', code: 'ERR_ALPHA_ABSENT', reason: 'ERR_ALPHA_ABSENT', tenant: undefined }])
  t.equal(heard.length, 1, 'guards that were not asked say nothing')
  await send({ 'x-alpha': 'rejected' })
  t.match(heard, [{ outcome: 'rejected', code: 'ERR_ALPHA', reason: 'the-true-reason' }])
  await send({ 'x-alpha': 'unavailable' })
  t.match(heard, [{ outcome: 'unavailable', code: 'ERR_GUARD_JUDGE_FAILED', reason: 'threw' }])
  t.equal(heard[0]!.cause, cause)
  unsubscribe(decisionChannel, listen)
  await send({ 'x-alpha': 'pass' })
  t.equal(heard.length, 0)
})

t.test('the true reason of a refusal reaches events only', async (t) => {
  const refused = new AuthError({ code: 'ERR_X', outcome: 'rejected', message: 'constant', reason: 'canary', cause: new Error('canary') })
  t.notMatch(JSON.stringify(refused) + inspect(refused) + String(refused) + JSON.stringify(Object.entries(refused)), /canary/)
  t.notOk('cause' in refused)
  const lines: string[] = []
  const app = await guardedApp(t, {}, { logger: { level: 'trace', stream: { write (line: string) { lines.push(line) } } } })
  app.get('/', { onRequest: keyGuard('alpha', { judge () { throw refused } }) }, handler)
  const answer = await app.inject({ url: '/', headers: { 'x-alpha': 'canary' } })
  t.equal(answer.statusCode, 401)
  t.notMatch(answer.body + JSON.stringify(answer.headers) + lines.join(''), /canary/)
})

t.test('a listener that throws or rejects changes nothing', async (t) => {
  const fatal = watchProcess(t)
  const listeners: readonly (() => unknown)[] = [() => { throw new Error('listener') }, async () => { throw new Error('listener') }]
  for (const onDecision of listeners as readonly (() => void)[]) {
    const app = await guardedApp(t, { onDecision })
    app.get('/', { onRequest: keyGuard('alpha', { onDecision }) }, handler)
    t.equal((await app.inject({ url: '/', headers: { 'x-alpha': 'pass' } })).statusCode, 200)
    t.equal((await app.inject({ url: '/', headers: { 'x-alpha': 'rejected' } })).statusCode, 401)
  }
  t.same(await fatal(), [], 'the process lives')
})

// Identity

t.test('request.auth is anonymous before a policy has passed, and after any refusal', async (t) => {
  const app = await guardedApp(t)
  const anonymous = { principal: { scopes: [] }, via: [] }
  const seen: Record<string, unknown> = {}
  app.addHook('onRequest', async (request) => { seen['before'] = request.auth })
  app.setErrorHandler((error, request, reply) => {
    seen['refused'] = request.auth
    seen['identity'] = hasIdentity(request, alpha)
    return reply.send(error)
  })
  const alpha = keyGuard('alpha', { proves: ['tenant'] })
  app.get('/', { onRequest: allOf(alpha, keyGuard('beta'), { sharedKey: true }) }, (request) => request.auth)
  app.get('/two', { onRequest: [alpha, allOf(keyGuard('beta'), { sharedKey: true })] }, (request) => request.auth)
  for (const url of ['/', '/two']) {
    const passed = await app.inject({ url, headers: { 'x-alpha': 'tenant:acme scopes:a,b', 'x-beta': 'pass' } })
    t.same(passed.json(), { principal: { tenant: 'acme', scopes: ['a', 'b'] }, via: ['alpha', 'beta'] })
    t.same(seen['before'], anonymous)
    await app.inject({ url, headers: { 'x-alpha': 'tenant:acme scopes:a,b', 'x-beta': 'rejected' } })
    t.same(seen['refused'], anonymous, `refused at ${url}`)
    t.equal(seen['identity'], false, `no identity at ${url}`)
  }
})

t.test('identityOf gives what a guard of this route proved, and throws for any other', async (t) => {
  const app = await guardedApp(t)
  const alpha = keyGuard('alpha', { proves: ['tenant'] })
  const beta = keyGuard('beta')
  app.get('/:tenant', { onRequest: anyOf(alpha.require({ tenantParam: 'tenant' }), beta) }, (request) => {
    t.throws(() => identityOf(request, beta), { name: 'TypeError', message: /"beta" has not passed/ })
    t.throws(() => identityOf(request, anyOf(alpha, beta) as KeyGuard), { name: 'TypeError', message: /single guard/ })
    t.throws(() => hasIdentity(request, (() => undefined) as unknown as KeyGuard), { name: 'TypeError' })
    t.same([hasIdentity(request, alpha), hasIdentity(request, beta)], [true, false])
    t.throws(() => { Object.assign(request.auth.principal, { tenant: 'other' }) }, { name: 'TypeError' }, 'the principal is frozen')
    t.throws(() => { (request.auth.principal.scopes as string[]).push('admin') }, { name: 'TypeError' }, 'and so are its scopes')
    t.throws(() => { Object.assign(request, { auth: {} }) }, { name: 'TypeError' }, 'and request.auth can\'t be replaced')
    return identityOf(request, alpha)
  })
  t.same((await app.inject({ url: '/acme', headers: { 'x-alpha': 'tenant:acme' } })).json(), { name: 'alpha', value: 'tenant:acme' })
})

t.test('what a guard changes after its judgement changes nothing', async (t) => {
  const app = await guardedApp(t)
  const [scopes, principal] = [['a'], { tenant: 'acme', scopes: ['b'] }]
  const alpha = keyGuard('alpha', { judge: () => ({ identity: {}, principal: { scopes } }) })
  const beta = keyGuard('beta', { proves: ['tenant'], judge: () => ({ identity: {}, principal }) })
  app.get('/', { onRequest: allOf(alpha, beta, { sharedKey: true }) }, (request) => {
    scopes.push('admin')
    Object.assign(principal, { tenant: 'other', scopes: ['admin'] })
    return request.auth.principal
  })
  t.same((await app.inject({ url: '/', headers: { 'x-alpha': 'x', 'x-beta': 'x' } })).json(), { tenant: 'acme', scopes: ['a', 'b'] })
})

t.test('scopes of several guards are joined, each once', async (t) => {
  const app = await guardedApp(t)
  app.get('/', { onRequest: allOf(keyGuard('alpha'), keyGuard('beta')) }, (request) => request.auth.principal.scopes)
  t.same((await app.inject({ url: '/', headers: { 'x-alpha': 'scopes:a,b', 'x-beta': 'scopes:b,c' } })).json(), ['a', 'b', 'c'])
})

t.test('guards derived from one registration judge a request once, and keep what each asks for', async (t) => {
  let judged = 0
  const base = keyGuard('alpha', {
    proves: ['tenant'],
    requirementNames: ['scope'],
    async judge () { judged++; return { identity: 'alpha', principal: { tenant: 'acme', scopes: ['a'] } } },
    requirement (given) {
      const scope = given.text('scope')
      return scope === undefined ? undefined : { description: `scope: ${scope}`, judge ({ principal }) { if (!principal!.scopes!.includes(scope)) throw refusedBy('scope', 'forbidden') } }
    }
  })
  const app = await guardedApp(t)
  await app.register(async (scope) => {
    scope.protect(base)
    scope.get('/:tenant/a', { onRequest: allOf(base.require({ scope: 'a' }), base.require({ tenantParam: 'tenant' }), optional(base)) }, handler)
    scope.get('/:tenant/b', { onRequest: base.require({ tenantParam: 'tenant' }).require({ scope: 'b' }) }, handler)
  })
  const ask = async (url: string) => {
    judged = 0
    return (await app.inject({ url, headers: { 'x-alpha': 'pass' } })).statusCode
  }
  t.same([await ask('/acme/a'), judged], [200, 1])
  t.same([await ask('/other/a'), judged], [403, 1])
  t.same([await ask('/acme/b'), judged], [403, 1], 'a requirement on a derived guard adds up')
})
