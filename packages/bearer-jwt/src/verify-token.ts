/** From a token's text to what it proves: structure, key, signature, and only then the claims. */

import { hash } from 'node:crypto'
import { BoundedCache, isAuthError, isLive, type Judgement } from '@sallyport/guard'
import { invalid, own, scopeList, scopesOf, tenantText, textOf, verifyStaticClaims, verifyTime, type TimedClaims } from './claims.js'
import { isEncrypted, isOpeningKey, openToken, type OpeningKey, type ResolvedEncryption } from './encryption.js'
import { refusal } from './errors.js'
import type { Candidates, KeyHints, KeySource } from './key-source.js'
import { isSameKey, type Algorithm, type TrustedKey } from './keys.js'
import type { ResolvedOptions } from './options.js'
import { parseToken, readClaims, type JwtClaims, type ParsedToken } from './parse-token.js'
import type { RevocableToken } from './revocations.js'
import { SeenTokens } from './seen-tokens.js'
import type { Trust, Trusts } from './trust.js'

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

/** What guard is told of a token, and what has to be judged again whenever the token comes. Holds no part of the token's text. */
export interface VerifiedToken extends Judgement<BearerJwtIdentity<unknown>> {
  /** The claims as they were signed. */
  readonly payload: JwtClaims
  /** The `jti`. */
  readonly id: string | undefined
  /** What a revocation may name of it; its family is the `fam` claim. */
  readonly revocable: RevocableToken
  /** SHA-256 of what was signed, for one-shot tokens that have no `jti`. */
  readonly digest: string | undefined
  readonly dates: TimedClaims
  readonly trust: Trust
  readonly hints: KeyHints
  readonly key: TrustedKey
  /** The key that opened it, where it came encrypted. */
  readonly openedBy: OpeningKey | undefined
}

export type TokenVerifier = (token: string, nowMs: number) => VerifiedToken | Promise<VerifiedToken>

type Proved = Pick<VerifiedToken, 'hints' | 'trust' | 'key' | 'dates' | 'openedBy'> & { readonly claims: JwtClaims }
interface Opened { readonly inner: string, readonly openedBy?: OpeningKey, readonly replicated?: Readonly<Record<string, unknown>> }

/** Builds the verifier once. It answers at once for tokens it knows, and for others unless keys or decryption have to be waited for. */
export function createTokenVerifier (options: ResolvedOptions, { trustFor, needClaims, shareSecrets }: Trusts): TokenVerifier {
  const { encryption } = options
  const cache = new BoundedCache<VerifiedToken>(options.cacheEntries)
  // Proving such a token takes about as long as remembering it, and many are used once: they are remembered at their second use.
  const seen = shareSecrets && encryption === undefined ? new SeenTokens(options.cacheEntries) : undefined

  function verifyToken (token: string, nowMs: number): VerifiedToken | Promise<VerifiedToken> {
    if (options.cacheEntries === 0) return verifyNew(token, nowMs)
    if (seen?.has(token) === false) return verifyAndNote(token, nowMs, () => { seen.add(token) })
    const place = hash('sha256', token, 'binary')
    const known = cache.get(place)
    return known === undefined ? verifyAndRemember(token, place, nowMs) : verifyKnown(known, token, place, nowMs)
  }

  function verifyAndNote (token: string, nowMs: number, note: (verified: VerifiedToken) => void): VerifiedToken | Promise<VerifiedToken> {
    const noted = (verified: VerifiedToken): VerifiedToken => {
      note(verified)
      return verified
    }
    const verified = verifyNew(token, nowMs)
    return verified instanceof Promise ? verified.then(noted) : noted(verified)
  }

  function verifyAndRemember (token: string, place: string, nowMs: number): VerifiedToken | Promise<VerifiedToken> {
    return verifyAndNote(token, nowMs, (verified) => { cache.set(place, Object.freeze(verified)) })
  }

  /** The cryptography stands as long as its keys do. */
  function verifyKnown (known: VerifiedToken, token: string, place: string, nowMs: number): VerifiedToken | Promise<VerifiedToken> {
    const current = known.trust.source.find(known.hints, nowMs)
    if (current instanceof Promise) return current.then((later) => isTrusted(known, later, encryption, nowMs) ? judgeAgain(known, nowMs) : verifyAnew(token, place, nowMs))
    return isTrusted(known, current, encryption, nowMs) ? judgeAgain(known, nowMs) : verifyAnew(token, place, nowMs)
  }

  function verifyAnew (token: string, place: string, nowMs: number): VerifiedToken | Promise<VerifiedToken> {
    cache.delete(place)
    return verifyAndRemember(token, place, nowMs)
  }

  function judgeAgain (known: VerifiedToken, nowMs: number): VerifiedToken {
    verifyTime(known.dates, known.trust.rules, nowMs / 1000)
    // What the user's own function makes is the user's, frozen or not: each request gets one of its own.
    if (options.identity === undefined) return known
    const judged = judgementOf(known.payload, known, options)
    return { ...known, ...judged, revocable: { ...known.revocable, tenant: judged.identity.tenant } }
  }

  function verifyNew (token: string, nowMs: number): VerifiedToken | Promise<VerifiedToken> {
    if (encryption === undefined || !isEncrypted(token)) return verifySigned({ inner: token }, nowMs)
    return openToken(token, encryption, nowMs).then(({ inner, key, replicated }) => verifySigned({ inner, openedBy: key, replicated }, nowMs))
  }

  function verifySigned (opened: Opened, nowMs: number): VerifiedToken | Promise<VerifiedToken> {
    if (encryption?.mode === 'required' && opened.openedBy === undefined) throw refusal('ERR_BEARER_JWT_TOKEN_INVALID', { reason: 'not-encrypted' })
    const parsed = parseToken(opened.inner)
    const unproved = needClaims ? readClaims(parsed) : undefined
    const hints = hintsOf(parsed, unproved, options)
    const trust = trustFor(hints.issuer)
    if (trust === undefined) throw refusal('ERR_BEARER_JWT_TOKEN_INVALID', { reason: 'issuer' })
    if (!trust.algorithms.includes(hints.algorithm)) throw refusal('ERR_BEARER_JWT_TOKEN_INVALID', { reason: 'algorithm' })
    const judge = (candidates: Candidates): VerifiedToken => {
      const key = signingKeyOf(parsed, candidates, trust.source, nowMs)
      const claims = unproved ?? readClaims(parsed)
      if (opened.replicated !== undefined) verifyReplicated(opened.replicated, claims)
      const dates = verifyStaticClaims(parsed.header, claims, trust.rules)
      verifyTime(dates, trust.rules, nowMs / 1000)
      return verifiedToken(parsed, { claims, hints, trust, key, dates, openedBy: opened.openedBy })
    }
    const candidates = trust.source.find(hints, nowMs)
    return candidates instanceof Promise ? candidates.then(judge) : judge(candidates)
  }

  function verifiedToken ({ signed }: ParsedToken, { claims, hints, trust, key, dates, openedBy }: Proved): VerifiedToken {
    const { identity, principal, matched } = judgementOf(claims, { key, hints }, options)
    const id = textOf(claims, 'jti')
    // An ECDSA signature has a twin that is valid too, and a sealed token can be sealed anew: what was signed is the same.
    const digest = options.store === undefined || hasText(id) ? undefined : hash('sha256', signed, 'base64url')
    const revocable = Object.freeze({ id, family: textOf(claims, 'fam'), tenant: identity.tenant, issuedAt: dates.iat })
    return { identity, principal, matched, payload: claims, id, revocable, digest, dates, trust, hints, key, openedBy }
  }

  return verifyToken
}

