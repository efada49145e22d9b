/** Judges what was owed for a body, once it has been read: the digests and MACs that the headers promised. */

import type { FastifyRequest } from 'fastify'
import { hideCredentials } from './credentials.js'
import { refusal, type AuthError } from './errors.js'
import { publishPassed, publishRefusal } from './events.js'
import type { Claim } from './guard.js'
import { judgeProvisional, refusedWith, tooSlow, unclaimable } from './judge.js'
import { areClaims } from './judgement.js'
import { giveBackClaims, makeClaims } from './make-claims.js'
import { inTime, isThenable } from './resolver.js'
import { knownState, none, type Duty, type Judged, type RequestState, type StageContext } from './state.js'
import { Trial, type Verdict } from './trial.js'

/**
 * For handlers of routes with `require({ body: 'stream' })`: resolves once the body has been read to its end and is what the
 * request's signature promised. Call it while or after reading; until it resolves, believe and answer nothing.
 * Rejects with the `AuthError` of the guard, with 415 `ERR_GUARD_BODY_UNREAD` where the connection closed before the end or the
 * request has been answered, or with 503 `ERR_GUARD_BODY_UNVERIFIED` in a hook that comes before guard's own `preValidation`, which judges bodies.
 * Resolves at once where nothing of the body was to be judged.
 */
export async function bodyVerified (request: FastifyRequest): Promise<void> {
  const state = knownState(request)
  const refused = state?.refusal ?? (state?.verified === undefined ? tooEarly(state) : await state.verified())
  if (refused !== undefined) throw refused
}

function tooEarly (state: RequestState | undefined): Verdict {
  return state === undefined || state.duties.length === 0 ? undefined : refusal('ERR_GUARD_BODY_UNVERIFIED')
}

type MaybeLater<T> = T | Promise<T>

interface Meeting {
  readonly context: StageContext
  readonly trial: Trial
  readonly startedAt: number
}

/** Judges all duties of a request, and makes the claims that waited for the body; at once where nothing has to be waited for. A refusal undoes what was claimed before. */
export function meetDuties (request: FastifyRequest, context: StageContext, waitsForReader: boolean): MaybeLater<Verdict> {
  const meeting: Meeting = { context, trial: new Trial(request, context.state), startedAt: performance.now() }
  const unread = context.state.body!.whole({ waitsForReader })
  return isThenable(unread) ? unread.then((later) => meetRead(meeting, later)) : meetRead(meeting, unread)
}

function meetRead (meeting: Meeting, unread: Verdict): MaybeLater<Verdict> {
  return unread === undefined ? meetFrom(meeting, 0) : refuse(meeting, 0, unread)
}

function meetFrom (meeting: Meeting, from: number): MaybeLater<Verdict> {
  const { duties } = meeting.context.state
  for (let i = from; i < duties.length; i++) {
    const refused = meetDuty(duties[i]!, meeting.trial)
    if (isThenable(refused)) return meetRest(meeting, i, refused)
    if (refused !== undefined) return refuse(meeting, i, refused)
  }
  return claimDue(meeting)
}

async function meetRest (meeting: Meeting, i: number, verdict: Promise<Verdict>): Promise<Verdict> {
  const refused = await verdict
  return refused === undefined ? meetFrom(meeting, i + 1) : refuse(meeting, i, refused)
}

function refuse ({ context: { state }, trial: { request }, startedAt }: Meeting, i: number, refused: AuthError): AuthError {
  publishRefusal(state.duties[i]!.leaf.definition, request, { state, refused, startedAt })
  return refuseAfterwards(request, state, refused)
}

function claimDue (meeting: Meeting): MaybeLater<Verdict> {
  const { context, trial } = meeting
  const refused = makeClaims(trial.claims, trial.request, context)
  return isThenable(refused) ? refused.then((later) => conclude(meeting, later)) : conclude(meeting, refused)
}

function conclude ({ context: { state }, trial, startedAt }: Meeting, unmade: Verdict): Verdict {
  const { request } = trial
  const refused = unmade ?? endedUnjudged(state) ?? announceCommit(request, trial.passed.filter(isNew(state)))
  if (refused !== undefined) return refuseAfterwards(request, state, refused)
  publishPassed(state.duties, request, { state, startedAt })
  trial.settle()
  state.metDuties = state.metDuties.length === 0 ? state.duties : [...state.metDuties, ...state.duties]
  state.duties = none
  state.made = none
  return undefined
}

function endedUnjudged (state: RequestState): Verdict {
  return state.endedUnjudged ? refusal('ERR_GUARD_BODY_UNREAD', { reason: 'ended-unjudged' }) : undefined
}

/** Judges what has been read by what one guard was owed, and then what rests on it. */
function meetDuty (duty: Duty, trial: Trial, from = 0, claims: readonly Claim[] = none): MaybeLater<Verdict> {
  const { leaf: { definition }, judgement, watches } = duty
  for (let i = from; i < watches.length; i++) {
    try {
      const more = watches[i]!.verify(trial.request)
      if (isThenable(more)) return meetDutyLater(duty, trial, { more, next: i + 1, claims })
      if (!areClaims(more)) return unclaimable()
      if (more !== undefined) claims = [...claims, ...more]
    } catch (error) {
      return refusedWith(definition, error)
    }
  }
  return judgement.provisional === true ? judgeProvisional(duty, claims, trial) : trial.add(definition, judgement, claims)
}

interface Waiting { readonly more: PromiseLike<readonly Claim[] | void>, readonly next: number, readonly claims: readonly Claim[] }

function meetDutyLater (duty: Duty, trial: Trial, { more, next, claims }: Waiting): Promise<Verdict> {
  return inTime(more, trial.state.runtime.judgeTimeoutMs, tooSlow).then(
    (later) => areClaims(later) ? meetDuty(duty, trial, next, [...claims, ...later ?? []]) : unclaimable(),
    (error: unknown) => refusedWith(duty.leaf.definition, error)
  )
}

function isNew ({ passed }: RequestState): (judged: Judged) => boolean {
  return ({ definition }) => !passed.some((judged) => judged.definition === definition)
}

/** Tells guards that the request has passed. */
export function announceCommit (request: FastifyRequest, passed: readonly Judged[]): AuthError | undefined {
  try {
    for (let i = 0; i < passed.length; i++) passed[i]!.definition.committed?.(request, passed[i]!.judgement)
    return undefined
  } catch (cause) {
    return refusal('ERR_GUARD_JUDGE_FAILED', { reason: 'committed', cause })
  }
}

/** The request is refused after its policy had passed: nothing of it is true any more, and nothing of it is taken. */
export function refuseAfterwards (request: FastifyRequest, state: RequestState, refused: AuthError): AuthError {
  state.refusal = refused
  hideCredentials(request, state.places, true)
  giveBackClaims(state)
  return refused
}
