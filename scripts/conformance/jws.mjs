/** jws.json: signatures (level `jws`), and whole tokens with claim rules (level `jwt`). */

import { isDeepStrictEqual } from 'node:util'
import { designRules, Tally } from './tally.mjs'
import { algorithmName, algorithmsFor, keyRule, TokenApps, verdictOf } from './tokens.mjs'

/** Runs every vector against the plugin and counts. */
export async function runJws ({ vectors }, bearerJwt) {
  const tally = new Tally('jws.json')
  const apps = new TokenApps(bearerJwt)
  for (const vector of vectors) await tally.attempt(vector, () => runVector(vector, { tally, apps }))
  await apps.close()
  return tally
}

async function runVector (vector, { tally, apps }) {
  const keys = keysOf(vector)
  const token = typeof vector.token === 'string' ? vector.token : JSON.stringify(vector.token)
  const opened = await apps.open({ keys, ...shortSecretsOf(vector), ...rulesOf(vector) })
  const answer = await verdictOf(opened, token)
  const expected = expectationOf(vector)
  const rule = ruleOf(vector, token) ?? (opened.refusal === undefined ? undefined : keyRule(keys))
  const faults = [...answer.faults, ...claimFaults(vector, answer)]
  tally.count(vector, { expected, rule, answer: { ...answer, faults, note: opened.refusal } })
}

/** The stricter of two expectations counts; `may-reject` leaves it to the verifier. */
function expectationOf ({ expect, jwt_expect: asJwt, strength }) {
  if (expect === 'invalid' || asJwt === 'invalid') return 'reject'
  return strength === 'may-reject' ? 'either' : 'accept'
}

/** The vector's one algorithm, else the key's own, else what its type serves. A key of another type stays out of a set. */
function keysOf ({ key, alg }) {
  const jwks = Array.isArray(key.keys) ? key.keys : [key]
  const named = jwks.map((jwk) => ({ key: jwk, algorithm: algorithmName(alg ?? jwk.alg ?? algorithmsFor(jwk)[0]) }))
  const fitting = named.filter(({ key, algorithm }) => algorithmsFor(key).includes(algorithm))
  return fitting.length > 0 ? fitting : named
}

function shortSecretsOf ({ flags = [] }) {
  return flags.includes('ShortHmacKey') ? { shortSecrets: { minimumBytes: 16, reason: 'the vector has a short key' } } : {}
}

function rulesOf (vector) {
  const { clock, issuer, audience, typ, required = [], ignore_exp: ignoreExp, max_expiration: maxExpiration } = vector.options ?? {}
  const requiredClaims = required.filter((name) => name !== 'exp')
  return {
    requireExpiration: required.includes('exp'),
    clock: clock === undefined ? withinLifetime(vector) : ignoreExp === true ? beforeExpiry(vector, clock) : clock,
    ...(issuer !== undefined && { issuer }),
    ...(audience !== undefined && { audience }),
    ...(typ !== undefined && { typ }),
    ...(requiredClaims.length > 0 && { requiredClaims }),
    ...(maxExpiration !== undefined && { judgeWith: { maxExpiration } })
  }
}

/** For signatures alone: a moment at which neither `exp` nor `nbf` matters. */
function withinLifetime (vector) {
  const { nbf } = claimsOf(vector) ?? {}
  return beforeExpiry(vector, Number.isFinite(nbf) ? nbf : 1_000_000_000)
}

function beforeExpiry (vector, clock) {
  const { exp } = claimsOf(vector) ?? {}
  return Number.isFinite(exp) ? Math.min(clock, exp - 1) : clock
}

function ruleOf (vector, token) {
  if (vector.serialization !== 'compact' || typeof vector.token !== 'string') return designRules.serialisation
  if (vector.detached_payload_b64u !== undefined && token.split('.')[1] === '') return designRules.serialisation
  return claimsOf(vector) === undefined ? designRules.claims : undefined
}

/** The payload as claims; `undefined` if it is no JSON object. */
function claimsOf ({ payload_b64u: payload, token }) {
  const text = payload ?? (typeof token === 'string' ? token.split('.')[1] : undefined)
  try {
    const value = JSON.parse(Buffer.from(text, 'base64url').toString())
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : undefined
  } catch {
    return undefined
  }
}

function claimFaults (vector, { status, claims }) {
  if (status !== 200 || vector.payload_b64u === undefined) return []
  return isDeepStrictEqual({ ...claims }, claimsOf(vector)) ? [] : ['the claims are not those of the vector']
}
