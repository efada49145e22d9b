import { once } from 'node:events'
import { connect as connectHttp2 } from 'node:http2'
import { connect, type AddressInfo } from 'node:net'
import { createGunzip, gzipSync } from 'node:zlib'
import { setTimeout as sleep } from 'node:timers/promises'
import { pipeline } from 'node:stream/promises'
import { Readable, Writable } from 'node:stream'
import multipart from '@fastify/multipart'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import t from 'tap'
import type { Test } from 'tap'
import { allOf, anyOf, bodyVerified, guard, hasIdentity, identityOf, open, optional, type BodyWatch, type Decision, type Policy } from '../src/index.js'
import { digestGuard, digestOf, macGuard, macOf } from './fixtures/body-guards.js'
import { codeOf, guardedApp, keyGuard, MapStore, placeGuard, refusedBy, watchProcess } from './fixtures/guards.js'
import { sendHttp1, sendHttp2, type Answered, type Sent } from './fixtures/send-body.js'

interface Served { readonly app: FastifyInstance, readonly reached: string[] }

/** A listening server whose every route notes that it was reached. */
async function served (t: Test, policy: Policy, { http2 = false, prepare, bodyLimit = 1_048_576 }: { http2?: boolean, bodyLimit?: number, prepare?: (app: FastifyInstance) => unknown } = {}): Promise<Served> {
  const app = (http2 ? Fastify({ http2: true, bodyLimit }) : Fastify({ bodyLimit })) as unknown as FastifyInstance
  t.teardown(() => app.close())
  await app.register(guard)
  await prepare?.(app)
  const reached: string[] = []
  app.addHttpMethod('LOCK', { hasBody: true })
  app.route({
    method: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'LOCK'],
    url: '/',
    onRequest: policy,
    handler: async (request) => {
      reached.push(request.method)
      return { body: request.body ?? null }
    }
  })
  app.addHook('onClose', async () => { if (!http2) app.server.closeAllConnections() })
  await app.listen({ port: 0, host: '127.0.0.1' })
  return { app, reached }
}

const json = { 'content-type': 'application/json' }
const plain = { 'content-type': 'text/plain' }
const binary = { 'content-type': 'application/octet-stream' }

/** Bodies as they are sent, and what the bytes on the wire are. */
const bodies: readonly { readonly name: string, readonly sent: Sent, readonly bytes: string | Uint8Array, readonly unread?: boolean }[] = [
  { name: 'JSON', sent: { headers: json, body: ['{"a":', '1}'] }, bytes: '{"a":1}' },
  { name: 'JSON with a length', sent: { headers: json, body: ['{"a":1}'], length: 7 }, bytes: '{"a":1}' },
  { name: 'slow JSON', sent: { headers: json, body: ['{"a"', 5, ':', 5, '1}'] }, bytes: '{"a":1}' },
  { name: 'text', sent: { headers: plain, body: ['h\u00e9llo'] }, bytes: 'h\u00e9llo' },
  { name: 'empty chunks', sent: { headers: plain, body: [] }, bytes: '' },
  { name: 'length 0', sent: { headers: {}, body: [], length: 0 }, bytes: '' },
  { name: 'no body', sent: {}, bytes: '' },
  { name: 'binary', sent: { headers: binary, body: [Uint8Array.of(0, 255, 254, 10)] }, bytes: Uint8Array.of(0, 255, 254, 10) },
  { name: 'gzip', sent: { headers: { ...json, 'content-encoding': 'gzip' }, body: [gzipSync('{"a":1}')] }, bytes: gzipSync('{"a":1}') },
  { name: 'DELETE without a body', sent: { method: 'DELETE' }, bytes: '' },
  { name: 'DELETE', sent: { method: 'DELETE', headers: json, body: ['{}'] }, bytes: '{}' },
  { name: 'GET without a body', sent: { method: 'GET' }, bytes: '' },
  { name: 'GET with an empty body', sent: { method: 'GET', body: [5] }, bytes: '' },
  { name: 'GET with a body', sent: { method: 'GET', headers: json, body: ['{}'] }, bytes: '{}', unread: true },
  { name: 'a method of its own', sent: { method: 'LOCK', headers: plain, body: ['x'] }, bytes: 'x' },
  { name: 'a parser that never drains', sent: { headers: { 'content-type': 'application/never' }, body: ['abc'] }, bytes: 'abc', unread: true },
  { name: 'a parser that stops early', sent: { headers: { 'content-type': 'application/early' }, body: ['abc', 20, 'def'] }, bytes: 'abcdef' },
  { name: 'multipart', sent: { headers: { 'content-type': 'multipart/form-data; boundary=b' }, body: ['--b\r\ncontent-disposition: form-data; name="a"\r\n\r\n1\r\n--b--\r\n'] }, bytes: '--b\r\ncontent-disposition: form-data; name="a"\r\n\r\n1\r\n--b--\r\n', unread: true },
  { name: 'a type without a parser', sent: { headers: { 'content-type': 'application/unknown' }, body: ['abc'] }, bytes: 'abc', unread: true }
]

