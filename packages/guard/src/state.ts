/** What is known about one request: judgements, the principal, and what has to happen once the policy has passed. */

import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { WatchedBody } from './bodies.js'
import type { ClaimQuota } from './claim-quota.js'
import type { HiddenPlace } from './credentials.js'
import { OptionsError, type AuthError } from './errors.js'
import type { BodyWatch, Claim, Guard, GuardDefinition, Judgement, Principal } from './guard.js'
import type { Decision } from './options.js'
import { nodeOf, PROTOCOL, type GuardNode } from './policy.js'

const kState = Symbol.for(`sallyport.state/${PROTOCOL}`)
/** Where a request has the runtime of its scope, so that it need not be looked for. */
const kScope = Symbol.for(`sallyport.scope/${PROTOCOL}`)
export const kRuntime = Symbol.for('sallyport.runtime')

/** What one registration of `guard` decided for its scope; shared with every copy of this package. */
export interface Runtime {
  readonly protocol: number
  readonly realm: string
  readonly judgeTimeoutMs: number
  readonly clock: () => number
  /** How HTTPS is judged inside policies; `undefined`: not at all. */
  readonly requireHttps: 'request' | 'socket' | undefined
  readonly onDecision: ((decision: Decision) => void) | undefined
}

/** One registration's answer for this request. */
export interface Judged {
  readonly definition: GuardDefinition
  readonly judgement: Judgement
}

/** A claim to make, and whose it is. */
export interface DueClaim {
  readonly claim: Claim
  readonly definition: GuardDefinition
}

/** A claim that was made, and what it takes to give it back. */
export interface MadeClaim {
  readonly claim: Claim
  readonly owner: string
  /** Where it holds a place of its group until then, in milliseconds since the epoch. */
  readonly places: ClaimQuota
  readonly untilMs: number
}

/** What remains to be judged once the body has been read, and by whom. */
export interface Duty {
  readonly leaf: GuardNode
  readonly judgement: Judgement
  readonly watches: readonly BodyWatch[]
  /** True where the handler reads the body. */
  readonly isStreamed: boolean
}

/** What the stages of one registration of guard work on. */
export interface StageContext {
  readonly state: RequestState
  readonly places: ClaimQuota
}

export interface RequestState {
  readonly runtime: Runtime
  /** Memo: what each registration answered, passed policy or not. */
  judged: readonly Judged[]
  /** Of policies that passed. */
  passed: readonly Judged[]
  /** Proved by those that passed. */
  tenant: string | undefined
  subject: string | undefined
  /** Made when a handler asks for it. */
  auth: RequestAuth | undefined
  claims: readonly DueClaim[]
  /** Open until the body has been judged. */
  duties: readonly Duty[]
  metDuties: readonly Duty[]
  body: WatchedBody | undefined
  /** True where the handler runs before the body has been judged; its answer is held to it. */
  handlerReads: boolean
  /** Judges the body, once, and gives the refusal where there is one. */
  verified: (() => Promise<AuthError | undefined>) | undefined
  /** True once the client has gone, or is being answered, without a verdict on the body: claims are given back, and none can pass any more. */
  endedUnjudged: boolean
  /** Claims that may still have to be given back. */
  made: readonly MadeClaim[]
  /** True once claims have been made and credentials hidden; a later claim comes too late. */
  committed: boolean
  /** Where credentials of the policies stand, also of alternatives that were not asked. */
  places: readonly HiddenPlace[]
  /** Guards whose credential was presented and that add headers to the answer. */
  announcing: readonly GuardDefinition[]
  refusal: AuthError | undefined
}

/** What `request.auth` is: read only, and anonymous until a policy has passed. */
export interface RequestAuth {
  readonly principal: Principal
  /** Names of the guards that passed, in order. */
  readonly via: readonly string[]
}

declare module 'fastify' {
  interface FastifyRequest {
    /** What the guards of this route proved together. */
    readonly auth: RequestAuth
  }
}

/** `undefined`: no policy has run yet. `late`: none had when claims were due, so a policy that still comes can make none. */
type WithState = FastifyRequest & { [kState]?: RequestState | 'late', readonly [kScope]?: Runtime }

const anonymous: Principal = Object.freeze({ scopes: Object.freeze([]) })
/** Shared by all requests: most have no claims and no duties. */
export const none: readonly never[] = Object.freeze([])
const nobody: RequestAuth = Object.freeze({ principal: anonymous, via: Object.freeze([]) })

