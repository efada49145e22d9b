/** Allow and deny lists: what they say of one address. Deny wins; an allow list that is there must hold the address. */

import { OptionReader } from '@sallyport/guard'
import { createAddressSet, type AddressSet } from './address-set.js'
import { parseEntry, type ParsedAddress } from './address.js'
import { refusal } from './errors.js'

export type Family = 'ipv4' | 'ipv6'

/** Lists of addresses, networks and (with `allowRanges`) ranges; compiled sets are taken too. */
export interface AddressLists {
  /** Only these pass. An empty list lets nobody pass. */
  readonly allow?: readonly string[] | AddressSet
  /** These never pass; without `allow`, the rest does. */
  readonly deny?: readonly string[] | AddressSet
}

export interface ListRules {
  readonly allowAny: boolean
  readonly allowRanges: boolean
  /** The families that are served; `undefined`: both. */
  readonly families: readonly Family[] | undefined
}

export interface CompiledLists {
  readonly allow: AddressSet | undefined
  readonly deny: AddressSet | undefined
}

/** Compiles lists once. Throws `OptionsError` naming the entry, and where there is nothing to go by: no list, or only empty ones beside a deny list. */
export function resolveLists (reader: OptionReader, rules: ListRules): CompiledLists {
  const allow = readSet(reader, 'allow', rules)
  const deny = readSet(reader, 'deny', rules)
  if (deny?.size === 0 && (allow === undefined || allow.size === 0)) throw reader.error('deny', 'must not be empty: an empty deny list lets everybody pass')
  return Object.freeze({ allow, deny })
}

function readSet (reader: OptionReader, name: 'allow' | 'deny', rules: ListRules): AddressSet | undefined {
  const given = reader.raw(name)
  if (given === undefined) return undefined
  if (isAddressSet(given)) return given
  if (!Array.isArray(given)) throw reader.error(name, 'must be a list of addresses, or an address set')
  const { allowAny, allowRanges, families } = rules
  const set = createAddressSet(given as readonly string[], { allowAny, allowRanges, name: reader.pathOf(name) })
  if (families !== undefined) {
    const foreign = (given as readonly string[]).findIndex((entry) => !families.includes(familyOf(parseEntry(entry, { allowRanges }))))
    if (foreign >= 0) throw reader.error(`${name}[${foreign}]`, `is not of a family that is served (${families.join(', ')})`)
  }
  return set
}

function isAddressSet (value: unknown): value is AddressSet {
  return typeof value === 'object' && value !== null && typeof (value as AddressSet).hasParsed === 'function'
}

export function familyOf ({ family }: { readonly family: 4 | 6 }): Family {
  return family === 4 ? 'ipv4' : 'ipv6'
}

/** Throws a refusal unless the lists let the address pass. A set may be of the user's own making: anything but a plain answer counts against the address. */
export function verifyAddress (address: ParsedAddress, { allow, deny }: CompiledLists): void {
  if (deny !== undefined && deny.hasParsed(address) !== false) throw refusal('ERR_IP_ALLOWLIST_ADDRESS_DENIED', { reason: 'denied' })
  if (allow !== undefined && allow.hasParsed(address) !== true) throw refusal('ERR_IP_ALLOWLIST_ADDRESS_DENIED', { reason: 'not-allowed' })
}