async function withParsers (app: FastifyInstance): Promise<void> {
  await app.register(multipart)
  app.addContentTypeParser('application/octet-stream', { parseAs: 'buffer' }, (_request, body, done) => { done(null, body.toString('base64')) })
  app.addContentTypeParser('application/never', (_request, _payload, done) => { done(null, 'unread') })
  app.addContentTypeParser('application/early', (_request, payload, done) => { payload.once('data', () => { done(null, 'early') }) })
  app.addHook('preParsing', async (request, _reply, payload) => {
    return request.headers['content-encoding'] === 'gzip' ? Object.assign(payload.pipe(createGunzip()), { receivedEncodedLength: Number(request.headers['content-length'] ?? 0) }) : payload
  })
}

for (const [protocol, send] of [['HTTP/1', sendHttp1], ['HTTP/2', sendHttp2]] as const) {
  t.test(`over ${protocol}, a handler sees a body only if it is the one that was promised, however it is read`, async (t) => {
    const quiet = watchProcess(t)
    for (const [kind, policy, right, wrong] of [
      ['digest', digestGuard(), (bytes: string | Uint8Array) => ({ 'x-digest': digestOf(bytes) }), { 'x-digest': digestOf('another') }],
      ['mac', macGuard(), (bytes: string | Uint8Array) => ({ 'x-mac': `acme:${macOf(bytes)}` }), { 'x-mac': `acme:${macOf('another')}` }]
    ] as const) {
      const { app, reached } = await served(t, policy, { http2: protocol === 'HTTP/2', prepare: withParsers })
      for (const { name, sent, bytes, unread = false } of bodies) {
        const headers = { ...sent.headers }
        const answers: Answered[] = []
        for (const extra of [right(bytes), wrong, {}]) answers.push(await send(app, { ...sent, headers: { ...headers, ...extra } }))
        const [good, bad, none] = answers as [Answered, Answered, Answered]
        t.equal(good.status, unread ? 415 : 200, `${kind}, ${name}: ${good.body}`)
        t.equal(bad.status, unread ? 415 : 401, `${kind}, ${name}, wrong: ${bad.body}`)
        t.equal(none.status, 401, `${kind}, ${name}, missing`)
        t.equal(reached.splice(0).length, unread ? 0 : 1, `${kind}, ${name}: only the right one gets through`)
        if (!unread) t.match(bad.headers, { 'www-authenticate': `Key-${kind} error="wrong"` })
      }
    }
    t.same(await quiet(), [])
  })
}

/** Notes what its watches are shown, and promises nothing. */
function notingGuard (pieces: [text: string, isWhole: boolean][]): Policy {
  const watch = (): BodyWatch => ({ update: (piece, isWhole) => { pieces.push([Buffer.from(piece).toString(), isWhole]) }, verify () {} })
  return keyGuard('noting', { judgesBody: true, isPresented: () => true, judge: () => ({ identity: {}, obligations: [{ description: 'noted', watch }] }) })
}

for (const [protocol, send] of [['HTTP/1', sendHttp1], ['HTTP/2', sendHttp2]] as const) {
  t.test(`over ${protocol}, guards are told where a piece is all of a body`, async (t) => {
    const pieces: [string, boolean][] = []
    const { app } = await served(t, notingGuard(pieces), { http2: protocol === 'HTTP/2' })
    const cases: readonly [Sent, readonly unknown[]][] = [
      [{ headers: plain, body: ['abc'], length: 3 }, [['abc', true]]],
      [{ headers: plain, body: ['abc', 20, 'def'], length: 6 }, [['abc', false], ['def', false]]],
      [{ headers: plain, body: ['a', 20, 'bcd'], length: 4 }, [['a', false], ['bcd', false]]],
      [{ headers: plain, body: [], length: 0 }, []]
    ]
    for (const [sent, expected] of cases) {
      t.equal((await send(app, sent)).status, 200)
      t.same(pieces.splice(0), expected)
    }
    await send(app, { headers: plain, body: ['abc'] })
    t.same(pieces.splice(0), [['abc', false]], 'without a length nobody knows')
  })
}

