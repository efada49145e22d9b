/** From a token's text to what it proves: structure, key, signature, and only then the claims. */

import { hash } from 'node:crypto'
import { BoundedCache, isAuthError, isLive, type Judgement } from '@sallyport/guard'
import { invalid, own, scopeList, scopesOf, tenantText, textOf, verifyStaticClaims, verifyTime, type TimedClaims } from './claims.js'
import { isEncrypted, isOpeningKey, openToken, type OpeningKey } from './encryption.js'
import { refusal } from './errors.js'
import type { KeyHints } from './key-source.js'
import type { Algorithm, TrustedKey } from './keys.js'
import type { ResolvedOptions } from './options.js'
import { parseToken, type JwtClaims, type ParsedToken } from './parse-token.js'
import type { Trust, TrustFor } from './trust.js'

/** What a token proved, as handlers get it from `identityOf(request, app.bearerJwt)`. */
export interface BearerJwtIdentity<C = JwtClaims> {
  /** The claims, deeply frozen and without `__proto__` members; or what the `identity` option made of them. */
  readonly claims: C
  /** Id of the key that signed the token. */
  readonly keyId: string | undefined
  readonly tenant: string | undefined
  readonly subject: string | undefined
  readonly scopes: readonly string[]
}

/** The frozen result of the cryptography, and what has to be judged again whenever the token comes. */
export interface VerifiedToken {
  readonly token: string
  /** The signed token: the same, or what was inside the encrypted one. */
  readonly signed: string
  /** The `jti`. */
  readonly id: string | undefined
  /** The family of refresh tokens that it belongs to: the `fam` claim. */
  readonly family: string | undefined
  readonly claims: JwtClaims
  readonly dates: TimedClaims
  readonly judgement: Judgement<BearerJwtIdentity<unknown>>
  readonly trust: Trust
  readonly hints: KeyHints
  readonly key: TrustedKey
  /** The key that opened it, where it came encrypted. */
  readonly openedBy: OpeningKey | undefined
}

export type TokenVerifier = (token: string, nowMs: number) => VerifiedToken | Promise<VerifiedToken>

interface Opened { readonly inner: string, readonly openedBy?: OpeningKey, readonly replicated?: Readonly<Record<string, unknown>> }

/** Builds the verifier once. It answers at once for tokens it knows, and for others unless keys or decryption have to be waited for. */
export function createTokenVerifier (options: ResolvedOptions, trustFor: TrustFor): TokenVerifier {
  const { encryption } = options
  const cache = new BoundedCache<VerifiedToken>(options.cacheEntries)

  function verifyToken (token: string, nowMs: number): VerifiedToken | Promise<VerifiedToken> {
    const place = hash('sha256', token, 'base64')
    const known = cache.get(place)
    return known === undefined ? verifyNew(token, place, nowMs) : verifyKnown(known, place, nowMs)
  }

  /** The cryptography stands as long as its keys do. */
  function verifyKnown (known: VerifiedToken, place: string, nowMs: number): VerifiedToken | Promise<VerifiedToken> {
    const { trust, hints, key, openedBy, dates } = known
    const judge = (current: readonly TrustedKey[]): VerifiedToken | Promise<VerifiedToken> => {
      const isTrusted = current.some((candidate) => isSameKey(candidate, key) && isLive(candidate, nowMs))
      if (!isTrusted || (openedBy !== undefined && !isOpeningKey(openedBy, encryption!, nowMs))) {
        cache.delete(place)
        return verifyNew(known.token, place, nowMs)
      }
      verifyTime(dates, trust.rules, nowMs / 1000)
      // What the user's own function makes is the user's, frozen or not: each request gets one of its own.
      return options.identity === undefined ? known : Object.freeze({ ...known, judgement: judgementOf(known.claims, key, options) })
    }
    const current = trust.source.find(hints, nowMs)
    return current instanceof Promise ? current.then(judge) : judge(current)
  }

  function verifyNew (token: string, place: string, nowMs: number): VerifiedToken | Promise<VerifiedToken> {
    const remember = (verified: VerifiedToken): VerifiedToken => {
      cache.set(place, verified)
      return verified
    }
    const verified = encryption !== undefined && isEncrypted(token)
      ? openToken(token, encryption, nowMs).then(({ inner, key, replicated }) => verifySigned(token, { inner, openedBy: key, replicated }, nowMs))
      : verifySigned(token, { inner: token }, nowMs)
    return verified instanceof Promise ? verified.then(remember) : remember(verified)
  }

  function verifySigned (token: string, opened: Opened, nowMs: number): VerifiedToken | Promise<VerifiedToken> {
    if (encryption?.mode === 'required' && opened.openedBy === undefined) throw refusal('ERR_BEARER_JWT_TOKEN_INVALID', { reason: 'not-encrypted' })
    const parsed = parseToken(opened.inner)
    const hints = hintsOf(parsed, options)
    const trust = trustFor(hints.issuer)
    if (trust === undefined) throw refusal('ERR_BEARER_JWT_TOKEN_INVALID', { reason: 'issuer' })
    if (!trust.algorithms.includes(hints.algorithm)) throw refusal('ERR_BEARER_JWT_TOKEN_INVALID', { reason: 'algorithm' })
    const judge = (trusted: readonly TrustedKey[]): VerifiedToken => {
      const key = signingKey(parsed, candidates(trusted, parsed, trust, nowMs), trust)
      verifyReplicated(opened, parsed)
      const dates = verifyStaticClaims(parsed.header, parsed.claims, trust.rules)
      verifyTime(dates, trust.rules, nowMs / 1000)
      const { claims } = parsed
      return Object.freeze({
        token, signed: opened.inner, id: textOf(claims, 'jti'), family: textOf(claims, 'fam'), claims, dates, judgement: judgementOf(claims, key, options), trust, hints, key, openedBy: opened.openedBy
      })
    }
    const trusted = trust.source.find(hints, nowMs)
    return trusted instanceof Promise ? trusted.then(judge) : judge(trusted)
  }

  return verifyToken
}

