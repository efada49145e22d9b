/** Composes guards into policies, and refuses compositions that could not mean what they say. */

import { describeSource, sharesSource } from './credentials.js'
import { OptionsError } from './errors.js'
import { policyHook, type Policy, type Proof } from './guard.js'
import { isAmbient, leavesOf, nodeOf, proofOf, type GuardNode, type PolicyNode } from './policy.js'

const OWNER = '@sallyport/guard'

export interface AllOfOptions {
  /**
   * True if credentials that prove no tenant are shared by all tenants on purpose. Without it, an `allOf` in which only
   * some credential guards prove a tenant is an `OptionsError`: the others could belong to somebody else. Default: false.
   */
  readonly sharedKey?: boolean
}

/**
 * Passes if every policy passes; judged in the written order, up to the first refusal.
 * Tenants and subjects that several guards prove must agree, else 403 `ERR_GUARD_PRINCIPAL_CONFLICT`.
 * Throws `OptionsError` for anything but policies, for `open()`, for a guard that needs a tenant before the guard that proves it,
 * and where only some credential guards prove a tenant (see `sharedKey`).
 */
export function allOf (...parts: readonly [Policy, ...Policy[]] | readonly [Policy, ...Policy[], AllOfOptions]): Policy {
  const last = parts.at(-1)
  const options = typeof last === 'object' ? last : undefined
  const children = nodesOf('allOf', options === undefined ? parts : parts.slice(0, -1))
  const sharedKey = readFlag('allOf', 'sharedKey', options)
  for (const child of children) refuseKind('allOf', child, ['open'])
  checkCombination(children, sharedKey)
  checkTenantOrder(children)
  return policyHook({ kind: 'all', children, sharedKey })
}

/**
 * Passes if one policy passes. The first alternative whose credential is presented decides, right or wrong: a wrong strong
 * credential never falls through to a weaker one. Alternatives that need nothing presented (addresses) count only when
 * no credential is. If nothing passes: one 401 that lists every challenge; 403 where all alternatives are addresses.
 * Throws `OptionsError` for anything but policies, for `open()` or `optional()` anywhere inside, for two alternatives that
 * read the same credential, and for a guard whose only proof may be the body anywhere but in the last alternative.
 */
export function anyOf (...alternatives: readonly [Policy, ...Policy[]]): Policy {
  const children = nodesOf('anyOf', alternatives)
  for (const child of children) refuseKind('anyOf', child, ['open', 'optional'])
  children.forEach((child, i) => {
    for (const other of children.slice(i + 1)) refuseSharedSource(child, other)
    if (i < children.length - 1) refuseProvisional(child)
  })
  return policyHook({ kind: 'any', children })
}

/**
 * Passes anonymously if no credential of the policy is presented; a presented one is judged in full.
 * Throws `OptionsError` for anything but a policy, for `open()`, and for addresses alone, which are never presented.
 */
export function optional (policy: Policy): Policy {
  const [child] = nodesOf('optional', [policy])
  refuseKind('optional', child!, ['open'])
  if (isAmbient(child!)) throw new OptionsError(OWNER, 'optional', 'needs a guard with a credential: addresses are never presented')
  return policyHook({ kind: 'optional', child: child! })
}

export interface OpenOptions {
  /** True for a login, whose body is the credential: guard's `requireHttps`, where it is set, counts for this route too. Default: false. */
  readonly requireHttps?: boolean
}

/**
 * Declares a route public, for a reader and for the audit. Stands alone: inside another policy it is an `OptionsError`.
 * @param reason why, in words: `liveness probe`
 */
export function open (reason: string, options?: OpenOptions): Policy {
  if (typeof reason !== 'string' || reason.trim() === '') throw new OptionsError(OWNER, 'reason', 'of open() must say why the route is public')
  return policyHook({ kind: 'open', reason, requireHttps: readFlag('open', 'requireHttps', options) })
}

/**
 * Policies that run one after another on a route (a scope's and the route's own) must make sense as one `allOf`. `sharedKey`
 * speaks for the `allOf` that says it and for no other: whoever wrote the scope's policy did not know the route's keys.
 */
export function checkSequence (nodes: readonly PolicyNode[]): void {
  checkCombination(nodes.filter((node) => !isSaidToBeShared(node)), false)
  const [unproved] = needingTenant(nodes)
  if (unproved !== undefined) {
    throw new OptionsError(unproved.definition.owner, 'policy', `of "${unproved.definition.name}" needs a tenant, and no guard before it always proves one`)
  }
}