t.test('more than was announced is refused, where a parser lets it through', async (t) => {
  const pieces: [string, boolean][] = []
  const app = await guardedApp(t)
  app.addContentTypeParser('application/any', (_request, payload, done) => { payload.resume().once('end', () => { done(null) }) })
  app.post('/', { onRequest: notingGuard(pieces) }, () => 'reached')
  const headers = { 'content-type': 'application/any', 'content-length': '3' }
  const answer = await app.inject({ method: 'POST', url: '/', headers, payload: Readable.from([Buffer.from('abc'), Buffer.from('def')]) })
  t.equal(answer.statusCode, 415)
  t.equal(codeOf(answer), 'ERR_GUARD_BODY_UNREAD')
  t.same(pieces.splice(0), [['abc', true]])
  t.equal((await app.inject({ method: 'POST', url: '/', headers, payload: Readable.from([Buffer.from('x'), Buffer.from('abc')]) })).statusCode, 415)
  t.same(pieces, [['x', false]], 'only a first piece can be all')
})

t.test('a body that was read unseen is refused: by a parser that takes all listeners off, or by a hook between two guards', async (t) => {
  const { app, reached } = await served(t, digestGuard(), {
    prepare (app) {
      app.addContentTypeParser('application/off', (_request, payload, done) => { payload.removeAllListeners('data').resume().once('end', () => { done(null) }) })
      app.addContentTypeParser('application/later', (_request, payload, done) => {
        payload.once('data', () => { payload.removeAllListeners('data').resume() })
        payload.once('end', () => { done(null) })
      })
    }
  })
  for (const length of [undefined, 3]) {
    const { status } = await sendHttp1(app, { headers: { 'content-type': 'application/off', 'x-digest': digestOf('') }, body: ['abc'], ...(length !== undefined && { length }) })
    t.equal(status, 415)
    const later = await sendHttp1(app, { headers: { 'content-type': 'application/later', 'x-digest': digestOf('abc') }, body: ['abc', 20, 'def'], ...(length !== undefined && { length: 6 }) })
    t.equal(later.status, 415)
  }
  t.equal(reached.length, 0)

  const between = await guardedApp(t)
  const reads = async (request: FastifyRequest): Promise<void> => { for await (const piece of request.raw) void piece }
  between.addContentTypeParser('*', (_request, _payload, done) => { done(null) })
  between.post('/', { onRequest: [digestGuard(), reads, notingGuard([])] }, () => 'reached')
  await between.listen({ port: 0, host: '127.0.0.1' })
  const answer = await sendHttp1(between, { headers: { ...plain, 'x-digest': digestOf('abc') }, body: ['abc'] })
  t.equal(answer.status, 503)
  t.match(answer.body, /ERR_GUARD_STAGE_LATE/)
})

t.test('a watch that takes pieces later has not taken them', async (t) => {
  const quiet = watchProcess(t)
  const watch = (): BodyWatch => ({ update: () => Promise.reject(new Error('later')) as unknown as undefined, verify () {} })
  const app = await guardedApp(t)
  app.post('/', { onRequest: keyGuard('later', { judgesBody: true, isPresented: () => true, judge: () => ({ identity: {}, obligations: [{ description: 'later', watch }] }) }) }, () => 'reached')
  const answer = await app.inject({ method: 'POST', url: '/', headers: plain, payload: 'abc' })
  t.equal(answer.statusCode, 503)
  t.equal(codeOf(answer), 'ERR_GUARD_JUDGE_FAILED')
  t.same(await quiet(), [])
})

t.test('a verdict that is asked for before bodies are judged is not given', async (t) => {
  const app = await guardedApp(t)
  const asked: unknown[] = []
  app.addHook('preParsing', async (request) => { await bodyVerified(request).then(() => asked.push('verified'), (error: unknown) => asked.push((error as { code: string }).code)) })
  app.post('/', { onRequest: digestGuard() }, async (request) => { await bodyVerified(request); return 'reached' })
  app.post('/open', { onRequest: open('no guard') }, () => 'reached')
  const body = '{}'
  t.equal((await app.inject({ method: 'POST', url: '/', headers: { ...json, 'x-digest': digestOf(body) }, payload: body })).statusCode, 200)
  t.equal((await app.inject({ method: 'POST', url: '/', headers: { 'x-digest': 'none' } })).statusCode, 200, 'nothing is owed')
  t.equal((await app.inject({ method: 'POST', url: '/open', headers: json, payload: body })).statusCode, 200)
  t.same(asked, ['ERR_GUARD_BODY_UNVERIFIED', 'verified', 'verified'])
})

t.test('a body sent after none was signed is refused', async (t) => {
  const { app, reached } = await served(t, digestGuard())
  t.equal((await sendHttp1(app, { headers: { 'x-digest': 'none' } })).status, 200)
  t.equal((await sendHttp1(app, { headers: { 'x-digest': 'none', ...json }, body: ['{}'] })).status, 401)
  t.equal((await sendHttp1(app, { method: 'GET', headers: { 'x-digest': 'none' }, body: ['{}'] })).status, 415)
  t.equal(reached.length, 1)
})

