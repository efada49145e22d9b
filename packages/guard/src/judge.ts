/** Judges one request by one policy. Nothing here changes the world: claims are collected, and made when all has passed. */

import type { FastifyRequest } from 'fastify'
import { joinChallenges } from './challenge.js'
import { hiddenPlacesOf, hideCredentials, type HiddenPlace } from './credentials.js'
import { isAuthError, refusal, withChallenge, type AuthError } from './errors.js'
import { isWatched, publishDecision } from './events.js'
import type { Claim, GuardDefinition, Judgement } from './guard.js'
import { areClaims, settledJudgement } from './judgement.js'
import { isAmbient, isPresented, leavesOf, presenceOf, type GuardNode, type PolicyNode } from './policy.js'
import { inTime, isThenable } from './resolver.js'
import { beginState, isInScope, type Duty } from './state.js'
import { Trial, type Verdict } from './trial.js'

type MaybeLater<T> = T | Promise<T>

/** A policy as its hook runs it: with what can be known of it beforehand. */
export interface CompiledPolicy {
  readonly node: PolicyNode
  /** Where its credentials stand, for those that are to be hidden. */
  readonly places: readonly HiddenPlace[]
  /** True if a guard of it adds headers to answers. */
  readonly announces: boolean
}

export function compilePolicy (node: PolicyNode): CompiledPolicy {
  const definitions = leavesOf(node).map(({ definition }) => definition)
  return Object.freeze({
    node,
    places: Object.freeze(definitions.flatMap(({ hideCredentials: hides, credentials }) => hides === false ? [] : hiddenPlacesOf(credentials))),
    announces: definitions.some(({ replyHeaders }) => replyHeaders !== undefined)
  })
}

/** Runs a policy as a hook: judges, then either hands the request on or refuses it. `done` is called exactly once. */
export function runPolicy ({ node, places, announces }: CompiledPolicy, request: FastifyRequest, done: (error?: Error) => void): void {
  if (node.kind === 'open' && !node.requireHttps && isInScope(request)) { done(); return }
  const state = beginState(request)
  if (state === undefined) { done(refusal('ERR_GUARD_ROUTE_UNSEEN')); return }
  state.places = state.places.length === 0 ? places : [...state.places, ...places]
  const trial = new Trial(request, state)
  if (announces) announce(node, trial)
  const verdict = isHttpsMissing(trial) ? refusal('ERR_GUARD_HTTPS_REQUIRED') : judgeNode(node, trial)
  if (isThenable(verdict)) finishLater(trial, verdict, done)
  else finish(trial, verdict, done)
}

// What waits has functions of its own, here and below: V8 makes room for what a closure keeps as soon as its function is
// entered, so that a request whose verdict is there at once would pay for it.
function finishLater (trial: Trial, verdict: Promise<Verdict>, done: (error?: Error) => void): void {
  void verdict.then((later) => { finish(trial, later, done) }, () => { finish(trial, refusal('ERR_GUARD_JUDGE_FAILED'), done) })
}

function finish (trial: Trial, verdict: Verdict, done: (error?: Error) => void): void {
  const { request, state } = trial
  let refused = verdict ?? trial.accept()
  // After the stage that hides, and for a refusal, nobody else will.
  if (refused !== undefined || state.committed) refused = hideCredentials(request, state.places, refused !== undefined) ?? refused
  if (refused !== undefined) state.refusal = refused
  done(refused)
}

function isHttpsMissing ({ request, state }: Trial): boolean {
  const { requireHttps } = state.runtime
  if (requireHttps === undefined) return false
  if (requireHttps === 'socket') return (request.raw.socket as { encrypted?: boolean }).encrypted !== true
  return request.protocol !== 'https'
}

/** Remembers whose headers belong on the answer: guards on the way that this request takes, whatever their verdict. */
function announce (node: PolicyNode, trial: Trial): void {
  if (node.kind === 'open' || !isPresented(node, trial.request)) return
  if (node.kind === 'any') announce(node.children.find((child) => isPresented(child, trial.request))!, trial)
  else if (node.kind === 'all') node.children.forEach((child) => announce(child, trial))
  else if (node.kind === 'optional') announce(node.child, trial)
  else if (node.definition.replyHeaders !== undefined) trial.state.announcing = [...trial.state.announcing, node.definition]
}

function judgeNode (node: PolicyNode, trial: Trial): MaybeLater<Verdict> {
  switch (node.kind) {
    case 'guard': return judgeWatched(node, trial)
    case 'all': return judgeAll(node, trial)
    case 'any': return judgeAny(node, trial)
    case 'optional': return isPresented(node.child, trial.request) ? judgeNode(node.child, trial) : undefined
    case 'open': return undefined
  }
}

