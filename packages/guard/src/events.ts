/** Decision events: what was decided, by whom and why, for metrics and audit. Costs nothing when nobody listens. */

import { channel } from 'node:diagnostics_channel'
import type { FastifyRequest } from 'fastify'
import { causeOf, reasonOf, type AuthError } from './errors.js'
import type { GuardDefinition } from './guard.js'
import type { Decision } from './options.js'
import { ignoreRejection } from './resolver.js'
import type { Duty, RequestState } from './state.js'

/** The `node:diagnostics_channel` on which every decision is published. */
export const decisionChannel = 'sallyport:decision'

const decisions = channel(decisionChannel)

type Listeners = readonly (((decision: Decision) => void) | undefined)[]

/** True if somebody would see a decision. */
export function isWatched (one: Listeners[number], other: Listeners[number]): boolean {
  return one !== undefined || other !== undefined || decisions.hasSubscribers
}

export interface DecisionFacts {
  readonly guard: string
  readonly request: FastifyRequest
  readonly refusal: AuthError | undefined
  readonly tenant: string | undefined
  readonly matched: string | undefined
  readonly startedAt: number
}

/** Publishes one decision. A listener that throws changes nothing for the request. */
export function publishDecision (facts: DecisionFacts, listeners: Listeners): void {
  const { guard, request, refusal, tenant, matched, startedAt } = facts
  const decision: Decision = Object.freeze({
    guard,
    requestId: request.id,
    method: request.method,
    route: request.routeOptions.url,
    outcome: refusal === undefined ? 'passed' : refusal.outcome,
    code: refusal?.code,
    reason: refusal === undefined ? undefined : reasonOf(refusal),
    tenant,
    matched,
    cause: refusal === undefined ? undefined : causeOf(refusal),
    durationMs: performance.now() - startedAt
  })
  decisions.publish(decision)
  for (const listener of listeners) {
    try {
      ignoreRejection(listener?.(decision))
    } catch {
      // An observer must not be able to change a verdict.
    }
  }
}

/** Publishes what was refused in a stage after the judgement: a claim, a body. */
export function publishRefusal (definition: GuardDefinition, request: FastifyRequest, { state, refused, startedAt }: LateRefusal): void {
  const { onDecision } = state.runtime
  if (!isWatched(definition.onDecision, onDecision)) return
  const matched = state.judged.find((judged) => judged.definition === definition)?.judgement.matched
  publishDecision({ guard: definition.name, request, refusal: refused, tenant: state.tenant, matched, startedAt }, [definition.onDecision, onDecision])
}

/** Publishes what only the body could prove, and did. */
export function publishPassed (duties: readonly Duty[], request: FastifyRequest, { state, startedAt }: Omit<LateRefusal, 'refused'>): void {
  const { onDecision } = state.runtime
  for (const { leaf: { definition }, judgement: { provisional, matched, principal } } of duties) {
    if (provisional !== true || !isWatched(definition.onDecision, onDecision)) continue
    publishDecision({ guard: definition.name, request, refusal: undefined, tenant: principal?.tenant ?? state.tenant, matched, startedAt }, [definition.onDecision, onDecision])
  }
}

interface LateRefusal { readonly state: RequestState, readonly refused: AuthError, readonly startedAt: number }
