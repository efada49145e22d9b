/** Issues tokens, rotates refresh tokens, revokes, and lists what was issued. Free of Fastify; keeps no token. */

import { createHmac, randomBytes, randomUUID } from 'node:crypto'
import { isAuthError, OptionReader } from '@sallyport/guard'
import { openToken, sealToken, type EncryptionOptions } from './encryption.js'
import { refusal } from './errors.js'
import type { JwtKey } from './keys.js'
import { optionNames, resolveOptions } from './options.js'
import { createSignature } from './private-jwt.js'
import { readRevocation, Revocations, type RevocableToken, type Revocation, type RevocationList } from './revocations.js'
import {
  MAX_ACCESS_SECONDS, ownClaims, readIssueRequest, resolveServiceOptions, SERVICE, type Grant, type IssueRequest, type ResolvedServiceOptions,
  type TokenServiceOptions
} from './service-options.js'
import { TokenRegister, type TokenRecord } from './token-register.js'
import { createTrust } from './trust.js'
import { createTokenVerifier, type VerifiedToken } from './verify-token.js'

export { type IssueRequest } from './service-options.js'

/** What a token is for. Each use has a `typ` of its own, so that none can stand in for another (RFC 8725 section 3.11). */
export type TokenUse = 'access' | 'refresh' | 'callback'
const typOf: Readonly<Record<TokenUse, string>> = { access: 'at+jwt', refresh: 'rt+jwt', callback: 'callback+jwt' }

export interface IssuedToken {
  readonly token: string
  /** The token's `jti`; what `revoke({ id })` takes. */
  readonly id: string
  readonly expiresAt: Date
}

/** An access token and the refresh token that renews it. */
export interface TokenPair {
  readonly access: IssuedToken
  readonly refresh: IssuedToken
  /** What `revoke({ family })` takes: all tokens that descend from one `issuePair`. */
  readonly family: string
}

/** What `bearerJwt` has to know to verify a service's tokens: `app.register(bearerJwt, { ...service.verification })`. */
export interface ServiceVerification {
  readonly issuer: string
  readonly audience: string
  readonly typ: string
  readonly keys: readonly JwtKey[]
  /** Where the service was given a `tenantClaim`. */
  readonly tenant?: string
  readonly encryption?: EncryptionOptions
  readonly revocations: RevocationList
}

/**
 * What all methods have in common: a `TypeError` for what they can't do, and `AuthError` 503 `ERR_BEARER_JWT_STATE_UNAVAILABLE`
 * where the store failed.
 */
export interface TokenService {
  /** Issues one token: signed, or signed and encrypted. */
  issue (request: IssueRequest): Promise<IssuedToken>
  /** Issues an access and a refresh token, the first of a family. */
  issuePair (request: Omit<IssueRequest, 'use'>): Promise<TokenPair>
  /**
   * Takes a refresh token and gives the next pair. A second use of the same token within `retrySeconds`, while its successor
   * is unused, gets the same successor again; any later one revokes the family (RFC 9700 section 4.14.2).
   * Throws `AuthError`: 401 `ERR_BEARER_JWT_REFRESH_INVALID` or `ERR_BEARER_JWT_REFRESH_REUSED`.
   */
  refresh (token: string): Promise<TokenPair>
  /**
   * Refuses one token, a family, or all tokens of a tenant issued up to the end of this second: here at once, elsewhere
   * within `maxStalenessSeconds`. Resolves once the store has it.
   */
  revoke (revocation: Revocation): Promise<void>
  /** Metadata of a subject's live tokens, oldest first; never the tokens. At most 500: those that live longest. */
  list (subject: string): Promise<readonly TokenRecord[]>
  readonly verification: ServiceVerification
  /** Stops following the store. */
  close (): void
}

/** As long as `bearerJwt` reads by default: a longer token would be good for nothing. */
const MAX_TOKEN_BYTES = 8_192
/** How far the clocks of processes may differ without a used refresh token being taken for a new one. */
const CLOCK_SLACK_MS = 60_000

/**
 * Creates a token service. Throws `OptionsError` for wrong options; rejects if the store can't be read.
 * Stop it with `close()`.
 */
