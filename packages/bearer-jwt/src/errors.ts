/** What bearer-jwt refuses with. */

import { defineRefusals, type RefusalEntry } from '@sallyport/guard'

export const bearerJwtRefusals = {
  /** No bearer token was presented. */
  ERR_BEARER_JWT_TOKEN_MISSING: { outcome: 'absent', message: 'A bearer token is required' },
  /** Malformed, signed by an unknown key, or wrongly signed: one code, so that nothing can be learned by trying. */
  ERR_BEARER_JWT_TOKEN_INVALID: { outcome: 'rejected', message: 'The bearer token is not valid' },
  /** More than one token was presented, or one in more than one place. */
  ERR_BEARER_JWT_TOKEN_AMBIGUOUS: { outcome: 'rejected', message: 'More than one bearer token was presented' },
  /** Rightly signed, but not valid at this time. */
  ERR_BEARER_JWT_TOKEN_EXPIRED: { outcome: 'rejected', message: 'The bearer token is not valid at this time' },
  /** Rightly signed, but a claim is missing, of the wrong type, or not what this API asks for. */
  ERR_BEARER_JWT_CLAIMS_INVALID: { outcome: 'rejected', message: 'The bearer token does not hold the claims that are required' },
  /** A token that may be used once was used before. */
  ERR_BEARER_JWT_TOKEN_REUSED: { outcome: 'rejected', message: 'The bearer token was used before' },
  /** The token, its family or its tenant's tokens have been revoked. */
  ERR_BEARER_JWT_TOKEN_REVOKED: { outcome: 'rejected', message: 'The bearer token is no longer valid' },
  /** The token is right, but lacks a scope that this route asks for. */
  ERR_BEARER_JWT_SCOPE_INSUFFICIENT: { outcome: 'forbidden', message: 'The bearer token lacks a scope that is required here' },
  /** The key resolver or key set failed, or answered with a key that may not be used. */
  ERR_BEARER_JWT_KEYS_UNAVAILABLE: { outcome: 'unavailable', message: 'The bearer token can not be judged now' },
  /** What has been revoked or refreshed is not known now. */
  ERR_BEARER_JWT_STATE_UNAVAILABLE: { outcome: 'unavailable', message: 'The bearer token can not be judged now' },
  /** Thrown by `refresh()`: the refresh token is not valid, or not one of this service, or revoked. */
  ERR_BEARER_JWT_REFRESH_INVALID: { outcome: 'rejected', message: 'The refresh token is not valid' },
  /** Thrown by `refresh()`: the refresh token was used before; its family is revoked. */
  ERR_BEARER_JWT_REFRESH_REUSED: { outcome: 'rejected', message: 'The refresh token was used before' }
} as const satisfies Record<string, RefusalEntry>

export type BearerJwtRefusalCode = keyof typeof bearerJwtRefusals

/**
 * Reason codes behind the refusals; they reach decision events only.
 * `malformed`, `algorithm`, `critical-header`, `unknown-key`, `signature`, `expired`, `not-yet-valid`, `too-old`, `lifetime`,
 * `claim-type`, `claim-missing`, `issuer`, `audience`, `type`, `tenant`, `identity`, `dated-before-store`, `resolver`, `resolved-key`.
 */
export const refusal = defineRefusals<BearerJwtRefusalCode>(bearerJwtRefusals)
