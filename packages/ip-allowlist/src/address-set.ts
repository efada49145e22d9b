/** Sets of addresses, compiled once into sorted disjoint ranges and searched by halving. */

import { setImmediate as nextTurn } from 'node:timers/promises'
import { OptionsError } from '@sallyport/guard'
import { familyOf, owner, parseAddress, type AddressRange, type Family, type ParsedAddress } from './address.js'
import { formatRange, parseListEntry, type ListEntry } from './list-entry.js'
import { sweepRanges } from './range-sweep.js'
import { columnsOf, covers, inSlices, writeRow, type RangeTable, type SortedTable } from './range-table.js'

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
  /** Families that are served; entries of others are refused. Default: both */
  readonly families?: readonly Family[] | undefined
  /** Milliseconds since the epoch, read in look-ups that find an entry with an end. Default: `Date.now` */
  readonly clock?: () => number
  /** What errors call the list: `allow` makes them name `allow[3]`. Default: `entries` */
  readonly name?: string
}

/**
 * An immutable set of addresses of both families. IPv4 and IPv6 never match each other, whatever the prefix length.
 * An entry with an end stops counting when the clock reaches it, with no timer and nothing to compile again.
 */
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

const maxWarnings = 100
/** How long a list is compiled before others have a turn. */
const turnMs = 5
// The row that is looked for; shared by all sets, because a look-up never waits.
const keys = { 4: columnsOf(1, 1), 6: columnsOf(4, 1) }

/**
 * Compiles a list at once; for long lists `buildAddressSet` does the same without blocking.
 * Takes addresses, networks (`10.0.0.0/8`) and, where allowed, ranges of both families, in the forms of `parseEntry`; an
 * empty list makes an empty set. Each entry may be an object with a note and an end. The list is copied first and neither kept nor changed. Host bits are cleared and reported.
 * @throws OptionsError that names `entries[i]` and the rule that it breaks
 */
export function createAddressSet (entries: readonly ListEntry[], options: AddressSetOptions = {}): AddressSet {
  const work = compile(entries, options)
  let step = work.next()
  while (step.done !== true) step = work.next()
  return step.value
}

/**
 * Compiles a list as `createAddressSet` does, in slices of a few milliseconds with a turn of the event loop between them.
 * The list is copied before this function returns, so it may be changed meanwhile; objects in it may not.
 * Rejects with the same errors.
 */
export async function buildAddressSet (entries: readonly ListEntry[], options: AddressSetOptions = {}): Promise<AddressSet> {
  const work = compile(entries, options)
  let resumedAt = performance.now()
  let step = work.next()
  while (step.done !== true) {
    // By the clock and not by the piece: how much a few milliseconds are depends on the machine, and on what else it does.
    if (performance.now() - resumedAt >= turnMs) {
      await nextTurn()
      resumedAt = performance.now()
    }
    step = work.next()
  }
  return step.value
}

function * compile (given: readonly ListEntry[], options: AddressSetOptions): Generator<undefined, AddressSet> {
  const { allowAny = false, allowRanges = false, families, name = 'entries', clock = Date.now } = options
  if (!Array.isArray(given)) throw new OptionsError(owner, name, 'must be a list of entries')
  const entries: readonly ListEntry[] = given.slice()
  const size = entries.length
  let colons = 0
  yield * inSlices(size, (from, to) => {
    for (let index = from; index < to; index++) if (hasColon(entries[index])) colons++
  })
  // Only an entry with a colon can be IPv6; it may still be IPv4, mapped.
  const drafts = { 4: draftOf(1, size), 6: draftOf(4, colons) }
  const warnings: AddressWarning[] = []
  let warningCount = 0
  yield * inSlices(size, (from, to) => {
    for (let index = from; index < to; index++) {
      const option = `${name}[${index}]`
      const { range, expiresAtMs } = parseListEntry(entries[index], { name: option, allowRanges })
      if (!allowAny && isWholeFamily(range)) throw new OptionsError(owner, option, `covers every IPv${range.family} address, which needs allowAny: true`)
      if (families?.includes(familyOf(range)) === false) throw new OptionsError(owner, option, `is not of a family that is served (${families.join(', ')})`)
      if (range.hasHostBits && warningCount++ < maxWarnings) warnings.push(warningOf(entries[index]!, range))
      if (!addRange(drafts[range.family], range, expiresAtMs)) throw new OptionsError(owner, option, 'was changed while it was compiled')
    }
  })
  const ipv4 = yield * sweepRanges(drafts[4])
  // Half of the memory is free before the other half is needed.
  drafts[4] = draftOf(1, 0)
  return addressSet({ 4: ipv4, 6: yield * sweepRanges(drafts[6]) }, clock, { size, warnings: Object.freeze(warnings), warningCount })
}

function hasColon (entry: ListEntry | undefined): boolean {
  const text: unknown = typeof entry === 'object' && entry !== null ? entry.entry : entry
  return typeof text === 'string' && text.includes(':')
}

/** A table that is being filled. */
interface Draft extends RangeTable {
  count: number
  expiries: Float64Array | undefined
}

function draftOf (width: number, rows: number): Draft {
  return { count: 0, firsts: columnsOf(width, rows), lasts: columnsOf(width, rows), expiries: undefined }
}

/** False where there is no more room: the entry was of the other family when it was counted. */
function addRange (draft: Draft, { first, last }: AddressRange, expiresAtMs: number): boolean {
  const row = draft.count
  const rows = draft.firsts[0]!.length
  if (row === rows) return false
  writeRow(draft.firsts, row, first)
  writeRow(draft.lasts, row, last)
  if (expiresAtMs !== Infinity) draft.expiries ??= new Float64Array(rows).fill(Infinity, 0, row)
  if (draft.expiries !== undefined) draft.expiries[row] = expiresAtMs
  draft.count++
  return true
}

/** Apart from `compile`, because a closure made there would keep the copied list and the drafts alive. */
function addressSet (tables: Readonly<Record<4 | 6, SortedTable>>, clock: () => number, facts: Pick<AddressSet, 'size' | 'warnings' | 'warningCount'>): AddressSet {
  const hasParsed = ({ family, words }: ParsedAddress) => {
    writeRow(keys[family], 0, words)
    return covers(tables[family], keys[family], clock)
  }
  const has = (text: string) => {
    const address = parseAddress(text)
    return address !== undefined && hasParsed(address)
  }
  return Object.freeze({ ...facts, has, hasParsed })
}

function isWholeFamily ({ first, last }: AddressRange): boolean {
  return first.every((word) => word === 0) && last.every((word) => word === 0xffffffff)
}

function warningOf (given: ListEntry, range: AddressRange): AddressWarning {
  return Object.freeze({ entry: typeof given === 'string' ? given : given.entry, network: formatRange(range) })
}