export async function createTokenService (given: TokenServiceOptions): Promise<TokenService> {
  const options = resolveServiceOptions(given)
  const { issuer, audience, store, clock, tenantClaim, hasTenants, refreshLifetimeSeconds, retrySeconds, isRefused } = options
  const mint = await createMint(options)
  const verifyRefresh = await createRefreshVerifier(options)
  const revocations = new Revocations({ ...options, retentionSeconds: Math.max(MAX_ACCESS_SECONDS, refreshLifetimeSeconds) })
  const register = new TokenRegister({ store, clock, isRevoked })
  await revocations.open()

  /** At once where it can be: this is asked for every request with a token. */
  function isRevoked (token: RevocableToken): boolean | Promise<boolean> {
    const known = revocations.isRevoked(token)
    return typeof known === 'boolean' ? known || isRefused(token) : known.then((found) => found || isRefused(token))
  }

  function claimsOf ({ subject, tenant, scopes, claims }: Grant, family: string): Record<string, unknown> {
    return { ...claims, iss: issuer, sub: subject, ...(tenant !== undefined && { [tenantClaim]: tenant }), scope: scopes.join(' '), fam: family }
  }

  async function mintPair (grant: Grant, { family, seed }: Line, ids: { access: string, refresh: string }, iat: number): Promise<TokenPair> {
    const common = { ...claimsOf(grant, family), iat }
    const access = await mint('access', { ...common, aud: audience, jti: ids.access, exp: iat + grant.lifetimeSeconds })
    const refresh = await mint('refresh', { ...common, aud: issuer, jti: ids.refresh, exp: iat + refreshLifetimeSeconds, ttl: grant.lifetimeSeconds, seed })
    return Object.freeze({ access, refresh, family })
  }

  /** No token gets out that isn't listed. */
  async function list (grant: Grant, about: { id: string, purpose: string | undefined, createdAt: number, expiresAt: Date }): Promise<void> {
    const { subject, tenant, scopes } = grant
    const { id, purpose, createdAt } = about
    const record = { id, ...(tenant !== undefined && { tenant }), ...(purpose !== undefined && { purpose }), scopes, createdAt, expiresAt: about.expiresAt.getTime() }
    await fromStore(() => register.add(subject, record))
  }

  async function issue (request: IssueRequest): Promise<IssuedToken> {
    const { grant, use, purpose } = readIssueRequest(request, 'issue', options)
    const createdAt = clock()
    const iat = Math.floor(createdAt / 1000)
    const id = randomUUID()
    const issued = await mint(use, { ...claimsOf(grant, id), aud: audience, jti: id, iat, exp: iat + grant.lifetimeSeconds })
    await list(grant, { id, purpose, createdAt, expiresAt: issued.expiresAt })
    return issued
  }

  async function issuePair (request: Omit<IssueRequest, 'use'>): Promise<TokenPair> {
    const { grant, purpose } = readIssueRequest(request, 'issuePair', options)
    const createdAt = clock()
    const line = { family: randomUUID(), seed: randomBytes(16).toString('base64url') }
    const pair = await mintPair(grant, line, { access: randomUUID(), refresh: randomUUID() }, Math.floor(createdAt / 1000))
    await list(grant, { id: pair.family, purpose, createdAt, expiresAt: pair.refresh.expiresAt })
    return pair
  }

  async function refresh (token: string): Promise<TokenPair> {
    const now = clock()
    const used = await verifyRefresh(token, now)
    const id = used.id!
    const line = { family: used.revocable.family!, seed: used.payload['seed'] as string }
    const { family } = line
    const grant = grantOf(used, tenantClaim)
    // By the store and not by a snapshot, or a pair of tokens would be born of one that was revoked elsewhere a moment ago.
    const presented = { ...used.revocable, id, tenant: grant.tenant }
    const isEnded = await fromStore(async () => await revocations.isRevokedNow(presented) || isRefused(presented))
    if (isEnded) throw refusal('ERR_BEARER_JWT_REFRESH_INVALID', { reason: 'revoked' })
    const ttlMs = Math.ceil(used.dates.exp! * 1000 - now) + CLOCK_SLACK_MS
    const taken = await fromStore(() => store.claim(usedKey(id), ttlMs, String(now)))
    const firstUse = taken.claimed ? now : Number(taken.value)
    const successor = { access: successorId(line, id, 'access'), refresh: successorId(line, id, 'refresh') }
    if (!taken.claimed && !(await isRetry(firstUse, now, successor.refresh))) {
      await fromStore(() => revocations.revoke({ family }))
      throw refusal('ERR_BEARER_JWT_REFRESH_REUSED')
    }
    const pair = await mintPair(grant, line, successor, Math.floor(firstUse / 1000))
    if (taken.claimed) {
      const expiresAt = pair.refresh.expiresAt.getTime()
      register.noteUse(family, expiresAt)
      // For people: the next refresh writes it again, and the client must not lose its session for it.
      await register.extend(grant.subject, family, expiresAt).catch(() => undefined)
    }
    return pair
  }

  /** Of clocks that differ, either may be ahead. */
  async function isRetry (firstUse: number, now: number, successor: string): Promise<boolean> {
    if (!(Math.abs(now - firstUse) < retrySeconds * 1000)) return false
    return await fromStore(() => store.get(usedKey(successor))) === undefined
  }

  return Object.freeze({
    issue,
    issuePair,
    refresh,
    async revoke (revocation: Revocation) {
      const { kind } = readRevocation(revocation)
      if (kind === 'tenant' && !hasTenants) throw new TypeError('revoke({ tenant }) needs the option "tenantClaim": without it nobody proves a token\'s tenant')
      await fromStore(() => revocations.revoke(revocation))
    },
    async list (subject: string) {
      if (typeof subject !== 'string' || subject === '') throw new TypeError('list takes a subject: a text that is not empty')
      return fromStore(() => register.list(subject))
    },
    verification: Object.freeze({
      issuer, audience, typ: typOf.access, keys: options.verificationKeys,
      ...(hasTenants && { tenant: tenantClaim }),
      ...(options.decryption !== undefined && { encryption: options.decryption }),
      revocations: Object.freeze({
        isRevoked,
        noteUse: (id, expiresAtMs) => { register.noteUse(id, expiresAtMs) }
      } satisfies RevocationList)
    }),
    close () { revocations.close() }
  })
}

