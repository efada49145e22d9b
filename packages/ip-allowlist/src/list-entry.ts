/** One entry of a list, as people write and keep it: an address, network or range, with a note and an end. */

import { OptionsError } from '@sallyport/guard'
import { formatAddress, owner, parseEntry, type AddressRange, type EntryOptions } from './address.js'

/** An entry with more to say than its text. In lists kept in a store it is JSON of this same shape. */
export interface DetailedEntry {
  /** An address, a network (`10.0.0.0/8`) or, where allowed, a range (`10.0.0.1-10.0.0.9`). */
  readonly entry: string
  /** For people: whose address this is. 1 to 200 characters. */
  readonly note?: string
  /** The entry counts until before this instant: RFC 3339, with seconds and in UTC (`2027-01-31T18:00:00Z`). Default: for ever. */
  readonly expiresAt?: string
}

/** An entry, plain or with a note and an end. */
export type ListEntry = string | DetailedEntry

/** What an entry says. */
export interface ParsedListEntry {
  readonly range: AddressRange
  readonly note: string | undefined
  /** Milliseconds since the epoch; `Infinity` where the entry has no end. */
  readonly expiresAtMs: number
}

const names = ['entry', 'note', 'expiresAt']
const maxNote = 200
const instant = /^\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):\d\d:\d\d(?:\.\d{1,3})?Z$/

/**
 * Parses one entry. A name that is not known is refused: a misspelt end would make the entry count for ever.
 * @throws OptionsError that names the entry and the rule that it breaks
 */
export function parseListEntry (given: unknown, options: EntryOptions = {}): ParsedListEntry {
  if (typeof given === 'string') return { range: parseEntry(given, options), note: undefined, expiresAtMs: Infinity }
  const { name = 'entry' } = options
  if (typeof given !== 'object' || given === null || Array.isArray(given)) throw new OptionsError(owner, name, 'must be a string, or an object with an entry')
  const unknown = Object.keys(given).find((key) => !names.includes(key))
  if (unknown !== undefined) throw new OptionsError(owner, name, `must have no other members than ${names.join(', ')}`)
  const { entry, note, expiresAt } = given as Record<string, unknown>
  return { range: parseEntry(entry, options), note: readNote(note, name), expiresAtMs: readInstant(expiresAt, name) }
}

/** The one way to write a parsed entry: canonical, so that entries that mean the same are the same text. */
export function formatListEntry ({ range, note, expiresAtMs }: ParsedListEntry): ListEntry {
  const entry = formatRange(range)
  if (note === undefined && expiresAtMs === Infinity) return entry
  return {
    entry,
    ...(note !== undefined && { note }),
    ...(expiresAtMs !== Infinity && { expiresAt: new Date(expiresAtMs).toISOString() })
  }
}

/** The canonical text of what an entry covers; a network of one address is that address. */
export function formatRange ({ family, first, last, prefix }: AddressRange): string {
  const start = formatAddress({ family, words: first })
  if (first.every((word, index) => word === last[index])) return start
  return prefix === undefined ? `${start}-${formatAddress({ family, words: last })}` : `${start}/${prefix}`
}

function readNote (given: unknown, name: string): string | undefined {
  if (given === undefined) return undefined
  if (typeof given !== 'string' || given === '' || given.length > maxNote) throw new OptionsError(owner, name, `must have a note of 1 to ${maxNote} characters`)
  return given
}

function readInstant (given: unknown, name: string): number {
  if (given === undefined) return Infinity
  const ms = typeof given === 'string' && instant.test(given) ? Date.parse(given) : NaN
  // Date.parse takes the 30th of February for the 2nd of March.
  if (Number.isNaN(ms) || new Date(ms).getUTCDate() !== Number((given as string).slice(8, 10))) {
    throw new OptionsError(owner, name, 'must have an expiresAt such as 2027-01-31T18:00:00Z (RFC 3339, UTC)')
  }
  return ms
}
