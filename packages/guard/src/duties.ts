/** Judges what was owed for a body, once it has been read: the digests and MACs that the headers promised. */

import type { FastifyRequest } from 'fastify'
import { hideCredentials } from './credentials.js'
import { refusal, type AuthError } from './errors.js'
import { publishPassed, publishRefusal } from './events.js'
import type { Claim, GuardDefinition } from './guard.js'
import { judgeProvisional, refusedWith, tooSlow } from './judge.js'
import { areClaims } from './judgement.js'
import { giveBackClaims, makeClaims } from './make-claims.js'
import { inTime, isThenable } from './resolver.js'
import { knownState, none, type Duty, type Judged, type RequestState, type StageContext } from './state.js'
import { Trial, type Verdict } from './trial.js'

/**
 * For handlers of routes with `require({ body: 'stream' })`: resolves once the body has been read to its end and is what the
 * request's signature promised. Call it while or after reading; until it resolves, believe and answer nothing.
 * Rejects with the `AuthError` of the guard, or with 415 `ERR_GUARD_BODY_UNREAD` where the connection closed before the end.
 * Resolves at once where nothing of the body was to be judged.
 */
export async function bodyVerified (request: FastifyRequest): Promise<void> {
  const state = knownState(request)
  const refused = state?.refusal ?? await state?.verified?.()
  if (refused !== undefined) throw refused
}

/** Judges all duties of a request, and makes the claims that waited for the body. A refusal undoes what was claimed before. */
export async function meetDuties (request: FastifyRequest, context: StageContext, waitsForReader: boolean): Promise<Verdict> {
  const { state } = context
  const startedAt = performance.now()
  const trial = new Trial(request, state)
  const unread = await state.body!.whole({ waitsForReader })
  const refuse = (definition: GuardDefinition, refused: AuthError): AuthError => {
    publishRefusal(definition, request, { state, refused, startedAt })
    return refuseAfterwards(request, state, refused)
  }
  if (unread !== undefined) return refuse(state.duties[0]!.leaf.definition, unread)
  for (const duty of state.duties) {
    const refused = await meetDuty(duty, trial)
    if (refused !== undefined) return refuse(duty.leaf.definition, refused)
  }
  const refused = await makeClaims(trial.claims, request, context) ?? announceCommit(request, trial.passed.filter(isNew(state)))
  if (refused !== undefined) return refuseAfterwards(request, state, refused)
  publishPassed(state.duties, request, { state, startedAt })
  trial.settle()
  Object.assign(state, { metDuties: [...state.metDuties, ...state.duties], duties: [], made: none } satisfies Partial<RequestState>)
  return undefined
}

async function meetDuty (duty: Duty, trial: Trial): Promise<Verdict> {
  const { leaf: { definition }, judgement, watches } = duty
  const claims: Claim[] = []
  try {
    for (const watch of watches) {
      const answer = watch.verify(trial.request)
      const more = isThenable(answer) ? await inTime(answer, trial.state.runtime.judgeTimeoutMs, tooSlow) : answer
      if (!areClaims(more)) return refusal('ERR_GUARD_JUDGE_FAILED', { reason: 'no-claims' })
      claims.push(...more ?? [])
    }
  } catch (error) {
    return refusedWith(definition, error)
  }
  return judgement.provisional === true ? judgeProvisional(duty, claims, trial) : trial.add(definition, judgement, claims)
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