function nodesOf (composer: string, parts: readonly unknown[]): readonly PolicyNode[] {
  if (parts.length === 0) throw new OptionsError(OWNER, composer, 'needs at least one policy')
  return parts.map((part, i) => {
    const node = nodeOf(part)
    if (node !== undefined) return node
    const what = part === undefined ? 'undefined (is its plugin registered, and awaited?)' : typeof part === 'function' ? 'a plain function; make it a guard with defineGuard()' : `${typeof part}`
    throw new OptionsError(OWNER, `${composer}[${i}]`, `must be a guard or a policy, not ${what}`)
  })
}

/** The one option that a composer has. */
function readFlag (composer: string, name: string, options: object | undefined): boolean {
  const { [name]: flag = false, ...unknown } = (options ?? {}) as Readonly<Record<string, unknown>>
  const [other] = Object.keys(unknown)
  if (other !== undefined) throw new OptionsError(OWNER, other, `is unknown to ${composer}; known is: ${name}`)
  if (typeof flag !== 'boolean') throw new OptionsError(OWNER, name, 'must be true or false')
  return flag
}

function refuseKind (composer: string, node: PolicyNode, kinds: readonly PolicyNode['kind'][]): void {
  if (kinds.includes(node.kind)) throw new OptionsError(OWNER, composer, `can't hold ${node.kind}()`)
  if (node.kind === 'optional') refuseKind(composer, node.child, kinds)
  else if (node.kind === 'all' || node.kind === 'any') node.children.forEach((child) => refuseKind(composer, child, kinds))
}

function refuseSharedSource (one: PolicyNode, other: PolicyNode): void {
  for (const a of leavesOf(one)) {
    for (const b of leavesOf(other)) {
      const shared = a.definition.credentials.find((source) => b.definition.credentials.some((candidate) => sharesSource(source, candidate)))
      if (shared === undefined) continue
      throw new OptionsError(OWNER, 'anyOf', `has two alternatives that read the same credential (${describeSource(shared)}): "${a.definition.name}" and "${b.definition.name}"; several issuers belong in one registration`)
    }
  }
}

function refuseProvisional (node: PolicyNode): void {
  const found = leavesOf(node).find(({ definition }) => definition.provisional === true)
  if (found !== undefined) throw new OptionsError(OWNER, 'anyOf', `has "${found.definition.name}", which may prove nothing before the body has been read, before other alternatives; write it last`)
}

function isSaidToBeShared (node: PolicyNode): boolean {
  return node.kind === 'all' && node.sharedKey && proofOf(node, tenant, false) !== 'always'
}

function checkCombination (children: readonly PolicyNode[], sharedKey: boolean): void {
  if (sharedKey) return
  const proofs = children.filter((child) => !isAmbient(child) && child.kind !== 'open').map((child) => proofOf(child, tenant, false))
  if (proofs.length < 2 || proofs.every((proof) => proof === 'always') || proofs.every((proof) => proof === 'never')) return
  throw new OptionsError(OWNER, 'allOf', 'holds credential guards of which only some prove a tenant, so the others could belong to somebody else; say sharedKey: true if that is meant')
}

const tenant: Proof = 'tenant'

function checkTenantOrder (children: readonly PolicyNode[]): void {
  children.forEach((child, i) => {
    const [early] = needingTenant([...children.slice(0, i), child])
    const later = children.slice(i + 1).find((candidate) => proofOf(candidate, tenant, true) !== 'never')
    if (early === undefined || later === undefined) return
    throw new OptionsError(OWNER, 'allOf', `has "${early.definition.name}", which needs a tenant, before the guard that proves it; write it after`)
  })
}

/** Guards in the tree that need a tenant which nothing before them always proves. */
function needingTenant (children: readonly PolicyNode[], provedBefore = false): readonly GuardNode[] {
  let proved = provedBefore
  return children.flatMap((child) => {
    const found = needingTenantIn(child, proved)
    proved ||= proofOf(child, tenant, true) === 'always'
    return found
  })
}

function needingTenantIn (node: PolicyNode, proved: boolean): readonly GuardNode[] {
  switch (node.kind) {
    case 'guard': return !proved && needsTenant(node) ? [node] : []
    case 'all': return needingTenant(node.children, proved)
    case 'any': return node.children.flatMap((child) => needingTenantIn(child, proved))
    case 'optional': return needingTenantIn(node.child, proved)
    case 'open': return []
  }
}

function needsTenant ({ requirements }: GuardNode): boolean {
  return requirements.some((requirement) => requirement.needsTenant === true)
}
