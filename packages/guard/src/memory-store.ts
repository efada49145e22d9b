/** A state store in the memory of one process: exact, bounded, and small enough for a million live keys. */

import { hash, randomBytes } from 'node:crypto'
import { assertTtl, StoreUnavailable } from './claim-store.js'
import type { ClaimResult, StateStore } from './claim-store.js'
import { OptionReader } from './options.js'

export interface MemoryStoreOptions {
  /**
   * How many live keys the store holds: a whole number, 1 to 100,000,000. Default: 1,000,000.
   * A key takes about 45 bytes whatever its length, and its value's length on top; the space is reserved at creation and
   * used as keys come. When this many keys are live, a new one is refused with `StoreUnavailable`, so have room for the
   * peak rate times the longest time to live.
   */
  readonly maxEntries?: number
  /** Milliseconds since the epoch; for tests. Default: `Date.now`. */
  readonly clock?: () => number
}

export interface MemoryStore extends StateStore {
  claimNow: NonNullable<StateStore['claimNow']>
  /**
   * When the store was made, in milliseconds of its clock. It knows nothing of what was claimed before, so guards refuse
   * requests dated earlier: a restart must not let them pass twice.
   */
  readonly createdAt: number
  /** Keys held now. Expired ones leave two at a time as new ones come, so some may still be counted. */
  readonly size: number
}

/**
 * A `StateStore` for one process. Several processes need `redisStore`, or each accepts a credential once.
 *
 * Keys are kept as salted 128-bit hashes. A key is live while the clock reads less than the time of its claim plus `ttlMs`.
 * A live key is never dropped to make room. No timers, no scans: each call takes O(log n) at worst.
 * If the clock goes back to before the expiry of a key that was dropped since, `claim` and `get` of a key that isn't held
 * reject with `StoreUnavailable` until the clock has caught up.
 *
 * Methods reject with `StoreUnavailable` when the store is full of live keys (`claim`, `set`), and with a `TypeError` when
 * `ttlMs` is not a whole number, 1 or more.
 * @throws {OptionsError} for an unknown option, or a value outside of what is documented
 */
export function memoryStore (options: MemoryStoreOptions = {}): MemoryStore {
  const reader = new OptionReader('@sallyport/guard', options, ['maxEntries', 'clock'])
  return new BoundedStore(reader.integer('maxEntries', { min: 1, max: 100_000_000 }, 1_000_000), reader.fn('clock', Date.now))
}

const won: ClaimResult = Object.freeze({ claimed: true })

class BoundedStore implements MemoryStore {
  readonly createdAt: number
  readonly #clock: () => number
  readonly #table: ExpiryTable
  /** The latest expiry of a key that was dropped: behind it, "not held" doesn't mean "never claimed". */
  #forgottenUntil = -Infinity

  constructor (maxEntries: number, clock: () => number) {
    this.#clock = clock
    this.createdAt = this.#now()
    this.#table = new ExpiryTable(maxEntries)
  }

  get size (): number {
    return this.#table.size
  }

  async claim (key: string, ttlMs: number, value = ''): Promise<ClaimResult> {
    return this.claimNow(key, ttlMs, value)
  }

  claimNow (key: string, ttlMs: number, value = ''): ClaimResult {
    assertTtl(ttlMs)
    const now = this.#now()
    this.#sweep(now)
    const held = this.#table.find(key)
    if (this.#isLive(held, now)) return { claimed: false, value: this.#table.valueOf(held) }
    if (held === 0) this.#assertRemembered(now)
    this.#replace(held, now + ttlMs, value)
    return won
  }

  async release (key: string, owner: string): Promise<void> {
    const held = this.#table.find(key)
    if (this.#isLive(held, this.#now()) && this.#table.valueOf(held) === owner) this.#table.remove(held)
  }

  async get (key: string): Promise<string | undefined> {
    const now = this.#now()
    const held = this.#table.find(key)
    if (this.#isLive(held, now)) return this.#table.valueOf(held)
    if (held === 0) this.#assertRemembered(now)
    return undefined
  }

  async set (key: string, value: string, ttlMs: number): Promise<void> {
    assertTtl(ttlMs)
    const now = this.#now()
    this.#sweep(now)
    this.#replace(this.#table.find(key), now + ttlMs, value)
  }

  async delete (key: string): Promise<void> {
    const held = this.#table.find(key)
    if (held !== 0) this.#table.remove(held)
  }

  #now (): number {
    const now = this.#clock()
    // NaN compares false with everything, which would read as "expired"
    if (!Number.isFinite(now)) throw new TypeError('clock must return a finite number of milliseconds')
    return now
  }

  /** Two out for one in: the expired always drain, and no call pays for a million that expire at once. */
  #sweep (now: number): void {
    for (let dropped = 0; dropped < 2; dropped++) {
      const soonest = this.#table.soonest
      if (soonest === 0 || now < this.#table.expiryOf(soonest)) return
      this.#forgottenUntil = Math.max(this.#forgottenUntil, this.#table.expiryOf(soonest))
      this.#table.remove(soonest)
    }
  }

  #isLive (entry: number, now: number): boolean {
    return entry !== 0 && now < this.#table.expiryOf(entry)
  }

  #assertRemembered (now: number): void {
    if (now < this.#forgottenUntil) throw new StoreUnavailable('the clock went back to before keys that are forgotten')
  }

  #replace (held: number, expiresAt: number, value: string): void {
    if (held !== 0) this.#table.remove(held)
    // The callers swept first, so a full table holds live keys only
    if (this.#table.full) throw new StoreUnavailable('the store is full of live keys')
    this.#table.addSought(expiresAt, value)
  }
}

const ascii = /^[\0-\x7f]*$/
const pageBits = 12
const pageSize = 1 << pageBits

/**
 * Entries by the hash of their key and by their expiry. Entries are numbers from 1; 0 is none.
 * Flat arrays, reserved once: nothing is copied as the table grows, and zeroed pages cost nothing until they are used.
 */
class ExpiryTable {
  readonly #capacity: number
  /** Nobody outside can search for keys that meet in one bucket, or in 128 bits. */
  readonly #salt = randomBytes(16).toString('hex')
  /** The hash of the key that was last looked for. */
  readonly #sought = new Int32Array(4)
  /** Four words of the hash for each entry. */
  readonly #words: Int32Array
  readonly #expiresAt: Float64Array
  readonly #buckets: Int32Array
  /** The next entry of the same bucket; of a free entry, the next free one. */
  readonly #next: Int32Array
  /** A binary heap from place 1: no entry expires before the one at half its place. */
  readonly #heap: Int32Array
  readonly #placeOf: Int32Array
  /** In pages, made where a value that isn't empty is first kept: nonces have none. */
  readonly #values: (string[] | undefined)[] = []
  #size = 0
  #everUsed = 0
  #free = 0

