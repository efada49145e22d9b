/** What one run of a policy has proved so far, and what becomes true of the request once the whole policy has passed. */

import type { FastifyRequest } from 'fastify'
import { WatchedBody } from './bodies.js'
import { refusal, type AuthError } from './errors.js'
import type { Claim, GuardDefinition, Judgement } from './guard.js'
import type { GuardNode } from './policy.js'
import { none, type DueClaim, type Duty, type Judged, type RequestState } from './state.js'

/** A refusal is a value inside the composition, so that the way through a request goes straight; `undefined` has passed. */
export type Verdict = AuthError | undefined

/** It becomes part of the request's state only if the whole policy passes. */
export class Trial {
  readonly request: FastifyRequest
  readonly state: RequestState
  passed: readonly Judged[] = none
  claims: readonly DueClaim[] = none
  duties: readonly Duty[] = none
  tenant: string | undefined
  subject: string | undefined

  constructor (request: FastifyRequest, state: RequestState) {
    this.request = request
    this.state = state
    this.tenant = state.tenant
    this.subject = state.subject
  }

  /** What this registration answered before, in this policy or an earlier one. */
  recall (definition: GuardDefinition): Judgement | undefined {
    return judgedBy(definition, this.state.judged)?.judgement
  }

  remember (definition: GuardDefinition, judgement: Judgement): void {
    this.state.judged = withOne(this.state.judged, { definition, judgement })
  }

  /** Takes what a guard proved, or refuses because it contradicts what another proved. */
  add (definition: GuardDefinition, judgement: Judgement, claims: readonly Claim[]): Verdict {
    const tenant = judgement.principal?.tenant
    const subject = judgement.principal?.subject
    if (tenant !== undefined && this.tenant !== undefined && tenant !== this.tenant) return refusal('ERR_GUARD_PRINCIPAL_CONFLICT', { reason: 'tenant' })
    if (subject !== undefined && this.subject !== undefined && subject !== this.subject) return refusal('ERR_GUARD_PRINCIPAL_CONFLICT', { reason: 'subject' })
    this.tenant ??= tenant
    this.subject ??= subject
    for (let i = 0; i < claims.length; i++) if (!this.#isDue(definition, claims[i]!)) this.claims = withOne(this.claims, { claim: claims[i]!, definition })
    if (judgedBy(definition, this.passed) === undefined) this.passed = withOne(this.passed, judgedBy(definition, this.state.judged)!)
    return undefined
  }

  /** True if the body has already been judged by this guard. */
  hasMet (definition: GuardDefinition): boolean {
    return dutyOf(definition, this.state.metDuties) !== undefined
  }

  /**
   * Takes what remains to be judged of the body, once for each guard. What every use of it asks for is judged then; one use that
   * can't wait for the handler is enough.
   */
  owe (leaf: GuardNode, judgement: Judgement): void {
    const known = dutyOf(leaf.definition, this.duties) ?? dutyOf(leaf.definition, this.state.duties)
    const watches = known?.watches ?? judgement.obligations!.map((obligation) => obligation.watch())
    const duty = { leaf: known === undefined ? leaf : bothOf(known.leaf, leaf), judgement, watches, isStreamed: leaf.streamsBody && known?.isStreamed !== false }
    this.duties = withDuty(this.duties, duty)
  }

  /** A guard that is written twice claims once. */
  #isDue (definition: GuardDefinition, { store, key }: Claim): boolean {
    const isSame = (due: DueClaim): boolean => due.definition === definition && due.claim.store === store && due.claim.key === key
    return this.state.claims.some(isSame) || this.claims.some(isSame)
  }

  /** The policy has passed: what it proved is now true of the request, its claims are due, and the body is watched. */
  accept (): Verdict {
    const { state } = this
    if (state.committed && (this.claims.length > 0 || this.duties.length > 0)) return refusal('ERR_GUARD_STAGE_LATE')
    if (this.duties.length > 0 && !this.#watchBody()) return refusal('ERR_GUARD_STAGE_LATE', { reason: 'body-read-before' })
    if (this.claims.length > 0) state.claims = state.claims.length === 0 ? this.claims : [...state.claims, ...this.claims]
    this.settle()
    state.refusal = undefined
    return undefined
  }

  /** False if something of the body has been read already. */
  #watchBody (): boolean {
    const { request, state } = this
    state.body ??= new WatchedBody(request)
    for (let i = 0; i < this.duties.length; i++) {
      if (!state.body.watch(this.duties[i]!.watches)) return false
      state.duties = withDuty(state.duties, this.duties[i]!)
    }
    return true
  }

  /** Makes what was proved true of the request. */
  settle (): void {
    const { state } = this
    state.passed = state.passed.length === 0 ? this.passed : withNew(state.passed, this.passed)
    state.tenant = this.tenant
    state.subject = this.subject
    state.auth = undefined
  }
}

/**
 * Most requests have one guard: what is made for each of them is made without closures and copies. Lists are gone through by
 * index, because V8 makes an object for each step through a frozen one.
 */
function judgedBy (definition: GuardDefinition, list: readonly Judged[]): Judged | undefined {
  for (let i = 0; i < list.length; i++) if (list[i]!.definition === definition) return list[i]
  return undefined
}

function withOne<T> (list: readonly T[], one: T): readonly T[] {
  return list.length === 0 ? [one] : [...list, one]
}

function withNew (list: readonly Judged[], more: readonly Judged[]): readonly Judged[] {
  return [...list, ...more.filter(({ definition }) => judgedBy(definition, list) === undefined)]
}

function dutyOf (definition: GuardDefinition, list: readonly Duty[]): Duty | undefined {
  for (let i = 0; i < list.length; i++) if (list[i]!.leaf.definition === definition) return list[i]
  return undefined
}

/** One guard that asks for what either of them does. */
function bothOf (a: GuardNode, b: GuardNode): GuardNode {
  return { ...b, requirements: [...a.requirements, ...b.requirements.filter((requirement) => !a.requirements.includes(requirement))] }
}

/** A guard has one duty; a later one, which was made of the one before, takes its place. */
function withDuty (list: readonly Duty[], duty: Duty): readonly Duty[] {
  return list.length === 0 ? [duty] : [...list.filter(({ leaf }) => leaf.definition !== duty.leaf.definition), duty]
}
