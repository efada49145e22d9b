/** Addresses, networks and ranges: from text to one canonical form, and back. */

import { isIP } from 'node:net'
import { OptionsError } from '@sallyport/guard'

export const owner = '@sallyport/ip-allowlist'

export type Family = 'ipv4' | 'ipv6'

export function familyOf ({ family }: { readonly family: 4 | 6 }): Family {
  return family === 4 ? 'ipv4' : 'ipv6'
}

/** One address: a 32-bit word for IPv4, four for IPv6, most significant first. An IPv4-mapped address is IPv4. */
export interface ParsedAddress {
  readonly family: 4 | 6
  readonly words: readonly number[]
}

/** One entry of a list: every address from `first` to `last`, both included. */
export interface AddressRange {
  readonly family: 4 | 6
  readonly first: readonly number[]
  readonly last: readonly number[]
  /** The prefix length, in bits of `family`; `undefined` where the entry was a range. */
  readonly prefix: number | undefined
  /** True where the entry had bits set behind its prefix; they are cleared in `first`. */
  readonly hasHostBits: boolean
}

export interface EntryOptions {
  /** What the error calls the entry. Default: `entry` */
  readonly name?: string
  /** Takes ranges too: `10.0.0.1-10.0.0.9`. Default: false, because a hyphen is more often a slip than a range. */
  readonly allowRanges?: boolean
}

const colon = 58
const dot = 46
const prefixLength = /^(?:0|[1-9]\d{0,2})$/
const zoneId = /^[0-9A-Za-z.:-]+$/

/**
 * Parses one IP literal, as a socket or a forwarding header gives it.
 * Takes four decimal octets without leading zeros, and every spelling of RFC 4291 section 2.2 in either case. IPv4-mapped
 * addresses (`::ffff:10.0.0.1`, `::ffff:a00:1`) are the IPv4 address; no other embedded IPv4 (compatible, NAT64, 6to4) is
 * unwrapped. A zone id (`fe80::1%eth0`) is taken and dropped: it names an interface of this machine, not a peer.
 * @returns `undefined` for anything else: octal, hex and short forms, ports, brackets, white space, prefixes, no string
 */
export function parseAddress (text: unknown): ParsedAddress | undefined {
  if (typeof text !== 'string') return undefined
  const percent = text.indexOf('%')
  // The gate sees the address alone: what a zone id may hold is decided here, not by Node's version.
  const literal = percent < 0 ? text : text.slice(0, percent)
  const family = isIP(literal)
  if (family === 0) return undefined
  if (percent >= 0 && (family === 4 || !zoneId.test(text.slice(percent + 1)))) return undefined
  if (family === 4) return { family: 4, words: [wordOfDotted(literal, 0)] }
  const words = wordsOfIPv6(literal)
  return words[0] === 0 && words[1] === 0 && words[2] === 0xffff ? { family: 4, words: [words[3]!] } : { family: 6, words }
}

/**
 * Parses one entry of a list: an address, a network (`10.0.0.0/8`, `2001:db8::/32`) or, with `allowRanges`, a range of two
 * addresses of one family. Addresses are taken as in `parseAddress`, but without a zone id, because a list can't hold one.
 * A mapped network (`::ffff:10.0.0.0/104`) is the IPv4 network; a wider one speaks of IPv6 only.
 * @throws OptionsError that names the entry and the rule that it breaks
 */
export function parseEntry (text: unknown, { name = 'entry', allowRanges = false }: EntryOptions = {}): AddressRange {
  if (typeof text !== 'string') throw new OptionsError(owner, name, 'must be a string')
  if (text.includes('%')) throw new OptionsError(owner, name, 'must not have a zone id')
  const slash = text.indexOf('/')
  if (slash >= 0) return parseNetwork(text.slice(0, slash), text.slice(slash + 1), name)
  const hyphen = text.indexOf('-')
  if (hyphen >= 0) return parseRange(text.slice(0, hyphen), text.slice(hyphen + 1), name, allowRanges)
  const { family, words } = literalOf(text, name)
  return { family, first: words, last: words, prefix: words.length * 32, hasHostBits: false }
}

