/** Whom to believe: the options that name keys and issuers, and the sources that are made of them. */

import type { OptionReader } from '@sallyport/guard'
import { readClaimRules, readTextOrTexts, type ClaimRules } from './claim-rules.js'
import { createListedSource, createRemoteSource, createResolvedSource, type KeyResolver, type KeySource } from './key-source.js'
import { algorithms as allAlgorithms, resolveKey, type Algorithm, type JwtKey, type KeyRules, type ShortSecrets, type TrustedKey } from './keys.js'
import { isRemoteJwks, type RemoteJwks } from './remote-jwks.js'

/** Keys of one issuer, and what its tokens must say. What is not named here is as the registration says it. */
export interface IssuerOptions {
  /** Trusted keys: a list (not empty), or a JWK Set on the network. */
  readonly keys: readonly JwtKey[] | RemoteJwks
  /** Required with a JWK Set. Default: those of the listed keys. */
  readonly algorithms?: readonly Algorithm[]
  readonly audience?: string | readonly string[]
  readonly typ?: string
}

/** Keys, the algorithms they may be used with, and what their tokens must say. */
export interface Trust {
  readonly source: KeySource
  readonly algorithms: readonly Algorithm[]
  readonly rules: ClaimRules
}

/** Whom to believe of those that a token may name. */
export interface Trusts {
  /** The trust for an issuer that a token names; `undefined`: nobody believes it. */
  readonly trustFor: (issuer: string | undefined) => Trust | undefined
  /** True where it takes a token's claims to find the keys for it; else they are read once the signature is right. */
  readonly needClaims: boolean
  /** True where all tokens are signed with shared secrets. */
  readonly shareSecrets: boolean
}

/** Checked options, of which a trust is made. */
export interface TrustPlan {
  readonly keys: readonly TrustedKey[] | KeyResolver | RemoteJwks
  readonly keyRules: KeyRules
  readonly algorithms: readonly Algorithm[]
  readonly rules: ClaimRules
  readonly keyCacheSeconds: number
}

export interface TrustPlans {
  /** By issuer; with the key `undefined` it is meant for all tokens. */
  readonly plans: ReadonlyMap<string | undefined, TrustPlan>
  readonly rules: ClaimRules
  readonly shortSecrets: ShortSecrets | undefined
}

/** Reads `keys` or `issuers` and what goes with them. Throws `OptionsError`. */
export function resolveTrust (reader: OptionReader): TrustPlans {
  const shortSecrets = readShortSecrets(reader)
  const rules = readClaimRules(reader)
  const keyCacheSeconds = reader.integer('keyCacheSeconds', { min: 0, max: 86_400 }, 60)
  if (!reader.has('issuers')) {
    if (!reader.has('keys')) throw reader.error('keys', 'or "issuers" is required: a list of keys, a function that finds them, or remoteJwks(url)')
    const plan = { ...readPlan(reader, shortSecrets), rules, keyCacheSeconds }
    return Object.freeze({ plans: new Map([[undefined, plan]]), rules, shortSecrets })
  }
  for (const name of ['keys', 'issuer', 'algorithms']) if (reader.has(name)) throw reader.error(name, 'belongs to each of "issuers" where those are given')
  return Object.freeze({ plans: readIssuers(reader, { rules, shortSecrets, keyCacheSeconds }), rules, shortSecrets })
}

function readIssuers (reader: OptionReader, common: Omit<TrustPlans, 'plans'> & { keyCacheSeconds: number }): ReadonlyMap<string, TrustPlan> {
  const given = reader.raw('issuers')
  if (typeof given !== 'object' || given === null || Array.isArray(given) || Object.keys(given).length === 0) throw reader.error('issuers', 'must be an object of issuers by their "iss", and not empty')
  const names = Object.keys(given)
  const all = reader.nested('issuers', names)
  return new Map(names.map((issuer) => {
    const one = all.nested(issuer, ['keys', 'algorithms', 'audience', 'typ'])
    if (!one.has('keys')) throw one.error('keys', 'is required: a list of keys, or remoteJwks(url)')
    if (typeof one.raw('keys') === 'function') throw one.error('keys', 'must be a list of keys, or remoteJwks(url)')
    const rules = Object.freeze({
      ...common.rules,
      issuers: [issuer],
      audiences: readTextOrTexts(one, 'audience') ?? common.rules.audiences,
      typ: one.text('typ') ?? common.rules.typ
    })
    return [issuer, { ...readPlan(one, common.shortSecrets), rules, keyCacheSeconds: common.keyCacheSeconds }]
  }))
}

