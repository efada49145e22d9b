/**
 * Revoked tokens, as a snapshot in this process: written through to the store, and read back from it by every process
 * within `maxStalenessSeconds`.
 *
 * The store knows single keys only, so revocations are a log in it: one numbered key for each entry of a day, taken by
 * `claim`, which gives every number to exactly one writer. The entries of a day expire together, so a log has no holes.
 */

import { inTime, type StateStore } from '@sallyport/guard'

/**
 * What can be revoked: one token by its `jti` (or what `list` shows, by its id), all tokens that descend from one login, or
 * all tokens of a tenant issued up to the end of this second.
 */
export type Revocation
  = { readonly id: string }
    | { readonly family: string }
    | { readonly tenant: string }

/** What a token says of itself that a revocation may name. */
export interface RevocableToken {
  readonly id: string | undefined
  readonly family: string | undefined
  readonly tenant: string | undefined
  /** Seconds since the epoch; a token without one counts as issued long ago. */
  readonly issuedAt: number | undefined
}

/** What `bearerJwt` asks of its `revocations` option. */
export interface RevocationList {
  /** At once where what is known is fresh enough. Throwing or rejecting is 503. */
  isRevoked (token: RevocableToken): boolean | Promise<boolean>
  /** Called for each request that a token let pass. Must not throw. */
  noteUse? (id: string, expiresAtMs: number): void
}

const kinds = ['id', 'family', 'tenant'] as const

interface Named { readonly kind: typeof kinds[number], readonly value: string }
interface Entry extends Named { readonly at: number }

const DAY_MS = 86_400_000
const DAYS_AT_ONCE = 16
const ENTRIES_AT_ONCE = 64
const MAX_NAME = 1_024

export interface RevocationsOptions {
  readonly store: StateStore
  /** No token lives longer than this; revocations are kept as long. */
  readonly retentionSeconds: number
  readonly maxStalenessSeconds: number
  readonly storeTimeoutMs: number
  readonly clock: () => number
}

export class Revocations implements RevocationList {
  readonly #options: RevocationsOptions
  readonly #retentionDays: number
  /** Ids and families, with the second of their revocation. */
  readonly #named = new Map<string, number>()
  readonly #tenants = new Map<string, number>()
  /** For each day that is kept: how many of its entries are known here. */
  readonly #known = new Map<number, number>()
  /** The day of the last reading. */
  #lastDay = -Infinity
  #readAt = -Infinity
  #underWay: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined

  constructor (options: RevocationsOptions) {
    this.#options = options
    // A day more: other processes may mint for a family until they hear of its end, and clocks differ.
    this.#retentionDays = Math.ceil(options.retentionSeconds * 1000 / DAY_MS) + 1
  }

  /** Follows the store until `close`. Rejects if it can't be read now. */
  async open (): Promise<void> {
    await this.#refresh()
    const everyMs = this.#options.maxStalenessSeconds * 500
    this.#timer = setInterval(() => { this.#refresh().catch(keepStale) }, everyMs)
    this.#timer.unref()
  }

