/** Makes the claims of a request that has passed: all of them or none, in bounded time. */

import { randomBytes } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import type { ClaimResult } from './claim-store.js'
import { isAuthError, refusal, withChallenge, type AuthError } from './errors.js'
import { publishRefusal } from './events.js'
import type { Claim } from './guard.js'
import { isThenable } from './resolver.js'
import { none, type DueClaim, type MadeClaim, type RequestState, type StageContext } from './state.js'
import type { Verdict } from './trial.js'

interface Attempt extends StageContext {
  readonly due: DueClaim
  readonly made: MadeClaim
  readonly request: FastifyRequest
  readonly startedAt: number
}

/**
 * Makes the claims, and stops at the first that is refused. What has been made stands in `state.made`, and can be given back
 * as long as the request may still be refused. At once where stores answer at once.
 */
export function makeClaims (claims: readonly DueClaim[], request: FastifyRequest, context: StageContext, from = 0): Verdict | Promise<Verdict> {
  for (let i = from; i < claims.length; i++) {
    const refused = makeClaim(claims[i]!, request, context)
    if (isThenable(refused)) return makeRest(claims, request, { context, refused, next: i + 1 })
    if (refused !== undefined) return refused
  }
  return undefined
}

interface Waiting { readonly context: StageContext, readonly refused: Promise<Verdict>, readonly next: number }

async function makeRest (claims: readonly DueClaim[], request: FastifyRequest, { context, refused, next }: Waiting): Promise<Verdict> {
  return await refused ?? makeClaims(claims, request, context, next)
}

/** Gives back what was made for a request that is refused after all. */
export function giveBackClaims (state: RequestState): void {
  const { made } = state
  state.made = none
  for (const one of made) {
    freePlace(one)
    release(one)
  }
}

function makeClaim (due: DueClaim, request: FastifyRequest, { state, places }: StageContext): Verdict | Promise<Verdict> {
  const { claim } = due
  const { quota, store, key, expiresAtMs } = claim
  const startedAt = performance.now()
  const now = state.runtime.clock()
  const ttlMs = Math.max(1, Math.ceil((expiresAtMs - now) / 1000)) * 1000
  const made: MadeClaim = { claim, owner: nextOwner(), places, untilMs: now + ttlMs }
  const attempt: Attempt = { due, made, request, state, places, startedAt }
  if (quota !== undefined && !places.take(quota, now, made.untilMs)) return refuse(attempt, refusal('ERR_GUARD_CLAIM_LIMIT', { retryAfterSeconds: ttlMs / 1000 }))
  let result
  try {
    result = typeof store.claimNow === 'function' ? store.claimNow(key, ttlMs, made.owner) : store.claim(key, ttlMs, made.owner)
  } catch (cause) {
    return lost(attempt, cause)
  }
  return isThenable(result) ? waitFor(result, attempt) : accept(result, attempt)
}

async function waitFor (asked: Promise<ClaimResult>, attempt: Attempt): Promise<Verdict> {
  const { made } = attempt
  let result
  try {
    result = await inStoreTime(asked, made.claim.storeTimeoutMs)
  } catch (cause) {
    return lost(attempt, cause)
  }
  if (result !== 'late') return accept(result, attempt)
  // Answered 503: if the store takes the key after all, the client's next try must not count as a repetition.
  asked.then((answer: Partial<ClaimResult> | undefined) => { if (answer?.claimed === true) release(made) }).catch(ignore)
  return refuseUnmade(attempt, refusal('ERR_GUARD_STORE_UNAVAILABLE', { reason: 'store-timeout' }))
}

/** Rejects as the store does; a promise that is late may do so later. */
async function inStoreTime (asked: Promise<ClaimResult>, storeTimeoutMs: number): Promise<ClaimResult | 'late'> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<'late'>((resolve) => { timer = setTimeout(resolve, storeTimeoutMs, 'late') })
  try {
    return await Promise.race([asked, late])
  } finally {
    clearTimeout(timer)
  }
}

function accept (result: Partial<ClaimResult> | undefined, attempt: Attempt): Verdict {
  const { state, made } = attempt
  if (result?.claimed === true) {
    state.made = state.made.length === 0 ? [made] : [...state.made, made]
    return undefined
  }
  if (result?.claimed !== false) return lost(attempt, new TypeError('the store did not say whether the key was claimed'))
  return refuseUnmade(attempt, refusalOfRepeated(made.claim))
}

function refusalOfRepeated ({ repeated }: Claim): AuthError {
  let refused: unknown
  try {
    refused = repeated === undefined ? refusal('ERR_GUARD_CLAIM_REPEATED') : repeated()
  } catch (thrown) {
    refused = thrown
  }
  return isAuthError(refused) ? refused : refusal('ERR_GUARD_JUDGE_FAILED', { reason: 'no-refusal', cause: refused })
}

/** The store may have taken the key before its answer was lost. */
function lost (attempt: Attempt, cause: unknown): AuthError {
  release(attempt.made)
  return refuseUnmade(attempt, refusal('ERR_GUARD_STORE_UNAVAILABLE', { reason: 'store-error', cause }))
}

function refuseUnmade (attempt: Attempt, refused: AuthError): AuthError {
  freePlace(attempt.made)
  return refuse(attempt, refused)
}

function refuse ({ due: { definition }, request, state, startedAt }: Attempt, refused: AuthError): AuthError {
  const answer = withChallenge(refused, definition.challenges?.[refused.outcome])
  publishRefusal(definition, request, { state, refused: answer, startedAt })
  return answer
}

function freePlace ({ claim: { quota }, places, untilMs }: MadeClaim): void {
  if (quota !== undefined) places.giveBack(quota.group, untilMs)
}

/** If the store can't do it, the key runs out by itself. */
function release ({ claim: { store, key }, owner }: MadeClaim): void {
  try {
    Promise.resolve(store.release(key, owner)).catch(ignore)
  } catch { /* as above */ }
}

function ignore (): void { /* nobody waits for it */ }

let owners = 0
const processId = randomBytes(4).toString('base64url')

/** Tells claims apart, also those of other processes. Not a secret: it only guards `release`. Short, because it lives as long as the key. */
function nextOwner (): string {
  return processId + String(++owners)
}
