/** Allow and deny lists: what they say of one address. Deny wins; an allow list that is there must hold the address. */

import { isThenable, type OptionReader } from '@sallyport/guard'
import { createAddressSet, type AddressSet, type AddressSetOptions } from './address-set.js'
import type { ParsedAddress } from './address.js'
import { refusal } from './errors.js'
import type { ListEntry } from './list-entry.js'
import type { LiveLists } from './live-lists.js'

/** A list in the `store`, by its name there. What it holds may change at any time. */
export interface NamedList {
  readonly list: string
}

/** Entries, a compiled set, or the name of a list in the store. */
export type AddressList = readonly ListEntry[] | AddressSet | NamedList

export interface AddressLists {
  /** Only these pass. An empty list lets nobody pass. */
  readonly allow?: AddressList
  /** These never pass; without `allow`, the rest does. */
  readonly deny?: AddressList
}

/** How entries are read, for every list of one registration. */
export type ListRules = Required<Pick<AddressSetOptions, 'allowAny' | 'allowRanges' | 'families' | 'clock'>>

/** What a list holds now; `undefined` where the store has no such list. Throws or rejects with a refusal where it can't be read. */
export type CurrentSet = () => AddressSet | undefined | Promise<AddressSet | undefined>

export interface CompiledLists {
  readonly allow: CurrentSet | undefined
  readonly deny: CurrentSet | undefined
  /** The names of those that are in the store. */
  readonly names: readonly string[]
}

/** Where lists are found by name, and how the others are read. */
export interface ListContext {
  readonly rules: ListRules
  /** `undefined`: the registration has no store. */
  readonly live: LiveLists | undefined
}

/** Compiles lists once. Throws `OptionsError` naming the entry, and where there is nothing to go by: no list, or only empty ones beside a deny list. */
export function resolveLists (reader: OptionReader, context: ListContext): CompiledLists {
  const allow = readList(reader, 'allow', context)
  const deny = readList(reader, 'deny', context)
  if (isEmpty(deny) && (allow === undefined || isEmpty(allow))) throw reader.error('deny', 'must not be empty: an empty deny list lets everybody pass')
  const names = [allow, deny].flatMap((list) => isNamed(list) ? [list.list] : [])
  return Object.freeze({ allow: currentSet(allow, context), deny: currentSet(deny, context), names: Object.freeze(names) })
}

function readList (reader: OptionReader, name: 'allow' | 'deny', { rules, live }: ListContext): AddressSet | NamedList | undefined {
  const given = reader.raw(name)
  if (given === undefined) return undefined
  if (Array.isArray(given)) return createAddressSet(given as readonly ListEntry[], { ...rules, name: reader.pathOf(name) })
  if (typeof given !== 'object' || given === null) throw reader.error(name, 'must be a list of addresses, an address set, or { list: name }')
  if (typeof (given as AddressSet).hasParsed === 'function') return given as AddressSet
  const list = reader.nested(name, ['list']).requiredText('list')
  if (live === undefined) throw reader.error(name, 'names a list, which needs the option "store"')
  return { list }
}

function isNamed (list: AddressSet | NamedList | undefined): list is NamedList {
  return list !== undefined && !('hasParsed' in list)
}

/** What a named list holds is not known yet. */
function isEmpty (list: AddressSet | NamedList | undefined): boolean {
  return list !== undefined && !isNamed(list) && list.size === 0
}

function currentSet (list: AddressSet | NamedList | undefined, { live }: ListContext): CurrentSet | undefined {
  if (list === undefined) return undefined
  return isNamed(list) ? () => live!.find(list.list) : () => list
}

/**
 * Throws a refusal, or rejects with one, unless the lists let the address pass. A set may be of the user's own making:
 * anything but a plain answer counts against the address.
 * @param whenMissing what a list that the store does not have counts for
 */
export function verifyAddress (address: ParsedAddress, lists: CompiledLists, whenMissing: 'deny' | 'allow'): void | Promise<void> {
  const denied = lists.deny?.()
  const allowed = lists.allow?.()
  if (!isThenable(denied) && !isThenable(allowed)) return verifySets(address, lists, { denied, allowed, whenMissing })
  return Promise.all([denied, allowed]).then(([deniedNow, allowedNow]) => verifySets(address, lists, { denied: deniedNow, allowed: allowedNow, whenMissing }))
}

/** The lists of one moment. */
interface CurrentLists {
  readonly denied: AddressSet | undefined
  readonly allowed: AddressSet | undefined
  readonly whenMissing: 'deny' | 'allow'
}

function verifySets (address: ParsedAddress, { allow, deny }: CompiledLists, { denied, allowed, whenMissing }: CurrentLists): void {
  if (denied !== undefined && denied.hasParsed(address) !== false) throw refusal('ERR_IP_ALLOWLIST_ADDRESS_DENIED', { reason: 'denied' })
  const isMissing = (deny !== undefined && denied === undefined) || (allow !== undefined && allowed === undefined)
  if (isMissing && whenMissing === 'deny') throw refusal('ERR_IP_ALLOWLIST_ADDRESS_DENIED', { reason: 'list-missing' })
  if (allowed !== undefined && allowed.hasParsed(address) !== true) throw refusal('ERR_IP_ALLOWLIST_ADDRESS_DENIED', { reason: 'not-allowed' })
}
