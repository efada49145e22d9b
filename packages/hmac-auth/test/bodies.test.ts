import { createHash, randomBytes } from 'node:crypto'
import { createWriteStream, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { request as httpRequest } from 'node:http'
import { connect, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { createGunzip, gzipSync } from 'node:zlib'
import { bodyVerified, memoryStore, type MemoryStore } from '@sallyport/guard'
import { originOf, sendHttp1, sendHttp2, type Answered, type Send, type Sent } from '@sallyport/test-kit'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import t, { type Test } from 'tap'
import { authorizationHmac, headers, hmacAuth, layeredGateway, rfc9421, type HmacAuthRefusalCode, type Profile } from '../src/index.js'
import { isRefused, KEY_ID, linesOf, NOW, otherSecret, secret, signed, signerFor, TENANT, testApp, validOptions, type TestApp } from './fixtures/app.js'

const missing = 'ERR_HMAC_AUTH_SIGNATURE_MISSING'
const invalid = 'ERR_HMAC_AUTH_SIGNATURE_INVALID'
const insufficient = 'ERR_HMAC_AUTH_COVERAGE_INSUFFICIENT'
const expired = 'ERR_HMAC_AUTH_TIMESTAMP_EXPIRED'
const replayed = 'ERR_HMAC_AUTH_SIGNATURE_REPLAYED'
const digestInvalid = 'ERR_HMAC_AUTH_DIGEST_INVALID'

const json = { 'content-type': 'application/json' }
const plain = { 'content-type': 'text/plain' }
const binary = { 'content-type': 'application/octet-stream' }

/** A header says what the body's digest is, so that all else is judged before the body. */
const digested: Readonly<Record<string, Profile>> = {
  'rfc9421': rfc9421(),
  'layered gateway': headers(layeredGateway),
  'kong': authorizationHmac({ dialect: 'kong', accepts: ['no-nonce', 'no-key-id'] }),
  'apisix': authorizationHmac({ dialect: 'apisix', accepts: ['no-nonce'] })
}

/** Nothing is proved before the body has been read. */
const overBody: Readonly<Record<string, Profile>> = {
  'a MAC over the body': headers({ digest: false, parts: ['method', 'authority', 'target', 'timestamp', 'key-id', 'nonce', 'body'] }),
  'a MAC over the body\'s SHA-256': headers({ digest: false })
}

const profiles = { ...digested, ...overBody }
const protocols: readonly (readonly [string, Send, FastifyServerOptions])[] = [
  ['HTTP/1', sendHttp1, { forceCloseConnections: true }], ['HTTP/2', sendHttp2, { http2: true } as FastifyServerOptions]
]

/** Collects what would end the process. */
function watchProcess (t: Test): () => Promise<readonly unknown[]> {
  const seen: unknown[] = []
  const note = (reason: unknown): void => { seen.push(reason) }
  for (const event of ['unhandledRejection', 'uncaughtException']) process.on(event, note)
  t.teardown(() => { for (const event of ['unhandledRejection', 'uncaughtException']) process.off(event, note) })
  return async () => {
    await new Promise((resolve) => setImmediate(resolve))
    return seen
  }
}

const smallStore = (clock = (): number => NOW - 3_600_000): MemoryStore => memoryStore({ maxEntries: 1_000, clock })

async function until (isSo: () => boolean): Promise<boolean> {
  for (let i = 0; i < 500 && !isSo(); i++) await sleep(10)
  return isSo()
}

const codeIn = ({ body }: Answered): string | undefined => (JSON.parse(body) as { code?: string }).code

// Bodies of every kind

interface Row {
  readonly name: string
  readonly sent: Omit<Sent, 'path' | 'headers'> & { readonly headers?: Readonly<Record<string, string>> }
  /** What is on the wire; empty where there is none. */
  readonly bytes: string | Uint8Array
  /** What the handler is given; `unread`: nobody reads the body to its end, so nobody gets it. */
  readonly seen: unknown
  /** What a wrong request has signed in its place. */
  readonly another?: string
}

const unread = Symbol('unread')
const zipped = gzipSync('{"a":1}')
const form = '--b\r\ncontent-disposition: form-data; name="a"\r\n\r\n1\r\n--b--\r\n'

const rows: readonly Row[] = [
  { name: 'JSON', sent: { headers: json, body: ['{"a":1}'], length: 7 }, bytes: '{"a":1}', seen: { a: 1 } },
  { name: 'JSON in chunks', sent: { headers: json, body: ['{"a":', 5, '1}'] }, bytes: '{"a":1}', seen: { a: 1 }, another: '{"a": 1}' },
  { name: 'text', sent: { headers: plain, body: ['h\u00e9llo'] }, bytes: 'h\u00e9llo', seen: 'h\u00e9llo' },
  { name: 'binary', sent: { headers: binary, body: [Uint8Array.of(0, 255, 254, 10)] }, bytes: Uint8Array.of(0, 255, 254, 10), seen: '00fffe0a', another: '\0\ufffd\ufffd\n' },
  { name: 'length 0', sent: { body: [], length: 0 }, bytes: '', seen: null },
  { name: 'empty chunks', sent: { headers: plain, body: [] }, bytes: '', seen: '' },
  { name: 'POST without a body', sent: {}, bytes: '', seen: null },
  { name: 'GET without a body', sent: { method: 'GET' }, bytes: '', seen: null },
  { name: 'DELETE without a body', sent: { method: 'DELETE' }, bytes: '', seen: null },
  { name: 'DELETE with a body', sent: { method: 'DELETE', headers: json, body: ['{}'] }, bytes: '{}', seen: {} },
  { name: 'GET with an empty body', sent: { method: 'GET', body: [5] }, bytes: '', seen: null },
  { name: 'GET with a body', sent: { method: 'GET', headers: json, body: ['{}'] }, bytes: '{}', seen: unread },
  { name: 'a form that is read at once', sent: { headers: { 'content-type': 'multipart/mixed; boundary=b' }, body: [form] }, bytes: form, seen: Buffer.from(form).toString('hex') },
  { name: 'a form that is left to the handler', sent: { headers: { 'content-type': 'multipart/form-data; boundary=b' }, body: [form] }, bytes: form, seen: unread },
  { name: 'gzip', sent: { headers: { ...json, 'content-encoding': 'gzip' }, body: [zipped] }, bytes: zipped, seen: { a: 1 }, another: '{"a":1}' },
  { name: 'a hook that puts another body in its place', sent: { headers: { ...json, 'x-replace': '{"a":2}' }, body: ['{"a":1}'] }, bytes: '{"a":1}', seen: unread, another: '{"a":2}' },
  { name: 'a parser that never drains', sent: { headers: { 'content-type': 'application/never' }, body: ['abc'] }, bytes: 'abc', seen: unread },
  { name: 'a parser that stops early', sent: { headers: { 'content-type': 'application/early' }, body: ['abc', 20, 'def'] }, bytes: 'abcdef', seen: 'early', another: 'abc' }
]

type Verdict = HmacAuthRefusalCode | 'ERR_GUARD_BODY_UNREAD' | 'passed'
const unreadRefused = 'ERR_GUARD_BODY_UNREAD'

/** What comes of it: where a digest says what the body is, and where the MAC goes over the body; each read and unread. */
const verdicts: Readonly<Record<'right' | 'another body' | 'no digest' | 'wrong key' | 'unsigned', readonly [Verdict, Verdict, Verdict, Verdict]>> = {
  'right': ['passed', unreadRefused, 'passed', unreadRefused],
  'another body': [digestInvalid, unreadRefused, invalid, unreadRefused],
  'no digest': [insufficient, insufficient, invalid, unreadRefused],
  'wrong key': [invalid, invalid, invalid, unreadRefused],
  'unsigned': [missing, missing, missing, missing]
}

/** Parsers that a server may have: what reads whole, what leaves the reading to others, and what stops in between. */
function addParsers (app: FastifyInstance): void {
  // As @fastify/multipart does: the handler asks for the parts.
  app.addContentTypeParser('multipart/form-data', (_request, _payload, done) => { done(null) })
  app.addContentTypeParser('application/never', (_request, _payload, done) => { done(null, 'unread') })
  app.addContentTypeParser('application/early', (_request, payload, done) => { payload.once('data', () => { done(null, 'early') }) })
  app.addHook('preParsing', async (request, _reply, payload) => {
    const { 'content-encoding': coding, 'x-replace': other } = request.headers
    const length = Number(request.headers['content-length'] ?? 0)
    if (coding === 'gzip') return Object.assign(payload.pipe(createGunzip()), { receivedEncodedLength: length })
    return typeof other === 'string' ? Object.assign(Readable.from([Buffer.from(other)]), { receivedEncodedLength: length }) : payload
  })
}

let paths = 0

/** Signs one body and sends another, or the same; each time for a path of its own, since not every profile has nonces. */
async function sendSigned (app: FastifyInstance, send: Send, { sent, kind, row: { bytes, another = 'another' }, profile }: { readonly sent: Row['sent'], readonly kind: keyof typeof verdicts, readonly row: Row, readonly profile: Profile }): Promise<Answered> {
  const path = `/orders?n=${++paths}`
  const body = kind === 'another body' ? another : kind === 'no digest' ? '' : bytes
  // Signers take an empty body for none; over HTTP/2, and in chunks, only its end tells.
  const empty = body.length === 0 && kind !== 'no digest' && sent.body !== undefined && profile.digest !== undefined ? { [profile.digest.name]: profile.digest.format('') } : {}
  const given = { ...sent.headers, ...empty }
  const signer = signerFor({ profile, ...(kind === 'wrong key' && { secret: otherSecret }) })
  const fields = kind === 'unsigned' ? {} : signer.sign({ method: sent.method ?? 'POST', url: `${originOf(app)}${path}`, headers: given, body })
  return send(app, { ...sent, path, headers: { ...given, ...fields } })
}

async function listening (t: Test, profile: Profile, server: FastifyServerOptions, options = {}): Promise<TestApp> {
  const served = await testApp(t, { profile, store: smallStore(), ...options }, { server })
  addParsers(served.app)
  await served.app.listen({ port: 0, host: '127.0.0.1' })
  return served
}

for (const [protocol, send, server] of protocols) {
  for (const [name, profile] of Object.entries(profiles)) {
    t.test(`over ${protocol}, ${name}: a handler runs only on the body that was signed, however that is read`, async (t) => {
      const quiet = watchProcess(t)
      const { app, handlerRuns } = await listening(t, profile, server)
      let runs = 0
      for (const row of rows) {
        const isEmpty = row.bytes.length === 0
        for (const [kind, expected] of Object.entries(verdicts) as [keyof typeof verdicts, typeof verdicts[keyof typeof verdicts]][]) {
          // Without a body, or with an empty one under the MAC, there is no digest to be missed.
          if (kind === 'no digest' && (row.sent.body === undefined || row.sent.length === 0 || (isEmpty && profile.signsBody))) continue
          const verdict = expected[(profile.signsBody ? 2 : 0) + (row.seen === unread ? 1 : 0)]!
          const title = `${row.name}, ${kind}`
          const answer = await sendSigned(app, send, { sent: row.sent, kind, row, profile })
          if (verdict === 'passed') {
            runs++
            t.equal(answer.status, 200, `${title}: ${answer.body}`)
            t.same((JSON.parse(answer.body) as { body: unknown }).body, row.seen, title)
          } else if (verdict === unreadRefused) t.same([answer.status, codeIn(answer)], [415, verdict], title)
          else isRefused(t, answer, verdict, title)
          t.equal(handlerRuns(), runs, `${title}: the handler ${verdict === 'passed' ? 'ran once' : 'did not run'}`)
        }
      }
      t.same(await quiet(), [])
    })

    t.test(`over ${protocol}, ${name}: bodyLimit holds, and takes no nonce`, async (t) => {
      const quiet = watchProcess(t)
      const store = smallStore()
      const { app, handlerRuns } = await listening(t, profile, { ...server, bodyLimit: 10 }, { store })
      for (const [bytes, length] of [['x'.repeat(11), 11], ['x'.repeat(11), undefined], ['x'.repeat(10), 10], ['x'.repeat(10), undefined]] as const) {
        const row = { name: 'text', sent: { headers: plain, body: [bytes.slice(0, 5), bytes.slice(5)], length }, bytes, seen: bytes }
        const { status, body } = await sendSigned(app, send, { sent: row.sent, kind: 'right', row, profile })
        t.equal(status, bytes.length > 10 ? 413 : 200, `${bytes.length} bytes, ${length === undefined ? 'in chunks' : 'with a length'}: ${body}`)
        if (bytes.length > 10) t.ok(await until(() => store.size === 0), 'what was claimed is given back')
      }
      t.equal(handlerRuns(), 2)
      t.same(await quiet(), [])
    })
  }
}

t.test('a length of 0 is no body over HTTP/1 and needs no digest; over HTTP/2 a body is what does not end with the headers', async (t) => {
  for (const [[protocol, send, server], verdict] of [[protocols[0]!, undefined], [protocols[1]!, insufficient]] as const) {
    const row: Row = { name: 'length 0', sent: { body: [], length: 0 }, bytes: '', seen: null }
    for (const [name, profile] of Object.entries(digested)) {
      const { app, handlerRuns } = await listening(t, profile, server)
      const answer = await sendSigned(app, send, { sent: row.sent, kind: 'no digest', row, profile })
      if (verdict === undefined) t.equal(answer.status, 200, `${protocol}, ${name}`)
      else isRefused(t, answer, verdict, `${protocol}, ${name}`)
      t.equal(handlerRuns(), verdict === undefined ? 1 : 0)
    }
  }
})

// One signed request, slowly, three times

interface SlowRequest {
  readonly answer: () => Answered | undefined
  readonly end: () => void
}

/** A request of which all but the end of the body is sent. */
function sendSlowly (t: Test, { port, head, body }: { readonly port: number, readonly head: readonly string[], readonly body: string }): SlowRequest {
  const socket = connect({ port, host: '127.0.0.1' })
  t.teardown(() => { socket.destroy() })
  let text = ''
  socket.setEncoding('latin1').on('data', (piece: string) => { text += piece }).on('error', () => undefined)
  socket.write([...head, `content-length: ${body.length}`, 'connection: close', '', body.slice(0, -1)].join('\r\n'))
  return {
    answer () {
      const [lines, answered] = text.split('\r\n\r\n')
      if (lines === undefined || answered === undefined || !answered.endsWith('}')) return undefined
      const [status, ...fields] = lines.split('\r\n')
      return { status: Number(status!.split(' ')[1]), headers: Object.fromEntries(fields.map((field) => [field.split(':', 1)[0]!.toLowerCase(), field.slice(field.indexOf(':') + 2)])), body: answered }
    },
    end () { socket.write(body.slice(-1)) }
  }
}

interface Slow { readonly requests: readonly SlowRequest[], readonly handlerRuns: () => number, readonly passTime: (ms: number) => void, readonly again: () => SlowRequest }

/** The same signed request on three connections, whose bodies lack their ends still; a signature counts for one second. */
async function threeSlowUploads (t: Test, profile: Profile): Promise<Slow> {
  let now = NOW
  const clock = (): number => now
  const { app, handlerRuns } = await testApp(t, { profile, clock, windowSeconds: 1, clockToleranceSeconds: 0, store: smallStore(clock) }, { server: { forceCloseConnections: true } })
  let came = 0
  app.addHook('onRequest', async () => { came++ })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const request = signed({ method: 'POST', path: '/orders', body: '{"a":1}', headers: json }, signerFor({ profile }))
  const again = (): SlowRequest => sendSlowly(t, { port: (app.server.address() as AddressInfo).port, head: ['POST /orders HTTP/1.1', ...linesOf(request.headers)], body: '{"a":1}' })
  const requests = [again(), again(), again()]
  t.ok(await until(() => came === 3), 'all three have come')
  return { requests, handlerRuns, passTime (ms) { now += ms }, again }
}

const answersOf = (requests: readonly SlowRequest[]): readonly Answered[] => requests.flatMap((request) => request.answer() ?? [])

for (const [name, profile] of Object.entries(digested)) {
  t.test(`${name}: of three slow uploads of one signed request, ended when its window is over, one passes and two are refused before their bodies end`, async (t) => {
    const { requests, handlerRuns, passTime, again } = await threeSlowUploads(t, profile)
    t.ok(await until(() => answersOf(requests).length === 2), 'two have their answers')
    for (const answer of answersOf(requests)) isRefused(t, answer, replayed)
    t.equal(handlerRuns(), 0)
    passTime(2_000)
    for (const request of requests) request.end()
    t.ok(await until(() => answersOf(requests).length === 3))
    t.same(answersOf(requests).map(({ status }) => status).sort(), [200, 401, 401])
    t.equal(handlerRuns(), 1)
    const late = again()
    late.end()
    t.ok(await until(() => late.answer() !== undefined))
    isRefused(t, late.answer()!, expired, 'and whoever comes later is too late')
    t.equal(handlerRuns(), 1)
  })
}

for (const [name, profile] of Object.entries(overBody)) {
  for (const [when, ms] of [['while its window is open, one passes and two are replays', 999], ['when its window is over, none passes: all three are expired', 1_000]] as const) {
    t.test(`${name} is judged once the body is there: of three slow uploads ended ${when}`, async (t) => {
      const { requests, handlerRuns, passTime } = await threeSlowUploads(t, profile)
      await sleep(30)
      t.same(answersOf(requests), [], 'nothing is decided before')
      passTime(ms)
      for (const request of requests) request.end()
      t.ok(await until(() => answersOf(requests).length === 3), 'all three have their answers')
      const refused = answersOf(requests).filter(({ status }) => status !== 200)
      t.equal(refused.length, ms < 1_000 ? 2 : 3)
      for (const answer of refused) isRefused(t, answer, ms < 1_000 ? replayed : expired)
      t.equal(handlerRuns(), ms < 1_000 ? 1 : 0)
    })
  }
}

// Uploads that the handler reads

interface Uploads {
  readonly app: FastifyInstance
  readonly store: MemoryStore
  /** The files that are there, as the handlers left them. */
  readonly files: () => readonly Buffer[]
  readonly handlerRuns: () => number
}

/** A server that drains uploads to temporary files, and takes away those that turn out wrong. */
async function uploads (t: Test, profile: Profile): Promise<Uploads> {
  const app = Fastify({ bodyLimit: 2 ** 24, forceCloseConnections: true })
  const folder = mkdtempSync(join(tmpdir(), 'sallyport-bodies-'))
  t.teardown(async () => {
    await app.close()
    rmSync(folder, { recursive: true })
  })
  const store = smallStore(() => Date.now() - 10_000)
  await app.register(hmacAuth, { profile, keys: [{ id: KEY_ID, secret, tenant: TENANT }], store })
  app.addContentTypeParser('application/octet-stream', (_request, payload, done) => { done(null, payload) })
  let runs = 0
  app.put('/', { onRequest: app.hmacAuth.require({ body: 'stream' }) }, async (request) => {
    const path = join(folder, String(++runs))
    try {
      await pipeline(request.body as Readable, createWriteStream(path))
      await bodyVerified(request)
      return { tenant: request.auth.principal.tenant }
    } catch (error) {
      rmSync(path)
      throw error
    }
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  return { app, store, files: () => readdirSync(folder).map((file) => readFileSync(join(folder, file))), handlerRuns: () => runs }
}

const megabyte = 1_048_576
const upload = randomBytes(5 * megabyte)
const spoilt = Buffer.from(upload)
spoilt[spoilt.length - 1]! ^= 1
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')
const inPieces = (bytes: Buffer): readonly Buffer[] => Array.from({ length: 5 }, (_, i) => bytes.subarray(i * megabyte, (i + 1) * megabyte))

for (const [name, profile] of Object.entries(digested)) {
  t.test(`${name}: an upload of 5 MB that its handler reads is kept only if it is whole and right, and its nonce is good until then`, async (t) => {
    const quiet = watchProcess(t)
    const { app, store, files, handlerRuns } = await uploads(t, profile)
    const given = { ...binary, ...signerFor({ profile, clock: Date.now }).sign({ method: 'PUT', url: `${originOf(app)}/`, headers: binary, body: upload }) }
    const put = async (bytes: Buffer): Promise<Answered> => sendHttp1(app, { method: 'PUT', path: '/', headers: given, body: inPieces(bytes), length: bytes.length })

    const broken = httpRequest(`${originOf(app)}/`, { method: 'PUT', headers: { ...given, 'content-length': String(upload.length) }, agent: false })
    broken.on('error', () => undefined)
    broken.write(upload.subarray(0, 3 * megabyte))
    t.ok(await until(() => files().some(({ length }) => length > 0)), 'the handler reads')
    t.equal(store.size, 1, 'claimed before the body')
    broken.destroy()
    t.ok(await until(() => files().length === 0), 'broken off: the file is gone')
    t.ok(await until(() => store.size === 0), 'broken off: the claim is given back')

    isRefused(t, await put(spoilt), digestInvalid, 'a wrong last byte')
    t.equal(files().length, 0, 'a wrong last byte: the file is gone')

    const right = await put(upload)
    t.equal(right.status, 200, right.body)
    t.same(JSON.parse(right.body), { tenant: TENANT })
    t.same(files().map(sha256), [sha256(upload)], 'the file is complete')
    t.equal(handlerRuns(), 3)

    isRefused(t, await put(upload), replayed, 'a second time')
    t.equal(handlerRuns(), 3)
    t.same(files().map(sha256), [sha256(upload)])
    t.same(await quiet(), [])
  })
}

for (const [name, profile] of Object.entries(overBody)) {
  t.test(`${name} can't leave the reading to the handler, who would not know whose it is`, async (t) => {
    await t.rejects(uploads(t, profile), { code: 'ERR_GUARD_OPTIONS', option: 'require().body' })
  })
}

// What is judged first

for (const [name, profile] of Object.entries(profiles)) {
  t.test(`${name}: no key is asked for where a signature is stale, future-dated, malformed or covers too little`, async (t) => {
    const asked: string[] = []
    const { send, handlerRuns } = await testApp(t, { profile, store: smallStore(), keyCacheSeconds: 0, keys: async (keyId) => { asked.push(keyId); return { secret, tenant: TENANT } } })
    const make = (options = {}, body?: string) => signed({ method: 'POST', headers: plain, ...(body !== undefined && { body }) }, signerFor({ profile, ...options }))
    for (const [title, ms] of [['stale', -65_000], ['stale by a day', -86_400_000], ['future-dated', 6_000]] as const) {
      for (const body of [undefined, 'text']) isRefused(t, await send(make({ clock: () => NOW + ms }, body)), expired, title)
    }
    const cut = make()
    const header = Object.keys(cut.headers).findLast((field) => /signature|authorization/.test(field))!
    isRefused(t, await send({ ...cut, headers: { ...cut.headers, [header]: '!' + cut.headers[header]! } }), header === 'authorization' ? missing : invalid, 'malformed')
    if (!profile.signsBody) isRefused(t, await send({ ...make(), payload: 'added' }), insufficient, 'a body without its digest')
    t.same(asked, [])
    isRefused(t, await send(make({ secret: otherSecret })), invalid, 'a wrong signature')
    t.same(asked, [KEY_ID], 'only the key tells that the signature is wrong')
    t.equal((await send(make({}, 'text'))).statusCode, 200)
    t.same(asked, [KEY_ID, KEY_ID])
    t.equal(handlerRuns(), 1)
  })
}

// What an operator is shown

const gapsOf: Readonly<Record<string, readonly [(accepts: never[]) => Profile, readonly string[], readonly string[]]>> = {
  'rfc9421': [(accepts) => rfc9421(accepts.length === 0 ? {} : { accepts }), [], ['no-method', 'no-authority', 'no-path', 'no-query', 'no-nonce', 'no-digest']],
  'headers': [(accepts) => headers(accepts.length === 0 ? {} : { accepts }), [], ['no-method', 'no-authority', 'no-path', 'no-query', 'no-key-id', 'no-nonce', 'no-digest', 'ambiguous-parts']],
  'authorizationHmac (kong)': [(accepts) => authorizationHmac({ dialect: 'kong', accepts }), ['no-nonce', 'no-key-id'], ['no-method', 'no-authority', 'no-path', 'no-query', 'no-digest']],
  'authorizationHmac (apisix)': [(accepts) => authorizationHmac({ dialect: 'apisix', accepts }), ['no-nonce'], ['no-method', 'no-authority', 'no-path', 'no-query', 'no-key-id', 'no-digest']],
  'authorizationHmac (cavage)': [(accepts) => authorizationHmac({ dialect: 'cavage', accepts }), ['no-nonce', 'no-key-id'], ['no-method', 'no-authority', 'no-path', 'no-query', 'no-digest']]
}

for (const [name, [profileOf, always, possible]] of Object.entries(gapsOf)) {
  t.test(`${name}: each gap that is accepted is shown among the policies by its name, and no other`, async (t) => {
    for (const chosen of [[], ...possible.map((gap) => [gap]), possible]) {
      const app = Fastify()
      t.teardown(() => app.close())
      const accepts = [...always, ...chosen]
      await app.register(hmacAuth, { ...validOptions(), store: smallStore(), profile: profileOf(accepts as never[]) })
      app.post('/orders', { onRequest: app.hmacAuth }, async () => 'ok')
      await app.ready()
      const shown = app.policies().find(({ url }) => url === '/orders')
      t.same(shown?.policy, { guard: 'hmacAuth', plugin: '@sallyport/hmac-auth', notes: [name, ...accepts] }, accepts.join() || 'none')
      t.match(app.printPolicies(), `[${[name, ...accepts].join('; ')}]`)
    }
  })
}
