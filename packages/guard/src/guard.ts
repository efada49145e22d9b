/** What a guard is: its definition, the judgement it gives, and the function that a route uses as its hook. */

import type { FastifyReply, FastifyRequest, HookHandlerDoneFunction } from 'fastify'
import type { ClaimStore } from './claim-store.js'
import type { CredentialSource } from './credentials.js'
import { OptionsError, refusal, type AuthError, type Outcome } from './errors.js'
import { compilePolicy, runPolicy } from './judge.js'
import { OptionReader, type Decision } from './options.js'
import { kGuard, PROTOCOL, type GuardNode, type PolicyNode } from './policy.js'

/** What all guards of a route proved together. */
export interface Principal {
  /** The customer account; always a string, compared as it is. */
  readonly tenant?: string
  readonly subject?: string
  readonly scopes: readonly string[]
}

/** What a guard may prove. */
export type Proof = 'tenant' | 'subject'

/** A key to take exactly once, after the whole policy has passed. */
export interface Claim {
  readonly store: ClaimStore
  readonly key: string
  /** Milliseconds since the epoch until which the key stays taken; at least one second from now is kept. */
  readonly expiresAtMs: number
  /** What a second use is refused with. Default: 401 `ERR_GUARD_CLAIM_REPEATED`. */
  readonly repeated?: () => AuthError
  /** Slower than this is `unavailable`. */
  readonly storeTimeoutMs: number
  /** Live claims that one group (a key id, a tenant) may hold in this process; more is 429. */
  readonly quota?: { readonly group: string, readonly maxLiveClaims: number } | undefined
}

/** What can only be judged once the body has been read: a digest, a MAC over the payload. */
export interface Obligation {
  /** For people: `content-digest`. */
  readonly description: string
  /** Begins to watch the body of one request; called once, before its first byte. */
  readonly watch: () => BodyWatch
}

export interface BodyWatch {
  /**
   * Takes the next piece of the body, as it came over the wire. Must not keep it. `isWhole` is true where it is all of the
   * body: what can be computed in one go then costs less than in pieces.
   */
  readonly update: (piece: Uint8Array, isWhole: boolean) => void
  /**
   * Judges the body when all of it has been read, an empty one too. Throws an `AuthError`; anything else it throws is
   * `unavailable`. May give claims that could not be made before the body was known.
   */
  readonly verify: (request: FastifyRequest) => readonly Claim[] | void | Promise<readonly Claim[] | void>
}

/** What `judge` answers: an identity, and what would have to happen if the whole policy passes. It changes nothing itself. */
export interface Judgement<I = unknown> {
  /** Frozen by the guard. */
  readonly identity: I
  /** Exactly what the definition says it `proves`, and scopes. */
  readonly principal?: Partial<Principal>
  readonly claims?: readonly Claim[]
  /** What of the body remains to be judged; needs `judgesBody` in the definition. */
  readonly obligations?: readonly Obligation[]
  /**
   * True where the body is the only proof: identity, principal and requirements then count once the obligations are met, and
   * claims come from `verify` alone. Needs `provisional` in the definition.
   */
  readonly provisional?: boolean
  /** Id of the key or rule that matched, for decision events. */
  readonly matched?: string | undefined
}

/** What a requirement sees beside the judgement. */
export interface RequirementContext {
  readonly request: FastifyRequest
  /** Proved so far by the guards before this one, and by this one. */
  readonly tenant: string | undefined
}

/** One narrowing of a guard, compiled once by `require()`. */
export interface Requirement<I = unknown> {
  /** For people: `scopes: orders:read`. */
  readonly description: string
  /** Set if the tenant must have been proved before this guard runs. */
  readonly needsTenant?: boolean
  /** Set if the route must have this parameter. */
  readonly tenantParam?: string
  /** Judges the identity. Throws an `AuthError`, or gives further claims. Must not change anything. */
  readonly judge: (judgement: Judgement<I>, context: RequirementContext) => void | readonly Claim[] | Promise<void | readonly Claim[]>
}

