/** The options of `legacyHeaders`: what each means, and the checks that turn them into frozen, ready data. */

import { OptionReader, OptionsError, readLifetime, type CommonOptions, type Lifetime } from '@sallyport/guard'
import type { Calendar } from './deprecation.js'
import { OWNER } from './errors.js'
import { isCanonicalInteger, isTenantText } from './read-credential.js'
import { MAX_TOKENS, parseDigest, type TokenRecord } from './verify-credential.js'

export interface LegacyHeadersOptions extends CommonOptions {
  /**
   * The live tokens of every tenant: a list, compiled at registration, or a resolver that is asked on every request.
   * Required; an empty list is refused.
   */
  readonly credentials: readonly TenantCredentials[] | CredentialResolver
  /** The header that names the tenant. Default: `company_id`. */
  readonly tenantHeader?: string
  /** The header that holds the token. Default: `access_token`. */
  readonly tokenHeader?: string
  /** Reads `company-id` for `company_id` as well: many proxies drop names with underscores. Both at once are refused. Default: true. */
  readonly dashedAliases?: boolean
  /**
   * `integer`: a whole number without sign or leading zeros, up to 9,007,199,254,740,991. A function: true for a tenant of
   * the right shape; it should look at nothing but the shape, or its time tells which tenants exist. Either way 1 to 64
   * visible ASCII characters without a comma. Default: `integer`.
   */
  readonly tenantFormat?: 'integer' | ((tenant: string) => boolean)
  /** A resolver slower than this is `unavailable` (503). Milliseconds, 1 to 60,000; keep it under guard's `judgeTimeoutMs`. Default: 1,000. */
  readonly resolverTimeoutMs?: number
  /** Takes both headers out of the request once they are judged, and from every refused one. Default: true. */
  readonly hideCredentials?: boolean
  /** The way out: what answers announce, brown-outs and the end. Default: none, so nothing is announced and nothing ends. */
  readonly deprecation?: DeprecationOptions
}

/** One tenant of a static list. */
export interface TenantCredentials {
  readonly tenant: string
  /** At least one and at most 16; several, so that a token can be rotated with an overlap. */
  readonly tokens: readonly AccessTokenDigest[]
}

/** One token, kept as its digest only. */
export interface AccessTokenDigest extends Lifetime {
  /** SHA-256 of the token, as `hashAccessToken` gives it: 64 hexadecimal digits, base64url without padding, or 32 bytes. */
  readonly digest: string | Uint8Array
  /** Names the token in decision events and in the identity; unique within the tenant, and no secret. */
  readonly id?: string
}

/**
 * Gives the tokens of one tenant; `undefined` or an empty list for a tenant that does not exist. It should take the same
 * time for both. What it throws, and any other answer, is `unavailable` (503): an outage is never a verdict.
 * Where the token itself is kept (sealed, because it signs something too), answer with `{ digest: hashAccessToken(token) }`.
 */
export type CredentialResolver = (tenant: string) => readonly AccessTokenDigest[] | undefined | Promise<readonly AccessTokenDigest[] | undefined>

/** Every answer to a request that presented these headers carries what is set here, refusals included. */
export interface DeprecationOptions {
  /** Sent as `Deprecation: @<seconds>` (RFC 9745); may lie ahead. */
  readonly deprecatedAt: Date
  /** Sent as `Sunset` (RFC 8594); from then on all are refused. Not before `deprecatedAt` (RFC 9745 section 4). Default: no end. */
  readonly sunsetAt?: Date
  /** Where people can read on: an absolute http(s) URL of an HTML page, sent as `Link` with `rel="deprecation"`, and `rel="sunset"` where there is one. */
  readonly link?: string
  /** Times in which all are refused, with `Retry-After`, so that the end surprises nobody. Within `deprecatedAt` and the last sunset; no overlaps. */
  readonly brownouts?: readonly Brownout[]
  /** Tenants with a later end. Needs `sunsetAt`. Nobody without the tenant's own token can learn of it. */
  readonly extensions?: readonly SunsetExtension[]
}

/** From `from` (included) to `to` (not included). */
export interface Brownout {
  readonly from: Date
  readonly to: Date
}

export interface SunsetExtension {
  readonly tenant: string
  /** Later than the general one. */
  readonly sunsetAt: Date
}

/** Options as the rest of the package uses them: checked, complete, and out of the caller's reach. */
export interface ResolvedOptions {
  readonly credentials: ReadonlyMap<string, readonly TokenRecord[]> | CredentialResolver
  readonly tenantNames: readonly string[]
  readonly tokenNames: readonly string[]
  readonly isTenant: (text: string) => boolean
  readonly resolverTimeoutMs: number
  readonly hideCredentials: boolean
  readonly deprecation: Calendar | undefined
}

