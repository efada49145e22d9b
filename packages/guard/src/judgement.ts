/** Whether what a guard answered is a judgement at all: guards are written by users too, and nothing of theirs is taken on trust. */

import type { Claim, GuardDefinition, Judgement, Principal } from './guard.js'

/** Frozen judgements that have been looked at, and for whom: a guard that remembers what it proved gives the same one again. */
const known = new WeakMap<Judgement, GuardDefinition>()

/**
 * The judgement as it counts, or `undefined` if it is none. What a guard may still change of it is copied: it is judged now, and
 * read again when a handler asks for it.
 */
export function settledJudgement (judgement: Judgement, definition: GuardDefinition): Judgement | undefined {
  if (known.get(judgement) === definition) return judgement
  if (!isJudgement(judgement, definition)) return undefined
  const settled = withoutLoosePrincipal(judgement)
  if (settled === judgement && judgement.claims === undefined && judgement.obligations === undefined && isFixed(judgement) && isFixed(judgement.principal)) known.set(judgement, definition)
  return settled
}

/** Frozen, and made of plain values: what an accessor gives, or a prototype, may be another thing the next time. */
function isFixed (value: object | undefined): boolean {
  if (value === undefined) return true
  return Object.isFrozen(value) && Object.getPrototypeOf(value) === Object.prototype && Object.values(Object.getOwnPropertyDescriptors(value)).every((part) => 'value' in part)
}

function withoutLoosePrincipal (judgement: Judgement): Judgement {
  const { principal } = judgement
  if (principal === undefined || (Object.isFrozen(principal) && (principal.scopes === undefined || Object.isFrozen(principal.scopes)))) return judgement
  return { ...judgement, principal: Object.freeze({ ...principal, ...(principal.scopes !== undefined && { scopes: Object.freeze([...principal.scopes]) }) }) }
}

/** A guard that resolves `undefined`, `true` or an object of its own making, or that proves less than it declares (or another tenant than it may), has not judged. */
function isJudgement (value: unknown, definition: GuardDefinition): value is Judgement {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, 'identity')) return false
  const { proves } = definition
  const { identity, principal, claims } = value as Judgement
  if (identity === undefined || identity === null || !areClaims(claims) || !areScopes(principal?.scopes) || !areObligations(value as Judgement, definition)) return false
  const { tenant, subject } = principal ?? nothingProved
  if (proves.includes('subject') ? !isText(subject) : subject !== undefined && typeof subject !== 'string') return false
  return proves.includes('tenant') ? isText(tenant) : tenant === undefined
}

const nothingProved: Partial<Principal> = Object.freeze({})

function isText (value: unknown): boolean {
  return typeof value === 'string' && value !== ''
}

function areScopes (scopes: unknown): boolean {
  if (scopes === undefined) return true
  if (!Array.isArray(scopes)) return false
  for (let i = 0; i < scopes.length; i++) if (typeof scopes[i] !== 'string') return false
  return true
}

/** A provisional judgement has obligations, and nothing to claim before they are met. */
function areObligations ({ obligations, provisional, claims }: Judgement, definition: GuardDefinition): boolean {
  if (obligations === undefined) return provisional !== true
  if (!Array.isArray(obligations) || (obligations.length > 0 && definition.judgesBody !== true)) return false
  if (!(obligations as { watch?: unknown }[]).every((obligation) => typeof obligation?.watch === 'function')) return false
  return provisional !== true || (definition.provisional === true && obligations.length > 0 && (claims ?? []).length === 0)
}

/** A claim that can't be made must not be lost on the way. */
export function areClaims (claims: unknown): boolean {
  if (claims === undefined) return true
  return Array.isArray(claims) && (claims as (Partial<Claim> | undefined)[]).every((claim) => {
    return typeof claim?.store?.claim === 'function' && typeof claim.store.release === 'function' && typeof claim.key === 'string' &&
      Number.isFinite(claim.expiresAtMs) && Number.isFinite(claim.storeTimeoutMs)
  })
}
