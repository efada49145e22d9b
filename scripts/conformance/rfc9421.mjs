/**
 * Whole messages of rfc9421.json, judged as a user of hmac-auth would: registers the plugin, protects a route, sends the
 * request. Each is judged twice: by the default profile, whose floor most valid ones do not reach, and by one that names the gaps.
 */

import { memoryStore } from '@sallyport/guard'
import Fastify from 'fastify'
import { sendRaw } from './raw-http.mjs'
import { designRules, Tally } from './tally.mjs'

const gaps = { '@method': 'no-method', '@authority': 'no-authority', '@path': 'no-path', '@query': 'no-query', 'content-digest': 'no-digest', 'nonce': 'no-nonce' }
const maxAgeSeconds = 300

/** Runs every vector that is a request; its base and those of responses are compared elsewhere. */
export async function runRfc9421 ({ header, vectors }, hmacAuth) {
  const tally = new Tally('rfc9421.json (messages)')
  for (const vector of vectors) {
    if (vector.level !== 'signature') continue
    if (vector.message.status !== undefined) { tally.skip(vector, 'a response; guards judge requests'); continue }
    await tally.attempt(vector, () => judge(vector, { header, tally, hmacAuth }))
  }
  return tally
}

async function judge (vector, { header, tally, hmacAuth }) {
  const { expect, message, signature_input: input = '' } = vector
  const strict = await answerOf(vector, { header, hmacAuth, accepts: [] })
  const named = await answerOf(vector, { header, hmacAuth, accepts: acceptsFor(vector) })
  const faults = [...strict.faults, ...named.faults]
  if (expect !== 'valid') return tally.count(vector, { expected: expect === 'either' ? 'either' : 'reject', answer: { ...named, faults: [...faults, ...wronglyAccepted(expect, strict)] } })
  if (strict.status === 200 && faults.length === 0) return tally.count(vector, { expected: 'accept', answer: strict })
  const isFolded = message.headers.some(([, value]) => value.includes('\n'))
  // What is not dated is never accepted, and no HTTP server takes a folded line.
  if (!input.includes(';created=') || isFolded || named.status === 200) return tally.count(vector, { expected: 'accept', rule: designRules.floor, answer: { ...strict, faults } })
  return tally.fail(vector, `answered ${named.status} though every gap is named (${named.code})`)
}

function wronglyAccepted (expect, { status }) {
  return expect === 'invalid' && status === 200 ? ['accepted by the default profile'] : []
}

/** Every gap there is, but for what the vector's own policy asks for. */
function acceptsFor ({ policy = '' }) {
  return Object.entries(gaps).filter(([name]) => !policy.startsWith('required') || !policy.includes(name)).map(([, gap]) => gap)
}

async function answerOf (vector, { header, hmacAuth, accepts }) {
  const { message, label, clock, created, policy = '', sf_types: types = {} } = vector
  const now = (clock ?? created ?? 0) * 1000
  // The proxy in front speaks TLS, as the corpus has it.
  const app = Fastify({ trustProxy: ['127.0.0.1'] })
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))
  await app.register(hmacAuth.hmacAuth, {
    profile: hmacAuth.rfc9421({
      ...(/^[a-z*]/.test(label) && { label }),
      fieldTypes: Object.fromEntries(Object.entries(types).map(([name, type]) => [name, type === 'dict' ? 'dictionary' : type])),
      ...(policy.startsWith('tag ') && { tag: policy.slice(4) }),
      ...(accepts.length > 0 && { accepts })
    }),
    keys: Object.values(header.keys).map(({ kid, k }) => ({ id: kid, secret: Buffer.from(k, 'base64url') })),
    provesTenant: false,
    store: memoryStore({ clock: () => 0 }),
    windowSeconds: maxAgeSeconds,
    clockToleranceSeconds: 0,
    clock: () => now
  })
  app.route({ method: ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'], url: '/*', onRequest: app.hmacAuth, handler: () => ({ passed: true }) })
  const request = { method: message.method, url: message.target, headers: [...message.headers, ['X-Forwarded-Proto', message.scheme ?? 'https']].filter(([name, value]) => !isStaleLength(name, value, message)), body: message.body ?? '' }
  let reply = await sendRaw(app, request)
  if (policy.startsWith('replay') && reply.status === 200) reply = await sendRaw(app, request)
  await app.close()
  const code = reply.body.startsWith('{') ? JSON.parse(reply.body).code : undefined
  return { status: reply.status, code, note: code, faults: faultsOf(reply) }
}

/** A length that is not the body's makes another message of it on the wire. */
function isStaleLength (name, value, { body = '' }) {
  return name.toLowerCase() === 'content-length' && Number(value) !== Buffer.byteLength(body, 'latin1')
}

function faultsOf ({ status, headers }) {
  return status === 401 && !headers.has('www-authenticate') ? ['401 without WWW-Authenticate'] : []
}
