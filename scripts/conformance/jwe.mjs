/**
 * jwe.json, and the encrypted tokens of attacks.json.
 *
 * The plugin opens nested tokens only, and looks at the header before it uses a key. So a valid vector around anything else is
 * refused unopened, and what its decryption would give can't be seen through the public API. What can be seen is that the
 * set-up works: beside each vector goes a nested token, sealed by hand for the same key, which has to be accepted.
 */

import { createHmac, randomBytes } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { seal } from './seal.mjs'
import { designRules, Tally } from './tally.mjs'
import { algorithmName, algorithmsFor, TokenApps, verdictOf } from './tokens.mjs'

/** What the contract offers (DESIGN.md section 4); written here so that an algorithm that is lost is a failure. */
const keyManagement = ['dir', 'A256KW', 'RSA-OAEP-256', 'ECDH-ES', 'ECDH-ES+A256KW']
const contentEncryption = ['A256GCM', 'A128CBC-HS256']

/** Signs what goes beside the vectors. */
const own = { kty: 'oct', k: randomBytes(64).toString('base64url') }

/** Runs every vector against the plugin and counts. */
export async function runJwe ({ vectors }, bearerJwt) {
  const tally = new Tally('jwe.json')
  const apps = new TokenApps(bearerJwt)
  for (const vector of vectors) await tally.attempt(vector, () => runVector(vector, { tally, apps }))
  await apps.close()
  return tally
}

async function runVector (vector, { tally, apps }) {
  const { key, alg, enc, token, inner_key: innerKey, inner_alg: innerAlg } = vector
  const inner = innerOf(vector)
  const keys = innerKey === undefined ? [] : [{ key: publicHalf(innerKey), algorithm: algorithmName(innerAlg ?? algorithmsFor(innerKey)[0]) }]
  const set = { key: key.keys?.[0] ?? key, alg: [alg], enc: enc === null ? contentEncryption : [enc] }
  const setUp = { set, options: { keys, clock: momentOf(inner?.claims), requireExpiration: false } }
  const text = typeof token === 'string' ? token : JSON.stringify(token)
  const expected = vector.expect === 'invalid' || vector.jwt_expect === 'invalid' ? 'reject' : vector.strength === 'may-reject' ? 'either' : 'accept'
  const answer = await judge(text, setUp, { apps })
  const isOther = answer.status === 200 && inner?.claims !== undefined && !isDeepStrictEqual({ ...answer.claims }, inner.claims)
  tally.count(vector, { expected, rule: ruleOf(vector, { inner, set }), answer: { ...answer, faults: [...answer.faults, ...isOther ? ['the claims are not those of the vector'] : []] } })
}

/**
 * One vector of attacks.json of the kind `jwe`.
 * @param options what bearerJwt takes, without keys
 */
export async function runEncrypted (vector, { header: { configs, keys }, options, tally, apps }) {
  const { key, alg, enc, nested } = configs[vector.config]
  const set = { key: keys[key].private ?? keys[key].secret ?? keys[key], alg, enc }
  const innerKeys = nested === undefined ? [] : nested.algorithms.map((algorithm) => ({ key: keys[nested.key].public ?? keys[nested.key].secret, algorithm }))
  // Limits must hold where the plugin's own limit on tokens is as far out of the way as it can be, too.
  const sizes = vector.limits === undefined ? [{}] : [{}, { maxTokenBytes: 1_048_576 }]
  const answers = []
  for (const size of sizes) {
    answers.push(await judge(vector.token, { set, options: { ...options, ...size, keys: innerKeys } }, { apps, limits: vector.limits, isOffline: vector.no_network === true }))
  }
  const answer = answers.find(({ faults }) => faults.length > 0) ?? answers.at(-1)
  const isOffered = alg.every((name) => keyManagement.includes(name)) && enc.every((name) => contentEncryption.includes(name))
  tally.count(vector, { expected: vector.expect, rule: !isOffered ? designRules.algorithm : nested === undefined ? designRules.notNested : undefined, answer })
}

