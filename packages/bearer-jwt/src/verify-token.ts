/** From a token's text to what it proves: structure, key, signature, and only then the claims. */

import { createSecretKey, randomBytes } from 'node:crypto'
import { askResolver, isAuthError, isLive, type AuthError } from '@sallyport/guard'
import { invalid, own, scopeList, scopesOf, tenantText, textOf, verifyStaticClaims, verifyTime, type TimedClaims } from './claims.js'
import { refusal } from './errors.js'
import type { Algorithm, TrustedKey } from './keys.js'
import { resolveAnswer, type KeyHints, type ResolvedOptions } from './options.js'
import { parseToken, type JwtClaims, type ParsedToken } from './parse-token.js'

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

export interface VerifiedToken {
  readonly token: string
  readonly claims: JwtClaims
  readonly dates: TimedClaims
  readonly identity: BearerJwtIdentity<unknown>
}

/** Says whether a key signed a token. */
export type CheckSignature = (token: string, key: TrustedKey) => boolean

export type TokenVerifier = (token: string, nowMs: number) => VerifiedToken | Promise<VerifiedToken>

/** Builds the verifier once; it answers synchronously unless the keys come from a resolver that does not. */
export function createTokenVerifier (options: ResolvedOptions, check: CheckSignature): TokenVerifier {
  const { keys, algorithms } = options
  const decoy = decoyFor(keys)
  return function verifyToken (text, nowMs) {
    const parsed = parseToken(text)
    const algorithm = parsed.header.alg as Algorithm
    if (!algorithms.includes(algorithm)) throw refusal('ERR_BEARER_JWT_TOKEN_INVALID', { reason: 'algorithm' })
    const judge = (trusted: readonly TrustedKey[]): VerifiedToken => {
      const key = signingKey(parsed, candidates(trusted, parsed, nowMs), decoy(algorithm), check)
      return verifiedToken(parsed, key, options, nowMs)
    }
    if (typeof keys !== 'function') return judge(keys)
    return askResolver(() => keys(hintsOf(parsed, options)), (answer) => judge(resolveAnswer(answer, options, unusable)), unavailable)
  }
}

function candidates (trusted: readonly TrustedKey[], { header }: ParsedToken, nowMs: number): readonly TrustedKey[] {
  return trusted.filter((key) => {
    const isNamed = header.kid === undefined || key.id === undefined || key.id === header.kid
    return isNamed && key.algorithm === header.alg && isLive(key, nowMs)
  })
}

/** The key that signed the token. Where no key is known, a decoy is tried, so that an unknown key takes as long as a wrong signature. */
function signingKey ({ token }: ParsedToken, keys: readonly TrustedKey[], decoy: TrustedKey | undefined, check: CheckSignature): TrustedKey {
  const key = keys.find((candidate) => check(token, candidate))
  if (key !== undefined) return key
  if (keys.length === 0 && decoy !== undefined) check(token, decoy)
  throw refusal('ERR_BEARER_JWT_TOKEN_INVALID', { reason: keys.length === 0 ? 'unknown-key' : 'signature' })
}

function decoyFor (keys: ResolvedOptions['keys']): (algorithm: Algorithm) => TrustedKey | undefined {
  if (typeof keys !== 'function') return (algorithm) => keys.find((key) => key.algorithm === algorithm)
  const key = createSecretKey(randomBytes(64))
  return (algorithm) => algorithm.startsWith('HS') ? { id: undefined, algorithm, key, notBeforeMs: -Infinity, notAfterMs: Infinity } : undefined
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

function verifiedToken ({ token, header, claims }: ParsedToken, key: TrustedKey, options: ResolvedOptions, nowMs: number): VerifiedToken {
  const dates = verifyStaticClaims(header, claims, options.rules)
  verifyTime(dates, options.rules, nowMs / 1000)
  const tenant = tenantOf(claims, options)
  if (options.tenant !== undefined && tenant === undefined) throw invalid('tenant')
  const subject = textOf(claims, options.subject ?? 'sub')
  if (options.subject !== undefined && (subject === undefined || subject === '')) throw invalid('claim-missing')
  const { scopes: readScopes, identity: shape } = options
  const scopes = typeof readScopes === 'function' ? scopeList(readBy(() => readScopes(claims), 'identity')) : scopesOf(claims, readScopes)
  const identity = Object.freeze({
    claims: shape === undefined ? claims : readBy(() => shape(claims), 'identity'),
    keyId: key.id,
    tenant,
    subject,
    scopes
  })
  return Object.freeze({ token, claims, dates, identity })
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

function unavailable (cause: unknown): AuthError {
  return refusal('ERR_BEARER_JWT_KEYS_UNAVAILABLE', { reason: 'resolver', cause, retryAfterSeconds: 1 })
}

function unusable (cause: unknown): AuthError {
  return refusal('ERR_BEARER_JWT_KEYS_UNAVAILABLE', { reason: 'resolved-key', cause, retryAfterSeconds: 1 })
}
