/** Judges tokens as a user of bearer-jwt would: registers the plugin, protects a route, sends a request. */

import { randomBytes } from 'node:crypto'
import { Socket } from 'node:net'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { identityOf, isOptionsError } from '@sallyport/guard'
import Fastify from 'fastify'
import { designRules } from './tally.mjs'

/** Bare, so that a token reaches the verifier as it is, outer whitespace included. */
const tokenHeader = 'x-conformance-token'

const byCurve = { 'P-256': ['ES256'], 'P-384': ['ES384'], 'P-521': ['ES512'], 'Ed25519': ['EdDSA'] }
const secretBytes = { HS256: 32, HS384: 48, HS512: 64 }

/** The algorithms that a JWK of this type can serve; the first is what an operator takes if nothing says otherwise. */
export function algorithmsFor (jwk) {
  if (jwk.kty === 'oct') return ['HS256', 'HS384', 'HS512']
  if (jwk.kty === 'RSA') return ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512']
  return byCurve[jwk.crv] ?? []
}

/** Some sources write ES521. */
export function algorithmName (name) {
  return name === 'ES521' ? 'ES512' : name
}

/** The rule by which keys may be refused at registration, if one applies to them. */
export function keyRule (keys) {
  if (keys.some(({ key, algorithm }) => !algorithmsFor(key).includes(algorithm ?? algorithmsFor(key)[0]))) return designRules.algorithm
  return keys.some(isShort) ? designRules.shortKey : undefined
}

function isShort ({ key, algorithm = algorithmsFor(key)[0] }) {
  const bytes = (name) => Buffer.from(key[name] ?? '', 'base64url')
  if (key.kty === 'oct') return bytes('k').length < secretBytes[algorithm]
  if (key.kty !== 'RSA') return false
  const modulus = bytes('n')
  return (modulus.length - 1) * 8 + 32 - Math.clz32(modulus[0] ?? 0) < 2048
}

/** Apps by their options, so that a thousand vectors don't boot a thousand apps. */
export class TokenApps {
  #plugin
  #apps = new Map()

  constructor (plugin) {
    this.#plugin = plugin
  }