function readPlan (reader: OptionReader, shortSecrets: ShortSecrets | undefined): Pick<TrustPlan, 'keys' | 'keyRules' | 'algorithms'> {
  const algorithms = readAlgorithms(reader)
  const keyRules: KeyRules = { owner: reader.owner, path: reader.pathOf('keys[].'), shortSecrets, algorithms }
  const given = reader.raw('keys')
  if (typeof given === 'function' || isRemoteJwks(given)) {
    if (algorithms === undefined) throw reader.error('algorithms', 'is required with a key resolver or a JWK Set: algorithms are pinned, never taken from a token')
    if (isRemoteJwks(given) && algorithms.some((algorithm) => algorithm.startsWith('HS'))) throw reader.error('algorithms', 'can\'t hold HS algorithms with a JWK Set: its keys are public')
    return { keys: given as KeyResolver | RemoteJwks, keyRules, algorithms }
  }
  const keys = readList(reader, keyRules)
  return { keys, keyRules, algorithms: algorithms ?? [...new Set(keys.map(({ algorithm }) => algorithm))] }
}

function readList (reader: OptionReader, keyRules: KeyRules): readonly TrustedKey[] {
  const keys = reader.list('keys')!.map((key, i) => resolveKey(key, { ...keyRules, path: reader.pathOf(`keys[${i}].`) }))
  const ids = keys.filter(({ id }) => id !== undefined).map(({ id, algorithm }) => `${algorithm} ${id}`)
  if (new Set(ids).size !== ids.length) throw reader.error('keys', 'must not hold the same id twice for one algorithm')
  return Object.freeze(keys)
}

function readAlgorithms (reader: OptionReader): readonly Algorithm[] | undefined {
  const given = reader.texts('algorithms') as readonly Algorithm[] | undefined
  const unknown = given?.find((algorithm) => !allAlgorithms.includes(algorithm))
  if (unknown !== undefined) throw reader.error('algorithms', `must hold only: ${allAlgorithms.join(', ')}`)
  return given
}

function readShortSecrets (reader: OptionReader): ShortSecrets | undefined {
  if (!reader.has('shortSecrets')) return undefined
  const given = reader.nested('shortSecrets', ['minimumBytes', 'reason'])
  const minimumBytes = given.integer('minimumBytes', { min: 16 })
  if (minimumBytes === undefined) throw given.error('minimumBytes', 'is required')
  return { minimumBytes, reason: given.requiredText('reason') }
}

/** Opens every source once. An unknown issuer has none, so that nothing is asked for it. */
export async function createTrust ({ plans }: TrustPlans): Promise<Trusts> {
  const trusts = new Map<string | undefined, Trust>()
  for (const [issuer, plan] of plans) trusts.set(issuer, { source: await openSource(plan), algorithms: plan.algorithms, rules: plan.rules })
  const forAll = trusts.get(undefined)
  return {
    trustFor: (issuer) => forAll ?? trusts.get(issuer ?? ''),
    shareSecrets: [...plans.values()].every(({ algorithms }) => algorithms.every((algorithm) => algorithm.startsWith('HS'))),
    needClaims: forAll === undefined || [...plans.values()].some(({ keys }) => typeof keys === 'function')
  }
}

function openSource ({ keys, keyRules, algorithms, keyCacheSeconds }: TrustPlan): Promise<KeySource> {
  if (typeof keys === 'function') return createResolvedSource(keys, { ...keyRules, algorithms }, keyCacheSeconds)
  return isRemoteJwks(keys) ? createRemoteSource(keys, algorithms) : createListedSource(keys)
}