/** Everything a guard consists of. A plugin builds one at registration; `defineGuard` makes it usable as a hook. */
export interface GuardDefinition<I = unknown> {
  /** The package, as it stands in messages. */
  readonly owner: string
  /** The guard's name on the Fastify instance. */
  readonly name: string
  /** Where the credential stands. Empty for an ambient guard, such as an address: it is never presented. */
  readonly credentials: readonly CredentialSource[]
  readonly proves: readonly Proof[]
  /** True if judgements may hold obligations; `require({ body: 'stream' })` is then understood. Default: false. */
  readonly judgesBody?: boolean
  /** True if judgements may be provisional: such a guard stands last in an `anyOf`, and not before a guard that needs a tenant. Default: false. */
  readonly provisional?: boolean
  /** True if the credential can be taken out of the request once it is judged. Default: true. */
  readonly hideCredentials?: boolean
  /** Prebuilt `WWW-Authenticate` values by outcome; a refusal that brings its own challenge keeps it. */
  readonly challenges?: Partial<Readonly<Record<Outcome, string>>>
  /** The refusal for a request that presents no credential of this kind. */
  readonly missing: () => AuthError
  /** Synchronous and cheap; true if a credential of this kind is there, right or wrong. */
  readonly isPresented: (request: FastifyRequest) => boolean
  /** Judges the credential without any side effect. Throws an `AuthError`; anything else it throws is `unavailable`. */
  readonly judge: (request: FastifyRequest) => Judgement<I> | Promise<Judgement<I>>
  /** Names that `require()` accepts beside `tenantParam`. */
  readonly requirementNames?: readonly string[]
  /** Compiles what was given to `require()`; throws `OptionsError`. */
  readonly requirement?: (given: OptionReader) => Requirement<I> | undefined
  /** What every use of this guard asks for, `require()` or not. */
  readonly requirements?: readonly Requirement<I>[]
  /** Called once for a request whose policies have all passed and whose claims are made, before the body is read: the place to count. Must not throw. */
  readonly committed?: (request: FastifyRequest, judgement: Judgement<I>) => void
  /** Headers for the answer to a request that presented this credential, whatever the verdict. */
  readonly replyHeaders?: (request: FastifyRequest, judgement: Judgement<I> | undefined) => Readonly<Record<string, string>> | undefined
  /** For the audit: what an operator should know of this registration. */
  readonly notes?: readonly string[]
  readonly onDecision?: ((decision: Decision) => void) | undefined
}

/** A policy as a Fastify `onRequest` hook: a guard, or what `allOf`, `anyOf`, `optional` and `open` make of guards. */
export interface Policy {
  (request: FastifyRequest, reply: FastifyReply, done: HookHandlerDoneFunction): void
  /** Fastify and @fastify/auth bind their hooks; a policy needs no `this` and stays itself. */
  readonly bind: () => this
}

/** One guard. `require` derives a narrower one, compiled once; the route then says what it asks for. */
export interface Guard<I = unknown, Q extends object = Record<never, never>> extends Policy {
  /**
   * Derives a guard that asks for more.
   * `tenantParam` names a route parameter that must equal the tenant of the credential (else 403
   * `ERR_GUARD_TENANT_MISMATCH`). `body: 'stream'`, of a guard that judges bodies, lets the handler run before the body has
   * been read: it reads it, and awaits `bodyVerified(request)` before it believes or answers anything. Every other name
   * belongs to the plugin.
   * Throws `OptionsError` for an unknown name or a wrong value.
   */
  readonly require: (requirements: Q & { readonly tenantParam?: string, readonly body?: 'stream' }) => Guard<I, Q>
  /** Carries the identity type; never present at run time. */
  readonly identity?: I
}

