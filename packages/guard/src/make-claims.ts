/** Makes the claims of a request that has passed: all of them or none, in bounded time. */

import type { FastifyRequest } from 'fastify'
import type { ClaimQuota } from './claim-quota.js'
import type { ClaimResult } from './claim-store.js'
import { isAuthError, refusal, withChallenge, type AuthError } from './errors.js'
import { publishRefusal } from './events.js'
import type { Claim } from './guard.js'
import type { DueClaim, RequestState } from './state.js'

interface ClaimContext { readonly state: RequestState, readonly places: ClaimQuota }

/**
 * Makes every claim or none: when one is refused, those made before it are given back. What was made can be given back as
 * long as the request may still be refused: `state.giveBack`.
 */
export async function makeClaims (claims: readonly DueClaim[], request: FastifyRequest, { state, places }: ClaimContext): Promise<AuthError | undefined> {
  const { runtime } = state
  const startedAt = performance.now()
  const made: (() => Promise<void>)[] = []
  const giveBack = (): void => { for (const release of made) release().catch(ignore) }
  for (const { claim, definition } of claims) {
    const owner = nextOwner()
    const now = runtime.clock()
    const ttlMs = Math.max(1, Math.ceil((claim.expiresAtMs - now) / 1000)) * 1000
    const { quota, store, key } = claim
    const freePlace = (): void => { if (quota !== undefined) places.giveBack(quota.group, now + ttlMs) }
    const refused = quota !== undefined && !places.take(quota, now, now + ttlMs)
      ? refusal('ERR_GUARD_CLAIM_LIMIT', { retryAfterSeconds: ttlMs / 1000 })
      : await takeKey(claim, ttlMs, owner)
    if (refused === undefined) {
      made.push(async () => { freePlace(); await store.release(key, owner) })
      continue
    }
    if (refused.statusCode !== 429) freePlace()
    giveBack()
    const answer = withChallenge(refused, definition.challenges?.[refused.outcome])
    publishRefusal(definition, request, { state, refused: answer, startedAt })
    return answer
  }
  const before = state.giveBack
  state.giveBack = () => { before?.(); giveBack() }
  return undefined
}

async function takeKey (claim: Claim, ttlMs: number, owner: string): Promise<AuthError | undefined> {
  const { store, key, repeated } = claim
  try {
    const asked = store.claim(key, ttlMs, owner)
    const result = await atOnce(asked) ?? await inStoreTime(asked, claim.storeTimeoutMs)
    if (result === 'late') {
      // Answered 503: if the store takes the key after all, the client's next try must not count as a repetition.
      asked.then((answer) => answer.claimed ? store.release(key, owner) : undefined).catch(ignore)
      return refusal('ERR_GUARD_STORE_UNAVAILABLE', { reason: 'store-timeout' })
    }
    if (result.claimed === true) return undefined
    const refused: unknown = repeated === undefined ? refusal('ERR_GUARD_CLAIM_REPEATED') : repeated()
    return isAuthError(refused) ? refused : refusal('ERR_GUARD_JUDGE_FAILED', { reason: 'no-refusal' })
  } catch (error) {
    // The store may have taken the key before its answer was lost.
    store.release(key, owner).catch(ignore)
    return refusal('ERR_GUARD_STORE_UNAVAILABLE', { reason: 'store-error', cause: error })
  }
}

/** The answer of a store that has it already, as one in memory does: a timer would cost more than its claim. */
async function atOnce (asked: Promise<ClaimResult>): Promise<ClaimResult | undefined> {
  let answer: ClaimResult | undefined
  asked.then((result) => { answer = result }, ignore)
  await undefined
  return answer
}

async function inStoreTime (asked: Promise<ClaimResult>, storeTimeoutMs: number): Promise<ClaimResult | 'late'> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<'late'>((resolve) => { timer = setTimeout(resolve, storeTimeoutMs, 'late') })
  try {
    return await Promise.race([asked, late])
  } finally {
    clearTimeout(timer)
  }
}

function ignore (): void { /* the key runs out by itself */ }

let owners = 0
const processId = `${process.pid}.${Date.now().toString(36)}.${Math.random().toString(36).slice(2)}`

/** Tells this process's claims apart from all others. Not a secret: it only guards `release`. */
function nextOwner (): string {
  return `${processId}.${++owners}`
}
