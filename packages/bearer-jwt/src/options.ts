/** The options of bearer-jwt: what they mean, their checks and their defaults. */

import type { ClaimStore, CommonOptions, OptionReader } from '@sallyport/guard'
import type { ClaimRules } from './claim-rules.js'
import { encryptionNames, resolveEncryption, type EncryptionOptions, type ResolvedEncryption } from './encryption.js'
import type { KeyResolver } from './key-source.js'
import type { Algorithm, JwtKey, ShortSecrets } from './keys.js'
import type { JwtClaims } from './parse-token.js'
import type { TokenSource } from './read-token.js'
import type { RemoteJwks } from './remote-jwks.js'
import type { RevocationList } from './revocations.js'
import { resolveTrust, type IssuerOptions, type TrustPlans } from './trust.js'

export interface BearerJwtOptions<C = JwtClaims> extends CommonOptions {
  /** Trusted keys: a list (not empty), a resolver for secrets that belong to tenants, or `remoteJwks(url)`. Required without `issuers`. */
  readonly keys?: readonly JwtKey[] | KeyResolver | RemoteJwks
  /** The algorithms that tokens may be signed with. Required with a resolver or a JWK Set. Default: those of the listed keys. */
  readonly algorithms?: readonly Algorithm[]
  /** Several issuers by their exact `iss`, each with keys of its own. A token of any other is refused before anything is asked. */
  readonly issuers?: Readonly<Record<string, IssuerOptions>>
  /** How long a resolver's answer is used, for new and for known tokens. Seconds; 0: it is asked each time. Default: 60. */
  readonly keyCacheSeconds?: number
  /** Encrypted tokens, each holding a signed one. Default: none; an encrypted token is then refused. */
  readonly encryption?: EncryptionOptions
  /** Refuses revoked tokens; `(await createTokenService(...)).verification` holds it. Default: none. */
  readonly revocations?: RevocationList
  /**
   * Tokens whose cryptography is remembered: at once, or from their second use on where all are signed with shared secrets.
   * Everything else is judged each time they come. 0: none. Default: 10,000.
   */
  readonly cacheEntries?: number
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
  'keys', 'algorithms', 'issuers', 'keyCacheSeconds', 'encryption', 'revocations', 'cacheEntries', 'source', 'issuer', 'audience', 'typ', 'requireExpiration', 'requiredClaims', 'maxLifetimeSeconds',
  'maxAgeSeconds', 'clockToleranceSeconds', 'tenant', 'subject', 'scopes', 'identity', 'shortSecrets', 'store',
  'storeTimeoutMs', 'maxLiveClaimsPerKey', 'maxTokenBytes', 'hideCredentials'
] as const

export interface ResolvedOptions {
  readonly trust: TrustPlans
  readonly encryption: ResolvedEncryption | undefined
  readonly revocations: RevocationList | undefined
  readonly cacheEntries: number
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
  const trust = resolveTrust(reader)
  return Object.freeze({
    trust,
    rules: trust.rules,
    encryption: reader.has('encryption') ? resolveEncryption(reader.nested('encryption', encryptionNames)) : undefined,
    revocations: readRevocations(reader),
    cacheEntries: reader.integer('cacheEntries', { min: 0, max: 1_000_000 }, 10_000),
    sources: readSources(reader),
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

function readRevocations (reader: OptionReader): RevocationList | undefined {
  const given = reader.raw('revocations') as Partial<RevocationList> | null | undefined
  if (given === undefined) return undefined
  if (typeof given?.isRevoked !== 'function') throw reader.error('revocations', 'must be a list of revocations, such as that of a token service')
  return given as RevocationList
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
