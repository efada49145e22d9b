/** Where keys come from: a list, or the user's resolver. The one place that waits for somebody else. */

import { askResolver, BoundedCache, type AuthError } from '@sallyport/guard'
import { refusal, type HmacAuthReason } from './errors.js'
import { createStandIn, resolveKeys, type HmacKey, type KeyRules, type TrustedKey } from './keys.js'

/**
 * Finds the secrets of a key id: one, several (all are tried) or `undefined` where there is none. Nobody has proved the id
 * yet: use it to look up keys and for nothing else. Answers are remembered for `keyCacheSeconds`, unless there is
 * none: so the time of an answer can tell that an id exists, and ids are no secrets.
 * Throwing, answering too late (`judgeTimeoutMs` of guard) or giving a key that may not be used is 503.
 */
export type KeyResolver = (keyId: string) => KeyAnswer | Promise<KeyAnswer>
/** Keys need not repeat their id; where they do, it must be the one that was asked for. */
export type KeyAnswer = ResolvedKey | readonly ResolvedKey[] | undefined
export type ResolvedKey = Omit<HmacKey, 'id'> & { readonly id?: string }

/**
 * The keys to try for an id, in order: its own and, up to the number that any id has, stand-ins. So an unknown id takes as
 * much work as one with keys.
 */
export type FindKeys = (keyId: string, nowMs: number) => readonly TrustedKey[] | Promise<readonly TrustedKey[]>

export function createListedKeys (keys: readonly TrustedKey[], rules: KeyRules): FindKeys {
  const byId = new Map<string, readonly TrustedKey[]>()
  for (const key of keys) byId.set(key.id, [...byId.get(key.id) ?? [], key])
  const longest = Math.max(...[...byId.values()].map(({ length }) => length))
  const standIns = Array.from({ length: longest }, () => createStandIn(rules))
  for (const [id, own] of byId) byId.set(id, Object.freeze([...own, ...standIns.slice(own.length)]))
  return (keyId) => byId.get(keyId) ?? standIns
}

const MAX_ANSWERS = 10_000

interface Answer { readonly keys: readonly TrustedKey[], readonly askedAt: number }

export function createResolvedKeys (resolver: KeyResolver, rules: KeyRules, keyCacheSeconds: number): FindKeys {
  const answers = new BoundedCache<Answer>(keyCacheSeconds === 0 ? 0 : MAX_ANSWERS)
  // The longest answer there has been decides how many keys are tried for every id.
  let standIns: readonly TrustedKey[] = [createStandIn(rules)]
  const padded = (keys: readonly TrustedKey[]): readonly TrustedKey[] => {
    if (keys.length > standIns.length) standIns = [...standIns, ...Array.from({ length: keys.length - standIns.length }, () => createStandIn(rules))]
    return keys.length === standIns.length ? keys : [...keys, ...standIns.slice(keys.length)]
  }

  return function findKeys (keyId, nowMs) {
    const known = answers.get(keyId)
    if (known !== undefined && isWithin(nowMs - known.askedAt, keyCacheSeconds * 1000)) return padded(known.keys)
    return askResolver(() => resolver(keyId), (answer) => {
      const keys = readAnswer(answer, rules, keyId)
      // An answer that comes late must not take the place of keys that were asked for after it.
      if ((answers.get(keyId)?.askedAt ?? nowMs) > nowMs) return padded(keys)
      // Only what exists is remembered: a client could ask for as many unknown ids as it likes.
      if (keys.length > 0) answers.set(keyId, { keys, askedAt: nowMs })
      else answers.delete(keyId)
      return padded(keys)
    }, (cause) => unavailable('resolver', cause))
  }
}

/** False for a clock that was set back, too. */
function isWithin (ageMs: number, limitMs: number): boolean {
  return ageMs >= 0 && ageMs < limitMs
}

function readAnswer (answer: unknown, rules: KeyRules, keyId: string): readonly TrustedKey[] {
  if (answer === undefined || answer === null) return []
  try {
    return resolveKeys(Array.isArray(answer) ? answer : [answer], rules, 'answer', keyId)
  } catch (cause) {
    throw unavailable('resolved-key', cause)
  }
}

function unavailable (reason: HmacAuthReason, cause: unknown): AuthError {
  return refusal('ERR_HMAC_AUTH_KEYS_UNAVAILABLE', { reason, cause, retryAfterSeconds: 1 })
}