  close (): void {
    clearInterval(this.#timer)
  }

  /** True if the token is revoked; a promise where the snapshot is too old and has to be read first. Rejects if it can't be. */
  isRevoked (token: RevocableToken): boolean | Promise<boolean> {
    // What was revoked stays so, however old the snapshot is.
    if (this.#holds(token)) return true
    return this.#isFresh() ? false : this.#catchUp().then(() => this.#holds(token))
  }

  /** As `isRevoked`, by what the store holds now: for an answer on which something is built that outlives it. Rejects if it can't be read. */
  async isRevokedNow (token: RevocableToken): Promise<boolean> {
    if (this.#holds(token)) return true
    // A reading that is under way may have begun before.
    await this.#underWay?.catch(keepStale)
    await this.#refresh()
    return this.#holds(token)
  }

  /**
   * Counts here at once, and in other processes as soon as they read the store. Rejects if the store did not take it.
   * Throws a `TypeError` for what names nothing.
   */
  async revoke (revocation: Revocation): Promise<void> {
    const { kind, value } = readRevocation(revocation)
    if (kind !== 'tenant' && this.#named.has(value)) return
    await this.#refresh()
    const now = this.#options.clock()
    const day = Math.floor(now / DAY_MS)
    const entry: Entry = { kind, value, at: Math.floor(now / 1000) }
    const text = JSON.stringify(entry)
    for (let number = this.#known.get(day) ?? 0; ; number++) {
      const taken = await this.#ask((store) => store.claim(keyOf(day, number), this.#ttlOf(day, now), text))
      if (taken.claimed) break
    }
    this.#remember(entry)
  }

  #holds ({ id, family, tenant, issuedAt = 0 }: RevocableToken): boolean {
    const { createdAt } = this.#options.store
    // A store that forgets everything in a restart can't say what was revoked before.
    if (createdAt !== undefined && issuedAt < Math.floor(createdAt / 1000)) return true
    if (id !== undefined && this.#named.has(id)) return true
    if (family !== undefined && this.#named.has(family)) return true
    const before = tenant === undefined ? undefined : this.#tenants.get(tenant)
    return before !== undefined && issuedAt <= before
  }

  /** A clock that went back says nothing about the age of what was read before. */
  #isFresh (): boolean {
    const ageMs = this.#options.clock() - this.#readAt
    return ageMs >= 0 && ageMs <= this.#options.maxStalenessSeconds * 1000
  }

  async #catchUp (): Promise<void> {
    await this.#refresh()
    // The reading that was under way may have begun too long ago.
    if (!this.#isFresh()) await this.#refresh()
    if (!this.#isFresh()) throw new Error('what is revoked can\'t be read fast enough')
  }

  #refresh (): Promise<void> {
    this.#underWay ??= this.#read().finally(() => { this.#underWay = undefined })
    return this.#underWay
  }

  async #read (): Promise<void> {
    const startedAt = this.#options.clock()
    const today = Math.floor(startedAt / DAY_MS)
    // What lies further back than the day before the last reading is complete: only writers whose clocks differ write next to today.
    const open = Math.min(today, this.#lastDay) - 1
    const kept = Array.from({ length: this.#retentionDays + 2 }, (_, i) => today - this.#retentionDays + i)
    const days = kept.filter((day) => day >= open || !this.#known.has(day))
    for (let i = 0; i < days.length; i += DAYS_AT_ONCE) await Promise.all(days.slice(i, i + DAYS_AT_ONCE).map((day) => this.#readDay(day)))
    this.#lastDay = today
    this.#readAt = startedAt
    this.#forget(today - this.#retentionDays)
  }

  /** Reads on from the last entry that is known. If that is gone, the store has lost the log, and it begins anew. */
  async #readDay (day: number): Promise<void> {
    const known = this.#known.get(day) ?? 0
    let number = Math.max(0, known - 1)
    for (let count = known === 0 ? 1 : 2; ; count = Math.min(2 * count, ENTRIES_AT_ONCE)) {
      const numbers = Array.from({ length: count }, (_, i) => number + i)
      const texts = await Promise.all(numbers.map((each) => this.#ask((store) => store.get(keyOf(day, each)))))
      const found = texts.includes(undefined) ? texts.indexOf(undefined) : count
      if (found === 0 && number > 0 && number < known) {
        number = 0
        continue
      }
      texts.slice(0, found).forEach((text, i) => { this.#remember(readEntry(text!, keyOf(day, number + i))) })
      number += found
      this.#known.set(day, number)
      if (found < count) return
    }
  }

  #remember ({ kind, value, at }: Entry): void {
    const map = kind === 'tenant' ? this.#tenants : this.#named
    map.set(value, Math.max(at, map.get(value) ?? 0))
  }

  #forget (firstDay: number): void {
    for (const day of this.#known.keys()) if (day < firstDay) this.#known.delete(day)
    for (const map of [this.#named, this.#tenants]) {
      for (const [value, at] of map) if (at < firstDay * DAY_MS / 1000) map.delete(value)
    }
  }

  #ask<T> (call: (store: StateStore) => Promise<T>): Promise<T> {
    return inTime(call(this.#options.store), this.#options.storeTimeoutMs)
  }

  #ttlOf (day: number, now: number): number {
    return Math.ceil((day + 2 + this.#retentionDays) * DAY_MS - now)
  }
}

/** What a caller wants revoked. Throws a `TypeError` unless exactly one thing is named. */
export function readRevocation (given: unknown): Named {
  const entries = Object.entries(given ?? {}) as [unknown, unknown][]
  const [kind, value] = entries[0] ?? []
  const isOne = entries.length === 1 && kinds.includes(kind as Named['kind']) && typeof value === 'string' && value !== '' && value.length <= MAX_NAME
  if (!isOne) throw new TypeError(`revoke takes { id }, { family } or { tenant }: one of them, a text of 1 to ${MAX_NAME} characters`)
  return { kind: kind as Named['kind'], value }
}

/** Nothing that can't be read is passed over: it may have revoked the very token. */
function readEntry (text: string, key: string): Entry {
  try {
    const { kind, value, at } = JSON.parse(text) as Partial<Entry>
    if (kinds.includes(kind!) && typeof value === 'string' && Number.isFinite(at)) return { kind: kind!, value, at: at! }
  } catch { /* told below */ }
  throw new Error(`the store holds no revocation under ${key}`)
}

function keyOf (day: number, number: number): string {
  return `revoked:${day}:${number}`
}

function keepStale (): void { /* the snapshot ages, and isRevoked says so */ }
