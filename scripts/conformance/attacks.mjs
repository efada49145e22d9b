/** attacks.json: hostile tokens with their keys and verifier set-ups, and variants of the HTTP header. */

import { runEncrypted } from './jwe.mjs'
import { sendRaw } from './raw-http.mjs'
import { Tally } from './tally.mjs'
import { algorithmsFor, answerFaults, keyRule, TokenApps, verdictOf } from './tokens.mjs'

/** Runs every vector of the kinds `jws`, `jwe` and `http` against the plugin and counts. */
export async function runAttacks ({ header, vectors }, bearerJwt) {
  const tally = new Tally('attacks.json')
  const apps = new TokenApps(bearerJwt)
  const runners = { jws: runToken, jwe: runSealed, http: runRequest }
  for (const vector of vectors) {
    await tally.attempt(vector, () => runners[vector.kind](vector, { header, tally, apps }))
  }
  await apps.close()
  return tally
}

async function runToken (vector, { header, tally, apps }) {
  const options = optionsOf(vector, header)
  const token = vector.token ?? joinParts(vector.token_parts)
  // Size limits must hold where the plugin's own limit on tokens is as far out of the way as it can be, too.
  const settings = vector.limits === undefined ? [{}] : [{}, { maxTokenBytes: 1_048_576 }]
  for (const [i, extra] of settings.entries()) {
    const opened = await apps.open({ ...options, ...extra })
    const answer = await verdictOf(opened, token, { limits: vector.limits, isOffline: vector.no_network === true })
    const faults = [...answer.faults, ...claimFaults(vector, answer), ...statusFaults(vector, answer)]
    if (i < settings.length - 1 && faults.length === 0) continue
    const rule = opened.refusal === undefined ? undefined : keyRule(options.keys ?? [])
    tally.count(vector, { expected: vector.expect, rule, answer: { ...answer, faults, note: opened.refusal } })
    return
  }
}

async function runSealed (vector, { header, tally, apps }) {
  const token = vector.token ?? joinParts(vector.token_parts)
  await runEncrypted({ ...vector, token }, { header, options: rulesOf(vector, header), tally, apps })
}

async function runRequest (vector, { header, tally, apps }) {
  const opened = await apps.open({ ...optionsOf(vector, header), source: { header: 'authorization', scheme: 'Bearer' } })
  opened.seen.claims = undefined
  const reply = await sendRaw(opened.app, vector.request)
  const answer = { status: reply.status, challenge: reply.headers.get('www-authenticate'), body: reply.body, claims: opened.seen.claims }
  const tokens = vector.request.headers.map(([, value]) => value.split(' ').at(-1))
  const faults = [...tokens.flatMap((token) => answerFaults(answer, token)), ...statusFaults(vector, answer)]
  tally.count(vector, { expected: vector.expect, rule: undefined, answer: { ...answer, faults: [...new Set(faults)], note: opened.refusal } })
}

function joinParts (parts) {
  return parts.map((part) => typeof part === 'string' ? part : part.repeat.repeat(part.times)).join('')
}

function optionsOf (vector, header) {
  return { ...keysOf(header.configs[vector.config], header.keys), ...rulesOf(vector, header) }
}

function rulesOf (vector, { configs, clock }) {
  const config = configs[vector.config]
  const { clock: now = clock, clockTolerance, maxAge, required, typ } = vector.options ?? {}
  const requiredClaims = (required ?? []).filter((name) => name !== 'exp')
  return {
    clock: now,
    ...(config.issuer !== undefined && { issuer: config.issuer }),
    ...(config.audience !== undefined && { audience: config.audience }),
    ...(clockTolerance !== undefined && { clockToleranceSeconds: clockTolerance }),
    ...(maxAge !== undefined && { maxAgeSeconds: maxAge }),
    ...(typ !== undefined && { typ }),
    ...(required !== undefined && { requireExpiration: required.includes('exp') }),
    ...(requiredClaims.length > 0 && { requiredClaims })
  }
}

/** As an operator would write the set-up: a list, each key with the algorithms it may serve, or a look-up by key id. */
function keysOf ({ key, jwks, kidmap, algorithms }, keys) {
  const verificationKey = (name) => keys[name].public ?? keys[name].secret
  if (kidmap !== undefined) {
    const entries = Object.entries(kidmap).map(([kid, name]) => [kid, { key: verificationKey(name), id: kid }])
    return { kidMap: Object.fromEntries(entries), algorithms }
  }
  const jwkList = (jwks ?? [key]).map(verificationKey)
  if (algorithms === null || algorithms === undefined) return { keys: jwkList.map((jwk) => ({ key: jwk })) }
  return {
    keys: jwkList.flatMap((jwk) => {
      const served = algorithms.filter((algorithm) => algorithmsFor(jwk).includes(algorithm))
      return (served.length > 0 ? served : algorithms).map((algorithm) => ({ key: jwk, algorithm }))
    })
  }
}

function claimFaults ({ if_accepted: wanted = {} }, { status, claims }) {
  if (status !== 200) return []
  return Object.entries(wanted).filter(([name, value]) => JSON.stringify(claims[name]) !== JSON.stringify(value)).map(([name]) => `claims.${name} is not as expected`)
}

function statusFaults ({ allowed_status: allowed }, { status }) {
  const isAccepted = status >= 200 && status < 300
  return allowed === undefined || isAccepted || allowed.includes(status) ? [] : [`answered ${status}, allowed: ${allowed.join(', ')}`]
}
