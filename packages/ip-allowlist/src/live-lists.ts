/** The lists of a store as guards go by them: compiled, followed as they change, and kept when the store fails. */

import { inTime } from '@sallyport/guard'
import { buildAddressSet, type AddressSet } from './address-set.js'
import { refusal } from './errors.js'
import { publishListEvent, type ListEventListener } from './list-events.js'
import type { ListStore, StoredList } from './list-store.js'
import type { ListRules } from './lists.js'

export interface LiveListsOptions {
  readonly store: ListStore
  readonly rules: ListRules
  /** How often the store is asked what has changed. Milliseconds. */
  readonly refreshMs: number
  /** A store that takes longer has failed. Milliseconds. */
  readonly storeTimeoutMs: number
  readonly onListEvent: ListEventListener | undefined
}

/** One list that is in use here. */
interface Followed {
  /** The last good version and what it holds; `undefined` until it was read once. */
  current: { readonly version: string, readonly set: AddressSet } | undefined
  failure: Failure | undefined
  /** Readings of one list come one after another. */
  turn: Promise<void>
}

interface Failure {
  readonly version: string
  readonly cause: unknown
  /** True where the entries are wrong: they stay so until the version changes. */
  readonly isFinal: boolean
}

const followersOf = new WeakMap<ListStore, Set<LiveLists>>()

/**
 * Makes every guard of this process read what has changed in the store, now rather than at its next poll. Resolves when the
 * changes count. For stores that are told of changes (`LISTEN`, a subscription), and for whoever changes a list without the
 * management API. Never rejects: a store that can't be read is a `failed` event.
 */
export async function refreshLists (store: ListStore): Promise<void> {
  await Promise.all([...followersOf.get(store) ?? []].map((follower) => follower.refresh()))
}

export class LiveLists {
  readonly #options: LiveListsOptions
  readonly #followed = new Map<string, Followed>()
  /** The versions of all lists, as last read; `undefined` until then. */
  #versions: Map<string, string> | undefined
  /** Why the versions can't be read now. */
  #failure: { readonly cause: unknown } | undefined
  #running: Promise<void> = Promise.resolve()
  #queued: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined

  constructor (options: LiveListsOptions) {
    this.#options = options
  }

  /** Follows the store until `close`. Never rejects; lists among `names` that can be read now are read before it resolves. */
  async open (names: readonly string[]): Promise<void> {
    const { store, refreshMs } = this.#options
    followersOf.set(store, (followersOf.get(store) ?? new Set()).add(this))
    this.#timer = setInterval(() => { void this.refresh() }, refreshMs)
    this.#timer.unref()
    await this.refresh()
    const known = names.filter((name) => this.#versions?.has(name))
    await Promise.all(known.map((name) => this.#load(name, this.#versions!.get(name)!)))
  }

  close (): void {
    clearInterval(this.#timer)
    followersOf.get(this.#options.store)?.delete(this)
  }

  /**
   * What the list holds now: at once, save for the first use of a name. `undefined` if the store has no such list.
   * Throws or rejects with a refusal where it could never be read.
   */
  find (name: string): AddressSet | undefined | Promise<AddressSet | undefined> {
    const { current, failure = this.#failure } = this.#followed.get(name) ?? {}
    if (current !== undefined) return current.set
    if (this.#versions?.has(name) === false) return undefined
    // The next poll tries again; requests that come meanwhile must not add to the store's trouble.
    if (failure !== undefined) throw refusal('ERR_IP_ALLOWLIST_LIST_UNAVAILABLE', { reason: 'list-unread', cause: failure.cause })
    const reading = this.#versions === undefined ? this.refresh() : this.#load(name, this.#versions.get(name)!)
    return reading.then(() => this.find(name))
  }

  /** Reads what has changed; what had changed when this was called counts once it resolves. Never rejects. */
  refresh (): Promise<void> {
    this.#queued ??= this.#running.then(() => {
      this.#queued = undefined
      return this.#running = this.#readVersions()
    })
    return this.#queued
  }

  async #readVersions (): Promise<void> {
    const { store, storeTimeoutMs, onListEvent } = this.#options
    try {
      const versions: unknown = await inTime(store.versions(), storeTimeoutMs)
      // Nothing else may be taken for a store without lists.
      if (!(versions instanceof Map)) throw new TypeError('versions() of the store did not resolve to a Map')
      this.#versions = new Map(versions as ReadonlyMap<string, string>)
      this.#failure = undefined
    } catch (cause) {
      if (this.#failure === undefined) publishListEvent({ kind: 'failed', list: undefined, cause }, onListEvent)
      this.#failure = { cause }
      return
    }
    await Promise.all([...this.#followed.keys()].map(async (name) => {
      const version = this.#versions!.get(name)
      if (version === undefined) this.#followed.delete(name)
      else await this.#load(name, version)
    }))
  }

  #load (name: string, version: string): Promise<void> {
    const followed = this.#followed.get(name) ?? { current: undefined, failure: undefined, turn: Promise.resolve() }
    this.#followed.set(name, followed)
    followed.turn = followed.turn.then(() => this.#read(name, version, followed))
    return followed.turn
  }

  /** Replaces what is followed in one step, when the new set is whole; or keeps it and remembers why. */
  async #read (name: string, version: string, followed: Followed): Promise<void> {
    if (followed.current?.version === version) followed.failure = undefined
    if (followed.current?.version === version || (followed.failure?.isFinal === true && followed.failure.version === version)) return
    const { store, rules, storeTimeoutMs, onListEvent } = this.#options
    let stored: StoredList | undefined
    try {
      stored = await inTime(store.read(name), storeTimeoutMs)
      if (stored === undefined) {
        // Removed since its version was read.
        this.#versions?.delete(name)
        if (this.#followed.get(name) === followed) this.#followed.delete(name)
        return
      }
      const set = await buildAddressSet(stored.entries, { ...rules, name: `lists.${name}` })
      followed.current = { version: stored.version, set }
      followed.failure = undefined
      publishListEvent({ kind: 'loaded', list: name, version: stored.version, size: set.size, warnings: set.warnings }, onListEvent)
    } catch (cause) {
      const failure = { version: stored?.version ?? version, cause, isFinal: stored !== undefined }
      const isKnown = followed.failure?.version === failure.version && followed.failure.isFinal === failure.isFinal
      followed.failure = failure
      if (!isKnown) publishListEvent({ kind: 'failed', list: name, cause }, onListEvent)
    }
  }
}