t.test('bodyLimit still holds, and a connection that breaks off reaches nobody', async (t) => {
  const store = new MapStore()
  const { app, reached } = await served(t, digestGuard({ store }), { bodyLimit: 10 })
  const big = 'x'.repeat(11)
  for (const length of [undefined, 11]) {
    const { status } = await sendHttp1(app, { headers: { ...plain, 'x-digest': digestOf(big) }, body: [big], ...(length !== undefined && { length }) })
    t.equal(status, 413)
  }
  await t.rejects(sendHttp1(app, { headers: { ...plain, 'x-digest': digestOf('abc') }, body: ['abc', 20], breaksOff: true }))
  await sleep(20)
  t.equal(reached.length, 0)
  t.equal(store.keys.size, 0, 'what was claimed for them is given back')
})

t.test('what is claimed for a client that is gone by then is given back', async (t) => {
  const store = new MapStore()
  let asked: (() => void) | undefined
  const wasAsked = new Promise<void>((resolve) => { asked = resolve })
  store.before = async () => { asked!(); await sleep(60) }
  const { app, reached } = await served(t, digestGuard({ store }))
  const socket = connect({ port: (app.server.address() as AddressInfo).port, host: '127.0.0.1' }).on('error', () => undefined)
  socket.write(`POST / HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nX-Digest: ${digestOf('abcdef')}\r\nContent-Length: 6\r\n\r\nabc`)
  await wasAsked
  socket.destroy()
  for (let tries = 0; tries < 100 && store.released.length === 0; tries++) await sleep(10)
  t.same(store.released, [digestOf('abcdef')])
  t.same([store.keys.size, reached.length], [0, 0])
})

