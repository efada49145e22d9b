/** Changes to a list in a store: judged as a whole, made in one step, and written into the audit trail. */

import { inTime, isOptionsError } from '@sallyport/guard'
import { buildAddressSet, type AddressSet, type AddressWarning } from './address-set.js'
import { refusal, routesError } from './errors.js'
import { formatListEntry, formatRange, parseListEntry, type ListEntry, type ParsedListEntry } from './list-entry.js'
import { publishListEvent, type ListEventListener } from './list-events.js'
import type { ListActor, ListChange, ListStore, StoredList } from './list-store.js'
import type { ListRules } from './lists.js'
import { refreshLists } from './live-lists.js'
import { holds, isConditional, type Precondition } from './preconditions.js'

export interface ListEditorOptions {
  readonly store: ListStore
  readonly rules: ListRules
  /** Names of lists that guards use as deny lists. */
  readonly denyLists: readonly string[]
  readonly maxEntries: number
  readonly storeTimeoutMs: number
  readonly onListEvent: ListEventListener | undefined
}

/** What every change says beside what it does. */
export interface ChangeRequest {
  readonly name: string
  readonly precondition: Precondition
  /** Makes the change although it shuts out the caller. */
  readonly force: boolean
  readonly by: ListActor
}

export interface ChangedList {
  readonly version: string
  readonly entries: readonly ListEntry[]
  readonly isNew: boolean
  readonly warnings: readonly AddressWarning[]
}

/** Entries by what they cover, in canonical text, so that each address, network or range is there once. */
type Entries = ReadonlyMap<string, ListEntry>

/** What a change makes of a list; no entries: it removes the list. */
interface Edit {
  readonly action: ListChange['action']
  readonly entries: Entries | undefined
  readonly warnings: readonly AddressWarning[]
}

// A change that fits any version is tried again when another one came between.
const maxTries = 5
const maxTold = 100

export class ListEditor {
  readonly #options: ListEditorOptions

  constructor (options: ListEditorOptions) {
    this.#options = options
  }

  versions (): Promise<ReadonlyMap<string, string>> {
    return this.#ask((store) => store.versions())
  }

  /** Throws 404 if there is no such list. */
  async read (name: string): Promise<StoredList> {
    const list = await this.#ask((store) => store.read(name))
    if (list === undefined) throw routesError('ERR_IP_ALLOWLIST_LIST_UNKNOWN')
    return list
  }

  history (name: string, limit: number): Promise<readonly ListChange[]> {
    return this.#ask((store) => store.history(name, limit))
  }

  /** Makes or replaces a list. */
  async put (request: ChangeRequest, given: readonly unknown[]): Promise<ChangedList> {
    const { match, noneMatch } = request.precondition
    if (match === undefined && noneMatch !== '*') throw routesError('ERR_IP_ALLOWLIST_VERSION_REQUIRED')
    const { warnings } = await this.#compile(given, 'entries')
    const entries = this.#parse(given, 'entries')
    return this.#change(request, (current) => ({ action: current === undefined ? 'created' : 'replaced', entries, warnings }))
  }

  /** Takes entries off a list and puts others on it; one that is on it already gets the new note and end. */
  async patch (request: ChangeRequest, { add, remove }: { readonly add: readonly unknown[], readonly remove: readonly unknown[] }): Promise<ChangedList> {
    const { warnings } = await this.#compile(add, 'add')
    const added = this.#parse(add, 'add')
    const removed = [...this.#parse(remove, 'remove').keys()]
    return this.#change(request, (current) => {
      if (current === undefined) throw routesError('ERR_IP_ALLOWLIST_LIST_UNKNOWN')
      const entries = new Map(this.#parse(current.entries, 'list'))
      if (removed.some((text) => !entries.delete(text))) throw routesError('ERR_IP_ALLOWLIST_ENTRIES_INVALID', '"remove" must hold only what is on the list')
      return { action: 'patched', entries: new Map([...entries, ...added]), warnings }
    })
  }

  /** Removes a list. */
  async delete (request: ChangeRequest): Promise<void> {
    if (request.precondition.match === undefined) throw routesError('ERR_IP_ALLOWLIST_VERSION_REQUIRED')
    await this.#change(request, () => ({ action: 'deleted', entries: undefined, warnings: [] }))
  }