/** The canonical text of an address: dotted for IPv4, RFC 5952 for IPv6. */
export function formatAddress ({ family, words }: ParsedAddress): string {
  if (family === 4) {
    const [word] = words as [number]
    return `${word >>> 24}.${word >>> 16 & 255}.${word >>> 8 & 255}.${word & 255}`
  }
  const groups = words.flatMap((word) => [word >>> 16, word & 0xffff])
  const { start, length } = longestZeros(groups)
  const hex = (part: readonly number[]) => part.map((group) => group.toString(16)).join(':')
  return length < 2 ? hex(groups) : `${hex(groups.slice(0, start))}::${hex(groups.slice(start + length))}`
}

function literalOf (text: string, name: string): ParsedAddress {
  const address = parseAddress(text)
  if (address === undefined) throw new OptionsError(owner, name, 'must be an IPv4 or IPv6 address, or a network such as 10.0.0.0/8 or 2001:db8::/32')
  return address
}

function parseNetwork (literal: string, lengthText: string, name: string): AddressRange {
  const address = literalOf(literal, name)
  const isDotted = !literal.includes(':')
  const max = isDotted ? 32 : 128
  const length = prefixLength.test(lengthText) ? Number(lengthText) : Infinity
  if (length > max) throw new OptionsError(owner, name, `must have a prefix length from 0 to ${max}, without leading zeros`)
  if (isDotted || address.family === 6) return network(address, length)
  if (length >= 96) return network(address, length - 96)
  // `::ffff:10.0.0.0/8` would be `::/8`: far from what was meant, and open where it stands in a deny list.
  if (address.words[0] !== 0) throw new OptionsError(owner, name, 'must have a prefix length from 96 to 128, as an IPv4-mapped network')
  return network({ family: 6, words: [0, 0, 0xffff, 0] }, length)
}

function network ({ family, words }: ParsedAddress, prefix: number): AddressRange {
  const masks = words.map((_, index) => maskOf(prefix - index * 32))
  const first = words.map((word, index) => (word & masks[index]!) >>> 0)
  const last = words.map((word, index) => (word | ~masks[index]!) >>> 0)
  return { family, first, last, prefix, hasHostBits: words.some((word, index) => word !== first[index]) }
}

function maskOf (bits: number): number {
  if (bits <= 0) return 0
  return bits >= 32 ? 0xffffffff : -1 << 32 - bits
}

function parseRange (from: string, to: string, name: string, allowRanges: boolean): AddressRange {
  const first = literalOf(from, name)
  const last = literalOf(to, name)
  if (!allowRanges) throw new OptionsError(owner, name, 'must not be a range unless allowRanges is true')
  if (first.family !== last.family) throw new OptionsError(owner, name, 'must be a range within one address family')
  const difference = first.words.findIndex((word, index) => word !== last.words[index])
  if (difference >= 0 && first.words[difference]! > last.words[difference]!) throw new OptionsError(owner, name, 'must be a range that does not end before it starts')
  return { family: first.family, first: first.words, last: last.words, prefix: undefined, hasHostBits: false }
}

/** For text that has passed `isIP`. */
function wordOfDotted (text: string, start: number): number {
  let word = 0
  let octet = 0
  for (let index = start; index < text.length; index++) {
    const code = text.charCodeAt(index)
    if (code === dot) {
      word = word * 256 + octet
      octet = 0
    } else octet = octet * 10 + code - 48
  }
  return word * 256 + octet
}

/** For text that has passed `isIP`. */
function wordsOfIPv6 (text: string): number[] {
  const groups = [0, 0, 0, 0, 0, 0, 0, 0]
  let count = 0
  let gap = 8
  let start = 0
  let group = 0
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index)
    if (code === colon) {
      if (index > start) groups[count++] = group
      else if (index > 0) gap = count
      start = index + 1
      group = 0
    } else if (code === dot) {
      const word = wordOfDotted(text, start)
      groups[count++] = word >>> 16
      group = word & 0xffff
      break
    } else group = group << 4 | (code <= 57 ? code - 48 : (code | 32) - 87)
  }
  if (start < text.length) groups[count++] = group
  // The groups behind `::` move to the end.
  for (let moved = 1; moved <= count - gap; moved++) {
    groups[8 - moved] = groups[count - moved]!
    groups[count - moved] = 0
  }
  const word = (index: number) => (groups[index]! << 16 | groups[index + 1]!) >>> 0
  return [word(0), word(2), word(4), word(6)]
}

function longestZeros (groups: readonly number[]): { start: number, length: number } {
  let longest = { start: 0, length: 0 }
  let start = 0
  groups.forEach((group, index) => {
    if (group !== 0) start = index + 1
    else if (index + 1 - start > longest.length) longest = { start, length: index + 1 - start }
  })
  return longest
}
