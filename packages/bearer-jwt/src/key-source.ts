/** Where keys come from: a list, a resolver, or a JWK Set on the network. The one place that waits for somebody else. */

import { createPublicKey, generateKeyPairSync, hash, randomBytes } from 'node:crypto'
import { askResolver, BoundedCache, type AuthError } from '@sallyport/guard'
import { refusal } from './errors.js'
import { isSameKey, resolveKey, type Algorithm, type JwtKey, type KeyRules, type TrustedKey } from './keys.js'
import { ageOf, RemoteKeys, type RemoteJwks } from './remote-jwks.js'
import { createKeyedCheck, createListedCheck, type KeyedCheck } from './signature-check.js'

/** What is known of a token before its signature is judged. Nobody has proved any of it: use it to look up keys and for nothing else. */
export interface KeyHints {
  readonly algorithm: Algorithm
  readonly keyId: string | undefined
  readonly issuer: string | undefined
  /** By the `tenant` option. */
  readonly tenant: string | undefined
}

/**
 * Finds the keys for a token: one, several (all that are live are tried) or `undefined` where there is none. Answers are
 * remembered for `keyCacheSeconds`, none as well as some. Throwing, answering too late (`judgeTimeoutMs` of guard) or giving
 * a key that may not be used is 503, and not remembered.
 */
export type KeyResolver = (hints: KeyHints) => KeyAnswer | Promise<KeyAnswer>
export type KeyAnswer = JwtKey | readonly JwtKey[] | undefined

/** What a token may be signed with. */
export interface Candidates {
  readonly keys: readonly TrustedKey[]
  /** Keys of its algorithm to check it with, for no other end than to take as long as for anybody else. */
  readonly standIns: readonly TrustedKey[]
}

export interface KeySource {
  /** Candidates for a token; at once where they are at hand. Throws or rejects with a refusal where they can't be had. */
  readonly find: (hints: KeyHints, nowMs: number) => Candidates | Promise<Candidates>
  /** True if the key, one of the candidates, signed the token. */
  readonly check: KeyedCheck
  /** False where `find` has looked at the token's `kid` itself; then ids only name keys in events. */
  readonly comparesIds: boolean
  /** With so many keys is a token checked before it is refused, if there are any: how many it has of its own does not show. */
  readonly leastChecks: () => number
}

/** Listed keys get a check each, compiled once. */
export async function createListedSource (keys: readonly TrustedKey[]): Promise<KeySource> {
  const candidates = new Map(keys.map(({ algorithm }) => [algorithm, { keys, standIns: keys.filter((key) => key.algorithm === algorithm) }]))
  const none: Candidates = { keys, standIns: [] }
  return {
    find: ({ algorithm }) => candidates.get(algorithm) ?? none,
    comparesIds: true,
    check: await createListedCheck(keys),
    leastChecks: () => 1
  }
}

const MAX_ANSWERS = 10_000
const MOST_CHECKS = 8

interface Answer extends Candidates { readonly askedAt: number }

/**
 * Keys from the user's resolver, checked as they come. An answer without keys gets a stand-in that is made ready like a key, and each
 * answer gets as many keys as the longest has (up to eight), so that time does not tell whom the resolver knows.
 */
export async function createResolvedSource (resolver: KeyResolver, rules: KeyRules, keyCacheSeconds: number): Promise<KeySource> {
  const answers = new BoundedCache<Answer>(keyCacheSeconds === 0 ? 0 : MAX_ANSWERS)
  const standIns = new Map((rules.algorithms ?? []).map((algorithm) => [algorithm, Object.freeze({ key: createStandIn(algorithm), algorithm })]))
  let most = 1
  return {
    find (hints, nowMs) {
      const name = nameOf(hints)
      const known = answers.get(name)
      if (known !== undefined && ageOf({ sinceMs: known.askedAt, nowMs }) < keyCacheSeconds) return known
      return askResolver(() => resolver(Object.freeze(hints)), (answer) => {
        const { algorithm } = hints
        const read = (given: readonly unknown[]): readonly TrustedKey[] => readKeys(given, rules).map((key) => known?.standIns.find(isUnchanged(key)) ?? key)
        const keys = read(listOf(answer))
        const fitting = keys.filter((key) => key.algorithm === algorithm)
        most = Math.min(Math.max(most, fitting.length), MOST_CHECKS)
        const added = read(Array<unknown>(Math.max(most - fitting.length, 0)).fill(standIns.get(algorithm)))
        const found = { keys, standIns: [...fitting, ...added], askedAt: nowMs }
        // That there is none as well: if only those who exist were answered quickly, the time would tell who does.
        answers.set(name, found)
        return found
      }, (cause) => unavailable('resolver', cause))
    },
    comparesIds: false,
    check: await createKeyedCheck(rules.algorithms ?? []),
    leastChecks: () => most
  }
}

/** The objects of keys that did not change stay: what has been prepared for them is kept by them. */
function isUnchanged (key: TrustedKey): (before: TrustedKey) => boolean {
  return (before) => isSameKey(before, key) && before.notBeforeMs === key.notBeforeMs && before.notAfterMs === key.notAfterMs
}

const LONG_NAME = 512

/** Hints as one text, no two alike; written short where a tenant is all there is. Clients choose them, so long ones are remembered by their hash. */
function nameOf ({ algorithm, keyId, issuer, tenant }: KeyHints): string {
  if (keyId === undefined && issuer === undefined) return `${algorithm} ${tenant ?? ''}`
  const name = JSON.stringify([algorithm, keyId, issuer, tenant])
  return name.length > LONG_NAME ? hash('sha256', name, 'base64') : name
}

/** Keys from a JWK Set on the network. */
export async function createRemoteSource (remote: RemoteJwks, algorithms: readonly Algorithm[]): Promise<KeySource> {
  const keys = new RemoteKeys(remote, algorithms)
  return {
    find ({ keyId }, nowMs) {
      return askResolver(() => keys.find(keyId, nowMs), (found) => ({ keys: found, standIns: [] }), (cause) => unavailable('key-set', cause))
    },
    comparesIds: true,
    check: await createKeyedCheck(algorithms),
    // Which ids a published set has is no secret.
    leastChecks: () => 0
  }
}

/** A key that nobody has the other half of, as a resolver would give it. */
function createStandIn (algorithm: Algorithm): JwtKey['key'] {
  if (algorithm.startsWith('HS')) return randomBytes(64)
  if (algorithm === 'EdDSA') return generateKeyPairSync('ed25519').publicKey
  if (algorithm.startsWith('ES')) return generateKeyPairSync('ec', { namedCurve: algorithm === 'ES256' ? 'P-256' : algorithm === 'ES384' ? 'P-384' : 'P-521' }).publicKey
  // Any odd number takes as long as the product of two primes, and is made at once.
  const modulus = randomBytes(256)
  modulus[0]! |= 0x80
  modulus[255]! |= 1
  return createPublicKey({ key: { kty: 'RSA', n: modulus.toString('base64url'), e: 'AQAB' }, format: 'jwk' })
}

function listOf (answer: unknown): readonly unknown[] {
  if (answer === undefined || answer === null) return []
  return Array.isArray(answer) ? answer : [answer]
}

function readKeys (given: readonly unknown[], rules: KeyRules): readonly TrustedKey[] {
  try {
    return given.map((key) => resolveKey(key, rules))
  } catch (cause) {
    throw unavailable('resolved-key', cause)
  }
}

function unavailable (reason: string, cause: unknown): AuthError {
  return refusal('ERR_BEARER_JWT_KEYS_UNAVAILABLE', { reason, cause, retryAfterSeconds: 1 })
}
