/** What a route may ask for beyond a valid token: scopes, and that the token is used once. */

import { hash } from 'node:crypto'
import { challenge, type Claim, type OptionReader, type Requirement } from '@sallyport/guard'
import { invalid, textOf } from './claims.js'
import { refusal } from './errors.js'
import type { ResolvedOptions } from './options.js'
import type { BearerJwtIdentity, VerifiedToken } from './verify-token.js'

export interface BearerJwtRequirements {
  /** Scopes that the token must have: all of the list, or one of `any`. Otherwise 403 `ERR_BEARER_JWT_SCOPE_INSUFFICIENT`. */
  readonly scopes?: readonly string[] | { readonly any: readonly string[] }
  /**
   * The token is accepted once: its `jti` (or what was signed, where it has none) is claimed in the `store` until it expires.
   * A second use is 401 `ERR_BEARER_JWT_TOKEN_REUSED`. Needs the `store` option, and `exp`.
   */
  readonly singleUse?: true
}

export const requirementNames = ['scopes', 'singleUse'] as const

export interface RequirementRules {
  readonly name: string
  readonly realm: string
  readonly options: ResolvedOptions
}

type Identity = BearerJwtIdentity<unknown>

/** Compiles what `require()` was given. Throws `OptionsError`. */
export function resolveRequirement (reader: OptionReader, rules: RequirementRules): Requirement<Identity> | undefined {
  const scopes = readScopes(reader, rules.realm)
  const singleUse = readSingleUse(reader, rules)
  if (scopes === undefined && singleUse === undefined) return undefined
  return {
    description: [scopes?.description, singleUse === undefined ? undefined : 'single use'].filter((part) => part !== undefined).join('; '),
    judge (judgement) {
      scopes?.judge(judgement.identity)
      return singleUse === undefined ? undefined : [singleUse(judgement as VerifiedToken)]
    }
  }
}

function readScopes (reader: OptionReader, realm: string): { description: string, judge: (identity: Identity) => void } | undefined {
  const given = reader.raw('scopes')
  if (given === undefined) return undefined
  const any = Array.isArray(given) ? undefined : reader.nested('scopes', ['any']).texts('any')
  const wanted = any ?? reader.texts('scopes')
  if (wanted === undefined) throw reader.error('scopes', 'must be a list, or { any: list }')
  if (wanted.some((scope) => !/^[\x21\x23-\x5b\x5d-\x7e]+$/.test(scope))) throw reader.error('scopes', 'must hold scope tokens (RFC 6749 section 3.3)')
  const insufficient = challenge('Bearer', { realm, error: 'insufficient_scope', scope: wanted.join(' ') })
  return {
    description: `scopes: ${wanted.join(any === undefined ? ' ' : ' | ')}`,
    judge ({ scopes }) {
      const has = (scope: string): boolean => scopes.includes(scope)
      if (any === undefined ? wanted.every(has) : wanted.some(has)) return
      throw refusal('ERR_BEARER_JWT_SCOPE_INSUFFICIENT', { challenge: insufficient })
    }
  }
}

function readSingleUse (reader: OptionReader, { name, options }: RequirementRules): ((verified: VerifiedToken) => Claim) | undefined {
  if (!reader.flag('singleUse', false)) return undefined
  const { store, storeTimeoutMs, maxLiveClaimsPerKey, rules } = options
  if (store === undefined) throw reader.error('singleUse', 'needs the "store" option: memoryStore() for one process, redisStore(client) for many')
  if (!rules.requireExpiration) throw reader.error('singleUse', 'needs tokens that expire; leave requireExpiration on')
  return ({ id, digest, payload, dates, identity }) => {
    if (store.createdAt !== undefined) {
      const datedAt = dates.nbf ?? dates.iat
      if (datedAt === undefined) throw invalid('claim-missing')
      if (datedAt * 1000 < store.createdAt) throw refusal('ERR_BEARER_JWT_STATE_UNAVAILABLE', { reason: 'dated-before-store', retryAfterSeconds: 1 })
    }
    // A jti is unique for its issuer and tenant only: one tenant must not be able to use up another's.
    const used = digest === undefined ? ['jti', textOf(payload, 'iss') ?? '', identity.tenant ?? '', id] : ['token', digest]
    return {
      store,
      key: `${name}:${hash('sha256', JSON.stringify(used), 'base64url')}`,
      expiresAtMs: (dates.exp! + rules.clockToleranceSeconds) * 1000,
      storeTimeoutMs,
      repeated: () => refusal('ERR_BEARER_JWT_TOKEN_REUSED'),
      quota: { group: JSON.stringify([name, identity.tenant ?? identity.subject ?? '']), maxLiveClaims: maxLiveClaimsPerKey }
    }
  }
}
