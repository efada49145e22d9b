/** Sets of addresses, compiled once into sorted disjoint ranges and searched by halving. */

import { setImmediate as nextTurn } from 'node:timers/promises'
import { OptionsError } from '@sallyport/guard'
import { formatAddress, owner, parseAddress, parseEntry, type AddressRange, type ParsedAddress } from './address.js'

/** A network that was written with bits set behind its prefix. */
export interface AddressWarning {
  /** The entry as it was given: `10.1.2.3/8`. */
  readonly entry: string
  /** The network that it stands for: `10.0.0.0/8`. */
  readonly network: string
}

export interface AddressSetOptions {
  /** Takes entries that cover a whole family by themselves, such as `0.0.0.0/0` and `::/0`. Default: false */
  readonly allowAny?: boolean
  /** Takes ranges too: `10.0.0.1-10.0.0.9`. Default: false, because a hyphen is more often a slip than a range. */
  readonly allowRanges?: boolean
  /** What errors call the list: `allow` makes them name `allow[3]`. Default: `entries` */
  readonly name?: string
}

/** An immutable set of addresses of both families. IPv4 and IPv6 never match each other, whatever the prefix length. */
export interface AddressSet {
  /** How many entries were given. */
  readonly size: number
  /** The first 100 networks whose host bits were cleared, in the order of the list. */
  readonly warnings: readonly AddressWarning[]
  /** How many networks had their host bits cleared. */
  readonly warningCount: number
  /** Whether the set holds this address, spelled as `parseAddress` takes it; false for anything that is no IP literal. */
  has (address: string): boolean
  /** The same for an address that is parsed already. */
  hasParsed (address: ParsedAddress): boolean
}

/** Rows of 32-bit words, a column a word, most significant first: halving then stays in the first column, and in the cache. */
type Columns = readonly Uint32Array[]

/** Ranges, a row each; compiled, `firsts` ascends and no two rows overlap. */
interface RangeTable {
  count: number
  readonly firsts: Columns
  readonly lasts: Columns
}

const maxWarnings = 100
// Each slice is a few milliseconds of work, so that a slow machine stays under 50.
const parseSlice = 2048
const tableSlice = 32768
// The row that is looked for; shared by all sets, because a look-up never waits.
const keys = { 4: columnsOf(1, 1), 6: columnsOf(4, 1) }

/**
 * Compiles a list at once; for long lists `buildAddressSet` does the same without blocking.
 * Takes addresses, networks (`10.0.0.0/8`) and, where allowed, ranges of both families, in the forms of `parseEntry`; an
 * empty list makes an empty set. The list is copied first and neither kept nor changed. Host bits are cleared and reported.
 * @throws OptionsError that names `entries[i]` and the rule that it breaks
 */
export function createAddressSet (entries: readonly string[], options: AddressSetOptions = {}): AddressSet {
  const work = compile(entries, options)
  let step = work.next()
  while (step.done !== true) step = work.next()
  return step.value
}

/**
 * Compiles a list as `createAddressSet` does, in slices of a few milliseconds with a turn of the event loop between them.
 * The list is copied before this function returns, so it may be changed meanwhile.
 * Rejects with the same errors.
 */
export async function buildAddressSet (entries: readonly string[], options: AddressSetOptions = {}): Promise<AddressSet> {
  const work = compile(entries, options)
  let step = work.next()
  while (step.done !== true) {
    await nextTurn()
    step = work.next()
  }
  return step.value
}

function * compile (given: readonly string[], { allowAny = false, allowRanges = false, name = 'entries' }: AddressSetOptions): Generator<undefined, AddressSet> {
  if (!Array.isArray(given)) throw new OptionsError(owner, name, 'must be a list of strings')
  const entries: readonly string[] = given.slice()
  const size = entries.length
  let colons = 0
  yield * inSlices(size, tableSlice, (from, to) => {
    for (let index = from; index < to; index++) {
      const entry: unknown = entries[index]
      if (typeof entry === 'string' && entry.includes(':')) colons++
    }
  })
  // Only an entry with a colon can be IPv6; it may still be IPv4, mapped.
  const drafts = { 4: tableOf(1, size), 6: tableOf(4, colons) }
  const warnings: AddressWarning[] = []
  let warningCount = 0
  yield * inSlices(size, parseSlice, (from, to) => {
    for (let index = from; index < to; index++) {
      const option = `${name}[${index}]`
      const range = parseEntry(entries[index], { name: option, allowRanges })
      if (!allowAny && isWholeFamily(range)) throw new OptionsError(owner, option, `covers every IPv${range.family} address, which needs allowAny: true`)
      if (range.hasHostBits && warningCount++ < maxWarnings) warnings.push(warningOf(entries[index]!, range))
      const draft = drafts[range.family]
      writeRow(draft.firsts, draft.count, range.first)
      writeRow(draft.lasts, draft.count++, range.last)
    }
  })
  return addressSet({ 4: yield * compact(drafts[4]), 6: yield * compact(drafts[6]) }, { size, warnings: Object.freeze(warnings), warningCount })
}

