/** What the fulfilment API answers to credentials that it does not take: for integrators, made of the plugins' own tables. */

import { bearerJwtRefusals, type BearerJwtRefusalCode } from '@sallyport/bearer-jwt'
import { guardRefusals, type GuardRefusalCode, type Outcome } from '@sallyport/guard'

export interface AuthenticationError {
  readonly status: number
  readonly code: string
  readonly cause: string
}

/** Codes that this system can answer with; the plugins have more. */
const served: readonly (BearerJwtRefusalCode | GuardRefusalCode)[] = [
  'ERR_BEARER_JWT_TOKEN_MISSING', 'ERR_BEARER_JWT_TOKEN_INVALID', 'ERR_BEARER_JWT_TOKEN_AMBIGUOUS', 'ERR_BEARER_JWT_TOKEN_EXPIRED',
  'ERR_BEARER_JWT_CLAIMS_INVALID', 'ERR_BEARER_JWT_TOKEN_REVOKED', 'ERR_BEARER_JWT_SCOPE_INSUFFICIENT', 'ERR_GUARD_TENANT_MISMATCH',
  'ERR_GUARD_HTTPS_REQUIRED', 'ERR_BEARER_JWT_STATE_UNAVAILABLE', 'ERR_GUARD_JUDGE_FAILED'
]

const own: readonly AuthenticationError[] = [
  { status: 403, code: 'ERR_FULFILMENT_SCOPE_EXCEEDED', cause: 'POST secrets asked for scopes that the caller\'s token does not have' },
  { status: 429, code: 'ERR_DEMO_RATE_LIMITED', cause: 'Too many requests of this account or address; Retry-After says when to come again' }
]

const statusOf: Readonly<Record<Outcome, number>> = { absent: 401, rejected: 401, forbidden: 403, unavailable: 503 }

export const authenticationErrors: readonly AuthenticationError[] = Object.freeze([
  ...served.map((code) => {
    const { outcome, message } = { ...bearerJwtRefusals, ...guardRefusals }[code]
    return { status: statusOf[outcome], code, cause: message }
  }),
  ...own
])