/** Makes a guard of a definition. Users write their own guards with it; the five plugins do the same. */
export function defineGuard<I, Q extends object = Record<never, never>> (definition: GuardDefinition<I>): Guard<I, Q> {
  return guardOfNode<I, Q>({ kind: 'guard', definition: checkedDefinition(definition), requirements: (definition.requirements ?? []) as readonly Requirement[], streamsBody: false })
}

function guardOfNode<I, Q extends object> (node: GuardNode): Guard<I, Q> {
  const require = (given: object): Guard<I, Q> => {
    return guardOfNode<I, Q>(narrowed(node, given))
  }
  return Object.assign(policyHook(node), { require })
}

/** Turns a policy tree into the hook that runs it. */
export function policyHook (node: PolicyNode): Policy {
  const compiled = compilePolicy(node)
  const hook = function sallyportPolicy (request: FastifyRequest, _reply: FastifyReply, done: HookHandlerDoneFunction): void {
    // Hooks after onRequest that are given a payload have it in this place: nobody could be told of a verdict.
    if (typeof done !== 'function') throw refusal('ERR_GUARD_STAGE_LATE')
    runPolicy(compiled, request, done)
  }
  Object.defineProperty(hook, kGuard, { value: Object.freeze({ protocol: PROTOCOL, node: Object.freeze(node) }) })
  Object.defineProperty(hook, 'bind', { value: () => hook })
  return hook as unknown as Policy
}

function checkedDefinition<I> (definition: GuardDefinition<I>): GuardDefinition {
  const { owner, name, credentials, proves } = definition
  if (credentials.length === 0 && proves.length > 0) throw new OptionsError(owner, 'proves', `of guard "${name}" must be empty: a guard without credentials proves nothing`)
  for (const part of ['missing', 'isPresented', 'judge'] as const) {
    if (typeof definition[part] !== 'function') throw new OptionsError(owner, part, `of guard "${name}" must be a function`)
  }
  if (definition.provisional === true && definition.judgesBody !== true) throw new OptionsError(owner, 'provisional', `of guard "${name}" needs judgesBody: true`)
  return Object.freeze({ ...definition, credentials: Object.freeze([...credentials]), proves: Object.freeze([...proves]) }) as GuardDefinition
}

function narrowed (node: GuardNode, given: object): GuardNode {
  const { definition } = node
  const { owner, proves, judgesBody = false, provisional = false, requirementNames = [], requirement } = definition
  const reader = new OptionReader(owner, given, ['tenantParam', ...judgesBody ? ['body'] : [], ...requirementNames], 'require().')
  const own = requirement?.(reader)
  const tenantParam = reader.text('tenantParam')
  if (tenantParam !== undefined && !proves.includes('tenant')) throw reader.error('tenantParam', `needs a guard that proves a tenant; "${definition.name}" does not`)
  const compiled = [...(own === undefined ? [] : [own]), ...(tenantParam === undefined ? [] : [tenantRequirement(tenantParam)])]
  const streamsBody = reader.oneOf('body', ['stream']) !== undefined
  if (streamsBody && provisional) throw reader.error('body', `can't be "stream": the body is all that proves who sends it to "${definition.name}"`)
  if (compiled.length === 0 && !streamsBody) throw new OptionsError(owner, 'require()', 'asks for nothing')
  return { ...node, requirements: [...node.requirements, ...compiled], streamsBody: streamsBody || node.streamsBody }
}

function tenantRequirement (tenantParam: string): Requirement {
  return {
    description: `tenantParam: ${tenantParam}`,
    tenantParam,
    judge ({ principal }, { request }) {
      const parameters = request.params as Record<string, unknown> | undefined
      const named = parameters !== undefined && parameters !== null && Object.hasOwn(parameters, tenantParam) ? parameters[tenantParam] : undefined
      if (named === undefined || named !== principal?.tenant) throw refusal('ERR_GUARD_TENANT_MISMATCH')
    }
  }
}
