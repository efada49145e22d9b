/** The options of bearer-jwt: what they mean, their checks and their defaults. */

import type { AuthError, ClaimStore, CommonOptions, OptionReader } from '@sallyport/guard'
import type { ClaimRules } from './claims.js'
import { algorithms as allAlgorithms, resolveKey, type Algorithm, type JwtKey, type KeyRules, type ShortSecrets, type TrustedKey } from './keys.js'
import type { JwtClaims } from './parse-token.js'
import type { TokenSource } from './read-token.js'

/** What is known of a token before its signature is judged. Nobody has proved any of it: use it to look up keys and for nothing else. */
export interface KeyHints {
  readonly algorithm: Algorithm
  readonly keyId: string | undefined
  readonly issuer: string | undefined
  /** By the `tenant` option. */
  readonly tenant: string | undefined
}

/**
 * Finds the keys for a token: one, several (all that are live are tried) or `undefined` where there is none.
 * Throwing, answering too late (`judgeTimeoutMs` of guard) or giving a key that may not be used is 503.
 */
export type KeyResolver = (hints: KeyHints) => KeyAnswer | Promise<KeyAnswer>
export type KeyAnswer = JwtKey | readonly JwtKey[] | undefined

export interface BearerJwtOptions<C = JwtClaims> extends CommonOptions {
  /** Trusted keys: a list (not empty), or a resolver for secrets that belong to tenants. Required. */
  readonly keys: readonly JwtKey[] | KeyResolver
  /** The algorithms that tokens may be signed with. Required with a resolver. Default: those of the listed keys. */
  readonly algorithms?: readonly Algorithm[]
  /** Where the token stands. Default: `{ header: 'authorization', scheme: 'Bearer' }`. Several: a request may use one of them. */
  readonly source?: TokenSource | readonly TokenSource[]
  /** Accepted `iss`, compared exactly. Given, the claim is required. */
  readonly issuer?: string | readonly string[]
  /** Accepted `aud`; one of the token's must be one of these. Given, the claim is required. */
  readonly audience?: string | readonly string[]
  /** The token's `typ` header, `application/` aside: `at+jwt`. Given, it is required. */
  readonly typ?: string
  /** Refuses tokens without `exp`. Default: true. */
  readonly requireExpiration?: boolean
  /** Claims that must be there, as own members and not null. */
  readonly requiredClaims?: readonly string[]
  /** The most that may lie between `nbf` (or `iat` where there is no `nbf`) and `exp`. Seconds. */
  readonly maxLifetimeSeconds?: number
  /** The most that may have passed since `iat`, which is then required. Seconds. */
  readonly maxAgeSeconds?: number
  /** How far clocks may differ. Seconds; at most half of `maxLifetimeSeconds`. Default: 0. */
  readonly clockToleranceSeconds?: number
  /** The claim that names the tenant, or a reader. Text or a safe integer; given, it is required and proved. */
  readonly tenant?: string | ((claims: JwtClaims) => string | number | undefined)
  /** The claim that names the subject. Given, it is required and proved. Default: `sub` where there is one. */
  readonly subject?: string
  /** The claim that holds scopes (text separated by spaces, or a list), or a reader. Default: `scope`, else `scp`. */
  readonly scopes?: string | ((claims: JwtClaims) => readonly string[])
  /** Shapes the claims that handlers get. What it throws refuses the token. Default: the claims as they are. */
  readonly identity?: (claims: JwtClaims) => C
  /** Allows secrets shorter than RFC 7518 section 3.2 asks; shown in the audit with its reason. */
  readonly shortSecrets?: ShortSecrets
  /** Remembers one-shot tokens. Required where `require({ singleUse: true })` is used. */
  readonly store?: ClaimStore
  /** A store slower than this is `unavailable`. Milliseconds. Default: 250. */
  readonly storeTimeoutMs?: number
  /** One-shot tokens of one tenant (or subject) that may be live at once, in this process; more is 429. Default: 10,000. */
  readonly maxLiveClaimsPerKey?: number
  /** Longer tokens are refused unread. Bytes. Default: 8,192. */
  readonly maxTokenBytes?: number
  /** Takes the token out of the request once it is judged. Default: true. */
  readonly hideCredentials?: boolean
}

