/** Judges the claims of a token whose signature is right (RFC 7519 section 4.1): strictly typed, own members only. */

import { BoundedCache, type AuthError } from '@sallyport/guard'
import type { ClaimRules } from './claim-rules.js'
import { refusal } from './errors.js'
import type { JwtClaims, JwtHeader } from './parse-token.js'

/** Seconds that a `Date` can hold; a token that lives longer lives for ever. */
const MAX_DATE = 8_640_000_000_000

/** What the token says of itself, checked for its types. */
export interface TimedClaims {
  readonly exp: number | undefined
  readonly nbf: number | undefined
  readonly iat: number | undefined
}

/** Everything that does not depend on the time. Throws a refusal; gives the token's dates. */
export function verifyStaticClaims (header: JwtHeader, claims: JwtClaims, rules: ClaimRules): TimedClaims {
  const dates = { exp: dateOf(claims, 'exp'), nbf: dateOf(claims, 'nbf'), iat: dateOf(claims, 'iat') }
  for (const name of ['iss', 'sub', 'jti'] as const) textOf(claims, name)
  for (const name of rules.requiredClaims) {
    if (own(claims, name) === undefined || own(claims, name) === null) throw invalid('claim-missing')
  }
  if (rules.requireExpiration && dates.exp === undefined) throw invalid('claim-missing')
  verifyIssuer(textOf(claims, 'iss'), rules)
  verifyAudience(claims, rules)
  if (rules.typ !== undefined && mediaType(header.typ) !== mediaType(rules.typ)) throw invalid('type')
  verifyLifetime(dates, rules)
  return dates
}

/** What depends on the time; judged again whenever the token comes. `nowSeconds` may have a fraction. */
export function verifyTime ({ exp, nbf, iat }: TimedClaims, rules: ClaimRules, nowSeconds: number): void {
  const { clockToleranceSeconds: tolerance, maxAgeSeconds, maxLifetimeSeconds } = rules
  if (exp !== undefined && nowSeconds >= exp + tolerance) throw untimely('expired')
  if (nbf !== undefined && nowSeconds < nbf - tolerance) throw untimely('not-yet-valid')
  if (maxAgeSeconds !== undefined && iat === undefined) throw invalid('claim-missing')
  // Where a limit counts from iat, a date ahead of us would stretch it.
  const countsFromIat = maxAgeSeconds !== undefined || (maxLifetimeSeconds !== undefined && nbf === undefined)
  if (countsFromIat && iat! > nowSeconds + tolerance) throw untimely('not-yet-valid')
  if (maxAgeSeconds !== undefined && nowSeconds - iat! > maxAgeSeconds + tolerance) throw untimely('too-old')
}

function verifyLifetime ({ exp, nbf, iat }: TimedClaims, { maxLifetimeSeconds }: ClaimRules): void {
  if (maxLifetimeSeconds === undefined) return
  const start = nbf ?? iat
  if (exp === undefined || start === undefined) throw invalid('claim-missing')
  if (exp - start > maxLifetimeSeconds) throw invalid('lifetime')
}

function verifyIssuer (issuer: string | undefined, { issuers }: ClaimRules): void {
  if (issuers !== undefined && (issuer === undefined || !issuers.includes(issuer))) throw invalid('issuer')
}

function verifyAudience (claims: JwtClaims, { audiences }: ClaimRules): void {
  const audience = own(claims, 'aud')
  if (audience === undefined && audiences === undefined) return
  const list: readonly unknown[] = Array.isArray(audience) ? audience : [audience]
  if (list.length === 0 || list.some((entry) => typeof entry !== 'string')) throw invalid(audience === undefined ? 'audience' : 'claim-type')
  if (audiences !== undefined && !audiences.some((ours) => list.includes(ours))) throw invalid('audience')
}

/** `application/` may be left out, and case does not count (RFC 7515 section 4.1.9). */
function mediaType (typ: string | undefined): string | undefined {
  return typ?.toLowerCase().replace(/^application\//, '')
}

/** An own member of the claims; what an object inherits was never signed. */
export function own (claims: JwtClaims, name: string): unknown {
  return Object.hasOwn(claims, name) ? claims[name] : undefined
}

function dateOf (claims: JwtClaims, name: string): number | undefined {
  const value = own(claims, name)
  if (value === undefined) return undefined
  if (typeof value !== 'number' || !(Math.abs(value) <= MAX_DATE)) throw invalid('claim-type')
  return value
}

/** A claim that is text or absent. Throws if it is anything else. */
export function textOf (claims: JwtClaims, name: string): string | undefined {
  const value = own(claims, name)
  if (value === undefined || typeof value === 'string') return value
  throw invalid('claim-type')
}

const none: readonly string[] = Object.freeze([])
const splits = new BoundedCache<readonly string[]>(200)

/** Scopes as RFC 8693 section 4.2 writes them (`scope`, separated by spaces), or as a list (`scp`). */
export function scopesOf (claims: JwtClaims, name?: string): readonly string[] {
  const value = own(claims, name ?? (Object.hasOwn(claims, 'scope') ? 'scope' : 'scp'))
  if (value === undefined) return none
  return typeof value === 'string' ? splitScopes(value) : scopeList(value)
}

/** Callers hold the same scopes again and again: what they are is remembered, for so many of them. */
function splitScopes (text: string): readonly string[] {
  const known = splits.get(text)
  if (known !== undefined) return known
  const scopes = Object.freeze(text.split(' ').filter((scope) => scope !== ''))
  if (text.length < 256) splits.set(text, scopes)
  return scopes
}

/** A frozen copy of a list of texts. Throws for anything else. */
export function scopeList (value: unknown): readonly string[] {
  if (!Array.isArray(value) || value.some((scope) => typeof scope !== 'string')) throw invalid('claim-type')
  return Object.freeze([...value as string[]])
}

/** A tenant as text or as a safe integer; it is text ever after, so `100001` and `"100001"` are one tenant and `"0100001"` is another. */
export function tenantText (value: unknown): string | undefined {
  if (typeof value === 'string') return value === '' || value.length > 256 ? undefined : value
  return Number.isSafeInteger(value) && (value as number) >= 0 && !Object.is(value, -0) ? String(value) : undefined
}

export function invalid (reason: string): AuthError {
  return refusal('ERR_BEARER_JWT_CLAIMS_INVALID', { reason })
}

function untimely (reason: string): AuthError {
  return refusal('ERR_BEARER_JWT_TOKEN_EXPIRED', { reason })
}
