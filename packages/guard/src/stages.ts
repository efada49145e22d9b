/** The stages after the judgement, as hooks at guard's root: claims are made, credentials hidden, bodies judged, challenges written. */

import { Readable } from 'node:stream'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { WatchedBody } from './bodies.js'
import { ClaimQuota } from './claim-quota.js'
import { hideCredentials } from './credentials.js'
import { announceCommit, meetDuties, refuseAfterwards } from './duties.js'
import { refusal, type AuthError } from './errors.js'
import type { GuardDefinition, Judgement } from './guard.js'
import { giveBackClaims, makeClaims } from './make-claims.js'
import { isThenable } from './resolver.js'
import { knownState, stateAtCommit, type RequestState, type StageContext } from './state.js'
import type { Verdict } from './trial.js'

/** Installs the stages for every route of the scope, earlier ones and 404 handlers included. */
export function installStages (app: FastifyInstance): void {
  const places = new ClaimQuota()

  // Before the body is read, so that three slow uploads of one signed request can't all pass.
  app.addHook('preParsing', function sallyportClaims (request, reply, _payload, done) {
    const state = stateAtCommit(request)
    if (state === undefined) { done(); return }
    const refused = claimed(request, { state, places })
    if (isThenable(refused)) commitLater(request, reply, { state, refused, done })
    else done(committed(request, reply, { state, refused }))
  })

  app.addHook('preValidation', function sallyportBodies (request, _reply, done) {
    const state = knownState(request)
    if (state === undefined || state.duties.length === 0) done()
    else judgeBody(request, { state, places, done })
  })

  app.addHook('onSend', function sallyportAnswer (request, reply, payload, done) {
    const state = knownState(request)
    if (state === undefined) { done(); return }
    const isUnjudged = state.duties.length > 0
    if (isUnjudged) endUnjudged(state)
    if (isUnjudged && state.handlerReads && reply.statusCode < 400) {
      // Once: what an error handler makes of it is the answer.
      state.handlerReads = false
      discard(payload)
      done(state.refusal ?? refuseAfterwards(request, state, refusal('ERR_GUARD_BODY_UNVERIFIED')))
      return
    }
    if (state.refusal !== undefined || state.announcing.length > 0) writeHeaders(state, request, reply)
    done()
  })
}

function claimed (request: FastifyRequest, context: StageContext): Verdict | Promise<Verdict> {
  try {
    return makeClaims(context.state.claims, request, context)
  } catch (cause) {
    return refusal('ERR_GUARD_JUDGE_FAILED', { reason: 'stage', cause })
  }
}

type Done = (error?: Error) => void

function commitLater (request: FastifyRequest, reply: FastifyReply, { state, refused, done }: { readonly state: RequestState, readonly refused: Promise<Verdict>, readonly done: Done }): void {
  refused.then(
    (later) => { done(committed(request, reply, { state, refused: later })) },
    failed((failure) => { done(refuseAfterwards(request, state, failure)) })
  )
}

function judgeBody (request: FastifyRequest, { state, places, done }: StageContext & { readonly done: Done }): void {
  if (state.duties.every((duty) => duty.isStreamed) && !state.body!.hasEnded) {
    handlerJudges(request, { state, places })
    done()
    return
  }
  let verdict
  try {
    verdict = meetDuties(request, { state, places }, false)
  } catch (cause) {
    done(refuseAfterwards(request, state, refusal('ERR_GUARD_JUDGE_FAILED', { reason: 'stage', cause })))
    return
  }
  if (isThenable(verdict)) verdict.then(done, failed((refused) => { done(refuseAfterwards(request, state, refused)) }))
  else done(verdict)
}

/** The handler reads the body and asks for the verdict, with `bodyVerified`. */
function handlerJudges (request: FastifyRequest, { state, places }: StageContext): void {
  let verdict: Promise<AuthError | undefined> | undefined
  state.handlerReads = true
  state.verified = () => verdict ??= (async () => meetDuties(request, { state, places }, true))()
}

/** Where all that could be claimed is claimed, guards are told, and credentials go. */
function committed (request: FastifyRequest, reply: FastifyReply, { state, refused }: { readonly state: RequestState, readonly refused: Verdict }): Verdict {
  // Whoever answered while claims were being made has ended the request.
  const verdict = refused ?? (reply.sent ? refusal('ERR_GUARD_STAGE_LATE', { reason: 'answered' }) : announceCommit(request, state.passed))
  if (verdict !== undefined) return refuseAfterwards(request, state, verdict)
  // Now and not later: what the body is refused with (413, 400) goes through error handlers and their logs.
  const unhidden = hideCredentials(request, state.places, false)
  if (unhidden !== undefined) return refuseAfterwards(request, state, unhidden)
  if (state.body !== undefined && state.made.length > 0) giveBackUnlessMet(state.body, state, reply)
  return undefined
}

/**
 * What was claimed before the body came is given back if the client goes before its end. Answers without a verdict give it back on
 * their way out, those that take another way when they have been sent.
 */
function giveBackUnlessMet (body: WatchedBody, state: RequestState, reply: FastifyReply): void {
  body.whenGone(() => { endUnjudged(state) })
  reply.raw.once('finish', () => { endUnjudged(state) })
}

/** A verdict that comes later can't pass on claims that are no longer held. */
function endUnjudged (state: RequestState): void {
  if (state.duties.length === 0) return
  state.endedUnjudged = true
  giveBackClaims(state)
}

function failed (settle: (refused: AuthError) => void): (cause: unknown) => void {
  return (cause) => { settle(refusal('ERR_GUARD_JUDGE_FAILED', { reason: 'stage', cause })) }
}

/** An answer that is not sent must not leave a file or a connection open. */
function discard (payload: unknown): void {
  if (payload instanceof Readable) payload.destroy()
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