export const optionNames = [
  'keys', 'algorithms', 'source', 'issuer', 'audience', 'typ', 'requireExpiration', 'requiredClaims', 'maxLifetimeSeconds',
  'maxAgeSeconds', 'clockToleranceSeconds', 'tenant', 'subject', 'scopes', 'identity', 'shortSecrets', 'store',
  'storeTimeoutMs', 'maxLiveClaimsPerKey', 'maxTokenBytes', 'hideCredentials'
] as const

export interface ResolvedOptions {
  readonly keys: readonly TrustedKey[] | KeyResolver
  readonly algorithms: readonly Algorithm[]
  readonly keyRules: KeyRules
  readonly sources: readonly TokenSource[]
  readonly rules: ClaimRules
  readonly tenant: BearerJwtOptions['tenant']
  readonly subject: string | undefined
  readonly scopes: BearerJwtOptions['scopes']
  readonly identity: ((claims: JwtClaims) => unknown) | undefined
  readonly store: ClaimStore | undefined
  readonly storeTimeoutMs: number
  readonly maxLiveClaimsPerKey: number
  readonly maxTokenBytes: number
  readonly hideCredentials: boolean
}

/** Checks everything once, at registration. Throws `OptionsError`. */
export function resolveOptions (reader: OptionReader): ResolvedOptions {
  const given = readAlgorithms(reader)
  const keyRules: KeyRules = { owner: reader.owner, path: 'keys[].', shortSecrets: readShortSecrets(reader), algorithms: given }
  const keys = readKeys(reader, keyRules)
  if (typeof keys === 'function' && given === undefined) throw reader.error('algorithms', 'is required with a key resolver: algorithms are pinned, never taken from a token')
  return Object.freeze({
    keys,
    keyRules,
    algorithms: given ?? [...new Set((keys as readonly TrustedKey[]).map(({ algorithm }) => algorithm))],
    sources: readSources(reader),
    rules: readClaimRules(reader),
    tenant: readClaimReader<(claims: JwtClaims) => string | number | undefined>(reader, 'tenant'),
    subject: reader.text('subject'),
    scopes: readClaimReader<(claims: JwtClaims) => readonly string[]>(reader, 'scopes'),
    identity: reader.fn<(claims: JwtClaims) => unknown>('identity'),
    store: readStore(reader),
    storeTimeoutMs: reader.integer('storeTimeoutMs', { min: 1, max: 60_000 }, 250),
    maxLiveClaimsPerKey: reader.integer('maxLiveClaimsPerKey', { min: 1 }, 10_000),
    maxTokenBytes: reader.integer('maxTokenBytes', { min: 64, max: 1_048_576 }, 8_192),
    hideCredentials: reader.flag('hideCredentials', true)
  })
}

function readAlgorithms (reader: OptionReader): readonly Algorithm[] | undefined {
  const given = reader.texts('algorithms') as readonly Algorithm[] | undefined
  const unknown = given?.find((algorithm) => !allAlgorithms.includes(algorithm))
  if (unknown !== undefined) throw reader.error('algorithms', `must hold only: ${allAlgorithms.join(', ')}`)
  return given
}

function readKeys (reader: OptionReader, keyRules: KeyRules): readonly TrustedKey[] | KeyResolver {
  if (!reader.has('keys')) throw reader.error('keys', 'is required: a list of keys, or a function that finds them')
  if (typeof reader.raw('keys') === 'function') return reader.raw('keys') as KeyResolver
  const keys = reader.list('keys')!.map((key, i) => resolveKey(key, { ...keyRules, path: `keys[${i}].` }))
  const ids = keys.filter(({ id }) => id !== undefined).map(({ id, algorithm }) => `${algorithm} ${id}`)
  if (new Set(ids).size !== ids.length) throw reader.error('keys', 'must not hold the same id twice for one algorithm')
  return Object.freeze(keys)
}

function readShortSecrets (reader: OptionReader): ShortSecrets | undefined {
  if (!reader.has('shortSecrets')) return undefined
  const given = reader.nested('shortSecrets', ['minimumBytes', 'reason'])
  const minimumBytes = given.integer('minimumBytes', { min: 16 })
  if (minimumBytes === undefined) throw given.error('minimumBytes', 'is required')
  return { minimumBytes, reason: given.requiredText('reason') }
}

