/** What has been issued, for people to look at and revoke: metadata of tokens by subject, never the tokens. */

import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { StateStore } from '@sallyport/guard'
import type { RevocableToken } from './revocations.js'

/** A token as `list(subject)` shows it; a pair, with all that descends from it, is one. */
export interface TokenRecord {
  /** What `revoke({ id })` takes: the token's `jti`, or the family of a pair. */
  readonly id: string
  readonly subject: string
  readonly tenant: string | undefined
  readonly purpose: string | undefined
  readonly scopes: readonly string[]
  readonly createdAt: Date
  /** Of a pair: when its latest refresh token does. */
  readonly expiresAt: Date
  /** To the minute; `undefined`: not yet. Of a pair: when it was last refreshed. */
  readonly lastUsedAt: Date | undefined
  readonly revoked: boolean
}

interface StoredRecord {
  readonly id: string
  readonly tenant?: string
  readonly purpose?: string
  readonly scopes: readonly string[]
  readonly createdAt: number
  readonly expiresAt: number
}

/** Of a subject with more live tokens, those that live longest are listed. */
export const MAX_LISTED = 500
const LOCK_MS = 5_000
const LOCK_PATIENCE_MS = 2_000
const RECORDS_AT_ONCE = 32
const USE_STEP_MS = 60_000
const MAX_NOTED = 10_000

export interface TokenRegisterOptions {
  /** Must settle each call within a third of `LOCK_MS`. */
  readonly store: StateStore
  readonly clock: () => number
  readonly isRevoked: (token: RevocableToken) => boolean | Promise<boolean>
}

type Change = (records: readonly StoredRecord[]) => readonly StoredRecord[]

export class TokenRegister {
  readonly #options: TokenRegisterOptions
  readonly #store: StateStore
  /** When a use was last written, so that a busy token is written once a minute and not with each request. */
  readonly #noted = new Map<string, number>()

  constructor (options: TokenRegisterOptions) {
    this.#options = options
    this.#store = options.store
  }

  async add (subject: string, record: StoredRecord): Promise<void> {
    await this.#update(subject, (records) => [...records, record])
  }

  /** The family of a pair lives on with its new refresh token. */
  async extend (subject: string, id: string, expiresAt: number): Promise<void> {
    await this.#update(subject, (records) => records.map((record) => record.id === id ? { ...record, expiresAt } : record))
  }

  async list (subject: string): Promise<readonly TokenRecord[]> {
    const records = await this.#read(subject)
    const shown: TokenRecord[] = []
    for (let i = 0; i < records.length; i += RECORDS_AT_ONCE) {
      shown.push(...await Promise.all(records.slice(i, i + RECORDS_AT_ONCE).map((record) => this.#show(subject, record))))
    }
    return Object.freeze(shown)
  }

  async #show (subject: string, { id, tenant, purpose, scopes, createdAt, expiresAt }: StoredRecord): Promise<TokenRecord> {
    const used = await this.#store.get(usedKey(id))
    return Object.freeze({
      id, subject, tenant, purpose, scopes: Object.freeze(scopes), createdAt: new Date(createdAt), expiresAt: new Date(expiresAt),
      lastUsedAt: used === undefined ? undefined : new Date(Number(used)),
      revoked: await this.#options.isRevoked({ id, family: id, tenant, issuedAt: Math.floor(createdAt / 1000) })
    })
  }

  /** Notes that a token was used. Never in the way of a request: what the store does not take is lost. */
  noteUse (id: string, expiresAtMs: number): void {
    const now = this.#options.clock()
    if (Math.abs(now - (this.#noted.get(id) ?? -Infinity)) < USE_STEP_MS) return
    if (this.#noted.size >= MAX_NOTED) this.#noted.clear()
    this.#noted.set(id, now)
    this.#store.set(usedKey(id), String(now), Math.max(1, Math.ceil(expiresAtMs - now))).catch(ignore)
  }

  /** Read, change, write, one at a time for each subject across all processes. */
  async #update (subject: string, change: Change): Promise<void> {
    const lock = `lock:${listKey(subject)}`
    const owner = randomUUID()
    await this.#take(lock, owner)
    const records = await this.#read(subject).catch(async (error: unknown) => {
      await this.#store.release(lock, owner).catch(ignore)
      throw error
    })
    const changed = longestLived(change(records))
    const now = this.#options.clock()
    const lastsUntil = changed.reduce((latest, { expiresAt }) => Math.max(latest, expiresAt), now)
    // If this fails the lock runs out by itself: a late write must not meet the next one's.
    await this.#store.set(listKey(subject), JSON.stringify(changed), Math.max(1, Math.ceil(lastsUntil - now)))
    await this.#store.release(lock, owner).catch(ignore)
  }

  async #take (lock: string, owner: string): Promise<void> {
    const deadline = performance.now() + LOCK_PATIENCE_MS
    for (;;) {
      const taken = await this.#store.claim(lock, LOCK_MS, owner).catch(async (error: unknown) => {
        // It may have been taken all the same.
        await this.#store.release(lock, owner).catch(ignore)
        throw error
      })
      // A client that sends a command again is answered with its own claim.
      if (taken.claimed || taken.value === owner) return
      if (performance.now() > deadline) throw new Error('the list of tokens is busy')
      await sleep(5 + Math.random() * 20)
    }
  }

  async #read (subject: string): Promise<readonly StoredRecord[]> {
    const text = await this.#store.get(listKey(subject))
    const now = this.#options.clock()
    return text === undefined ? [] : parseRecords(text).filter(({ expiresAt }) => expiresAt > now)
  }
}

function parseRecords (text: string): readonly StoredRecord[] {
  try {
    const records: unknown = JSON.parse(text)
    if (Array.isArray(records)) return records as StoredRecord[]
  } catch { /* told below */ }
  throw new Error('the store holds no list of tokens where one should be')
}

function longestLived (records: readonly StoredRecord[]): readonly StoredRecord[] {
  if (records.length <= MAX_LISTED) return records
  const kept = new Set([...records].reverse().sort((a, b) => b.expiresAt - a.expiresAt).slice(0, MAX_LISTED))
  return records.filter((record) => kept.has(record))
}

const listKey = (subject: string): string => `tokens:${subject}`
const usedKey = (id: string): string => `used:${id}`

function ignore (): void { /* last use is for people, and a lock runs out */ }