/** Apart from `compile`, because a closure made there would keep the copied list and the drafts alive. */
function addressSet (tables: Readonly<Record<4 | 6, RangeTable>>, facts: Pick<AddressSet, 'size' | 'warnings' | 'warningCount'>): AddressSet {
  const hasParsed = ({ family, words }: ParsedAddress) => {
    writeRow(keys[family], 0, words)
    return covers(tables[family], keys[family])
  }
  const has = (text: string) => {
    const address = parseAddress(text)
    return address !== undefined && hasParsed(address)
  }
  return Object.freeze({ ...facts, has, hasParsed })
}

function * inSlices (count: number, slice: number, work: (from: number, to: number) => void): Generator<undefined, void> {
  for (let from = 0; from < count; from += slice) {
    work(from, Math.min(from + slice, count))
    yield
  }
}

function columnsOf (width: number, rows: number): Columns {
  return Array.from({ length: width }, () => new Uint32Array(rows))
}

function tableOf (width: number, rows: number): RangeTable {
  return { count: 0, firsts: columnsOf(width, rows), lasts: columnsOf(width, rows) }
}

function writeRow (columns: Columns, row: number, words: readonly number[]): void {
  for (let word = 0; word < columns.length; word++) columns[word]![row] = words[word]!
}

function isWholeFamily ({ first, last }: AddressRange): boolean {
  return first.every((word) => word === 0) && last.every((word) => word === 0xffffffff)
}

function warningOf (entry: string, { family, first, prefix }: AddressRange): AddressWarning {
  return Object.freeze({ entry, network: `${formatAddress({ family, words: first })}/${prefix}` })
}

/** The same ranges, sorted and disjoint, in columns of their own size. */
function * compact ({ count, firsts, lasts }: RangeTable): Generator<undefined, RangeTable> {
  const { order: opening, spare: closing } = yield * orderOf(firsts, count)
  let used = 0
  // Overlapping rows are joined as row numbers, in place: the row that opens a range and the one that closes it.
  yield * inSlices(count, tableSlice, (from, to) => {
    for (let index = from; index < to; index++) {
      const row = opening[index]!
      if (used === 0 || compareRows(firsts, row, lasts, closing[used - 1]!) > 0) {
        opening[used] = row
        closing[used++] = row
      } else if (compareRows(lasts, row, lasts, closing[used - 1]!) > 0) closing[used - 1] = row
    }
  })
  return { count: used, firsts: yield * gather(firsts, opening, used), lasts: yield * gather(lasts, closing, used) }
}

function * gather (columns: Columns, order: Uint32Array, count: number): Generator<undefined, Columns> {
  const gathered = columnsOf(columns.length, count)
  for (const [word, column] of columns.entries()) {
    const target = gathered[word]!
    yield * inSlices(count, tableSlice, (from, to) => {
      for (let index = from; index < to; index++) target[index] = column[order[index]!]!
    })
  }
  return gathered
}

/** The rows in ascending order: a radix sort, byte by byte from the least significant, because it can pause anywhere. */
function * orderOf (columns: Columns, count: number): Generator<undefined, { order: Uint32Array, spare: Uint32Array }> {
  let order = new Uint32Array(count)
  let spare = new Uint32Array(count)
  const starts = new Uint32Array(257)
  yield * inSlices(count, tableSlice, (from, to) => {
    for (let index = from; index < to; index++) order[index] = index
  })
  for (const column of columns.toReversed()) {
    for (const shift of [0, 8, 16, 24]) {
      starts.fill(0)
      yield * inSlices(count, tableSlice, (from, to) => {
        for (let row = from; row < to; row++) starts[(column[row]! >>> shift & 255) + 1]!++
      })
      if (starts.includes(count)) continue
      for (let value = 1; value < 257; value++) starts[value]! += starts[value - 1]!
      yield * inSlices(count, tableSlice, (from, to) => {
        for (let index = from; index < to; index++) {
          const row = order[index]!
          spare[starts[column[row]! >>> shift & 255]!++] = row
        }
      })
      ;[order, spare] = [spare, order]
    }
  }
  return { order, spare }
}

function covers ({ count, firsts, lasts }: RangeTable, key: Columns): boolean {
  let low = 0
  let high = count
  while (low < high) {
    const middle = (low + high) >>> 1
    if (compareRows(firsts, middle, key, 0) <= 0) low = middle + 1
    else high = middle
  }
  return low > 0 && compareRows(lasts, low - 1, key, 0) >= 0
}

function compareRows (columns: Columns, row: number, others: Columns, other: number): number {
  for (let word = 0; word < columns.length; word++) {
    const difference = columns[word]![row]! - others[word]![other]!
    if (difference !== 0) return difference
  }
  return 0
}