type AllNode = Extract<PolicyNode, { kind: 'all' }>
type AnyNode = Extract<PolicyNode, { kind: 'any' }>

/** In the written order, up to the first refusal. A credential missing beside one that was presented is a wrong request, not an anonymous one. */
function judgeAll (node: AllNode, trial: Trial, from = 0): MaybeLater<Verdict> {
  for (let i = from; i < node.children.length; i++) {
    const verdict = judgeNode(node.children[i]!, trial)
    if (isThenable(verdict)) return judgeRest(node, { trial, verdict, next: i + 1 })
    if (verdict !== undefined) return refusalOfAll(node, trial, verdict)
  }
  return undefined
}

function judgeRest (node: AllNode, { trial, verdict, next }: { readonly trial: Trial, readonly verdict: Promise<Verdict>, readonly next: number }): Promise<Verdict> {
  return verdict.then((later) => later === undefined ? judgeAll(node, trial, next) : refusalOfAll(node, trial, later))
}

function refusalOfAll (node: AllNode, { request }: Trial, refused: AuthError): AuthError {
  if (refused.outcome !== 'absent' || !isPresented(node, request)) return refused
  return refusal('ERR_GUARD_CREDENTIAL_INCOMPLETE', { challenge: refused.challenge, reason: refused.code })
}

/** The first presented alternative decides; what comes after it is never asked, so nothing can be downgraded. */
function judgeAny (node: AnyNode, trial: Trial): MaybeLater<Verdict> {
  const presented = node.children.find((child) => isPresented(child, trial.request))
  return presented === undefined ? judgeAmbient(node, trial, 0) : judgeNode(presented, trial)
}

/** Nothing was presented: what needs nothing presented (addresses) may still pass, in the written order. One that is refused leaves nothing behind. */
function judgeAmbient (node: AnyNode, trial: Trial, from: number, first?: AuthError): MaybeLater<Verdict> {
  for (let i = from; i < node.children.length; i++) {
    const child = node.children[i]!
    if (!isAmbient(child)) continue
    const before = { ...trial }
    const verdict = judgeNode(child, trial)
    if (isThenable(verdict)) {
      return verdict.then((later) => {
        if (later === undefined || later.outcome === 'unavailable') return later
        Object.assign(trial, before)
        return judgeAmbient(node, trial, i + 1, first ?? later)
      })
    }
    if (verdict === undefined || verdict.outcome === 'unavailable') return verdict
    Object.assign(trial, before)
    first ??= verdict
  }
  return isAmbient(node) ? first : missing(node)
}

/** One answer that lists every way to authenticate. */
function missing (node: AnyNode): AuthError {
  const challenges = leavesOf(node).flatMap(({ definition }) => absent(definition).challenge ?? [])
  return refusal('ERR_GUARD_CREDENTIAL_MISSING', { challenge: challenges.length === 0 ? undefined : joinChallenges(challenges) })
}

function judgeWatched (leaf: GuardNode, trial: Trial): MaybeLater<Verdict> {
  const { onDecision } = leaf.definition
  return isWatched(onDecision, trial.state.runtime.onDecision) ? judgeAndPublish(leaf, trial) : judgeGuard(leaf, trial)
}

function judgeAndPublish (leaf: GuardNode, trial: Trial): MaybeLater<Verdict> {
  const { definition } = leaf
  const listeners = [definition.onDecision, trial.state.runtime.onDecision]
  const startedAt = performance.now()
  const publish = (refused: Verdict): Verdict => {
    const { matched, provisional } = trial.recall(definition) ?? {}
    // Nothing has been decided before the body has been read.
    if (refused === undefined && provisional === true) return undefined
    publishDecision({ guard: definition.name, request: trial.request, refusal: refused, tenant: trial.tenant, matched, startedAt }, listeners)
    return refused
  }
  const verdict = judgeGuard(leaf, trial)
  return isThenable(verdict) ? verdict.then(publish) : publish(verdict)
}

/** One guard: judged at most once per registration and request, then its requirements. */
function judgeGuard (leaf: GuardNode, trial: Trial): MaybeLater<Verdict> {
  const { definition } = leaf
  const known = trial.recall(definition)
  if (known !== undefined) return judgeOrOwe(leaf, known, trial)
  if (definition.credentials.length > 0) {
    const isPresented = presenceOf(definition, trial.request)
    if (isPresented === false) return absent(definition)
    if (isPresented === undefined) return refusal('ERR_GUARD_JUDGE_FAILED', { reason: 'is-presented' })
  }
  try {
    const judgement = definition.judge(trial.request)
    return isThenable(judgement) ? acceptLater(leaf, judgement, trial) : acceptJudgement(leaf, judgement, trial)
  } catch (error) {
    return refusedWith(definition, error)
  }
}

