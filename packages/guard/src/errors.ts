/** The two error classes of the house: `OptionsError` at registration, `AuthError` per request. */

const kOptionsError = Symbol.for('sallyport.OptionsError')
const kAuthError = Symbol.for('sallyport.AuthError')
const kReason = Symbol.for('sallyport.reason')
const kCause = Symbol.for('sallyport.cause')

/** How a refusal came about; composition depends on it, never on the status code. */
export type Outcome = 'absent' | 'rejected' | 'forbidden' | 'unavailable'

const statusOf: Readonly<Record<Outcome, number>> = { absent: 401, rejected: 401, forbidden: 403, unavailable: 503 }

/**
 * A wrong option, thrown at registration and never per request.
 * The message names the package, the quoted option and the rule that it breaks.
 */
export class OptionsError extends TypeError {
  override readonly name = 'OptionsError'
  readonly code = 'ERR_GUARD_OPTIONS'
  /** The option's name, with a path where it is nested: `keys[0].secret`. */
  readonly option: string

  constructor (owner: string, option: string, rule: string) {
    super(`${owner}: option "${option}" ${rule}`)
    this.option = option
    Object.defineProperty(this, kOptionsError, { value: true })
  }
}

export interface AuthErrorInit {
  readonly code: string
  readonly outcome: Outcome
  /** Constant per code: nothing of the request may be in it. */
  readonly message: string
  /** Default: 401 for `absent` and `rejected`, 403 for `forbidden`, 503 for `unavailable`. */
  readonly statusCode?: number | undefined
  /** The `WWW-Authenticate` value of this refusal (RFC 9110 section 11.6.1). */
  readonly challenge?: string | undefined
  /** Whole seconds; sent as `Retry-After` (RFC 9110 section 10.2.3). */
  readonly retryAfterSeconds?: number | undefined
  /** The true reason, from a closed set; it reaches decision events only. */
  readonly reason?: string | undefined
  /** What went wrong underneath; it reaches decision events only. */
  readonly cause?: unknown
}

/**
 * The refusal of one request. Fastify's error path renders it; `code`, `statusCode` and `message` are constants of the
 * package's refusal table, so that nothing a client sent and nothing secret can reach a body or a log.
 */
export class AuthError extends Error {
  override readonly name = 'AuthError'
  readonly code: string
  readonly statusCode: number
  readonly outcome: Outcome
  readonly challenge?: string
  readonly retryAfterSeconds?: number

  constructor (init: AuthErrorInit) {
    super(init.message)
    this.code = init.code
    this.outcome = init.outcome
    this.statusCode = init.statusCode ?? statusOf[init.outcome]
    if (init.challenge !== undefined) this.challenge = init.challenge
    if (init.retryAfterSeconds !== undefined) this.retryAfterSeconds = init.retryAfterSeconds
    // Out of sight of loggers and serialisers, which follow enumerable properties and `cause`.
    Object.defineProperty(this, kAuthError, { value: true })
    Object.defineProperty(this, kReason, { value: init.reason })
    Object.defineProperty(this, kCause, { value: init.cause })
  }
}

/** True for an `AuthError` of any copy of this package. */
export function isAuthError (value: unknown): value is AuthError {
  return typeof value === 'object' && value !== null && kAuthError in value
}

/** True for an `OptionsError` of any copy of this package. */
export function isOptionsError (value: unknown): value is OptionsError {
  return typeof value === 'object' && value !== null && kOptionsError in value
}

/** The reason code behind a refusal, for decision events; the code itself where no finer reason was given. */
export function reasonOf (error: AuthError): string {
  return (error as { [kReason]?: string })[kReason] ?? error.code
}

/** What went wrong underneath an `unavailable`, for decision events. */
export function causeOf (error: AuthError): unknown {
  return (error as { [kCause]?: unknown })[kCause]
}

