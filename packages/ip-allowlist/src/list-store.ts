/** Where named lists are kept: what a store must do, and a store in the memory of one process. */

import { randomUUID } from 'node:crypto'
import { OptionReader } from '@sallyport/guard'
import { owner } from './address.js'
import type { ListEntry } from './list-entry.js'

/** A list as it is kept. */
export interface StoredList {
  /**
   * Differs after each change, and never comes again for other entries; it becomes the list's `ETag` (RFC 9110 section 8.8.3),
   * so it holds visible ASCII without quotation marks.
   */
  readonly version: string
  readonly entries: readonly ListEntry[]
}

/** Who changed a list: what the policy of the request proved, and from where it came. */
export interface ListActor {
  readonly subject?: string
  readonly tenant?: string
  readonly address?: string
}

/** One line of the audit trail. JSON as it is. */
export interface ListChange {
  readonly list: string
  /** RFC 3339, UTC. */
  readonly at: string
  readonly by: ListActor
  readonly action: 'created' | 'replaced' | 'patched' | 'deleted'
  /** True where the change shut out the caller, who asked for that. */
  readonly forced: boolean
  /** The first 100 entries that came, or came back with another note or end. */
  readonly added: readonly ListEntry[]
  readonly addedCount: number
  /** The first 100 entries that went, or went as they were. */
  readonly removed: readonly ListEntry[]
  readonly removedCount: number
}

/** A change to be made in one step, or not at all. */
export interface ListReplacement {
  readonly name: string
  /** The version that is replaced; `undefined`: there must be no such list. */
  readonly expected: string | undefined
  /** What the list holds from now on, whole; `undefined` removes the list. The caller's array: to be copied, not kept. */
  readonly entries: readonly ListEntry[] | undefined
  /** Kept with the change, in the same step. */
  readonly change: ListChange
}

export type ReplaceResult = { readonly replaced: true, readonly version: string } | { readonly replaced: false }

/**
 * Keeps named lists and their audit trail. Four methods, to be written for any database.
 *
 * Every method rejects when it can't tell: guards then go on with the last list that they read, and answer 503 where they
 * have read none. Guards poll `versions` (twice a second by default), so a change counts in every process within a second;
 * a store that hears of changes earlier (`LISTEN`, a subscription) calls `refreshLists(store)`.
 */
export interface ListStore {
  /** The version of every list, by name. Asked often, so it should cost little. */
  versions (): Promise<ReadonlyMap<string, string>>
  /** One list; `undefined` if there is none of that name. */
  read (name: string): Promise<StoredList | undefined>
  /** Compares and sets: of all callers that expect one version, exactly one gets `replaced: true`. */
  replace (replacement: ListReplacement): Promise<ReplaceResult>
  /** The latest changes of one list, newest first, at most `limit`; those of removed lists too. */
  history (name: string, limit: number): Promise<readonly ListChange[]>
}

export interface MemoryListStoreOptions {
  /** Lists to begin with, by name. Copied. Default: none. */
  readonly lists?: Readonly<Record<string, readonly ListEntry[]>>
  /** How many changes are remembered of all lists together; then the oldest go. Default: 1,000. */
  readonly maxChanges?: number
}

/**
 * A store for one process, which forgets everything in a restart.
 * @throws OptionsError for an unknown option, or a value outside of what is documented; entries are judged by the guard that reads them
 */
export function memoryListStore (options: MemoryListStoreOptions = {}): ListStore {
  const reader = new OptionReader(owner, options, ['lists', 'maxChanges'])
  const maxChanges = reader.integer('maxChanges', { min: 1 }, 1_000)
  const lists = readLists(reader)
  const changes: ListChange[] = []

  return Object.freeze({
    async versions () {
      return new Map([...lists].map(([name, { version }]) => [name, version]))
    },
    async read (name: string) {
      return lists.get(name)
    },
    async replace ({ name, expected, entries, change }: ListReplacement): Promise<ReplaceResult> {
      if (lists.get(name)?.version !== expected) return { replaced: false }
      const list = storedList(entries ?? [])
      if (entries === undefined) lists.delete(name)
      else lists.set(name, list)
      if (changes.push(change) > maxChanges) changes.shift()
      return { replaced: true, version: list.version }
    },
    async history (name: string, limit: number) {
      return changes.filter(({ list }) => list === name).slice(-limit).reverse()
    }
  })
}

function readLists (reader: OptionReader): Map<string, StoredList> {
  const given = reader.raw('lists') ?? {}
  if (typeof given !== 'object' || Array.isArray(given)) throw reader.error('lists', 'must be an object of lists by name')
  return new Map(Object.entries(given).map(([name, entries]: [string, unknown]) => {
    if (!Array.isArray(entries)) throw reader.error(`lists.${name}`, 'must be a list of entries')
    return [name, storedList(entries as readonly ListEntry[])]
  }))
}

function storedList (entries: readonly ListEntry[]): StoredList {
  return Object.freeze({ version: randomUUID(), entries: frozenEntries(entries) })
}

/** A copy that nobody can change. */
export function frozenEntries (entries: readonly ListEntry[]): readonly ListEntry[] {
  return Object.freeze(entries.map((entry) => typeof entry === 'string' ? entry : Object.freeze({ ...entry })))
}