  constructor (capacity: number) {
    this.#capacity = capacity
    this.#buckets = new Int32Array(2 ** Math.ceil(Math.log2(capacity)))
    this.#words = new Int32Array(4 * (capacity + 1))
    this.#expiresAt = new Float64Array(capacity + 1)
    this.#next = new Int32Array(capacity + 1)
    this.#heap = new Int32Array(capacity + 1)
    this.#placeOf = new Int32Array(capacity + 1)
  }

  get size (): number {
    return this.#size
  }

  get full (): boolean {
    return this.#size === this.#capacity
  }

  get soonest (): number {
    return this.#size === 0 ? 0 : this.#heap[1]!
  }

  expiryOf (entry: number): number {
    return this.#expiresAt[entry]!
  }

  valueOf (entry: number): string {
    return this.#values[entry >> pageBits]?.[entry & (pageSize - 1)] ?? ''
  }

  find (key: string): number {
    this.#seek(key)
    let entry = this.#buckets[this.#bucketOf(this.#sought, 0)]!
    while (entry !== 0 && !this.#isSought(entry)) entry = this.#next[entry]!
    return entry
  }

  /** Adds the key that was last looked for, so that it is hashed once. It must not be there, and the table not full. */
  addSought (expiresAt: number, value: string): void {
    const entry = this.#vacantEntry()
    this.#words.set(this.#sought, 4 * entry)
    const bucket = this.#bucketOf(this.#sought, 0)
    this.#next[entry] = this.#buckets[bucket]!
    this.#buckets[bucket] = entry
    this.#setValue(entry, value)
    this.#expiresAt[entry] = expiresAt
    this.#place(entry, ++this.#size)
  }

  remove (entry: number): void {
    const bucket = this.#bucketOf(this.#words, 4 * entry)
    let before = 0
    for (let other = this.#buckets[bucket]!; other !== entry; other = this.#next[other]!) before = other
    if (before === 0) this.#buckets[bucket] = this.#next[entry]!
    else this.#next[before] = this.#next[entry]!
    this.#next[entry] = this.#free
    this.#free = entry
    this.#setValue(entry, '')
    const last = this.#heap[this.#size--]!
    if (last !== entry) this.#place(last, this.#placeOf[entry]!)
  }

  #vacantEntry (): number {
    if (this.#free === 0) return ++this.#everUsed
    const entry = this.#free
    this.#free = this.#next[entry]!
    return entry
  }

  #seek (key: string): void {
    // What is not ASCII in UTF-16 as it stands: in UTF-8 all lone surrogates would be one key. Behind the salt, no text of one kind is one of the other.
    const salted = this.#salt + key
    const digest = hash('sha256', ascii.test(key) ? salted : Buffer.from(salted, 'utf16le'), 'binary')
    for (let word = 0, at = 0; word < 4; word++, at += 4) {
      this.#sought[word] = digest.charCodeAt(at) | digest.charCodeAt(at + 1) << 8 | digest.charCodeAt(at + 2) << 16 | digest.charCodeAt(at + 3) << 24
    }
  }

  #isSought (entry: number): boolean {
    const words = this.#words
    const sought = this.#sought
    const at = 4 * entry
    return words[at] === sought[0] && words[at + 1] === sought[1] && words[at + 2] === sought[2] && words[at + 3] === sought[3]
  }

  #bucketOf (words: Int32Array, at: number): number {
    return words[at]! & (this.#buckets.length - 1)
  }

  #setValue (entry: number, value: string): void {
    const page = entry >> pageBits
    if (value === '' && this.#values[page] === undefined) return
    this.#values[page] ??= new Array<string>(pageSize).fill('')
    this.#values[page][entry & (pageSize - 1)] = value
  }

  /** Puts an entry into the heap at a vacant place, then moves it up or down to where it belongs. */
  #place (entry: number, vacant: number): void {
    const heap = this.#heap
    const expiresAt = this.#expiresAt
    const expiry = expiresAt[entry]!
    let place = vacant
    while (place > 1 && expiry < expiresAt[heap[place >> 1]!]!) {
      this.#move(heap[place >> 1]!, place)
      place >>= 1
    }
    for (let child = 2 * place; child <= this.#size; child = 2 * place) {
      if (child < this.#size && expiresAt[heap[child + 1]!]! < expiresAt[heap[child]!]!) child++
      if (expiry <= expiresAt[heap[child]!]!) break
      this.#move(heap[child]!, place)
      place = child
    }
    this.#move(entry, place)
  }

  #move (entry: number, place: number): void {
    this.#heap[place] = entry
    this.#placeOf[entry] = place
  }
}
