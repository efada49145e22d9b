/** Lists in one JSON file, which people may edit too: read anew when it changes, and always replaced whole. */

import { createHash, randomUUID } from 'node:crypto'
import { open, readFile, rename, rm, stat } from 'node:fs/promises'
import { setTimeout as wait } from 'node:timers/promises'
import { OptionReader } from '@sallyport/guard'
import { owner } from './address.js'
import type { ListEntry } from './list-entry.js'
import { frozenEntries, type ListChange, type ListReplacement, type ListStore, type ReplaceResult, type StoredList } from './list-store.js'

export interface FileListStoreOptions {
  /**
   * The file: `{ "lists": { "gateway": ["10.0.0.0/8", { "entry": "192.0.2.1", "note": "office" }] }, "changes": [] }`. A file
   * that is missing, larger than 16 MiB or no such JSON can't be read: guards keep the last good lists.
   */
  readonly path: string
  /** Makes the file when the store is first used, where there is none. Default: false, so that a wrong path is found out. */
  readonly create?: boolean
  /** How many changes are remembered of all lists together; then the oldest go. Default: 1,000. */
  readonly maxChanges?: number
}

/** The file as it was last read. */
interface Content {
  readonly lists: ReadonlyMap<string, StoredList>
  readonly changes: readonly ListChange[]
}

const maxBytes = 16 * 1024 * 1024
const lockTimeoutMs = 2_000
const lockRetryMs = 20

/**
 * A store in a file, for lists that fit in one: some ten thousand entries. Any number of processes of one machine may use it.
 * Each change replaces the file in one step, under a lock (`<path>.lock`); a process that died in the middle leaves the lock
 * behind, and changes are refused until somebody removes it.
 * @throws OptionsError for an unknown option, or a value outside of what is documented
 */
export function fileListStore (options: FileListStoreOptions): ListStore {
  const reader = new OptionReader(owner, options, ['path', 'create', 'maxChanges'])
  const file = new ListFile({
    path: reader.requiredText('path'),
    create: reader.flag('create', false),
    maxChanges: reader.integer('maxChanges', { min: 1 }, 1_000)
  })
  return Object.freeze({
    async versions () {
      const { lists } = await file.read()
      return new Map([...lists].map(([name, { version }]) => [name, version]))
    },
    async read (name: string) {
      return (await file.read()).lists.get(name)
    },
    replace: (replacement: ListReplacement) => file.replace(replacement),
    async history (name: string, limit: number) {
      return (await file.read()).changes.filter(({ list }) => list === name).slice(-limit).reverse()
    }
  })
}

class ListFile {
  readonly #options: Required<FileListStoreOptions>
  /** What was read, and from which state of the file. */
  #known: { readonly state: string, readonly content: Content } | undefined
  /** Changes of this process wait for each other here, and for those of other processes at the lock. */
  #turn: Promise<unknown> = Promise.resolve()

  constructor (options: Required<FileListStoreOptions>) {
    this.#options = options
  }

  /** The file's content; from memory where the file has not changed since. */
  async read (): Promise<Content> {
    const { path, create } = this.#options
    // Only the first reading makes the file: one that vanishes later is a failure, and not a store without lists.
    if (create && this.#known === undefined) await this.#create()
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true })
    const state = [dev, ino, size, mtimeNs, ctimeNs].join()
    if (this.#known?.state === state) return this.#known.content
    if (size > maxBytes) throw new Error(`${path} is larger than ${maxBytes} bytes`)
    const content = parseContent(await readFile(path, 'utf8'), path)
    this.#known = { state, content }
    return content
  }

  replace (replacement: ListReplacement): Promise<ReplaceResult> {
    // Read before it is locked, because the first reading may have to make the file under the same lock.
    const result = this.#turn.then(() => this.read()).then(() => this.#whileLocked(() => this.#replaceNow(replacement)))
    this.#turn = result.catch(() => undefined)
    return result
  }

  async #replaceNow ({ name, expected, entries, change }: ListReplacement): Promise<ReplaceResult> {
    const { lists, changes } = await this.read()
    if (lists.get(name)?.version !== expected) return { replaced: false }
    const next = new Map([...lists].map(([each, list]) => [each, list.entries]))
    if (entries === undefined) next.delete(name)
    else next.set(name, entries)
    await this.#write(`${JSON.stringify({ lists: Object.fromEntries(next), changes: [...changes, change].slice(-this.#options.maxChanges) }, undefined, 2)}\n`)
    return { replaced: true, version: versionOf(entries ?? []) }
  }

  /** Written beside it, flushed, and put in its place: whoever reads sees the old file or the new one, whole. */
  async #write (text: string): Promise<void> {
    if (Buffer.byteLength(text) > maxBytes) throw new Error(`${this.#options.path} would be larger than ${maxBytes} bytes`)
    const draft = `${this.#options.path}.${randomUUID()}`
    try {
      const handle = await open(draft, 'wx', 0o600)
      try {
        await handle.writeFile(text)
        await handle.sync()
      } finally {
        await handle.close()
      }
      await rename(draft, this.#options.path)
    } catch (error) {
      await rm(draft, { force: true })
      throw error
    }
  }

  async #create (): Promise<void> {
    if (await this.#isThere()) return
    await this.#whileLocked(async () => {
      if (!await this.#isThere()) await this.#write('{ "lists": {}, "changes": [] }\n')
    })
  }

  async #isThere (): Promise<boolean> {
    try {
      await stat(this.#options.path)
      return true
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
      throw error
    }
  }

  async #whileLocked<T> (work: () => Promise<T>): Promise<T> {
    const lock = `${this.#options.path}.lock`
    const giveUpAt = performance.now() + lockTimeoutMs
    for (;;) {
      try {
        await (await open(lock, 'wx', 0o600)).close()
        break
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
        if (performance.now() > giveUpAt) throw new Error(`${lock} is there; remove it if no process is changing the lists`, { cause: error })
        await wait(lockRetryMs)
      }
    }
    try {
      return await work()
    } finally {
      await rm(lock, { force: true })
    }
  }
}

/** Entries are judged by the guards that read them; a wrong one spoils its own list, and not the others. */
function parseContent (text: string, path: string): Content {
  const { lists, changes = [] } = (JSON.parse(text) ?? {}) as { lists?: unknown, changes?: unknown }
  if (typeof lists !== 'object' || lists === null || Array.isArray(lists) || !Array.isArray(changes)) {
    throw new Error(`${path} must hold { "lists": { name: entries }, "changes": [] }`)
  }
  const named = Object.entries(lists).map(([name, entries]: [string, unknown]): [string, StoredList] => {
    const kept = Array.isArray(entries) ? frozenEntries(entries as ListEntry[]) : entries as ListEntry[]
    return [name, Object.freeze({ version: versionOf(entries), entries: kept })]
  })
  return { lists: new Map(named), changes: changes as readonly ListChange[] }
}

/** Of what the list holds, so that it changes with an edit by hand too, and is the same in every process. */
function versionOf (entries: unknown): string {
  return createHash('sha256').update(JSON.stringify(entries)).digest('base64url').slice(0, 22)
}