  /**
   * The app for these options; with `refusal` if the plugin refused them. It then trusts one key that nobody knows, so that
   * a token whose own key may not be registered is still sent, and has to be refused.
   * @param options as JSON: `keys` and what else bearerJwt takes; `clock` in seconds, `kidMap` for a resolver by key id
   */
  async open (options) {
    const id = JSON.stringify(options)
    if (!this.#apps.has(id)) this.#apps.set(id, await this.#build(options))
    return this.#apps.get(id)
  }

  async #build ({ clock, kidMap, judgeWith, ...given }) {
    const options = {
      ...given,
      ...(clock !== undefined && { clock: () => clock * 1000 }),
      ...(kidMap !== undefined && { keys: resolverOf(kidMap) }),
      ...(judgeWith !== undefined && { identity: (claims) => latestExpiration(claims, clock, judgeWith) })
    }
    try {
      return await openApp(this.#plugin, options)
    } catch (error) {
      if (!isOptionsError(error) || !/^(?:keys|encryption)/.test(error.option)) throw error
      const unknown = { key: { kty: 'oct', k: randomBytes(64).toString('base64url') }, algorithm: 'HS512' }
      return { ...await openApp(this.#plugin, { keys: [unknown], source: given.source }), refusal: error.message }
    }
  }

  async close () {
    for (const { app } of this.#apps.values()) await app.close()
  }
}

function resolverOf (kidMap) {
  const keys = new Map(Object.entries(kidMap))
  return ({ keyId }) => keys.get(keyId)
}

/** Kong's `maximum_expiration`, which is no option here: `exp` may be so many seconds away, seen from now. */
function latestExpiration (claims, clock, { maxExpiration }) {
  if (claims.exp - clock > maxExpiration) throw new RangeError('exp is too far away')
  return claims
}

async function openApp (plugin, { source = { header: tokenHeader }, ...options }) {
  const app = Fastify({ logger: false })
  const seen = { claims: undefined }
  await app.register(plugin, { source, ...options })
  app.route({
    method: ['GET', 'POST'],
    url: '/protected',
    onRequest: app.bearerJwt,
    handler (request) {
      seen.claims = identityOf(request, app.bearerJwt).claims
      return { ok: true }
    }
  })
  await app.ready()
  return { app, seen }
}

const judgeToken = async ({ app, seen }, token) => {
  seen.claims = undefined
  const reply = await app.inject({ url: '/protected', headers: { [tokenHeader]: token } })
  return { status: reply.statusCode, claims: seen.claims, challenge: reply.headers['www-authenticate'], body: reply.body }
}

/**
 * Sends one token and looks at everything that can be wrong whatever the verdict: time and memory, sockets, polluted
 * prototypes, a 401 without a challenge, a token in the answer.
 */
export async function verdictOf (opened, token, { limits = {}, isOffline = false } = {}) {
  const faults = []
  const { answer, milliseconds, memoryBytes, connections } = await measured(opened, token, limits)
  if (milliseconds > (limits.max_ms ?? Infinity)) faults.push(`took ${Math.round(milliseconds)} ms`)
  if (memoryBytes > (limits.max_heap_mb ?? Infinity) * 2 ** 20) faults.push(`took ${Math.round(memoryBytes / 2 ** 20)} MB`)
  if (isOffline && connections > 0) faults.push(`opened ${connections} sockets`)
  return { ...answer, faults: [...faults, ...answerFaults(answer, token), ...pollution(answer.claims)] }
}

/** Once; up to three times if it took too long, since the machine may have been busy with something else. */
async function measured (opened, token, { max_ms: maxMs, max_heap_mb: maxHeap }) {
  let best
  for (let round = 0; round < 3; round++) {
    const found = await measureOnce(opened, token, maxHeap !== undefined)
    if (best === undefined || found.milliseconds < best.milliseconds) best = found
    if (maxMs === undefined || best.milliseconds <= maxMs) break
  }
  return best
}

async function measureOnce (opened, token, isMemoryAsked) {
  if (isMemoryAsked) collectGarbage()
  const bytesBefore = bytesInUse()
  const startedAt = performance.now()
  const { result: answer, connections } = await countingConnections(() => judgeToken(opened, token))
  return { answer, connections, milliseconds: performance.now() - startedAt, memoryBytes: bytesInUse() - bytesBefore }
}

/** Objects, and what lies beside them: an inflated text is a buffer. */
function bytesInUse () {
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

let collector

function collectGarbage () {
  if (collector === undefined) {
    setFlagsFromString('--expose-gc')
    collector = runInNewContext('gc')
  }
  collector()
}

/** Every outgoing connection of Node goes through this one method: http, https, fetch, tls and net. */
async function countingConnections (work) {
  const connect = Socket.prototype.connect
  let connections = 0
  Socket.prototype.connect = function (...args) {
    connections++
    return connect.apply(this, args)
  }
  try {
    return { result: await work(), connections }
  } finally {
    Socket.prototype.connect = connect
  }
}

/** What may never be in an answer. */
export function answerFaults ({ status, challenge, body }, token) {
  const faults = []
  if (status === 401 && challenge === undefined) faults.push('401 without WWW-Authenticate')
  if (token.split('.').some((part) => part.length > 15 && body.includes(part))) faults.push('the answer holds a part of the token')
  if (/\n\s+at |node_modules/.test(body)) faults.push('the answer holds a stack')
  return faults
}

function pollution (claims) {
  const names = ['polluted', 'admin', 'isAdmin']
  const polluted = names.filter((name) => ({})[name] !== undefined)
  const inherited = names.filter((name) => claims?.[name] === true && !Object.hasOwn(claims, name))
  return [...polluted.map((name) => `({}).${name} is defined`), ...inherited.map((name) => `claims.${name} is inherited`)]
}