export const optionNames = [
  'credentials', 'tenantHeader', 'tokenHeader', 'dashedAliases', 'tenantFormat', 'resolverTimeoutMs', 'hideCredentials', 'deprecation'
] as const

/** Throws `OptionsError` for whatever is missing, empty, contradictory or of the wrong kind. */
export function resolveOptions (reader: OptionReader): ResolvedOptions {
  const isTenant = readTenantFormat(reader)
  const withAliases = reader.flag('dashedAliases', true)
  const tenantNames = readSpellings(reader, { option: 'tenantHeader', fallback: 'company_id', withAliases })
  const tokenNames = readSpellings(reader, { option: 'tokenHeader', fallback: 'access_token', withAliases })
  if (tokenNames.some((name) => tenantNames.includes(name))) throw reader.error('tokenHeader', 'must be another header than tenantHeader')
  const credentials = readCredentials(reader, isTenant)
  if (typeof credentials !== 'function' && reader.has('resolverTimeoutMs')) throw reader.error('resolverTimeoutMs', 'needs a resolver: a list is never waited for')
  return Object.freeze({
    credentials,
    tenantNames,
    tokenNames,
    isTenant,
    resolverTimeoutMs: reader.integer('resolverTimeoutMs', { min: 1, max: 60_000 }, 1_000),
    hideCredentials: reader.flag('hideCredentials', true),
    deprecation: readDeprecation(reader, isTenant)
  })
}

function readTenantFormat (reader: OptionReader): (text: string) => boolean {
  const given = reader.raw('tenantFormat') ?? 'integer'
  if (given === 'integer') return isCanonicalInteger
  if (typeof given !== 'function') throw reader.error('tenantFormat', 'must be "integer" or a function')
  return (text) => {
    try {
      return (given as (text: string) => unknown)(text) === true
    } catch {
      // What a client sends must not decide about an outage, whatever the function does with it.
      return false
    }
  }
}

interface SpellingRule { readonly option: string, readonly fallback: string, readonly withAliases: boolean }