function isTrusted ({ key, openedBy }: VerifiedToken, { keys }: Candidates, encryption: ResolvedEncryption | undefined, nowMs: number): boolean {
  if (openedBy !== undefined && !isOpeningKey(openedBy, encryption!, nowMs)) return false
  for (let i = 0; i < keys.length; i++) if (isSameKey(keys[i]!, key) && isLive(keys[i]!, nowMs)) return true
  return false
}

/** The key that signed the token. A refusal takes the same number of checks, whoever is named and however many keys they have. */
function signingKeyOf (token: ParsedToken, { keys, standIns }: Candidates, source: KeySource, nowMs: number): TrustedKey {
  const { alg, kid } = token.header
  let tried = 0
  for (let i = 0; i < keys.length; i++) {
    const key = keys[i]!
    const isNamed = !source.comparesIds || kid === undefined || key.id === undefined || key.id === kid
    if (!isNamed || key.algorithm !== alg || !isLive(key, nowMs)) continue
    if (source.check(token, key)) return key
    tried++
  }
  const wanted = standIns.length === 0 ? 0 : source.leastChecks()
  for (let i = tried; i < wanted; i++) source.check(token, standIns[i % standIns.length]!)
  throw refusal('ERR_BEARER_JWT_TOKEN_INVALID', { reason: tried > 0 ? 'signature' : 'unknown-key' })
}

/** Claims that stand in the header of an encrypted token too must say the same (RFC 7519 section 5.3). */
function verifyReplicated (replicated: Readonly<Record<string, unknown>>, claims: JwtClaims): void {
  for (const [name, value] of Object.entries(replicated)) {
    if (JSON.stringify(own(claims, name)) !== JSON.stringify(value)) throw invalid('replicated')
  }
}

function hintsOf ({ header }: ParsedToken, unproved: JwtClaims | undefined, options: ResolvedOptions): KeyHints {
  const issuer = unproved === undefined ? undefined : own(unproved, 'iss')
  return {
    algorithm: header.alg as Algorithm,
    keyId: header.kid,
    issuer: typeof issuer === 'string' ? issuer : undefined,
    tenant: unproved === undefined ? undefined : tenantHint(unproved, options)
  }
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

function judgementOf (claims: JwtClaims, { key, hints }: Pick<VerifiedToken, 'key' | 'hints'>, options: ResolvedOptions): Required<Pick<VerifiedToken, 'identity' | 'principal' | 'matched'>> {
  // The hint was read from the same claims, which are proved by now; where it could not be read, the reason is told.
  const tenant = hints.tenant ?? tenantOf(claims, options)
  if (options.tenant !== undefined && tenant === undefined) throw invalid('tenant')
  const subject = textOf(claims, options.subject ?? 'sub')
  if (options.subject !== undefined && !hasText(subject)) throw invalid('claim-missing')
  const { scopes: readScopes, identity: shape } = options
  const scopes = typeof readScopes === 'function' ? scopeList(readBy(() => readScopes(claims), 'identity')) : scopesOf(claims, readScopes)
  const shaped = shape === undefined ? claims : readBy(() => shape(claims), 'identity')
  const identity = Object.freeze({ claims: shaped, keyId: key.id, tenant, subject, scopes })
  const principal: { scopes: readonly string[], tenant?: string, subject?: string } = { scopes }
  if (tenant !== undefined) principal.tenant = tenant
  if (hasText(subject)) principal.subject = subject
  return { identity, principal: Object.freeze(principal), matched: key.id }
}

function hasText (value: string | undefined): value is string {
  return value !== undefined && value !== ''
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