/** Sends the token to the set-up it was made for, or to the nearest that the plugin takes, and a right one beside it. */
async function judge (token, { set, options }, { apps, ...limits }) {
  const keys = [...options.keys, { key: own, algorithm: 'HS512' }]
  const asked = { mode: 'required', keys: set.alg.map((algorithm) => ({ key: set.key, algorithm })), keyManagement: set.alg, contentEncryption: set.enc }
  let opened = await apps.open({ ...options, keys, encryption: asked })
  const { refusal } = opened
  let encryption = asked
  if (refusal !== undefined) {
    encryption = { mode: 'required', keys: nearestKeys(set.key), keyManagement, contentEncryption }
    opened = await apps.open({ ...options, keys, encryption })
  }
  const answer = await verdictOf(opened, token, limits)
  const faults = [...answer.faults]
  if (opened.refusal !== undefined) faults.push(`the set-up is refused: ${opened.refusal}`)
  for (const { key: jwk, algorithm: alg } of encryption.keys) {
    for (const enc of encryption.contentEncryption) {
      const { status } = await verdictOf(opened, seal(signedFor(options), { alg, enc, jwk }))
      if (status !== 200) faults.push(`a right token of ${alg} and ${enc} beside it is answered with ${status}`)
    }
  }
  return { ...answer, faults, note: refusal }
}

/** The vector's own key for whatever it can serve here, else a key that nobody knows. */
function nearestKeys (jwk) {
  const unknown = { key: { kty: 'oct', k: randomBytes(32).toString('base64url') }, algorithm: 'A256KW' }
  if (jwk.kty === 'RSA' && isLong(jwk)) return [{ key: jwk, algorithm: 'RSA-OAEP-256' }]
  if (jwk.kty === 'EC' || jwk.crv === 'X25519') return ['ECDH-ES', 'ECDH-ES+A256KW'].map((algorithm) => ({ key: jwk, algorithm }))
  if (jwk.kty === 'oct' && Buffer.from(jwk.k, 'base64url').length === 32) return ['dir', 'A256KW'].map((algorithm) => ({ key: jwk, algorithm }))
  return [unknown]
}

function isLong ({ n }) {
  return Buffer.from(n, 'base64url').length >= 256
}

function signedFor ({ issuer, audience, clock }) {
  const claims = { ...issuer !== undefined && { iss: issuer }, ...audience !== undefined && { aud: audience }, exp: clock + 60 }
  const input = [{ alg: 'HS512' }, claims].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')
  return `${input}.${createHmac('sha512', Buffer.from(own.k, 'base64url')).update(input).digest('base64url')}`
}

function ruleOf ({ serialization, alg, token }, { inner, set }) {
  if (serialization !== 'compact' || typeof token !== 'string') return designRules.serialisation
  if (!keyManagement.includes(alg) || !set.enc.every((name) => contentEncryption.includes(name))) return designRules.algorithm
  if (set.key.kty === 'RSA' && !isLong(set.key)) return designRules.shortKey
  const { cty, zip } = headerOf(token)
  if (inner === undefined || String(cty).toLowerCase() !== 'jwt') return designRules.notNested
  if (zip !== undefined) return designRules.algorithm
  return inner.claims === undefined ? designRules.claims : undefined
}

function headerOf (token) {
  try {
    return JSON.parse(Buffer.from(token.split('.')[0], 'base64url').toString())
  } catch {
    return {}
  }
}

/** The signed token inside, if that is what the vector holds; its claims, if they are a JSON object. */
function innerOf ({ inner_key: innerKey, plaintext_hex: hex = '' }) {
  const text = Buffer.from(hex, 'hex').toString('latin1')
  if (innerKey === undefined || text.split('.').length !== 3) return undefined
  try {
    const claims = JSON.parse(Buffer.from(text.split('.')[1], 'base64url').toString())
    return { claims: typeof claims === 'object' && claims !== null && !Array.isArray(claims) ? claims : undefined }
  } catch {
    return { claims: undefined }
  }
}

/** A moment at which neither `exp` nor `nbf` matters. */
function momentOf ({ exp, nbf } = {}) {
  const moment = Number.isFinite(nbf) ? nbf : 1_000_000_000
  return Number.isFinite(exp) ? Math.min(moment, exp - 1) : moment
}

function publicHalf ({ kty, k, n, e, crv, x, y }) {
  return JSON.parse(JSON.stringify({ kty, k, n, e, crv, x, y }))
}