function candidates (trusted: readonly TrustedKey[], { header }: ParsedToken, { source }: Trust, nowMs: number): readonly TrustedKey[] {
  return trusted.filter((key) => {
    const isNamed = !source.comparesIds || header.kid === undefined || key.id === undefined || key.id === header.kid
    return isNamed && key.algorithm === header.alg && isLive(key, nowMs)
  })
}

/** The key that signed the token. Where no key is known, a decoy is tried, so that an unknown key takes as long as a wrong signature. */
function signingKey ({ token, header }: ParsedToken, keys: readonly TrustedKey[], { source }: Trust): TrustedKey {
  const key = keys.find((candidate) => source.check(token, candidate))
  if (key !== undefined) return key
  const decoy = keys.length === 0 ? source.decoy(header.alg as Algorithm) : undefined
  if (decoy !== undefined) source.check(token, decoy)
  throw refusal('ERR_BEARER_JWT_TOKEN_INVALID', { reason: keys.length === 0 ? 'unknown-key' : 'signature' })
}

/** A resolver may give the same key in a new object each time. */
function isSameKey (one: TrustedKey, other: TrustedKey): boolean {
  return one === other || (one.algorithm === other.algorithm && one.id === other.id && one.key.equals(other.key))
}

/** Claims that stand in the header of an encrypted token too must say the same (RFC 7519 section 5.3). */
function verifyReplicated ({ replicated }: Opened, { claims }: ParsedToken): void {
  for (const [name, value] of Object.entries(replicated ?? {})) {
    if (JSON.stringify(own(claims, name)) !== JSON.stringify(value)) throw invalid('replicated')
  }
}

function hintsOf ({ header, claims }: ParsedToken, options: ResolvedOptions): KeyHints {
  const issuer = own(claims, 'iss')
  return Object.freeze({
    algorithm: header.alg as Algorithm,
    keyId: header.kid,
    issuer: typeof issuer === 'string' ? issuer : undefined,
    tenant: tenantHint(claims, options)
  })
}

/** Nobody has signed for these claims yet, so what is wrong with them is not worth an answer of its own. */
function tenantHint (claims: JwtClaims, options: ResolvedOptions): string | undefined {
  try {
    return tenantOf(claims, options)
  } catch {
    return undefined
  }
}

function tenantOf (claims: JwtClaims, { tenant }: ResolvedOptions): string | undefined {
  if (tenant === undefined) return undefined
  if (typeof tenant === 'string') return tenantText(own(claims, tenant))
  return tenantText(readBy(() => tenant(claims), 'tenant'))
}

function judgementOf (claims: JwtClaims, key: TrustedKey, options: ResolvedOptions): Judgement<BearerJwtIdentity<unknown>> {
  const tenant = tenantOf(claims, options)
  if (options.tenant !== undefined && tenant === undefined) throw invalid('tenant')
  const subject = textOf(claims, options.subject ?? 'sub')
  if (options.subject !== undefined && (subject === undefined || subject === '')) throw invalid('claim-missing')
  const { scopes: readScopes, identity: shape } = options
  const scopes = Object.freeze([...typeof readScopes === 'function' ? scopeList(readBy(() => readScopes(claims), 'identity')) : scopesOf(claims, readScopes)])
  const identity = Object.freeze({
    claims: shape === undefined ? claims : readBy(() => shape(claims), 'identity'),
    keyId: key.id,
    tenant,
    subject,
    scopes
  })
  const principal = Object.freeze({ scopes, ...(tenant !== undefined && { tenant }), ...(subject !== undefined && subject !== '' && { subject }) })
  return Object.freeze({ identity, principal, matched: key.id })
}

/** A reader of the user's own met a token that it was not made for: the token is refused, whatever the reader threw. */
function readBy<T> (read: () => T, reason: string): T {
  let value
  try {
    value = read()
  } catch (error) {
    throw isAuthError(error) ? error : invalid(reason)
  }
  if (!(value instanceof Promise)) return value
  // An async reader is a mistake in the server: refused as one, and its rejection must not end the process.
  value.catch(() => undefined)
  throw new TypeError('a reader of claims must answer at once')
}
