/** What the systems answer to credentials that they do not take: for integrators, made of the plugins' own tables. */

import { bearerJwtRefusals, type BearerJwtRefusalCode } from '@sallyport/bearer-jwt'
import { guardRefusals, type GuardRefusalCode, type Outcome, type RefusalEntry } from '@sallyport/guard'
import { hmacAuthRefusals, type HmacAuthRefusalCode } from '@sallyport/hmac-auth'
import { ipAllowlistRefusals, type IpAllowlistRefusalCode } from '@sallyport/ip-allowlist'

export interface AuthenticationError {
  readonly status: number
  readonly code: string
  readonly cause: string
}

type Code = BearerJwtRefusalCode | GuardRefusalCode | HmacAuthRefusalCode | IpAllowlistRefusalCode

const refusals: Readonly<Record<Code, RefusalEntry>> = { ...bearerJwtRefusals, ...guardRefusals, ...hmacAuthRefusals, ...ipAllowlistRefusals }
const statusOf: Readonly<Record<Outcome, number>> = { absent: 401, rejected: 401, forbidden: 403, unavailable: 503 }

/** Codes of plugins that a system can answer with, of which the plugins have more; then its own. */
function tableOf (codes: readonly Code[], own: readonly AuthenticationError[]): readonly AuthenticationError[] {
  const served = codes.map((code) => {
    const { outcome, statusCode: status = statusOf[outcome], message: cause } = refusals[code]
    return { status, code, cause }
  })
  return Object.freeze([...served, ...own])
}

const rateLimited: AuthenticationError = { status: 429, code: 'ERR_DEMO_RATE_LIMITED', cause: 'Too many requests of this account or address; Retry-After says when to come again' }

export const fulfilmentErrors: readonly AuthenticationError[] = tableOf([
  'ERR_BEARER_JWT_TOKEN_MISSING', 'ERR_BEARER_JWT_TOKEN_INVALID', 'ERR_BEARER_JWT_TOKEN_AMBIGUOUS', 'ERR_BEARER_JWT_TOKEN_EXPIRED',
  'ERR_BEARER_JWT_CLAIMS_INVALID', 'ERR_BEARER_JWT_TOKEN_REVOKED', 'ERR_BEARER_JWT_SCOPE_INSUFFICIENT', 'ERR_GUARD_TENANT_MISMATCH',
  'ERR_GUARD_HTTPS_REQUIRED', 'ERR_BEARER_JWT_STATE_UNAVAILABLE', 'ERR_GUARD_JUDGE_FAILED'
], [
  { status: 403, code: 'ERR_FULFILMENT_SCOPE_EXCEEDED', cause: 'POST secrets asked for scopes that the caller\'s token does not have' },
  rateLimited
])

export const paymentsErrors: readonly AuthenticationError[] = tableOf([
  'ERR_IP_ALLOWLIST_ADDRESS_DENIED', 'ERR_IP_ALLOWLIST_LIST_UNAVAILABLE',
  'ERR_GUARD_CREDENTIAL_MISSING', 'ERR_GUARD_CREDENTIAL_INCOMPLETE', 'ERR_GUARD_PRINCIPAL_CONFLICT', 'ERR_GUARD_HTTPS_REQUIRED',
  'ERR_HMAC_AUTH_SIGNATURE_INVALID', 'ERR_HMAC_AUTH_SIGNATURE_AMBIGUOUS', 'ERR_HMAC_AUTH_COVERAGE_INSUFFICIENT', 'ERR_HMAC_AUTH_TIMESTAMP_EXPIRED',
  'ERR_HMAC_AUTH_SIGNATURE_REPLAYED', 'ERR_HMAC_AUTH_DIGEST_INVALID', 'ERR_BEARER_JWT_TOKEN_MISSING', 'ERR_BEARER_JWT_TOKEN_INVALID',
  'ERR_BEARER_JWT_TOKEN_AMBIGUOUS', 'ERR_BEARER_JWT_TOKEN_EXPIRED', 'ERR_BEARER_JWT_CLAIMS_INVALID', 'ERR_BEARER_JWT_TOKEN_REVOKED',
  'ERR_BEARER_JWT_SCOPE_INSUFFICIENT', 'ERR_BEARER_JWT_REFRESH_INVALID', 'ERR_BEARER_JWT_REFRESH_REUSED', 'ERR_BEARER_JWT_STATE_UNAVAILABLE',
  'ERR_GUARD_STORE_UNAVAILABLE', 'ERR_GUARD_JUDGE_FAILED'
], [
  { status: 401, code: 'ERR_PAYMENTS_LOGIN_FAILED', cause: 'There is no merchant of this id and secret' },
  rateLimited
])