function readSpellings (reader: OptionReader, { option, fallback, withAliases }: SpellingRule): readonly string[] {
  const name = reader.text(option, fallback).toLowerCase()
  if (!/^[\w!#$%&'*+.^`|~-]+$/.test(name)) throw reader.error(option, 'must be a header name')
  return Object.freeze(withAliases ? [...new Set([name, name.replaceAll('_', '-')])] : [name])
}

function readCredentials (reader: OptionReader, isTenant: (text: string) => boolean): ResolvedOptions['credentials'] {
  if (typeof reader.raw('credentials') === 'function') return reader.raw('credentials') as CredentialResolver
  const given = reader.list('credentials')
  if (given === undefined) throw reader.error('credentials', 'is required: a list of tenants with their tokens, or a resolver')
  const compiled = new Map<string, readonly TokenRecord[]>()
  for (const [i, entry] of given.entries()) {
    const item = new OptionReader(OWNER, entry, ['tenant', 'tokens'], `credentials[${i}].`)
    const tenant = readTenant(item, isTenant)
    if (compiled.has(tenant)) throw item.error('tenant', 'is listed before; give one tenant all its tokens')
    const tokens = readTokens(tenant, item.raw('tokens'), `credentials[${i}].tokens`)
    if (tokens.length === 0) throw item.error('tokens', 'must not be empty; leave the tenant out instead')
    compiled.set(tenant, tokens)
  }
  return compiled
}

function readTenant (reader: OptionReader, isTenant: (text: string) => boolean): string {
  const tenant = reader.requiredText('tenant')
  if (!isTenantText(tenant) || !isTenant(tenant)) throw reader.error('tenant', 'does not have the tenantFormat, so it could never match')
  return tenant
}

/** Checks and compiles the tokens of one tenant: at registration, and with every answer of a resolver. Throws `OptionsError`. */
export function readTokens (tenant: string, given: unknown, path: string): readonly TokenRecord[] {
  if (!Array.isArray(given)) throw new OptionsError(OWNER, path, 'must be a list')
  if (given.length > MAX_TOKENS) throw new OptionsError(OWNER, path, `must not hold more than ${MAX_TOKENS} tokens`)
  const digests = new Set<string>()
  const ids = new Set<string>()
  return Object.freeze(Array.from(given, (entry: unknown, i) => {
    const reader = new OptionReader(OWNER, entry, ['digest', 'id', 'notBefore', 'notAfter'], `${path}[${i}].`)
    const digest = parseDigest(reader.raw('digest'))
    if (digest === undefined) throw reader.error('digest', 'must be the SHA-256 of a token: 64 hexadecimal digits, base64url without padding, or 32 bytes (see hashAccessToken)')
    if (!isNewIn(digests, digest.toString('hex'))) throw reader.error('digest', 'is that of an earlier token of this tenant')
    const id = reader.text('id')
    if (id !== undefined && !isNewIn(ids, id)) throw reader.error('id', 'is that of an earlier token of this tenant')
    const lifetime = readLifetime(reader)
    const identity = Object.freeze({ tenant, ...(id !== undefined && { credentialId: id }) })
    return Object.freeze({ digest, ...lifetime, judgement: Object.freeze({ identity, principal: Object.freeze({ tenant }), matched: id }) })
  }))
}

function isNewIn (seen: Set<string>, value: string): boolean {
  return seen.size < seen.add(value).size
}

function readDeprecation (outer: OptionReader, isTenant: (text: string) => boolean): Calendar | undefined {
  if (!outer.has('deprecation')) return undefined
  const reader = new OptionReader(OWNER, outer.raw('deprecation'), ['deprecatedAt', 'sunsetAt', 'link', 'brownouts', 'extensions'], 'deprecation.')
  const deprecatedAtMs = requiredInstant(reader, 'deprecatedAt')
  const sunsetAtMs = reader.instant('sunsetAt') ?? Infinity
  if (sunsetAtMs < deprecatedAtMs) throw reader.error('sunsetAt', 'must not be earlier than deprecatedAt (RFC 9745 section 4)')
  const extensions = readExtensions(reader, sunsetAtMs, isTenant)
  const endsAtMs = Math.max(sunsetAtMs, ...extensions.values())
  return Object.freeze({ deprecatedAtMs, sunsetAtMs, extensions, link: readLink(reader), brownouts: readBrownouts(reader, { deprecatedAtMs, endsAtMs }) })
}

function readExtensions (outer: OptionReader, sunsetAtMs: number, isTenant: (text: string) => boolean): ReadonlyMap<string, number> {
  const given = outer.list('extensions') ?? []
  if (given.length > 0 && sunsetAtMs === Infinity) throw outer.error('extensions', 'need a sunsetAt that they extend')
  const extensions = new Map<string, number>()
  for (const [i, entry] of given.entries()) {
    const reader = new OptionReader(OWNER, entry, ['tenant', 'sunsetAt'], `deprecation.extensions[${i}].`)
    const tenant = readTenant(reader, isTenant)
    if (extensions.has(tenant)) throw reader.error('tenant', 'is listed before')
    const untilMs = requiredInstant(reader, 'sunsetAt')
    if (untilMs <= sunsetAtMs) throw reader.error('sunsetAt', 'must be later than deprecation.sunsetAt')
    extensions.set(tenant, untilMs)
  }
  return extensions
}

function readBrownouts (outer: OptionReader, { deprecatedAtMs, endsAtMs }: { deprecatedAtMs: number, endsAtMs: number }): Calendar['brownouts'] {
  const brownouts = (outer.list('brownouts') ?? []).map((entry, i) => {
    const reader = new OptionReader(OWNER, entry, ['from', 'to'], `deprecation.brownouts[${i}].`)
    const fromMs = requiredInstant(reader, 'from')
    const toMs = requiredInstant(reader, 'to')
    if (toMs <= fromMs) throw reader.error('to', 'must be later than from')
    if (fromMs < deprecatedAtMs) throw reader.error('from', 'must not be earlier than deprecatedAt')
    if (toMs > endsAtMs) throw reader.error('to', 'must not be later than the last sunset')
    return Object.freeze({ fromMs, toMs })
  }).sort((a, b) => a.fromMs - b.fromMs)
  if (brownouts.some(({ fromMs }, i) => i > 0 && fromMs < brownouts[i - 1]!.toMs)) throw outer.error('brownouts', 'must not overlap')
  return Object.freeze(brownouts)
}

function readLink (reader: OptionReader): string | undefined {
  const given = reader.text('link')
  if (given === undefined) return undefined
  const url = URL.canParse(given) ? new URL(given) : undefined
  if (url === undefined || !['http:', 'https:'].includes(url.protocol) || url.username !== '' || url.password !== '') {
    throw reader.error('link', 'must be an absolute http or https URL without user information')
  }
  // As serialised, no character is left that could end the `<...>` of a Link.
  return url.href
}

function requiredInstant (reader: OptionReader, option: string): number {
  const ms = reader.instant(option)
  if (ms === undefined) throw reader.error(option, 'is required')
  return ms
}