/** Gives a refusal the challenge of its guard, unless it brought one of its own. */
export function withChallenge (error: AuthError, challenge: string | undefined): AuthError {
  if (error.challenge !== undefined || challenge === undefined) return error
  if (Object.isExtensible(error)) return Object.assign(error, { challenge })
  const { code, outcome, message, statusCode, retryAfterSeconds } = error
  return new AuthError({ code, outcome, message, statusCode, retryAfterSeconds, challenge, reason: reasonOf(error), cause: causeOf(error) })
}

/** One line of a package's refusal table. */
export interface RefusalEntry {
  readonly outcome: Outcome
  readonly message: string
  readonly statusCode?: number
}

export type RefusalDetails = Pick<AuthErrorInit, 'challenge' | 'retryAfterSeconds' | 'reason' | 'cause'>

/** A package's refusal table, as one function a code: `throw refusal('ERR_X_Y_Z', { reason: 'signature' })`. */
export function defineRefusals<C extends string> (table: Readonly<Record<C, RefusalEntry>>) {
  return function refusal (code: C, details?: RefusalDetails): AuthError {
    return new AuthError({ code, ...table[code], ...details })
  }
}

/** What `guard` itself refuses with. Each package documents its own table the same way. */
export const guardRefusals = {
  /** Several alternatives were offered and no credential for any of them was presented. */
  ERR_GUARD_CREDENTIAL_MISSING: { outcome: 'absent', message: 'Authentication is required' },
  /** One of several required credentials is missing beside one that was presented. */
  ERR_GUARD_CREDENTIAL_INCOMPLETE: { outcome: 'rejected', message: 'Another credential is required beside the one presented' },
  /** A key that may be used once was used before. */
  ERR_GUARD_CLAIM_REPEATED: { outcome: 'rejected', message: 'The credential was used before' },
  /** Too many live claims of one credential: `maxLiveClaimsPerKey`. */
  ERR_GUARD_CLAIM_LIMIT: { outcome: 'forbidden', statusCode: 429, message: 'Too many requests with this credential' },
  /** Two credentials of one request prove different tenants or subjects. */
  ERR_GUARD_PRINCIPAL_CONFLICT: { outcome: 'forbidden', message: 'The credentials belong to different principals' },
  /** The route's tenant parameter is not the tenant of the credential. */
  ERR_GUARD_TENANT_MISMATCH: { outcome: 'forbidden', message: 'The credential does not belong to this tenant' },
  /** The request did not come over HTTPS and `requireHttps` is set. */
  ERR_GUARD_HTTPS_REQUIRED: { outcome: 'forbidden', message: 'HTTPS is required' },
  /** A guard threw something else than a refusal, answered with no judgement, or took longer than `judgeTimeoutMs`. */
  ERR_GUARD_JUDGE_FAILED: { outcome: 'unavailable', message: 'The request could not be judged' },
  /** A store is down, full, or slower than `storeTimeoutMs`. */
  ERR_GUARD_STORE_UNAVAILABLE: { outcome: 'unavailable', message: 'The request could not be judged' },
  /** Nobody read the body to its end, so what was promised of it can't be judged: there is no parser for it, or the parser stopped early. */
  ERR_GUARD_BODY_UNREAD: { outcome: 'rejected', statusCode: 415, message: 'The body could not be read whole' },
  /** A handler answered before `bodyVerified(request)` had resolved. */
  ERR_GUARD_BODY_UNVERIFIED: { outcome: 'unavailable', message: 'The request could not be judged' },
  /** The route was declared before guard could see it, so nobody knows its policy. */
  ERR_GUARD_ROUTE_UNSEEN: { outcome: 'unavailable', message: 'The route is not ready' },
  /** A guard ran after its stage: in a hook later than `onRequest`, beside the policy that had already been committed, or where somebody had read of the body before. */
  ERR_GUARD_STAGE_LATE: { outcome: 'unavailable', message: 'The request could not be judged' }
} as const satisfies Record<string, RefusalEntry>

export type GuardRefusalCode = keyof typeof guardRefusals

export const refusal = defineRefusals<GuardRefusalCode>(guardRefusals)