function readSources (reader: OptionReader): readonly TokenSource[] {
  if (!reader.has('source')) return [Object.freeze({ header: 'authorization', scheme: 'bearer' })]
  const names = ['header', 'scheme', 'cookie']
  const sources = Array.isArray(reader.raw('source'))
    ? reader.list('source')!.map((_source, i) => readSource(reader.nested('source', names, i)))
    : [readSource(reader.nested('source', names))]
  sources.forEach((source, i) => {
    if (sources.slice(i + 1).some((other) => overlaps(source, other))) throw reader.error('source', 'must not name the same place twice')
  })
  return Object.freeze(sources)
}

function readSource (reader: OptionReader): TokenSource {
  const [header, scheme, cookie] = ['header', 'scheme', 'cookie'].map((name) => readToken(reader, name))
  if ((header === undefined) === (cookie === undefined)) throw reader.error('header', 'or "cookie" must be named, and not both')
  if (cookie !== undefined && scheme !== undefined) throw reader.error('scheme', 'belongs to a header, not to a cookie')
  if (cookie !== undefined) return Object.freeze({ cookie })
  if (header!.toLowerCase() === 'authorization' && scheme === undefined) throw reader.error('scheme', 'is required for the Authorization header')
  return Object.freeze({ header: header!.toLowerCase(), ...(scheme !== undefined && { scheme: scheme.toLowerCase() }) })
}

/** What names of headers, schemes and cookies are made of (RFC 9110 section 5.6.2). */
function readToken (reader: OptionReader, name: string): string | undefined {
  const value = reader.text(name)
  if (value !== undefined && !/^[\w!#$%&'*+.^`|~-]+$/.test(value)) throw reader.error(name, 'must be a token (RFC 9110 section 5.6.2)')
  return value
}

function overlaps (a: TokenSource, b: TokenSource): boolean {
  if ('cookie' in a || 'cookie' in b) return 'cookie' in a && 'cookie' in b && a.cookie === b.cookie
  return a.header === b.header && (!('scheme' in a) || !('scheme' in b) || a.scheme === b.scheme)
}

function readClaimRules (reader: OptionReader): ClaimRules {
  const maxLifetimeSeconds = reader.integer('maxLifetimeSeconds', { min: 1 })
  const clockToleranceSeconds = reader.integer('clockToleranceSeconds', { min: 0, max: 600 }, 0)
  if (maxLifetimeSeconds !== undefined && clockToleranceSeconds > maxLifetimeSeconds / 2) {
    throw reader.error('clockToleranceSeconds', 'must be at most half of maxLifetimeSeconds, or the limit would mean little')
  }
  const requireExpiration = reader.flag('requireExpiration', true)
  if (maxLifetimeSeconds !== undefined && !requireExpiration) throw reader.error('requireExpiration', 'can\'t be false with maxLifetimeSeconds')
  return Object.freeze({
    issuers: readTextOrTexts(reader, 'issuer'),
    audiences: readTextOrTexts(reader, 'audience'),
    typ: reader.text('typ'),
    requireExpiration,
    requiredClaims: reader.texts('requiredClaims') ?? [],
    maxLifetimeSeconds,
    maxAgeSeconds: reader.integer('maxAgeSeconds', { min: 1 }),
    clockToleranceSeconds
  })
}

function readTextOrTexts (reader: OptionReader, name: string): readonly string[] | undefined {
  if (Array.isArray(reader.raw(name))) return reader.texts(name)
  const one = reader.text(name)
  return one === undefined ? undefined : [one]
}

function readClaimReader<F> (reader: OptionReader, name: string): string | F | undefined {
  return typeof reader.raw(name) === 'function' ? reader.raw(name) as F : reader.text(name)
}

function readStore (reader: OptionReader): ClaimStore | undefined {
  const store = reader.raw('store') as Partial<ClaimStore> | undefined
  if (store === undefined) return undefined
  if (store === null || typeof store.claim !== 'function' || typeof store.release !== 'function') {
    throw reader.error('store', 'must be a claim store: memoryStore(), redisStore(client) or your own')
  }
  return store as ClaimStore
}

/** A key that a resolver gave, checked as a listed one is; the error tells a 503 from a 401. */
export function resolveAnswer (answer: unknown, { keyRules, algorithms }: ResolvedOptions, unusable: (cause: unknown) => AuthError): readonly TrustedKey[] {
  if (answer === undefined || answer === null) return []
  const list: readonly unknown[] = Array.isArray(answer) ? answer : [answer]
  try {
    return list.map((key) => resolveKey(key, { ...keyRules, algorithms }))
  } catch (cause) {
    throw unusable(cause)
  }
}
