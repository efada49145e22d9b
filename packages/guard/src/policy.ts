/** A policy as a tree: what the composition judges, the audit checks and people read. */

import type { FastifyRequest } from 'fastify'
import type { GuardDefinition, Proof, Requirement } from './guard.js'
import { OptionsError } from './errors.js'
import { ignoreRejection } from './resolver.js'

/** Copies of this package with the same protocol share guards, state and stages; others refuse each other by name. */
export const PROTOCOL = 1

export const kGuard = Symbol.for('sallyport.guard')

export interface GuardNode {
  readonly kind: 'guard'
  readonly definition: GuardDefinition
  readonly requirements: readonly Requirement[]
  /** True where the handler reads the body itself: `require({ body: 'stream' })`. */
  readonly streamsBody: boolean
}

export type PolicyNode
  = GuardNode
    | { readonly kind: 'all', readonly children: readonly PolicyNode[], readonly sharedKey: boolean }
    | { readonly kind: 'any', readonly children: readonly PolicyNode[] }
    | { readonly kind: 'optional', readonly child: PolicyNode }
    | { readonly kind: 'open', readonly reason: string, readonly requireHttps: boolean }

/** The tree behind a policy function, or `undefined` if it is some other function. Throws for another protocol. */
export function nodeOf (value: unknown): PolicyNode | undefined {
  if (typeof value !== 'function') return undefined
  const brand = (value as { [kGuard]?: { protocol: number, node: PolicyNode } })[kGuard]
  if (brand === undefined) return undefined
  if (brand.protocol !== PROTOCOL) {
    throw new OptionsError('@sallyport/guard', 'policy', `was made by another version of @sallyport/guard (protocol ${brand.protocol}, this one speaks ${PROTOCOL}); install one version`)
  }
  return brand.node
}

/** Every guard in the tree, in the written order. */
export function leavesOf (node: PolicyNode): readonly GuardNode[] {
  if (node.kind === 'guard') return [node]
  if (node.kind === 'optional') return leavesOf(node.child)
  return node.kind === 'open' ? [] : node.children.flatMap(leavesOf)
}

/** Ambient guards judge where a request comes from, not what it presents. */
export function isAmbient (node: PolicyNode): boolean {
  return leavesOf(node).every((leaf) => leaf.definition.credentials.length === 0)
}

/** Whether any credential of the tree is in the request. A guard that can't tell counts as presented: it is judged, and refused. */
export function isPresented (node: PolicyNode, request: FastifyRequest): boolean {
  if (node.kind === 'guard') return isLeafPresented(node, request)
  if (node.kind === 'optional') return isPresented(node.child, request)
  return node.kind !== 'open' && node.children.some((child) => isPresented(child, request))
}

function isLeafPresented ({ definition }: GuardNode, request: FastifyRequest): boolean {
  return definition.credentials.length > 0 && presenceOf(definition, request) !== false
}

/** Whether the credential is there; `undefined` where the guard throws, or answers something else. */
export function presenceOf ({ isPresented }: GuardDefinition, request: FastifyRequest): boolean | undefined {
  try {
    const answer: unknown = isPresented(request)
    if (typeof answer === 'boolean') return answer
    ignoreRejection(answer)
    return undefined
  } catch {
    return undefined
  }
}

/** Whether a tree that passed has proved something: always, never, or only on some of its ways. */
export function proofOf (node: PolicyNode, proof: Proof, absentCounts: boolean): 'always' | 'sometimes' | 'never' {
  if (node.kind === 'guard') return proofOfGuard(node.definition, proof, absentCounts)
  if (node.kind === 'open') return 'never'
  if (node.kind === 'optional') {
    const inner = proofOf(node.child, proof, absentCounts)
    return inner === 'always' && absentCounts ? 'sometimes' : inner
  }
  const parts = node.children.map((child) => proofOf(child, proof, absentCounts))
  if (node.kind === 'all' && parts.includes('always')) return 'always'
  if (parts.every((part) => part === 'always')) return 'always'
  return parts.every((part) => part === 'never') ? 'never' : 'sometimes'
}

/** What only the body proves is not there yet for the guards that come after. */
function proofOfGuard ({ proves, provisional }: GuardDefinition, proof: Proof, absentCounts: boolean): 'always' | 'sometimes' | 'never' {
  if (!proves.includes(proof)) return 'never'
  return provisional === true && absentCounts ? 'sometimes' : 'always'
}

/** A policy tree for people and for machines, as `app.policies()` gives it. */
export type PolicyDescription
  = { readonly guard: string, readonly plugin: string, readonly requires?: readonly string[], readonly notes?: readonly string[] }
    | { readonly all: readonly PolicyDescription[] }
    | { readonly any: readonly PolicyDescription[] }
    | { readonly optional: PolicyDescription }
    | { readonly open: string, readonly requires?: readonly string[] }

export function describePolicy (node: PolicyNode): PolicyDescription {
  switch (node.kind) {
    case 'all': return { all: node.children.map(describePolicy) }
    case 'any': return { any: node.children.map(describePolicy) }
    case 'optional': return { optional: describePolicy(node.child) }
    case 'open': return { open: node.reason, ...(node.requireHttps && { requires: ['https'] }) }
    case 'guard': {
      const { name, owner, notes = [] } = node.definition
      const requires = [...node.requirements.map((requirement) => requirement.description), ...node.streamsBody ? ['body: stream'] : []]
      return { guard: name, plugin: owner, ...(requires.length > 0 && { requires }), ...(notes.length > 0 && { notes }) }
    }
  }
}

/** One line: `(bearerJwt or legacyHeaders) and ipAllowlist`. */
export function formatPolicy (policy: PolicyDescription, nested = false): string {
  if ('open' in policy) return policy.requires === undefined ? `open: ${policy.open}` : `open: ${policy.open} [${policy.requires.join('; ')}]`
  if ('optional' in policy) return `optional ${formatPolicy(policy.optional, true)}`
  if ('guard' in policy) {
    const details = [...policy.requires ?? [], ...policy.notes ?? []]
    return details.length === 0 ? policy.guard : `${policy.guard} [${details.join('; ')}]`
  }
  const [parts, word] = 'all' in policy ? [policy.all, ' and '] : [policy.any, ' or ']
  const text = parts.map((part) => formatPolicy(part, true)).join(word)
  return nested && parts.length > 1 ? `(${text})` : text
}