/** The runtime of the scope an instance belongs to, if `guard` is registered there. Throws for another protocol. */
export function runtimeOf (app: FastifyInstance): Runtime | undefined {
  const runtime = (app as { [kRuntime]?: Runtime })[kRuntime]
  if (runtime !== undefined && runtime.protocol !== PROTOCOL) {
    throw new OptionsError('@sallyport/guard', 'protocol', `differs: this app already runs another version of @sallyport/guard (protocol ${runtime.protocol}, this one speaks ${PROTOCOL}); install one version`)
  }
  return runtime
}

/** Gives every request of a scope its runtime, and room for what policies find out: on the prototype, so that it costs no request anything. */
export function decorateRequests (app: FastifyInstance, runtime: Runtime): void {
  app.decorateRequest(kScope, { getter: () => runtime })
  app.decorateRequest('auth', { getter () { return authOf(this) } })
}

/** The state of a request so far, or `undefined` when no policy has run. */
export function knownState (request: FastifyRequest): RequestState | undefined {
  const known = (request as WithState)[kState]
  return known === 'late' ? undefined : known
}

/** The state of a request whose claims are due now; a policy that runs later is told so. */
export function stateAtCommit (request: FastifyRequest): RequestState | undefined {
  const state = knownState(request)
  if (state === undefined) (request as WithState)[kState] = 'late'
  else state.committed = true
  return state
}

/** Whether the request's scope has `guard`. */
export function isInScope (request: FastifyRequest): boolean {
  return (request as WithState)[kScope] !== undefined
}

/** The state of a request, begun if need be; `undefined` where the request's scope has no `guard`. */
export function beginState (request: FastifyRequest): RequestState | undefined {
  const known = (request as WithState)[kState]
  if (known !== undefined && known !== 'late') return known
  const runtime = (request as WithState)[kScope]
  if (runtime === undefined) return undefined
  const state: RequestState = {
    runtime, judged: none, passed: none, tenant: undefined, subject: undefined, auth: undefined, claims: none, duties: none, metDuties: none, body: undefined, handlerReads: false, verified: undefined, endedUnjudged: false, made: none,
    committed: known === 'late', places: none, announcing: none, refusal: undefined
  };
  (request as WithState)[kState] = state
  return state
}

function authOf (request: FastifyRequest): RequestAuth {
  const state = knownState(request)
  if (state === undefined || passedOf(request).length === 0) return nobody
  return state.auth ??= Object.freeze({ principal: principalOf(state), via: Object.freeze(state.passed.map(({ definition }) => definition.name)) })
}

function principalOf ({ passed, tenant, subject }: RequestState): Principal {
  const scopes = new Set(passed.flatMap(({ judgement }) => judgement.principal?.scopes ?? []))
  return Object.freeze({ ...(tenant !== undefined && { tenant }), ...(subject !== undefined && { subject }), scopes: Object.freeze([...scopes]) })
}

/** Nothing is true of a refused request, whatever passed before. */
function passedOf (request: FastifyRequest): readonly Judged[] {
  const state = knownState(request)
  return state === undefined || state.refusal !== undefined ? [] : state.passed
}

/**
 * The identity that a guard of this route proved, with the guard's own type. Guards derived by `require()` count as the
 * guard that they come from.
 * Throws a `TypeError` if that guard did not pass for this request, or if a composition was given instead of a guard.
 */
export function identityOf<I, Q extends object> (request: FastifyRequest, guard: Guard<I, Q>): I {
  const definition = definitionOf(guard)
  const found = passedOf(request).find((judged) => judged.definition === definition)
  if (found === undefined) throw new TypeError(`guard "${definition.name}" has not passed for this request`)
  return found.judgement.identity as I
}

/** True if that guard passed for this request. */
export function hasIdentity<I, Q extends object> (request: FastifyRequest, guard: Guard<I, Q>): boolean {
  const definition = definitionOf(guard)
  return passedOf(request).some((judged) => judged.definition === definition)
}

function definitionOf (guard: unknown): GuardDefinition {
  const node = nodeOf(guard)
  if (node?.kind !== 'guard') throw new TypeError('identityOf needs a single guard, such as app.bearerJwt')
  return node.definition
}