  /** Compares and sets. Once this resolves, the guards of this process go by the change. */
  async #change (request: ChangeRequest, edit: (current: StoredList | undefined) => Edit): Promise<ChangedList> {
    const { store, rules, onListEvent } = this.#options
    const { name, precondition, by } = request
    for (let tries = 0; tries < maxTries; tries++) {
      const current = await this.#ask((from) => from.read(name))
      if (!holds(precondition, current?.version)) break
      const { action, entries: edited, warnings } = edit(current)
      const entries = edited && [...edited.values()]
      const forced = await this.#shutsOut(request, current, entries)
      if (forced && !request.force) throw routesError('ERR_IP_ALLOWLIST_CALLER_EXCLUDED')
      const change: ListChange = { list: name, at: new Date(rules.clock()).toISOString(), by, action, forced, ...differences(current?.entries ?? [], entries ?? []) }
      const result = await this.#ask((to) => to.replace({ name, expected: current?.version, entries, change }))
      if (result.replaced) {
        publishListEvent({ kind: 'changed', list: name, version: result.version, change }, onListEvent)
        await refreshLists(store)
        return { version: result.version, entries: entries ?? [], isNew: current === undefined, warnings }
      }
      if (isConditional(precondition)) break
    }
    throw routesError('ERR_IP_ALLOWLIST_VERSION_CONFLICT')
  }

  /** Whether the caller's address passes the list as it is, and would not pass it as it would be. */
  async #shutsOut ({ name, by }: ChangeRequest, current: StoredList | undefined, entries: readonly ListEntry[] | undefined): Promise<boolean> {
    const after = entries && await this.#compile(entries, 'entries')
    const before = current && await this.#compile(current.entries, 'entries').catch(() => undefined)
    const isIn = (set: AddressSet | undefined): boolean => by.address !== undefined && set?.has(by.address) === true
    if (this.#options.denyLists.includes(name)) return isIn(after) && !isIn(before)
    // Where there is no list yet, or one that can't be read, nobody knows that the caller does not pass.
    return !isIn(after) && (before === undefined || isIn(before))
  }

  /** Throws 422 for entries that a guard would not take, and for too many. */
  async #compile (entries: readonly unknown[], name: string): Promise<AddressSet> {
    const { rules, maxEntries } = this.#options
    if (entries.length > maxEntries) throw routesError('ERR_IP_ALLOWLIST_ENTRIES_INVALID', `"${name}" must hold at most ${maxEntries} entries`)
    return buildAddressSet(entries as readonly ListEntry[], { ...rules, name }).catch(refuseEntries)
  }

  /** Of entries that cover the same, the one that ends last stays: that is what guards go by. */
  #parse (given: readonly unknown[], name: string): Entries {
    const latest = new Map<string, ParsedListEntry>()
    try {
      given.forEach((entry, index) => {
        const parsed = parseListEntry(entry, { name: `${name}[${index}]`, allowRanges: true })
        const text = formatRange(parsed.range)
        if (parsed.expiresAtMs >= (latest.get(text)?.expiresAtMs ?? -Infinity)) latest.set(text, parsed)
      })
    } catch (error) {
      refuseEntries(error)
    }
    return new Map([...latest].map(([text, parsed]) => [text, formatListEntry(parsed)]))
  }

  async #ask<T> (call: (store: ListStore) => Promise<T>): Promise<T> {
    try {
      return await inTime(call(this.#options.store), this.#options.storeTimeoutMs)
    } catch (cause) {
      throw refusal('ERR_IP_ALLOWLIST_LIST_UNAVAILABLE', { reason: 'store', cause, retryAfterSeconds: 1 })
    }
  }
}

/** An error about an entry as an answer: where it stands, and the rule that it breaks. */
function refuseEntries (error: unknown): never {
  if (!isOptionsError(error)) throw error
  throw routesError('ERR_IP_ALLOWLIST_ENTRIES_INVALID', error.message.slice(error.message.indexOf('"')))
}

/** What came and what went, for the audit trail. An entry with another note or end than before has done both. */
function differences (before: readonly ListEntry[], after: readonly ListEntry[]): Pick<ListChange, 'added' | 'addedCount' | 'removed' | 'removedCount'> {
  const old = new Map(before.map((entry) => [textOf(canonical(entry)), entry]))
  const current = new Set(after.map(textOf))
  const added = after.filter((entry) => !old.has(textOf(entry)))
  const removed = [...old].flatMap(([text, entry]) => current.has(text) ? [] : [entry])
  return { added: added.slice(0, maxTold), addedCount: added.length, removed: removed.slice(0, maxTold), removedCount: removed.length }
}

/** As the API writes it; what somebody else put into the store and is no entry stays as it is. */
function canonical (entry: ListEntry): ListEntry {
  try {
    return formatListEntry(parseListEntry(entry, { allowRanges: true }))
  } catch {
    return entry
  }
}

function textOf (entry: ListEntry): string {
  return JSON.stringify(entry)
}