type Mint = (use: TokenUse, claims: Record<string, unknown> & { jti: string, exp: number }) => Promise<IssuedToken>

async function createMint ({ signing, encryption }: ResolvedServiceOptions): Promise<Mint> {
  const sign = await createSignature(signing, signing.id)
  return async function mint (use, claims) {
    const signed = sign(claims, typOf[use])
    const token = encryption === undefined ? signed : await sealToken(signed, encryption)
    if (token.length > MAX_TOKEN_BYTES) throw new TypeError(`the token would have more than ${MAX_TOKEN_BYTES} bytes: give it fewer claims or scopes`)
    return Object.freeze({ token, id: claims.jti, expiresAt: new Date(claims.exp * 1000) })
  }
}

/** Verifies a refresh token of this service; whatever is wrong with it is one refusal. */
async function createRefreshVerifier (options: ResolvedServiceOptions): Promise<(token: string, nowMs: number) => Promise<VerifiedToken>> {
  const { issuer, verificationKeys, decryption } = options
  const reader = new OptionReader(SERVICE, {
    keys: verificationKeys, issuer, audience: issuer, typ: typOf.refresh, cacheEntries: 0, requiredClaims: ['jti', 'fam', 'sub', 'iat', 'ttl', 'seed'],
    ...(decryption !== undefined && { encryption: decryption })
  }, optionNames)
  const resolved = resolveOptions(reader)
  const verify = createTokenVerifier(resolved, await createTrust(resolved.trust))
  if (options.encryption !== undefined) {
    const sealed = await sealToken('probe', options.encryption).catch(() => { throw reader.error('encryption.key', `can't serve ${options.encryption!.algorithm}`) })
    await openToken(sealed, resolved.encryption!, options.clock()).catch(() => { throw reader.error('decryption', 'does not open what "encryption" seals') })
  }
  return async function verifyRefresh (token, nowMs) {
    try {
      if (typeof token !== 'string' || token.length > MAX_TOKEN_BYTES) throw refusal('ERR_BEARER_JWT_TOKEN_INVALID')
      return await verify(token, nowMs)
    } catch (error) {
      throw isAuthError(error) && error.outcome === 'rejected' ? refusal('ERR_BEARER_JWT_REFRESH_INVALID', { reason: 'token' }) : error
    }
  }
}

function grantOf ({ payload, identity }: VerifiedToken, tenantClaim: string): Grant {
  const { sub, ttl, [tenantClaim]: tenant } = payload
  return {
    subject: sub as string,
    tenant: tenant as string | undefined,
    scopes: identity.scopes,
    claims: Object.fromEntries(Object.entries(payload).filter(([name]) => name !== tenantClaim && !ownClaims.includes(name))),
    lifetimeSeconds: ttl as number
  }
}

/** What refresh tokens of a family have in common: its name, and what its ids are derived with. */
interface Line { readonly family: string, readonly seed: string }

/**
 * The id of a successor: HMAC of its predecessor's. The key is in the family's refresh tokens and nowhere else, so every process
 * finds the same id, across rotations of the signing key too, and nobody can foretell it who only saw ids. As long as the
 * first one's, so that a token that fits has successors that fit.
 */
function successorId ({ seed }: Line, id: string, use: TokenUse): string {
  return createHmac('sha256', seed).update(`successor of ${id} for ${use}`).digest('base64url').slice(0, 36)
}

const usedKey = (id: string): string => `refreshed:${id}`

async function fromStore<T> (ask: () => T | Promise<T>): Promise<T> {
  try {
    return await ask()
  } catch (cause) {
    throw refusal('ERR_BEARER_JWT_STATE_UNAVAILABLE', { cause, retryAfterSeconds: 1 })
  }
}