function acceptLater (leaf: GuardNode, judgement: Promise<Judgement>, trial: Trial): Promise<Verdict> {
  return inTime(judgement, trial.state.runtime.judgeTimeoutMs, tooSlow)
    .then((later) => acceptJudgement(leaf, later, trial))
    .catch((error: unknown) => refusedWith(leaf.definition, error))
}

/** The refusal of a guard whose credential is not there. */
function absent ({ missing, challenges }: GuardDefinition): AuthError {
  let refused: unknown
  try {
    refused = missing()
  } catch (thrown) {
    refused = thrown
  }
  if (isAuthError(refused)) return withChallenge(refused, challenges?.absent)
  return refusal('ERR_GUARD_JUDGE_FAILED', { reason: 'no-refusal', cause: refused })
}

function acceptJudgement (leaf: GuardNode, judgement: Judgement, trial: Trial): MaybeLater<Verdict> {
  const settled = settledJudgement(judgement, leaf.definition)
  if (settled === undefined) return refusal('ERR_GUARD_JUDGE_FAILED', { reason: 'no-judgement' })
  trial.remember(leaf.definition, settled)
  return judgeOrOwe(leaf, settled, trial)
}

/** What the body still has to prove is owed; what has been proved without it is judged now. */
function judgeOrOwe (leaf: GuardNode, judgement: Judgement, trial: Trial): MaybeLater<Verdict> {
  if (judgement.obligations === undefined || judgement.obligations.length === 0 || trial.hasMet(leaf.definition)) return judgeRequirements(leaf, judgement, trial)
  trial.owe(leaf, judgement)
  return judgement.provisional === true ? undefined : judgeRequirements(leaf, judgement, trial)
}

/** The body has met what was owed: a provisional judgement counts from now on. */
export function judgeProvisional ({ leaf, judgement }: Duty, claims: readonly Claim[], trial: Trial): MaybeLater<Verdict> {
  return judgeRequirements(leaf, judgement, trial, 0, claims)
}

function judgeRequirements (leaf: GuardNode, judgement: Judgement, trial: Trial, from = 0, claims = judgement.claims ?? noClaims): MaybeLater<Verdict> {
  const { definition, requirements } = leaf
  for (let i = from; i < requirements.length; i++) {
    try {
      const more = requirements[i]!.judge(judgement, { request: trial.request, tenant: trial.tenant ?? judgement.principal?.tenant })
      if (isThenable(more)) return requireLater(leaf, { judgement, more, next: i + 1, claims }, trial)
      if (!areClaims(more)) return unclaimable()
      if (more !== undefined) claims = [...claims, ...more]
    } catch (error) {
      return refusedWith(definition, error)
    }
  }
  return trial.add(definition, judgement, claims)
}

interface Waiting { readonly judgement: Judgement, readonly more: Promise<readonly Claim[] | void>, readonly next: number, readonly claims: readonly Claim[] }

function requireLater (leaf: GuardNode, { judgement, more, next, claims }: Waiting, trial: Trial): Promise<Verdict> {
  return inTime(more, trial.state.runtime.judgeTimeoutMs, tooSlow).then(
    (later) => areClaims(later) ? judgeRequirements(leaf, judgement, trial, next, [...claims, ...later ?? []]) : unclaimable(),
    (error: unknown) => refusedWith(leaf.definition, error)
  )
}

const noClaims: readonly Claim[] = Object.freeze([])

/** The refusal for claims that are no list. */
export function unclaimable (): AuthError {
  return refusal('ERR_GUARD_JUDGE_FAILED', { reason: 'no-claims' })
}

/** What a guard threw, as a refusal: its own, or `unavailable` if it is no refusal or contradicts `isPresented`. */
export function refusedWith (definition: GuardDefinition, thrown: unknown): AuthError {
  if (!isAuthError(thrown)) return refusal('ERR_GUARD_JUDGE_FAILED', { reason: 'threw', cause: thrown })
  if (thrown.outcome === 'absent') return refusal('ERR_GUARD_JUDGE_FAILED', { reason: 'absent-though-presented' })
  return withChallenge(thrown, definition.challenges?.[thrown.outcome])
}

export function tooSlow (): AuthError {
  return refusal('ERR_GUARD_JUDGE_FAILED', { reason: 'too-slow' })
}
