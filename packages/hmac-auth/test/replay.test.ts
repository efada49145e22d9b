import { fork, spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { join } from 'node:path'
import { guard, memoryStore, redisStore, type ClaimStore } from '@sallyport/guard'
import Fastify from 'fastify'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { createRequestSigner, hmacAuth } from '../src/index.js'
import { isRefused, KEY_ID, NOW, SECRET_TEXT, secret, signed, testApp } from './fixtures/app.js'

const replayed = 'ERR_HMAC_AUTH_SIGNATURE_REPLAYED'
const url = process.env['REDIS_URL'] ?? 'redis://127.0.0.1:6379'
const prefix = `sallyport-test:${randomUUID()}:`
const redis = new Redis(url, { enableOfflineQueue: false, maxRetriesPerRequest: 0, lazyConnect: true })
redis.on('error', () => {})
const missing = await redis.connect().then(() => undefined, () => `no Redis answers at ${url}`)
if (missing !== undefined && process.env['REQUIRE_SERVICES'] === '1') throw new Error(`${missing}, and REQUIRE_SERVICES=1`)
const needsRedis = missing === undefined ? {} : { skip: missing }
t.teardown(async () => {
  if (missing === undefined) for await (const keys of redis.scanStream({ match: `${prefix}*` })) if ((keys as string[]).length > 0) await redis.del(keys as string[])
  redis.disconnect()
})

async function startWorker (t: Test, times: number): Promise<ChildProcess> {
  const child = fork(join(import.meta.dirname, 'fixtures/replay-worker.mjs'), [url, prefix, SECRET_TEXT, String(times)], { execArgv: [] })
  t.teardown(() => child.kill())
  await once(child, 'message')
  return child
}

t.test('200 identical requests at once over four processes on one Redis: one passes, 199 are replays', needsRedis, async (t) => {
  const workers = await Promise.all([1, 2, 3, 4].map(() => startWorker(t, 50)))
  const headers = createRequestSigner({ keyId: KEY_ID, secret }).sign({ url: 'http://localhost/orders' })
  const reports = workers.map((worker) => once(worker, 'message'))
  for (const worker of workers) worker.send({ method: 'GET', url: '/orders', headers: { host: 'localhost', ...headers } })
  const found = (await Promise.all(reports)).map(([report]) => report as { runs: number, answers: string[] })
  const answers = found.flatMap((report) => report.answers)
  t.equal(answers.length, 200)
  t.equal(answers.filter((answer) => answer === '200 ').length, 1)
  t.equal(answers.filter((answer) => answer === `401 ${replayed}`).length, 199, [...new Set(answers)].join())
  t.equal(found.reduce((sum, { runs }) => sum + runs, 0), 1, 'the handler ran once')
})

t.test('200 identical requests in one process, on a store that takes its time: one passes', async (t) => {
  const inner = memoryStore({ clock: () => NOW - 3_600_000 })
  const slow: ClaimStore = {
    async claim (...given) { await sleep(20); return inner.claim(...given) },
    release: (...given) => inner.release(...given)
  }
  const { send, handlerRuns } = await testApp(t, { store: slow })
  const once = signed()
  const answers = await Promise.all(Array.from({ length: 200 }, () => send({ ...once, headers: { ...once.headers } })))
  t.equal(answers.filter(({ statusCode }) => statusCode === 200).length, 1)
  for (const answer of answers.filter(({ statusCode }) => statusCode !== 200)) isRefused(t, answer, replayed)
  t.equal(handlerRuns(), 1)
})

t.test('Redis out of reach is 503 in under half a second, and the handler does not run', async (t) => {
  const unreachable = new Redis({ host: '127.0.0.1', port: 1, enableOfflineQueue: false, maxRetriesPerRequest: 0, retryStrategy: () => 1_000 })
  unreachable.on('error', () => {})
  t.teardown(() => { unreachable.disconnect() })
  const { send, handlerRuns } = await testApp(t, { store: redisStore(unreachable) })
  const before = performance.now()
  const answer = await send(signed())
  t.ok(performance.now() - before < 500)
  t.equal(answer.statusCode, 503)
  t.match(answer.headers['retry-after'], /^\d+$/)
  t.equal(handlerRuns(), 0)
})

const hasServer = spawnSync('redis-server', ['--version']).status === 0
if (!hasServer && process.env['REQUIRE_SERVICES'] === '1') throw new Error('there is no redis-server to start, and REQUIRE_SERVICES=1')

async function freePort (): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

t.test('Redis stopped is 503 in under half a second, without the handler; once it is started again, requests pass and replays don\'t', hasServer ? {} : { skip: 'there is no redis-server to start' }, async (t) => {
  const port = await freePort()
  const start = (): ChildProcess => spawn('redis-server', ['--port', String(port), '--save', '', '--bind', '127.0.0.1'], { stdio: 'ignore' })
  let server = start()
  t.teardown(() => server.kill('SIGKILL'))
  const client = new Redis({ port, enableOfflineQueue: false, maxRetriesPerRequest: 0, socketTimeout: 1_000, retryStrategy: () => 50 })
  client.on('error', () => {})
  t.teardown(() => { client.disconnect() })
  // Not `once` of node:events, which rejects when the client says that it could not connect yet.
  const until = (state: 'ready' | 'close'): Promise<unknown> => new Promise((resolve) => client.once(state, resolve))
  const connected = until('ready')
  const { send, handlerRuns } = await testApp(t, { store: redisStore(client) })
  await connected
  t.equal((await send(signed())).statusCode, 200)

  const refusedWhile = async (title: string): Promise<void> => {
    const before = performance.now()
    const answer = await send(signed())
    t.ok(performance.now() - before < 500, `${title}: at once`)
    t.same([answer.statusCode, answer.json<{ code: string }>().code], [503, 'ERR_GUARD_STORE_UNAVAILABLE'], title)
    t.match(answer.headers['retry-after'], /^\d+$/)
  }
  server.kill('SIGSTOP')
  await refusedWhile('it hangs')
  const closed = until('close')
  server.kill('SIGKILL')
  await closed
  await refusedWhile('it is gone')
  t.equal(handlerRuns(), 1)

  const ready = until('ready')
  server = start()
  await ready
  const again = signed()
  t.equal((await send({ ...again, headers: { ...again.headers } })).statusCode, 200)
  isRefused(t, await send(again), replayed)
  t.equal(handlerRuns(), 2)
})

t.test('a nonce is remembered until its request is too old, to the millisecond above', async (t) => {
  const ttls: number[] = []
  const store: ClaimStore = { async claim (_key, ttlMs) { ttls.push(ttlMs); return { claimed: true } }, release: async () => {} }
  let now = NOW
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(guard, { clock: () => now })
  await app.register(hmacAuth, { keys: [{ id: KEY_ID, secret, tenant: '1' }], store })
  app.get('/orders', { onRequest: app.hmacAuth }, async () => 'ok')
  for (const ms of [-5_000, 0, 1, 999, 64_500]) {
    now = NOW + ms
    t.equal((await app.inject(signed())).statusCode, 200)
  }
  t.same(ttls, [70_000, 65_000, 65_000, 65_000, 1_000])
})