t.test('a stream of HTTP/2 that breaks off has no whole body, whatever came of it', async (t) => {
  const app = Fastify({ http2: true }) as unknown as FastifyInstance
  t.teardown(() => app.close())
  await app.register(guard)
  app.addContentTypeParser('application/octet-stream', (_request, _payload, done) => { done(null) })
  const verdicts: unknown[] = []
  app.post('/', { onRequest: digestGuard().require({ body: 'stream' }) }, async (request) => {
    request.raw.resume()
    await once(request.raw, 'end')
    await bodyVerified(request).then(() => verdicts.push('verified'), (error: unknown) => verdicts.push((error as { code: string }).code))
    return 'read'
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const session = connectHttp2(`http://127.0.0.1:${(app.server.address() as AddressInfo).port}`)
  t.teardown(() => { session.destroy() })
  for (const isBrokenOff of [false, true]) {
    const stream = session.request({ ':method': 'POST', ':path': '/', 'content-type': 'application/octet-stream', 'x-digest': digestOf('part') })
    stream.on('error', () => undefined)
    stream.write('part')
    await sleep(30)
    // Unlike `close`, which ends the body before.
    if (isBrokenOff) stream.destroy()
    else stream.end()
    for (let tries = 0; tries < 100 && verdicts.length === 0; tries++) await sleep(10)
    t.same(verdicts.splice(0), [isBrokenOff ? 'ERR_GUARD_BODY_UNREAD' : 'verified'])
  }
})

t.test('a refused body does not hold up the connection', async (t) => {
  const store = new MapStore()
  const { app, reached } = await served(t, digestGuard({ store }))
  const body = 'x'.repeat(300_000)
  store.keys.set(digestOf(body), 'somebody else')
  const socket = connect({ port: (app.server.address() as AddressInfo).port, host: '127.0.0.1' })
  t.teardown(() => { socket.destroy() })
  const head = (promised: string, length: number): string => `POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nX-Digest: ${promised}\r\nContent-Length: ${length}\r\n\r\n`
  socket.write(head(digestOf(body), body.length) + body)
  socket.write(`${head(digestOf('next'), 4)}next`)
  let answers = ''
  for await (const piece of socket) {
    answers += String(piece)
    if (answers.includes('"next"')) break
  }
  t.same([...answers.matchAll(/HTTP\/1.1 (\d+)/g)].map(([, status]) => status), ['401', '200'])
  t.equal(reached.length, 1)
})

t.test('claims that the headers allow are made before the body, so that of slow uploads one passes', async (t) => {
  const store = new MapStore()
  const { app, reached } = await served(t, digestGuard({ store }))
  const slow: Sent = { headers: { ...plain, 'x-digest': digestOf('abcdef') }, body: ['abc', 60, 'def'] }
  const answers = await Promise.all([1, 2, 3].map(async () => sendHttp1(app, slow)))
  t.same(answers.map(({ status }) => status).sort(), [200, 401, 401])
  t.equal(reached.length, 1)
  t.equal((await sendHttp1(app, slow)).status, 401, 'and stays taken')
})

t.test('claims that wait for the body are made after it, and of equal requests one passes', async (t) => {
  const store = new MapStore()
  const { app, reached } = await served(t, macGuard({ store }))
  const wrong = await sendHttp1(app, { headers: { ...plain, 'x-mac': `acme:${macOf('other')}` }, body: ['abc'] })
  t.equal(wrong.status, 401)
  t.equal(store.keys.size, 0)
  const answers = await Promise.all(Array.from({ length: 20 }, async () => sendHttp1(app, { headers: { ...plain, 'x-mac': `acme:${macOf('abc')}` }, body: ['ab', 5, 'c'] })))
  t.equal(answers.filter(({ status }) => status === 200).length, 1)
  t.equal(reached.length, 1)
})

t.test('what was claimed for a request whose body turns out wrong can be claimed again by the right one', async (t) => {
  const store = new MapStore()
  const { app, reached } = await served(t, digestGuard({ store }), { prepare: withParsers })
  const headers = { ...plain, 'x-digest': digestOf('right') }
  t.equal((await sendHttp1(app, { headers, body: ['wrong'] })).status, 401)
  t.equal((await sendHttp1(app, { headers: { ...headers, 'content-type': 'application/never' }, body: ['right'] })).status, 415)
  t.equal((await sendHttp1(app, { headers: { ...headers, ...json }, body: ['right'] })).status, 400, 'no JSON')
  t.equal(store.keys.size, 0)
  t.equal((await sendHttp1(app, { headers, body: ['right'] })).status, 200)
  t.equal((await sendHttp1(app, { headers, body: ['right'] })).status, 401)
  t.equal(reached.length, 1)
})

t.test('what only the body proves is not true before it has been read', async (t) => {
  const seen: unknown[] = []
  const decisions: Decision[] = []
  const committed: string[] = []
  const mac = macGuard({ committed: (request) => { committed.push(String(request.body)) }, onDecision: (decision) => { decisions.push(decision) } })
  const { app } = await served(t, mac, {
    prepare: (app) => {
      const note = async (request: FastifyRequest): Promise<void> => { seen.push([request.auth.principal.tenant, hasIdentity(request, mac)]) }
      app.addHook('preParsing', note).addHook('preHandler', note)
    }
  })
  t.equal((await sendHttp1(app, { headers: { ...plain, 'x-mac': `acme:${macOf('a')}` }, body: ['a'] })).status, 200)
  t.same(seen.splice(0), [[undefined, false], ['acme', true]])
  t.same(committed, ['a'])
  t.equal((await sendHttp1(app, { headers: { ...plain, 'x-mac': `acme:${macOf('b')}` }, body: ['a'] })).status, 401)
  t.same(seen, [[undefined, false]])
  t.same(decisions.map(({ outcome, tenant }) => [outcome, tenant]), [['passed', 'acme'], ['rejected', undefined]])
})

t.test('tenants that contradict each other are told from each other once the body has proved one', async (t) => {
  const token = keyGuard('token', { proves: ['tenant'] })
  const { app, reached } = await served(t, allOf(token, macGuard()))
  const send = async (tenant: string, mac: string): Promise<number> => (await sendHttp1(app, { headers: { ...plain, 'x-token': `tenant:${tenant}`, 'x-mac': mac }, body: ['a'] })).status
  t.equal(await send('acme', `globex:${macOf('b')}`), 401, 'a wrong MAC says nothing of the tenant')
  t.equal(await send('acme', `globex:${macOf('a')}`), 403)
  t.equal(reached.length, 0)
  t.equal(await send('acme', `acme:${macOf('a')}`), 200)
})

t.test('a guard that judges bodies in a later hook, or after somebody read, refuses', async (t) => {
  const digest = digestGuard()
  const app = await guardedApp(t, { audit: 'warn' })
  let reached = 0
  const handler = (): string => `${++reached}`
  app.register(async (scope) => {
    scope.addHook('preHandler', digest)
    scope.post('/late', { onRequest: open('judged by a hook of the scope'), handler })
  })
  app.post('/early', { onRequest: [async ({ raw }: FastifyRequest) => { await new Promise((resolve) => { raw.once('data', resolve) }) }, digest], handler })
  app.post('/decoded', { onRequest: [async ({ raw }: FastifyRequest) => { raw.setEncoding('latin1') }, digest], handler })
  for (const url of ['/late', '/early', '/decoded']) {
    const answer = await app.inject({ method: 'POST', url, payload: 'a', headers: { ...plain, 'x-digest': digestOf('a') } })
    t.equal(answer.statusCode, 503, url)
    t.match(codeOf(answer), /ERR_GUARD_(STAGE_LATE|JUDGE_FAILED)/)
  }
  t.equal(reached, 0)
})

t.test('a route that has a body judged too late does not start, whatever the audit\'s mode', async (t) => {
  const [digest, other] = [digestGuard(), keyGuard('other')]
  for (const audit of ['enforce', 'warn'] as const) {
    for (const hook of ['preValidation', 'preHandler'] as const) {
      for (const policy of [digest, allOf(other, digest), [digest, other]]) {
        const app = await guardedApp(t, { audit })
        app.post('/late', { onRequest: other, [hook]: policy, handler: () => 'reached' })
        await t.rejects(async () => app.ready(), { name: 'OptionsError', option: hook, message: /POST \/late is too late for "digest", which judges the body; use it as onRequest/ })
      }
    }
  }
})

t.test('a second policy on the route sees the same body, and a second use of one guard judges once', async (t) => {
  const digest = digestGuard()
  let judged = 0
  const mac = macGuard({ committed: () => { judged++ } })
  const app = await guardedApp(t)
  const handler = async (request: FastifyRequest): Promise<unknown> => ({ digest: identityOf(request, digest), via: request.auth.via })
  await app.register(async (scope) => {
    const shared = allOf(digest, { sharedKey: true })
    scope.protect(shared)
    scope.post('/', { onRequest: allOf(digest, mac, placeGuard(), { sharedKey: true }), preHandler: [mac, shared], handler })
  })
  const answer = await app.inject({ method: 'POST', url: '/', payload: 'a', headers: { ...plain, 'x-digest': digestOf('a'), 'x-mac': `acme:${macOf('a')}` } })
  t.same([answer.statusCode, answer.json()], [200, { digest: { promised: digestOf('a') }, via: ['digest', 'place', 'mac'] }])
  t.equal(judged, 1)
  for (const [digested, signed] of [['a', 'b'], ['b', 'a']] as const) {
    t.equal((await app.inject({ method: 'POST', url: '/', payload: 'a', headers: { ...plain, 'x-digest': digestOf(digested), 'x-mac': `acme:${macOf(signed)}` } })).statusCode, 401)
  }
})

t.test('requirements of a guard that only the body proves are judged after it', async (t) => {
  const app = await guardedApp(t)
  app.post('/:tenant', { onRequest: macGuard().require({ tenantParam: 'tenant' }) }, () => 'reached')
  const send = async (tenant: string, body: string): Promise<number> => (await app.inject({ method: 'POST', url: `/${tenant}`, payload: 'a', headers: { ...plain, 'x-mac': `acme:${macOf(body)}` } })).statusCode
  t.same([await send('acme', 'a'), await send('globex', 'a'), await send('globex', 'b')], [200, 403, 401])
})

t.test('a guard that misbehaves with a body is unavailable, and never a way through', async (t) => {
  const quiet = watchProcess(t)
  const wrong: Readonly<Record<string, unknown>> = {
    'verify that throws': { update () {}, verify () { throw new Error('fell over') } },
    'verify that says absent': { update () {}, verify () { throw refusedBy('digest', 'absent') } },
    'verify that never settles': { update () {}, verify: () => new Promise(() => {}) },
    'verify that gives no claims': { update () {}, verify: () => true },
    'update that throws': { update () { throw new Error('fell over') }, verify () {} }
  }
  for (const [name, watch] of Object.entries(wrong)) {
    const app = await guardedApp(t, { judgeTimeoutMs: 20 })
    app.post('/', { onRequest: digestGuard({ judge: () => ({ identity: {}, obligations: [{ description: 'x', watch: () => watch as never }] }) }) }, () => 'reached')
    const answer = await app.inject({ method: 'POST', url: '/', payload: 'a', headers: { ...plain, 'x-digest': 'a' } })
    t.same([answer.statusCode, codeOf(answer)], [503, 'ERR_GUARD_JUDGE_FAILED'], name)
  }
  const judgements: readonly object[] = [
    { obligations: 'digest' }, { obligations: [{}] }, { provisional: true }, { provisional: true, obligations: [] },
    { provisional: true, obligations: [{ watch: () => ({}) }], claims: [{ store: new MapStore(), key: 'k', expiresAtMs: 1, storeTimeoutMs: 1 }] }
  ]
  for (const judgement of judgements) {
    const app = await guardedApp(t)
    app.post('/', { onRequest: macGuard({ judge: () => ({ identity: {}, principal: { tenant: 'acme' }, ...judgement }) }) }, () => 'reached')
    t.equal((await app.inject({ method: 'POST', url: '/', payload: 'a', headers: { ...plain, 'x-mac': 'a' } })).statusCode, 503, JSON.stringify(judgement))
  }
  const undeclared = await guardedApp(t)
  undeclared.post('/', { onRequest: keyGuard('alpha', { judge: () => ({ identity: {}, obligations: [{ description: 'x', watch: () => ({ update () {}, verify () {} }) }] }) }) }, () => 'reached')
  t.equal((await undeclared.inject({ method: 'POST', url: '/', payload: 'a', headers: { ...plain, 'x-alpha': 'a' } })).statusCode, 503, 'judges a body without saying so')
  t.same(await quiet(), [])
})

t.test('compositions that could not mean what they say are refused', async (t) => {
  const tenantList = placeGuard('place', { requirements: [{ description: 'tenant list', needsTenant: true, judge () {} }] })
  t.throws(() => anyOf(macGuard(), keyGuard('alpha')), { code: 'ERR_GUARD_OPTIONS', message: /mac.*write it last/ })
  t.throws(() => anyOf(allOf(keyGuard('alpha'), macGuard({ proves: [] })), keyGuard('beta')), /write it last/)
  t.doesNotThrow(() => anyOf(keyGuard('alpha'), digestGuard(), macGuard()))
  t.throws(() => macGuard().require({ body: 'stream' }), { code: 'ERR_GUARD_OPTIONS', option: 'require().body' })
  t.throws(() => digestGuard().require({ body: 'buffer' as never }), /must be one of: stream/)
  t.throws(() => keyGuard('alpha').require({ body: 'stream' }), /unknown/)
  t.throws(() => macGuard({ judgesBody: false }), /provisional.*judgesBody/)
  const app = await guardedApp(t)
  app.post('/', { onRequest: allOf(macGuard(), tenantList) }, () => 'reached')
  await t.rejects(async () => app.ready(), /needs a tenant/)
})

t.test('an optional credential that is not there owes nothing of the body', async (t) => {
  const { app } = await served(t, optional(digestGuard()))
  t.equal((await sendHttp1(app, { headers: json, body: ['{"a":1}'] })).status, 200)
  t.equal((await sendHttp1(app, { headers: { ...json, 'x-digest': digestOf('{}') }, body: ['{"a":1}'] })).status, 401)
})

t.test('a guard inside fastify.auth or an array of hooks judges bodies too', async (t) => {
  const app = await guardedApp(t)
  app.post('/', { onRequest: [keyGuard('alpha'), digestGuard()] }, () => 'reached')
  for (const [body, status] of [['a', 200], ['b', 401]] as const) {
    t.equal((await app.inject({ method: 'POST', url: '/', payload: 'a', headers: { ...plain, 'x-alpha': '', 'x-digest': digestOf(body) } })).statusCode, status)
  }
})

// Routes whose handler reads the body

async function streaming (t: Test, handler: (request: FastifyRequest, taken: () => string) => unknown, { store, prepare }: { store?: MapStore, prepare?: (app: FastifyInstance) => unknown } = {}): Promise<FastifyInstance> {
  const app = await guardedApp(t)
  app.addHook('onClose', async () => app.server.closeAllConnections())
  app.addContentTypeParser('*', (_request, payload, done) => { done(null, payload) })
  prepare?.(app)
  app.post('/', { onRequest: digestGuard(store === undefined ? {} : { store }).require({ body: 'stream' }) }, async (request) => {
    const pieces: Buffer[] = []
    return handler(request, () => Buffer.concat(pieces).toString()) ?? pipeline(request.body as Readable, new Writable({ write (piece: Buffer, _encoding, done) { pieces.push(piece); done() } }))
      .then(async () => { await bodyVerified(request) }).then(() => Buffer.concat(pieces).toString())
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  return app
}

const upload = async (app: FastifyInstance, signed: string, body: Sent['body'] = ['abc', 10, 'def'], more: Partial<Sent> = {}): Promise<Answered> => {
  return sendHttp1(app, { headers: { 'content-type': 'application/x-upload', 'x-digest': digestOf(signed) }, body, ...more })
}

t.test('a handler that reads the body itself learns whether it was the right one', async (t) => {
  const store = new MapStore()
  const app = await streaming(t, () => undefined, { store })
  t.match(app.printPolicies(), /digest \[body: stream\]/)
  t.match(await upload(app, 'abcdef'), { status: 200, body: 'abcdef' })
  t.equal((await upload(app, 'abcdef')).status, 401, 'claimed before the body')
  const wrong = await upload(app, 'abcdeX')
  t.match(wrong, { status: 401, headers: { 'www-authenticate': 'Key-digest error="wrong"' } })
  t.equal(store.keys.size, 1, 'given back')
  t.match(await upload(app, '', []), { status: 200, body: '' })
})

t.test('an answer is held to the body that the handler did not wait for', async (t) => {
  const quiet = watchProcess(t)
  let streamed: Readable | undefined
  const answers: Readonly<Record<string, (request: FastifyRequest, reading: Promise<unknown>) => Promise<unknown>>> = {
    'before reading': async () => 'early',
    'before it was verified': async (_request, reading) => { await reading; return 'unverified' },
    'as a stream': async (_request, reading) => { await reading; return streamed = Readable.from(['unverified']) },
    'though it was wrong': async (request, reading) => { await reading; await bodyVerified(request).catch(() => undefined); return 'ignored' }
  }
  for (const [name, answer] of Object.entries(answers)) {
    for (const custom of [false, true]) {
      const app = await streaming(t, async (request) => answer(request, name === 'before reading' ? Promise.resolve() : (request.body as Readable).resume().toArray().catch(() => undefined)), {
        prepare (app) { if (custom) app.setErrorHandler(async (error: Error & { statusCode: number }, _request, reply) => reply.code(error.statusCode).send({ code: 'CUSTOM' })) }
      })
      const { status, body } = await upload(app, 'abcdeX')
      t.equal(status, name === 'though it was wrong' ? 401 : 503, `${name}: ${body}`)
      t.notMatch(body, /early|unverified|ignored/)
    }
  }
  t.equal(streamed?.destroyed, true, 'an answer that is not sent leaves no stream open')
  t.same(await quiet(), [])
})

t.test('one use that needs the body beforehand is enough', async (t) => {
  const digest = digestGuard()
  let reached = 0
  for (const [url, onRequest] of [['/ab', [digest, digest.require({ body: 'stream' })]], ['/ba', [digest.require({ body: 'stream' }), digest]]] as const) {
    const app = await guardedApp(t)
    app.post(url, { onRequest: [...onRequest] }, () => `${++reached}`)
    t.equal((await app.inject({ method: 'POST', url, payload: 'a', headers: { ...plain, 'x-digest': digestOf('b') } })).statusCode, 401)
    t.equal(reached, 0)
  }
})

t.test('a guard that fails when it is told of the commit leaves no claim, whenever that was made', async (t) => {
  const store = new MapStore()
  const app = await guardedApp(t)
  const committed = (): void => { throw new Error('fell over') }
  app.post('/early', { onRequest: digestGuard({ store, committed }) }, () => 'reached')
  app.post('/late', { onRequest: allOf(digestGuard({ store }), macGuard({ store, committed }), { sharedKey: true }) }, () => 'reached')
  for (const url of ['/early', '/late']) {
    const answer = await app.inject({ method: 'POST', url, payload: 'a', headers: { ...plain, 'x-digest': digestOf('a'), 'x-mac': `acme:${macOf('a')}` } })
    t.same([answer.statusCode, codeOf(answer), store.keys.size], [503, 'ERR_GUARD_JUDGE_FAILED', 0], url)
    t.equal(store.released.splice(0).length, url === '/early' ? 1 : 2)
  }
})

t.test('a handler may refuse early on its own, and what was claimed is given back', async (t) => {
  const store = new MapStore()
  const app = await streaming(t, async () => { throw Object.assign(new Error('no room'), { statusCode: 507 }) }, { store })
  t.equal((await upload(app, 'abcdef')).status, 507)
  await sleep(10)
  t.equal(store.keys.size, 0)
})

t.test('a body that ends too soon is refused to the handler that waits for it', async (t) => {
  const refusals: unknown[] = []
  const store = new MapStore()
  const app = await streaming(t, async (request) => {
    (request.body as Readable).on('error', () => undefined).resume()
    await bodyVerified(request).catch((error: unknown) => { refusals.push((error as { code: string }).code) })
    return 'gone'
  }, { store })
  await t.rejects(upload(app, 'abcdef', ['abc', 20], { breaksOff: true }))
  await sleep(30)
  t.same(refusals, ['ERR_GUARD_BODY_UNREAD'])
  t.equal(store.keys.size, 0)
})

t.test('bodyVerified resolves where nothing was to be judged', async (t) => {
  const app = await guardedApp(t)
  app.post('/', { onRequest: keyGuard('alpha') }, async (request) => { await bodyVerified(request); return 'fine' })
  t.equal((await app.inject({ method: 'POST', url: '/', payload: 'a', headers: { ...plain, 'x-alpha': '' } })).statusCode, 200)
})
