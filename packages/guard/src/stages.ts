/** The stages after the judgement, as hooks at guard's root: claims are made, credentials hidden, challenges written. */

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { ClaimQuota } from './claim-quota.js'
import { hideCredentials } from './credentials.js'
import { isAuthError, refusal, withChallenge, type AuthError } from './errors.js'
import type { Claim, GuardDefinition, Judgement } from './guard.js'
import { knownState, stateAtCommit, type RequestState } from './state.js'

/** Installs the stages for every route of the scope, earlier ones and 404 handlers included. */
export function installStages (app: FastifyInstance): void {
  const places = new ClaimQuota()

  app.addHook('preParsing', function sallyportClaims (request, _reply, _payload, done) {
    const state = stateAtCommit(request)
    if (state === undefined) { done(); return }
    const settle = (verdict: AuthError | undefined): void => {
      const refused = verdict ?? announceCommit(request, state)
      // The claims were refused after the policy had passed: nothing of it is true of the request any more.
      if (refused !== undefined) state.refusal = refused
      // Now and not later: what the body is refused with (413, 400) goes through error handlers and their logs.
      hide(request, state)
      done(refused)
    }
    if (state.claims.length === 0) settle(undefined)
    else makeClaims(state, places).then(settle, (cause: unknown) => { settle(refusal('ERR_GUARD_STORE_UNAVAILABLE', { reason: 'store-error', cause })) })
  })

  app.addHook('preHandler', function sallyportHide (request, _reply, done) {
    const state = knownState(request)
    if (state !== undefined && !state.hidden) hide(request, state)
    done()
  })

  app.addHook('onSend', function sallyportAnswer (request, reply, _payload, done) {
    const state = knownState(request)
    if (state !== undefined) writeHeaders(state, request, reply)
    done()
  })
}

function announceCommit (request: FastifyRequest, { passed }: RequestState): AuthError | undefined {
  try {
    for (const { definition, judgement } of passed) definition.committed?.(request, judgement)
    return undefined
  } catch (cause) {
    return refusal('ERR_GUARD_JUDGE_FAILED', { reason: 'committed', cause })
  }
}

function hide (request: FastifyRequest, state: RequestState): void {
  state.hidden = true
  hideCredentials(request, state.sources, state.refusal !== undefined)
}

/**
 * Makes every claim or none: when one is refused, those made before it are given back.
 * Before the body is read, so that three slow uploads of one signed request can't all pass.
 */
async function makeClaims ({ claims, runtime }: RequestState, places: ClaimQuota): Promise<AuthError | undefined> {
  const made: (() => Promise<void>)[] = []
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
    for (const release of made) release().catch(ignore)
    return withChallenge(refused, definition.challenges?.[refused.outcome])
  }
  return undefined
}

async function takeKey ({ store, key, storeTimeoutMs, repeated }: Claim, ttlMs: number, owner: string): Promise<AuthError | undefined> {
  let timer: NodeJS.Timeout | undefined
  try {
    const asked = store.claim(key, ttlMs, owner)
    const late = new Promise<'late'>((resolve) => { timer = setTimeout(resolve, storeTimeoutMs, 'late') })
    const result = await Promise.race([asked, late])
    if (result === 'late') {
      // Answered 503: if the store takes the key after all, the client's next try must not count as a repetition.
      asked.then((answer) => answer.claimed ? store.release(key, owner) : undefined).catch(ignore)
      return refusal('ERR_GUARD_STORE_UNAVAILABLE', { reason: 'store-timeout' })
    }
    if (result.claimed === true) return undefined
    const refused: unknown = repeated === undefined ? refusal('ERR_GUARD_CLAIM_REPEATED') : repeated()
    return isAuthError(refused) ? refused : refusal('ERR_GUARD_JUDGE_FAILED', { reason: 'no-refusal' })
  } catch (error) {
    return refusal('ERR_GUARD_STORE_UNAVAILABLE', { reason: 'store-error', cause: error })
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

/** Challenges and announcements go on the answer as it finally is, so they survive a custom error handler and never leak onto a 200. */
function writeHeaders (state: RequestState, request: FastifyRequest, reply: FastifyReply): void {
  const { refusal: refused, announcing } = state
  if (refused !== undefined && [401, 403, 429, 503].includes(reply.statusCode)) {
    if (refused.challenge !== undefined && reply.statusCode !== 429) reply.header('www-authenticate', refused.challenge)
    const retryAfter = refused.retryAfterSeconds ?? (refused.outcome === 'unavailable' ? 1 : undefined)
    if (retryAfter !== undefined) reply.header('retry-after', String(retryAfter))
  }
  for (const definition of announcing) {
    const judgement = state.passed.find((judged) => judged.definition === definition)?.judgement
    for (const [name, value] of Object.entries(announcementOf(definition, request, judgement))) {
      const present = reply.getHeader(name)
      // A handler may have links of its own (RFC 8288); every other header here has one value.
      reply.header(name, name.toLowerCase() === 'link' && present !== undefined ? [present, value].flat().join(', ') : value)
    }
  }
}

/** The answer is made already: a guard that fails now must not change it. */
function announcementOf (definition: GuardDefinition, request: FastifyRequest, judgement: Judgement | undefined): Readonly<Record<string, string>> {
  try {
    return definition.replyHeaders!(request, judgement) ?? {}
  } catch {
    return {}
  }
}
