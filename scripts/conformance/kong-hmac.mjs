/** kong-hmac.json: requests signed for Kong's and APISIX's HMAC plugins, sent to `authorizationHmac()` configured alike. */

import { memoryStore, optional } from '@sallyport/guard'
import Fastify from 'fastify'
import { sendRaw } from './raw-http.mjs'
import { Tally } from './tally.mjs'

const gatewayAlgorithms = ['hmac-sha256', 'hmac-sha384', 'hmac-sha512', 'hmac-sha1']
const coveredBy = {
  '@request-target': ['no-method', 'no-path', 'no-query'],
  'request-line': ['no-method', 'no-path', 'no-query'],
  'host': ['no-authority']
}

/** Runs every vector; where a safe implementation answers otherwise than the gateway, the safe answer is the right one. */
export async function runKongHmac ({ header, vectors }, hmacAuth) {
  const tally = new Tally('kong-hmac.json')
  for (const vector of vectors) await tally.attempt(vector, () => judge(vector, { header, tally, hmacAuth }))
  return tally
}

async function judge (vector, { header, tally, hmacAuth }) {
  const { expect_status: gateway, strict_status: strict, allowed_status: allowed, flags = [] } = vector
  const wanted = allowed ?? [strict ?? gateway]
  const reply = await answerOf(vector, { clock: header.clock * 1000, hmacAuth, algorithms: vector.config.algorithms ?? gatewayAlgorithms })
  const faults = reply.status === 401 && !reply.headers.has('www-authenticate') ? ['401 without WWW-Authenticate'] : []
  if (reply.status >= 500) faults.push(`answered ${reply.status}`)
  if (flags.includes('Sha1')) {
    const bySha2 = await answerOf(vector, { clock: header.clock * 1000, hmacAuth, algorithms: ['hmac-sha256'] })
    if (bySha2.status !== 401) faults.push(`answered ${bySha2.status} where SHA-1 was not asked for`)
  }
  if (faults.length > 0) tally.fail(vector, faults.join('; '))
  else tally.judge(vector, wanted.includes(reply.status), `answered ${reply.status}, expected: ${wanted.join(' or ')}`)
}

async function answerOf ({ config, credentials, request, feature = '', set }, { clock, hmacAuth, algorithms }) {
  const app = Fastify()
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))
  const dialect = set === 'apisix' ? 'apisix' : 'kong'
  const enforced = config.enforce_headers ?? config.signed_headers ?? []
  await app.register(hmacAuth.hmacAuth, {
    profile: hmacAuth.authorizationHmac({
      dialect,
      header: headerOf(request),
      timestamp: feature === 'x-date' ? 'x-date' : 'date',
      algorithms,
      ...coverage(enforced, config, dialect)
    }),
    keys: credentials.map(({ username, key_id: id = username, secret }) => ({ id, secret: Buffer.from(secret) })),
    provesTenant: false,
    shortSecrets: { minimumBytes: 1, reason: 'the gateway took any' },
    store: memoryStore({ clock: () => 0 }),
    windowSeconds: Math.min(config.clock_skew ?? 300, 3_600),
    clockToleranceSeconds: 0,
    clock: () => clock
  })
  const policy = feature === 'anonymous' ? optional(app.hmacAuth) : app.hmacAuth
  app.route({ method: ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'], url: '/*', onRequest: policy, handler: () => ({ passed: true }) })
  const reply = await sendRaw(app, { ...request, url: request.path })
  await app.close()
  return reply
}

/** The header that holds a whole signature; the gateway looks into both. */
function headerOf ({ headers }) {
  const [name] = headers.find(([name, value]) => /^(?:proxy-)?authorization$/i.test(name) && value.includes('signature=')) ?? ['authorization']
  return name.toLowerCase()
}

/** What the gateway was told to enforce, and a named gap for all that it was not. */
function coverage (enforced, { validate_request_body: validatesBody = false }, dialect) {
  const closed = enforced.flatMap((name) => coveredBy[name] ?? [])
  const open = ['no-method', 'no-path', 'no-query', 'no-authority'].filter((gap) => !closed.includes(gap))
  const covers = enforced.filter((name) => coveredBy[name] === undefined && !/^(?:x-)?date$/.test(name))
  return {
    accepts: ['no-nonce', ...(dialect === 'kong' ? ['no-key-id'] : []), ...open, ...(validatesBody ? [] : ['no-digest'])],
    ...(covers.length > 0 && { covers })
  }
}
